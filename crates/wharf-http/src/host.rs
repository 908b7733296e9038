//! Which registry a `Host` header names, and under which name a client can reach a registry.

use std::collections::HashMap;

use wharf_types::{AccountId, Region, RegistryRef};

/// What a host name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostTarget {
    /// One account's registry in one region.
    Registry(RegistryRef),
    /// The public registry.
    Public,
    /// No registry by itself: the caller's own.
    Bare,
}

/// What the operator said about host names.
#[derive(Clone, Debug, Default)]
pub struct HostConfig {
    /// Domain below which `<account>.dkr.ecr.<region>.<domain>` names registries; lower case.
    pub domain: Option<String>,
    /// Extra host names, with or without a port; lower case.
    pub extra: HashMap<String, HostTarget>,
    /// Whether a bare host may stand for the caller's own registry.
    pub bare_host_registry: bool,
    /// Host names, with or without a port, where callers without credentials are heard; `*` = all. Lower case.
    pub anonymous: Vec<String>,
}

impl HostConfig {
    /// Whether callers without credentials are heard on a host, as its header spells it.
    pub fn is_anonymous(&self, host: &str) -> bool {
        if self.anonymous.is_empty() {
            return false;
        }
        let host = host.to_ascii_lowercase();
        let name = split_port(&host).0;
        self.anonymous.iter().any(|open| open == "*" || *open == host || open == name)
    }
}

/// Domains below which registry names are always recognised: this machine's, then those of AWS's partitions (ECR API
/// reference §1).
const SUFFIXES: [&str; 8] = [
    "localhost",
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
];

/// ECR's domain for dual-stack registry names. Plain names do not exist below it, so none is ever spelled there.
const DUAL_STACK: &str = "on.aws";

/// The first labels of registry names after the account: plain, FIPS, and the dual-stack forms of both.
const PLAIN_FORMS: [&str; 4] = ["dkr.ecr.", "dkr.ecr-fips.", "dkr-ecr.", "dkr-ecr-fips."];

/// The first labels of the API's own names.
const API_FORMS: [&str; 4] = ["api.ecr.", "api.ecr-fips.", "ecr.", "ecr-fips."];

/// Reads a `Host` header (or `:authority`): a name with or without a port, in any case.
pub fn registry_of(config: &HostConfig, host: &str) -> HostTarget {
    let host = host.to_ascii_lowercase();
    let name = split_port(&host).0;
    if let Some(target) = config.extra.get(&host).or_else(|| config.extra.get(name)) {
        return target.clone();
    }
    if name == "public.ecr.aws" {
        return HostTarget::Public;
    }
    let domains = config.domain.as_deref().into_iter().chain(SUFFIXES).chain([DUAL_STACK]);
    domains.filter_map(|domain| below(name, domain)).find_map(target_of).unwrap_or(HostTarget::Bare)
}

/// The host and port under which the client that used `host` reaches `registry`: below the configured domain if there
/// is one; else, for the caller's own registry, what the client itself used; else a name that spells the registry out.
pub fn name_for(config: &HostConfig, host: &str, caller: AccountId, registry: &RegistryRef) -> String {
    let host = host.to_ascii_lowercase();
    let (name, port) = split_port(&host);
    let spelled = |domain: &str| match port {
        Some(port) => format!("{}.dkr.ecr.{}.{domain}:{port}", registry.account, registry.region),
        None => format!("{}.dkr.ecr.{}.{domain}", registry.account, registry.region),
    };
    if let Some(domain) = &config.domain {
        return spelled(domain);
    }
    match registry_of(config, &host) {
        HostTarget::Registry(named) if named == *registry => return host.clone(),
        HostTarget::Bare if api_domain(name).is_some() => {
            return spelled(api_domain(name).unwrap_or("localhost"));
        }
        HostTarget::Bare if registry.account == caller && config.bare_host_registry && !name.is_empty() => {
            return host.clone();
        }
        _ => {}
    }
    spelled(SUFFIXES.into_iter().find(|suffix| below(name, suffix).is_some()).unwrap_or("localhost"))
}

/// Splits `name:port`; brackets of an IPv6 address stay with the name, a final dot goes.
fn split_port(host: &str) -> (&str, Option<&str>) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && (!name.contains(':') || name.ends_with(']')) => {
            (name, Some(port))
        }
        _ => (host, None),
    };
    (name.strip_suffix('.').unwrap_or(name), port.filter(|port| !port.is_empty()))
}

/// The part of `name` below `domain`, without the dot between.
fn below<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    name.strip_suffix(domain)?.strip_suffix('.').filter(|rest| !rest.is_empty())
}

fn target_of(labels: &str) -> Option<HostTarget> {
    if labels == "public" {
        return Some(HostTarget::Public);
    }
    let (account, rest) = labels.split_once('.')?;
    let region = PLAIN_FORMS.iter().find_map(|form| rest.strip_prefix(form))?;
    let (account, region): (AccountId, Region) = (account.parse().ok()?, region.parse().ok()?);
    Some(HostTarget::Registry(RegistryRef::new(account, region)))
}

/// The well-known domain of one of the API's own host names, e.g. of `api.ecr.us-east-1.amazonaws.com`.
fn api_domain(name: &str) -> Option<&'static str> {
    SUFFIXES.into_iter().find(|suffix| {
        below(name, suffix).is_some_and(|labels| {
            API_FORMS
                .iter()
                .any(|form| labels.strip_prefix(form).is_some_and(|rest| rest.parse::<Region>().is_ok()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> HostConfig {
        let registry = HostTarget::Registry(registry("210987654321", "eu-west-1"));
        let extra = [("images.corp:8443".to_owned(), registry), ("open.corp".to_owned(), HostTarget::Public)];
        HostConfig {
            domain: Some("reg.corp".into()),
            extra: extra.into(),
            bare_host_registry: true,
            anonymous: vec!["open.corp".into(), "images.corp:8443".into()],
        }
    }

    fn registry(account: &str, region: &str) -> RegistryRef {
        RegistryRef::new(account.parse().unwrap(), region.parse().unwrap())
    }

    #[test]
    fn host_names_that_name_a_registry() {
        for host in [
            "123456789012.dkr.ecr.us-east-1.localhost",
            "123456789012.dkr.ecr.us-east-1.localhost:5050",
            "123456789012.DKR.ecr.us-east-1.LOCALHOST:5050",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com.",
            "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com.cn",
            "123456789012.dkr.ecr.us-east-1.amazonaws.eu:5050",
            "123456789012.dkr-ecr.us-east-1.on.aws",
            "123456789012.dkr-ecr-fips.us-east-1.on.aws:443",
            "123456789012.dkr.ecr.us-east-1.reg.corp",
        ] {
            let expected = HostTarget::Registry(registry("123456789012", "us-east-1"));
            assert_eq!(registry_of(&config(), host), expected, "{host}");
        }
        let mapped = HostTarget::Registry(registry("210987654321", "eu-west-1"));
        assert_eq!(registry_of(&config(), "Images.corp:8443"), mapped);
    }

    #[test]
    fn other_host_names() {
        for host in ["public.reg.corp", "public.localhost:5050", "public.ecr.aws", "open.corp:1"] {
            assert_eq!(registry_of(&config(), host), HostTarget::Public, "{host}");
        }
        for host in [
            "",
            ":",
            "localhost:5050",
            "127.0.0.1:5050",
            "[::1]:5050",
            "images.corp",
            "12345678901.dkr.ecr.us-east-1.localhost",
            "123456789012.dkr.ecr.US_EAST.localhost",
            "123456789012.dkr.ecr.us-east-1.example.com",
            "123456789012.dkr.ecr..localhost",
            "x123456789012.dkr.ecr.us-east-1.localhost",
            "api.ecr.us-east-1.amazonaws.com",
        ] {
            assert_eq!(registry_of(&config(), host), HostTarget::Bare, "{host}");
        }
    }

    #[test]
    fn hosts_that_hear_callers_without_credentials() {
        for host in ["open.corp", "Open.Corp:5050", "images.corp:8443"] {
            assert!(config().is_anonymous(host), "{host}");
        }
        for host in ["", "images.corp", "images.corp:1", "reg.corp", "127.0.0.1"] {
            assert!(!config().is_anonymous(host), "{host}");
        }
        let all = HostConfig { anonymous: vec!["*".into()], ..HostConfig::default() };
        assert!(all.is_anonymous("127.0.0.1:5050") && !HostConfig::default().is_anonymous("127.0.0.1:5050"));
    }

    #[test]
    fn names_that_clients_reach() {
        let caller = "123456789012".parse().unwrap();
        let own = registry("123456789012", "us-east-1");
        let foreign = registry("210987654321", "us-east-1");
        let plain = HostConfig { bare_host_registry: true, ..HostConfig::default() };
        let strict = HostConfig { bare_host_registry: false, ..plain.clone() };
        let table = [
            (&plain, "127.0.0.1:5050", &own, "127.0.0.1:5050"),
            (&plain, "[::1]:5050", &own, "[::1]:5050"),
            (&plain, "127.0.0.1:5050", &foreign, "210987654321.dkr.ecr.us-east-1.localhost:5050"),
            (&strict, "127.0.0.1:5050", &own, "123456789012.dkr.ecr.us-east-1.localhost:5050"),
            (
                &plain,
                "123456789012.dkr.ecr.us-east-1.localhost:1",
                &own,
                "123456789012.dkr.ecr.us-east-1.localhost:1",
            ),
            (&plain, "api.ecr.us-east-1.amazonaws.com", &own, "123456789012.dkr.ecr.us-east-1.amazonaws.com"),
            (
                &plain,
                "api.ecr.us-east-1.amazonaws.com",
                &foreign,
                "210987654321.dkr.ecr.us-east-1.amazonaws.com",
            ),
            (&config(), "127.0.0.1:5050", &own, "123456789012.dkr.ecr.us-east-1.reg.corp:5050"),
            (&config(), "reg.corp", &foreign, "210987654321.dkr.ecr.us-east-1.reg.corp"),
        ];
        for (config, host, registry, expected) in table {
            assert_eq!(name_for(config, host, caller, registry), expected, "{host}");
        }
    }
}
