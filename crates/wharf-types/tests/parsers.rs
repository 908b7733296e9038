//! Whatever a client sends, a parser answers; what it accepts says the same again when it is written out, and has
//! nothing in it that could become a path, a line of a head or another thing's name.
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do, the test reports")]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};
use wharf_types::{
    AccountId, Arn, ByteRange, Digest, Manifest, ManifestKind, MediaType, Reference, Region, RepositoryName,
    Tag, TagFilter, UploadId,
};

/// Text that is near to what parsers take, and text that is far from it.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "\\PC{0,40}",
        1 => any::<String>(),
        4 => "[a-zA-Z0-9._/:@*%-]{0,48}",
        2 => "[a-z]{1,4}([._/-]{1,3}[a-z0-9]{1,4}){0,6}",
        1 => "[0-9]{11,13}",
        1 => "(us|eu|ap)-[a-z]{1,5}(-[0-9]{1,2})?",
        1 => "[sS][hH][aA](256|512):[0-9a-fA-F]{62,66}",
        1 => "sha512:[0-9a-f]{127,129}",
        1 => "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
        1 => "arn:aws:ecr:[a-z0-9-]{0,9}:[0-9]{11,13}:repository/[a-z/.]{0,12}",
        1 => "[a-z]{1,9}/[a-z.+-]{1,20}(; ?[a-z]=[a-z\"]{0,4})?",
    ]
}

/// Parsing does not panic; what parses is written as something that parses to the same, without control characters.
fn round_trip<T>(text: &str) -> Result<Option<T>, TestCaseError>
where
    T: FromStr + Display + PartialEq + Debug,
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
            let again =
                shown.parse::<T>().map_err(|error| TestCaseError::fail(format!("{shown:?}: {error}")))?;
            prop_assert_eq!(&again, &value);
            Ok(Some(value))
        }
        Err(error) => {
            prop_assert!(!error.to_string().is_empty());
            Ok(None)
        }
    }
}

/// Text that may stand in a path and in a header line as it is.
fn is_harmless(text: &str) -> bool {
    let parts = || text.split('/');
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\?#%\"<>".contains(&byte))
        && parts().all(|part| !part.is_empty() && part != "." && part != "..")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nouns_round_trip_and_are_harmless(text in texts()) {
        if let Some(name) = round_trip::<RepositoryName>(&text)? {
            prop_assert!(is_harmless(name.as_str()) && name.as_str() == text, "{:?}", text);
        }
        if let Some(tag) = round_trip::<Tag>(&text)? {
            prop_assert!(is_harmless(tag.as_str()) && !tag.as_str().contains(['/', ':', '@']), "{:?}", text);
        }
        if let Some(account) = round_trip::<AccountId>(&text)? {
            prop_assert_eq!(account.as_str(), &text);
        }
        if let Some(region) = round_trip::<Region>(&text)? {
            prop_assert!(is_harmless(region.as_str()) && !region.as_str().contains(['/', '.', ':']), "{:?}", text);
        }
        round_trip::<UploadId>(&text)?;
        round_trip::<Arn>(&text)?;
        if let Some(digest) = round_trip::<Digest>(&text)? {
            // One spelling only: a digest is a key.
            prop_assert_eq!(digest.to_string(), text.clone());
        }
        if let Some(media_type) = MediaType::parse(&text) {
            prop_assert!(!media_type.as_str().chars().any(char::is_control));
        }
        let _ = round_trip::<Reference>(&text)?;
    }

    #[test]
    fn a_reference_is_never_both(text in texts()) {
        prop_assert!(text.parse::<Tag>().is_err() || text.parse::<Digest>().is_err());
        match text.parse::<Reference>() {
            Ok(Reference::Tag(tag)) => prop_assert_eq!(tag.as_str(), &text),
            Ok(Reference::Digest(digest)) => prop_assert_eq!(digest.to_string(), text),
            Err(_) => prop_assert!(text.parse::<Tag>().is_err() && text.parse::<Digest>().is_err()),
        }
    }

    #[test]
    fn arns_of_repositories_are_read_as_they_are_made(
        account in "[0-9]{12}",
        name in "[a-z0-9]{2,8}(/[a-z0-9]{1,8}){0,3}",
    ) {
        let (account, name): (AccountId, RepositoryName) = (account.parse().unwrap(), name.parse().unwrap());
        let region: Region = "eu-west-1".parse().unwrap();
        let arn: Arn = Arn::repository(account, &region, &name).parse().unwrap();
        let repository = arn.as_repository().unwrap();
        prop_assert_eq!((repository.registry.account, repository.registry.region, repository.name), (account, region, name));
    }

    #[test]
    fn chunks_lie_in_order(text in prop_oneof![texts(), "(bytes[ =])?[0-9]{0,21}-[0-9]{0,21}(/[0-9*]{0,4})?"]) {
        if let Some(range) = ByteRange::parse_chunk(&text) {
            prop_assert!(range.first <= range.last && range.length() > 0);
        }
    }

    #[test]
    fn filters_match_in_bounded_time(filter in "[a*]{1,128}", tag in "a{1,127}[ab]") {
        if let Ok(filter) = TagFilter::parse(&filter) {
            let literal: String = filter.as_str().replace('*', "");
            prop_assert!(!filter.matches(&tag) || tag.len() >= literal.len());
        }
    }

    #[test]
    fn filters_of_one_star_are_prefix_and_suffix(prefix in "[ab]{0,4}", suffix in "[ab]{0,4}", tag in "[ab]{1,9}") {
        if let Ok(filter) = TagFilter::parse(&format!("{prefix}*{suffix}")) {
            let expected = tag.len() >= prefix.len() + suffix.len() && tag.starts_with(&prefix) && tag.ends_with(&suffix);
            prop_assert_eq!(filter.matches(&tag), expected);
        }
    }
}

/// JSON values of every kind, among them those that manifests are made of.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        Just(json!(2)),
        texts().prop_map(Value::from),
        Just(json!(MediaType::OCI_MANIFEST)),
        Just(json!(MediaType::OCI_INDEX)),
        Just(json!(Digest::sha256(b"x").to_string())),
        Just(json!({ "mediaType": "application/x", "digest": Digest::sha256(b"x").to_string(), "size": 1 })),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((members(), inner), 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Names of members, mostly those that mean something.
fn members() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => proptest::sample::select(vec![
            "schemaVersion", "mediaType", "config", "layers", "manifests", "blobs", "subject", "artifactType",
            "annotations", "digest", "size", "urls", "platform", "data", "signatures", "fsLayers",
        ]).prop_map(str::to_owned),
        1 => texts(),
    ]
}

/// A manifest that is good but for what was done to it.
fn spoilt_manifests() -> impl Strategy<Value = Value> {
    let change = (members(), proptest::option::of(values()));
    (any::<bool>(), proptest::collection::vec(change, 0..3)).prop_map(|(index, changes)| {
        let descriptor = json!({ "mediaType": "application/x", "digest": Digest::sha256(b"x").to_string(), "size": 1 });
        let mut manifest = if index {
            json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [descriptor] })
        } else {
            json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": descriptor, "layers": [descriptor] })
        };
        let object = manifest.as_object_mut().unwrap();
        for (name, value) in changes {
            match value {
                Some(value) => drop(object.insert(name, value)),
                None => drop(object.remove(&name)),
            }
        }
        manifest
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn manifests_are_refused_or_kept_as_they_are(
        manifest in prop_oneof![spoilt_manifests(), values()],
        declared in proptest::option::of(proptest::sample::select(vec![
            MediaType::OCI_MANIFEST, MediaType::OCI_INDEX, MediaType::DOCKER_MANIFEST, "application/x",
        ])),
    ) {
        let bytes = Bytes::from(manifest.to_string());
        let declared = declared.and_then(MediaType::parse);
        if let Ok(parsed) = Manifest::parse(bytes.clone(), declared.as_ref()) {
            prop_assert_eq!(parsed.bytes(), &bytes);
            prop_assert!(declared.is_none_or(|declared| declared == *parsed.media_type()));
            let named = match parsed.kind() {
                ManifestKind::Image { layers, .. } => layers.len(),
                ManifestKind::Index { manifests } => manifests.len(),
                ManifestKind::Artifact { blobs } => blobs.len(),
            };
            prop_assert!(named <= bytes.len());
        }
    }

    #[test]
    fn a_cut_or_flipped_manifest_never_panics(at in any::<prop::sample::Index>(), flip in any::<u8>(), cut in any::<bool>()) {
        let descriptor = json!({ "mediaType": "application/x", "digest": Digest::sha256(b"x").to_string(), "size": 1 });
        let manifest = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": descriptor, "layers": [] });
        let mut bytes = manifest.to_string().into_bytes();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            prop_assert!(Manifest::parse(bytes.into(), None).is_err(), "cut off at {}", at);
        } else {
            bytes[at] ^= flip;
            let _ = Manifest::parse(bytes.into(), None);
        }
    }
}
