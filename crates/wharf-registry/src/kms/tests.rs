use std::time::Duration;

use super::*;
use crate::accounts::tests::{ACCOUNT, Fixture};
use crate::{Encryption, KeyDomain};

const DAY: Duration = Duration::from_secs(86_400);

fn code<T: std::fmt::Debug>(outcome: Result<T, RegistryError>) -> &'static str {
    match outcome {
        Err(RegistryError::Kms { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

fn page(limit: usize, token: Option<String>) -> PageRequest {
    PageRequest { limit, token }
}

fn domain(arn: &str, of: &RegistryRef) -> KeyDomain {
    KeyDomain { id: 1, registry: of.clone(), encryption: Encryption::Kms(arn.to_owned()) }
}

#[tokio::test]
async fn a_key_is_what_it_was_made_as_under_all_its_names() {
    let mut fixture = Fixture::new().await;
    let at = fixture.here();
    let new = NewKey {
        description: "images".into(),
        policy: Some("{\"Version\":\"2012-10-17\"}".into()),
        tags: vec![("b".into(), "2".into()), ("a".into(), "1".into())],
    };
    let key = fixture.registry.kms_create_key(&at, new.clone()).await.unwrap();
    assert_eq!(key.arn, format!("arn:aws:kms:us-east-1:{ACCOUNT}:key/{}", key.id));
    assert_eq!((key.state, key.manager.as_str(), &key.tags), ("Enabled", "CUSTOMER", &new.tags));
    fixture.registry.kms_create_alias(&at, "alias/images", &key.id).await.unwrap();
    fixture.reopen().await;
    let alias_arn = format!("arn:aws:kms:us-east-1:{ACCOUNT}:alias/images");
    for name in [key.id.as_str(), key.arn.as_str(), "alias/images", alias_arn.as_str()] {
        assert_eq!(fixture.registry.kms_describe_key(&at, name).await.unwrap(), key, "{name}");
        let resolved = fixture.registry.resolve_repository_key(&at, Some(name)).await.unwrap();
        assert_eq!(resolved, key.arn, "{name}");
    }
    assert_eq!(fixture.registry.kms_key_policy(&at, &key.id).await.unwrap(), new.policy.unwrap());
    let tags = fixture.registry.kms_key_tags(&at, &key.id, PageRequest { limit: 50, token: None }).await;
    let mut sorted = new.tags.clone();
    sorted.sort_unstable();
    assert_eq!(tags.unwrap().items, sorted);
    let plain = fixture.registry.kms_create_key(&at, NewKey::default()).await.unwrap();
    assert!(plain.policy.contains(&format!("arn:aws:iam::{ACCOUNT}:root")), "{}", plain.policy);
}

#[tokio::test]
async fn bad_keys_are_refused_with_kmss_codes() {
    let fixture = Fixture::new().await;
    let (registry, at) = (&fixture.registry, fixture.here());
    let tag = |key: &str| (key.to_owned(), String::new());
    let with = |tags: Vec<(String, String)>| NewKey { tags, ..NewKey::default() };
    assert_eq!(code(registry.kms_create_key(&at, with(vec![tag("a"), tag("a")])).await), "TagException");
    assert_eq!(code(registry.kms_create_key(&at, with(vec![tag("AWS:x")])).await), "TagException");
    let many = (0..51).map(|n| tag(&n.to_string())).collect();
    assert_eq!(code(registry.kms_create_key(&at, with(many)).await), "LimitExceededException");
    for policy in ["", "no", "[]", "{"] {
        let new = NewKey { policy: Some(policy.into()), ..NewKey::default() };
        assert_eq!(code(registry.kms_create_key(&at, new).await), "MalformedPolicyDocumentException");
    }
    assert_eq!(code(registry.kms_describe_key(&at, "none").await), "NotFoundException");
    assert_eq!(code(registry.kms_describe_key(&at, "alias/none").await), "NotFoundException");
    assert!(registry.kms_list_keys(&at, page(10, None)).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_key_belongs_to_one_account_and_one_region() {
    let fixture = Fixture::new().await;
    let (registry, at) = (&fixture.registry, fixture.here());
    let key = registry.kms_create_key(&at, NewKey::default()).await.unwrap();
    for elsewhere in [fixture.at(ACCOUNT, "eu-west-1"), fixture.at("210987654321", "us-east-1")] {
        for name in [&key.id, &key.arn] {
            assert_eq!(code(registry.kms_describe_key(&elsewhere, name).await), "NotFoundException");
            let resolved = registry.resolve_repository_key(&elsewhere, Some(name)).await;
            assert_eq!(code(resolved), "NotFoundException");
            assert_eq!(code(registry.kms_set_enabled(&elsewhere, name, false).await), "NotFoundException");
        }
        assert!(registry.kms_list_keys(&elsewhere, page(10, None)).await.unwrap().items.is_empty());
    }
    assert_eq!(registry.kms_describe_key(&at, &key.id).await.unwrap().state, "Enabled");
}

#[tokio::test]
async fn disabling_and_deleting_stop_a_key_at_once_and_outlast_a_restart() {
    let mut fixture = Fixture::new().await;
    let at = fixture.here();
    let key = fixture.registry.kms_create_key(&at, NewKey::default()).await.unwrap();
    let domain = domain(&key.arn, &at);
    let check = |registry: &Registry| registry.inner.keys.check_domain(&domain);
    check(&fixture.registry).unwrap();

    fixture.registry.kms_set_enabled(&at, &key.arn, false).await.unwrap();
    assert_eq!(code(check(&fixture.registry)), "DisabledException");
    assert_eq!(code(fixture.registry.resolve_repository_key(&at, Some(&key.id)).await), "DisabledException");
    fixture.reopen().await;
    assert_eq!(code(check(&fixture.registry)), "DisabledException");
    fixture.registry.kms_set_enabled(&at, &key.id, true).await.unwrap();
    check(&fixture.registry).unwrap();

    let registry = &fixture.registry;
    for days in [0, 6, 31] {
        assert_eq!(code(registry.kms_schedule_deletion(&at, &key.id, days).await), "ValidationException");
    }
    assert_eq!(code(registry.kms_cancel_deletion(&at, &key.id).await), "KMSInvalidStateException");
    let pending = registry.kms_schedule_deletion(&at, &key.id, 7).await.unwrap();
    assert_eq!(pending.state, "PendingDeletion");
    assert_eq!(pending.deletion_at, Some(fixture.clock.now().plus(7 * DAY)));
    assert_eq!(code(check(registry)), "KMSInvalidStateException");
    assert_eq!(code(registry.kms_set_enabled(&at, &key.id, true).await), "KMSInvalidStateException");
    assert_eq!(code(registry.kms_schedule_deletion(&at, &key.id, 8).await), "KMSInvalidStateException");
    assert_eq!(code(registry.kms_create_alias(&at, "alias/a", &key.id).await), "KMSInvalidStateException");
    let kept = registry.kms_cancel_deletion(&at, &key.id).await.unwrap();
    assert_eq!((kept.state, kept.deletion_at), ("Disabled", None));
    assert_eq!(code(check(registry)), "DisabledException");
}

#[tokio::test]
async fn a_key_whose_time_has_come_is_gone_and_then_destroyed() {
    let mut fixture = Fixture::new().await;
    let at = fixture.here();
    let key = fixture.registry.kms_create_key(&at, NewKey::default()).await.unwrap();
    let other = fixture.registry.kms_create_key(&at, NewKey::default()).await.unwrap();
    fixture.registry.kms_create_alias(&at, "alias/a", &key.id).await.unwrap();
    fixture.registry.kms_schedule_deletion(&at, &key.id, 7).await.unwrap();
    assert_eq!(fixture.registry.destroy_due_keys().await.unwrap(), 0);
    fixture.clock.advance(7 * DAY);
    for name in [key.id.as_str(), "alias/a"] {
        assert_eq!(code(fixture.registry.kms_describe_key(&at, name).await), "NotFoundException");
    }
    assert_eq!(code(fixture.registry.kms_cancel_deletion(&at, &key.id).await), "NotFoundException");
    assert_eq!(
        fixture.registry.kms_list_keys(&at, page(10, None)).await.unwrap().items,
        std::slice::from_ref(&other)
    );

    let report = fixture.registry.rotate_key_ring(&()).await.unwrap();
    assert_eq!(report.domains, 1, "the other key's");
    fixture.reopen().await;
    let keys = &fixture.registry.inner.keys;
    assert_eq!(code(keys.check_domain(&domain(&key.arn, &at))), "NotFoundException");
    let scope = kms_scope(&at, &key.id);
    let rows = fixture.registry.inner.meta.read(move |tx| keys::versions(tx, &scope)).await.unwrap();
    assert!(rows.is_empty(), "the key itself is destroyed");
    assert!(keys.content_keys(&fixture.registry.inner.meta, &domain(&other.arn, &at)).await.is_ok());
}

#[tokio::test]
async fn the_managed_key_is_made_once_and_belongs_to_aws() {
    let fixture = Fixture::new().await;
    let (registry, at) = (&fixture.registry, fixture.here());
    let (first, second) =
        tokio::join!(registry.resolve_repository_key(&at, None), registry.resolve_repository_key(&at, None));
    let arn = first.unwrap();
    assert_eq!(arn, second.unwrap());
    assert_eq!(arn, registry.resolve_repository_key(&at, Some("alias/aws/ecr")).await.unwrap());
    let key = registry.kms_describe_key(&at, "alias/aws/ecr").await.unwrap();
    assert_eq!((key.arn.as_str(), key.manager.as_str()), (arn.as_str(), "AWS"));
    assert_eq!(registry.kms_list_keys(&at, page(10, None)).await.unwrap().items.len(), 1);
    assert_eq!(code(registry.kms_set_enabled(&at, &arn, false).await), "AccessDeniedException");
    assert_eq!(code(registry.kms_delete_alias(&at, "alias/aws/ecr").await), "NotAuthorizedException");
    let elsewhere = registry.resolve_repository_key(&fixture.at(ACCOUNT, "eu-west-1"), None).await.unwrap();
    assert_ne!(arn, elsewhere);
}

#[tokio::test]
async fn aliases_are_unique_and_listed_by_key() {
    let fixture = Fixture::new().await;
    let (registry, at) = (&fixture.registry, fixture.here());
    let key = registry.kms_create_key(&at, NewKey::default()).await.unwrap();
    let other = registry.kms_create_key(&at, NewKey::default()).await.unwrap();
    for name in ["", "images", "alias/", "alias/a b", "alias/ä"] {
        assert_eq!(code(registry.kms_create_alias(&at, name, &key.id).await), "InvalidAliasNameException");
    }
    assert_eq!(code(registry.kms_create_alias(&at, "alias/x", "none").await), "NotFoundException");
    for (name, key) in [("alias/c", &key), ("alias/a", &key), ("alias/b", &other)] {
        registry.kms_create_alias(&at, name, &key.arn).await.unwrap();
    }
    assert_eq!(code(registry.kms_create_alias(&at, "alias/a", &other.id).await), "AlreadyExistsException");
    assert_eq!(code(registry.kms_create_alias(&at, "alias/d", "alias/a").await), "ValidationException");

    let names = |page: &Page<KeyAlias>| page.items.iter().map(|alias| alias.name.clone()).collect::<Vec<_>>();
    let first = registry.kms_list_aliases(&at, None, page(2, None)).await.unwrap();
    assert_eq!(names(&first), ["alias/a", "alias/b"]);
    let second = registry.kms_list_aliases(&at, None, page(2, first.next.clone())).await.unwrap();
    assert_eq!(names(&second), ["alias/c"]);
    assert!(second.next.is_none());
    let of_key = registry.kms_list_aliases(&at, Some(&key.arn), page(10, None)).await.unwrap();
    assert_eq!(names(&of_key), ["alias/a", "alias/c"]);
    let stolen = registry.kms_list_keys(&at, page(2, first.next)).await;
    assert_eq!(code(stolen), "InvalidMarkerException");

    registry.kms_delete_alias(&at, "alias/a").await.unwrap();
    assert_eq!(code(registry.kms_delete_alias(&at, "alias/a").await), "NotFoundException");
    assert_eq!(code(registry.kms_describe_key(&at, "alias/a").await), "NotFoundException");
    registry.kms_describe_key(&at, &key.id).await.unwrap();
}

#[tokio::test]
async fn keys_are_listed_in_pages() {
    let fixture = Fixture::new().await;
    let (registry, at) = (&fixture.registry, fixture.here());
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(registry.kms_create_key(&at, NewKey::default()).await.unwrap().id);
    }
    made.sort();
    let (mut listed, mut token) = (Vec::new(), None);
    loop {
        let found = registry.kms_list_keys(&at, page(2, token)).await.unwrap();
        listed.extend(found.items.into_iter().map(|key| key.id));
        token = found.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(listed, made);
}
