//! Whatever a client sends, the readers of bodies and of host names answer, and stay inside the rules they were given.
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do, the test reports")]

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wharf_http::aws::{Input, Style, Text};
use wharf_http::host::{HostConfig, HostTarget, name_for, registry_of};
use wharf_types::{AccountId, RegistryRef};

const NAMES: [&str; 5] = ["repositoryName", "imageIds", "maxResults", "tags", "force"];

/// JSON of every kind, with the members that operations ask for.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,12}".prop_map(Value::from),
        "[a-z/]{0,12}".prop_map(Value::from),
        "[A-Za-z0-9+/]{0,8}={0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((proptest::sample::select(NAMES.to_vec()), inner), 0..4).prop_map(
                |members| {
                    members
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect::<Map<_, _>>()
                        .into()
                }
            ),
        ]
    })
}

fn hosts() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        "[a-zA-Z0-9.:\\[\\]-]{0,60}",
        "[0-9]{11,13}\\.dkr[.-]ecr(-fips)?\\.[a-z0-9-]{0,14}\\.(localhost|amazonaws\\.com|on\\.aws|reg\\.corp)\\.?(:[0-9]{0,5})?",
        "(api\\.)?ecr(-fips)?\\.[a-z0-9-]{0,14}\\.(localhost|amazonaws\\.com)(:[0-9]{0,5})?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn bodies_of_bytes_are_structures_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Input::from_json(&body);
    }

    #[test]
    fn whatever_a_member_is_it_is_read_within_its_rule(value in values(), validation in any::<bool>()) {
        let style = if validation { Style::Validation } else { Style::InvalidParameter };
        let body = value.to_string();
        let input = || Input::from_json(body.as_bytes()).map(|input| input.style(style));
        if !value.is_object() {
            prop_assert!(input().is_err(), "{}", body);
            return Ok(());
        }
        for name in NAMES {
            if let Ok(Some(text)) = input().unwrap().text(name, &Text::length(2, 5)) {
                prop_assert!((2..=5).contains(&text.chars().count()));
            }
            if let Ok(text) = input().unwrap().required_text(name, &Text::one_of(&["a", "b"])) {
                prop_assert!(matches!(text.as_str(), "a" | "b"));
            }
            if let Ok(Some(number)) = input().unwrap().integer(name, 1..=1000) {
                prop_assert!((1..=1000).contains(&number));
            }
            if let Ok(position) = input().unwrap().required_position(name) {
                prop_assert!(value[name].is_number(), "{} is no position", position);
            }
            if let Ok(Some(flag)) = input().unwrap().boolean(name) {
                prop_assert_eq!(&value[name], &json!(flag));
            }
            let _ = input().unwrap().required_base64(name);
            let _ = input().unwrap().parsed::<AccountId>(name, &Text::ANY);
            if let Ok(Some(mut inner)) = input().unwrap().structure(name) {
                prop_assert!(value[name].is_object());
                let _ = inner.text(name, &Text::ANY);
            }
        }
    }

    #[test]
    fn a_host_names_a_registry_only_if_it_spells_it(host in hosts()) {
        let config = HostConfig { domain: Some("reg.corp".into()), bare_host_registry: true, ..HostConfig::default() };
        if let HostTarget::Registry(RegistryRef { account, region }) = registry_of(&config, &host) {
            let spelled = host.to_ascii_lowercase();
            prop_assert!(spelled.starts_with(&format!("{account}.dkr")) && spelled.contains(region.as_str()), "{}", host);
        }
    }

    #[test]
    fn the_name_given_for_a_registry_leads_back_to_it(host in hosts(), domain in any::<bool>()) {
        let config = HostConfig {
            domain: domain.then(|| "reg.corp".into()),
            bare_host_registry: true,
            ..HostConfig::default()
        };
        let caller: AccountId = "123456789012".parse().unwrap();
        for account in [caller, "210987654321".parse().unwrap()] {
            let registry = RegistryRef::new(account, "eu-west-1".parse().unwrap());
            match registry_of(&config, &name_for(&config, &host, caller, &registry)) {
                HostTarget::Registry(named) => prop_assert_eq!(named, registry),
                HostTarget::Bare => prop_assert!(account == caller, "another's registry was given a bare name"),
                HostTarget::Public => prop_assert!(false, "a private registry was given the public one's name"),
            }
        }
    }
}
