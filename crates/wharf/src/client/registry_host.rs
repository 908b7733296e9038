//! Names of registries as container clients write them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use wharf_http::host::{HostConfig, HostTarget, registry_of};
use wharf_types::Region;

/// A registry's host and port, e.g. `127.0.0.1:5050` or `123456789012.dkr.ecr.eu-west-1.registry.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryHost(String);

/// Not the host of a registry.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no host of a registry; expected HOST or HOST:PORT")]
pub struct RegistryHostError(String);

impl RegistryHost {
    /// Host and port as given, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The registry an image is in, by the rule of container clients: a first part that looks like a host is one.
    pub fn of_image(image: &str) -> Option<Self> {
        let (first, _) = image.split_once('/')?;
        let is_host = first.contains(['.', ':']) || first == "localhost";
        is_host.then(|| first.parse().ok()).flatten()
    }

    /// The host without its port.
    pub fn name(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((name, _)) if name.ends_with(']') || !name.contains(':') => name,
            _ => &self.0,
        }
    }

    /// The port, if it has one.
    pub fn port(&self) -> Option<&str> {
        self.0[self.name().len()..].strip_prefix(':')
    }

    /// The region that a name of ECR's form says.
    pub fn region(&self) -> Option<Region> {
        // The domain does not matter here, so any is taken for the operator's.
        let name = self.name();
        let at = name.find(".dkr")?;
        let domain = name[at + 1..].splitn(4, '.').nth(3).map(str::to_owned);
        let config = HostConfig { domain, ..HostConfig::default() };
        match registry_of(&config, name) {
            HostTarget::Registry(registry) => Some(registry.region),
            HostTarget::Public | HostTarget::Bare => None,
        }
    }

    /// Whether it is a name that stands for this machine whatever a resolver says.
    pub fn is_localhost(&self) -> bool {
        is_localhost(self.name())
    }

    /// Whether it is this machine, where plain HTTP is as good as any.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.name())
    }
}

/// Whether a name or address is always this machine.
pub fn is_loopback(name: &str) -> bool {
    let address: Result<IpAddr, _> = name.trim_matches(['[', ']']).parse();
    address.map_or_else(|_| is_localhost(name), |address| address.is_loopback())
}

/// Names that stand for this machine whatever a resolver says (RFC 6761 §6.3).
pub fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

impl FromStr for RegistryHost {
    type Err = RegistryHostError;

    /// Also takes `https://HOST/…`, as credential helpers are asked.
    fn from_str(text: &str) -> Result<Self, RegistryHostError> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let host = rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
        let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        let parses = host.parse::<hyper::http::uri::Authority>().is_ok();
        if host.is_empty() || !host.bytes().all(good) || !parses {
            return Err(RegistryHostError(text.to_owned()));
        }
        let host = Self(host);
        if host.port().is_some_and(|port| port.parse::<u16>().is_err()) || host.name().is_empty() {
            return Err(RegistryHostError(text.to_owned()));
        }
        Ok(host)
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_from_what_clients_write() {
        for (text, host) in [
            ("127.0.0.1:5050", "127.0.0.1:5050"),
            ("https://Registry.Example/v2/", "registry.example"),
            ("http://[::1]:5050", "[::1]:5050"),
        ] {
            assert_eq!(text.parse::<RegistryHost>().unwrap().as_str(), host);
        }
        for text in ["", "https://", "a b", "user@host", "host:port", "host:", ":5050", "\u{e9}"] {
            assert!(text.parse::<RegistryHost>().is_err(), "{text}");
        }
    }

    #[test]
    fn images_name_their_registry_or_none() {
        let host = |image| RegistryHost::of_image(image).map(|host| host.0);
        assert_eq!(host("127.0.0.1:5050/team/app:v1").as_deref(), Some("127.0.0.1:5050"));
        assert_eq!(host("localhost/app").as_deref(), Some("localhost"));
        assert_eq!(host("registry.example/app@sha256:00").as_deref(), Some("registry.example"));
        assert_eq!((host("team/app"), host("app:v1"), host("")), (None, None, None));
    }

    #[test]
    fn regions_are_read_from_names_of_ecrs_form_below_any_domain() {
        let region =
            |host: &str| host.parse::<RegistryHost>().unwrap().region().map(|r| r.as_str().to_owned());
        for domain in ["amazonaws.com", "amazonaws.com.cn", "localhost:5050", "registry.example:443"] {
            let host = format!("123456789012.dkr.ecr.eu-west-1.{domain}");
            assert_eq!(region(&host).as_deref(), Some("eu-west-1"), "{host}");
        }
        assert_eq!(region("123456789012.dkr-ecr.eu-west-1.on.aws").as_deref(), Some("eu-west-1"));
        for host in
            ["127.0.0.1:5050", "registry.example", "x.dkr.ecr.eu-west-1.example", "a.dkr", "a.dkr.ecr"]
        {
            assert_eq!(region(host), None, "{host}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for host in ["127.0.0.1:5050", "127.9.9.9", "[::1]:1", "localhost", "1.dkr.ecr.x.localhost:5"] {
            assert!(host.parse::<RegistryHost>().unwrap().is_loopback(), "{host}");
        }
        for host in ["10.0.0.1:5050", "notlocalhost", "localhost.example", "[::2]"] {
            assert!(!host.parse::<RegistryHost>().unwrap().is_loopback(), "{host}");
        }
    }
}
