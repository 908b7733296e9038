use std::sync::Arc;

use wharf_store::meta::MetaError;
use wharf_types::Mutability;

use super::*;
use crate::accounts::tests::{ACCOUNT, Fixture};
use crate::{Encryption, KeyDomain};

const ROLE: &str = "arn:aws:iam::123456789012:role/scanner";

fn caller(arn: &str) -> Caller {
    let mut caller = Caller::root(ACCOUNT.parse().unwrap(), "AKIATEST");
    Arc::make_mut(&mut caller.identity).arn = arn.to_owned();
    caller
}

fn page(limit: usize, token: Option<String>) -> PageRequest {
    PageRequest { limit, token }
}

/// A repository with one image, written straight into the metadata.
async fn image(fixture: &Fixture) -> (Repository, Digest) {
    let digest = Digest::sha256(b"manifest");
    let text = digest.to_string();
    fixture
        .registry
        .inner
        .meta
        .write(move |tx| {
            tx.execute(
                "INSERT INTO key_domains (id, account, region, encryption_type, kms_key)
                 VALUES (1, '123456789012', 'us-east-1', 'AES256', '')",
                &[],
            )?;
            tx.execute(
                "INSERT INTO repositories
                     (id, account, region, kind, name, mutability, exclusions, scan_on_push, domain_id, images, created_at)
                 VALUES (1, '123456789012', 'us-east-1', 'private', 'team/app', 'MUTABLE', '[]', FALSE, 1, 0, 0)",
                &[],
            )?;
            tx.execute(
                "INSERT INTO manifests (repository_id, digest, media_type, size, content_size, status, pushed_at,
                     seal_id, content)
                 VALUES (1, $1, '', 0, 0, 'ACTIVE', 0, '', x'')",
                &[&text],
            )?;
            Ok::<_, MetaError>(())
        })
        .await
        .unwrap();
    let registry = fixture.here().target().clone();
    let repository = Repository {
        id: 1,
        name: registry.repository("team/app".parse().unwrap()),
        created_at: Timestamp::from_micros(0),
        mutability: Mutability::Mutable,
        scan_on_push: false,
        domain: KeyDomain { id: 1, registry, encryption: Encryption::Aes256 },
    };
    (repository, digest)
}

async fn pulled_at(fixture: &Fixture) -> Option<Timestamp> {
    let read = |tx: &mut wharf_store::meta::Tx<'_>| {
        tx.query_one("SELECT pulled_at FROM manifests", &[], |row| row.get::<Option<i64>>(0))
    };
    fixture.registry.inner.meta.read(read).await.unwrap().map(Timestamp::from_micros)
}

#[tokio::test]
async fn a_pull_is_recorded_coarsely() {
    let fixture = Fixture::new().await;
    let (repository, digest) = image(&fixture).await;
    let (registry, root) = (&fixture.registry, caller("arn:aws:iam::123456789012:root"));
    assert_eq!(pulled_at(&fixture).await, None);
    let first = fixture.clock.now();
    registry.record_pull(&root, &repository, &digest);
    assert_eq!(pulled_at(&fixture).await, None, "a pull itself writes nothing");
    registry.write_pull_times().await.unwrap();
    assert_eq!(pulled_at(&fixture).await, Some(first));

    let writes = registry.meta_stats();
    fixture.clock.advance(Duration::from_secs(59));
    registry.record_pull(&root, &repository, &digest);
    registry.write_pull_times().await.unwrap();
    assert_eq!(pulled_at(&fixture).await, Some(first));
    assert_eq!(registry.meta_stats().commits, writes.commits, "nothing to write, nothing written");

    fixture.clock.advance(Duration::from_secs(1));
    registry.record_pull(&root, &repository, &digest);
    registry.write_pull_times().await.unwrap();
    assert_eq!(pulled_at(&fixture).await, Some(fixture.clock.now()));
}

#[tokio::test]
async fn what_is_gathered_is_written_at_the_end() {
    let mut fixture = Fixture::new().await;
    let (repository, digest) = image(&fixture).await;
    fixture.registry.record_pull(&caller("arn:aws:iam::123456789012:root"), &repository, &digest);
    fixture.reopen().await;
    assert_eq!(pulled_at(&fixture).await, Some(fixture.clock.now()));
}

#[tokio::test]
async fn an_excluded_principal_leaves_no_trace() {
    let fixture = Fixture::new().await;
    let (repository, digest) = image(&fixture).await;
    let (registry, at, scanner) = (&fixture.registry, fixture.here(), caller(ROLE));
    let since = registry.register_pull_time_exclusion(&at, ROLE).await.unwrap();
    assert_eq!(since, fixture.clock.now());
    registry.record_pull(&scanner, &repository, &digest);
    registry.write_pull_times().await.unwrap();
    assert_eq!(pulled_at(&fixture).await, None);

    registry.deregister_pull_time_exclusion(&at, ROLE).await.unwrap();
    registry.record_pull(&scanner, &repository, &digest);
    registry.write_pull_times().await.unwrap();
    assert_eq!(pulled_at(&fixture).await, Some(fixture.clock.now()));
}

#[tokio::test]
async fn exclusions_are_unique_bounded_and_listed() {
    let fixture = Fixture::new().await;
    let (registry, at) = (&fixture.registry, fixture.here());
    let arn = |n: usize| format!("arn:aws:iam::{ACCOUNT}:user/ci/u{n:03}");
    let missing = registry.deregister_pull_time_exclusion(&at, ROLE).await.unwrap_err();
    assert!(matches!(missing, RegistryError::ExclusionNotFound(_)), "{missing}");
    for n in 0..EXCLUSIONS {
        registry.register_pull_time_exclusion(&at, &arn(n)).await.unwrap();
    }
    let again = registry.register_pull_time_exclusion(&at, &arn(7)).await.unwrap_err();
    assert!(matches!(again, RegistryError::ExclusionAlreadyExists(_)), "{again}");
    let full = registry.register_pull_time_exclusion(&at, ROLE).await.unwrap_err();
    assert!(matches!(full, RegistryError::LimitExceeded(_)), "{full}");
    registry.register_pull_time_exclusion(&fixture.at(ACCOUNT, "eu-west-1"), ROLE).await.unwrap();

    let first = registry.list_pull_time_exclusions(&at, page(60, None)).await.unwrap();
    let second = registry.list_pull_time_exclusions(&at, page(60, first.next.clone())).await.unwrap();
    assert!(second.next.is_none());
    let all: Vec<_> = first.items.into_iter().chain(second.items).collect();
    assert_eq!(all, (0..EXCLUSIONS).map(arn).collect::<Vec<_>>());
    let stolen =
        registry.list_pull_time_exclusions(&fixture.at(ACCOUNT, "eu-west-1"), page(60, first.next)).await;
    assert!(matches!(stolen, Err(RegistryError::InvalidParameter { member: "nextToken", .. })), "{stolen:?}");
}

#[test]
fn a_principal_is_a_user_or_a_role() {
    for good in
        [ROLE, "arn:aws-us-gov:iam::123456789012:user/a/b/c", "arn:aws-cn:iam::123456789012:role/x+=,.@-_"]
    {
        check_principal(good).unwrap();
    }
    let long = format!("arn:aws:iam::123456789012:role/{}", "x".repeat(200));
    for bad in [
        "",
        "*",
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::123456789012:role/a//b",
        "arn:aws:iam::123456789012:group/a",
        "arn:aws:iam:us-east-1:123456789012:role/a",
        "arn:aws:sts::123456789012:assumed-role/a/b",
        "arn:aws:iam::12345:role/a",
        "arn:aws-:iam::123456789012:role/a",
        "arn:aws:iam::123456789012:role/a b",
        long.as_str(),
    ] {
        assert!(matches!(check_principal(bad), Err(RegistryError::Validation(_))), "{bad}");
    }
}
