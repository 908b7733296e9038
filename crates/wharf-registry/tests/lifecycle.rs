//! Lifecycle policies carried out and previewed, on a clock that the tests set.
#![allow(clippy::unwrap_used)]

mod house;

use std::time::Duration;

use house::{House, index_of};
use wharf_registry::{
    Authorized, ImageFailureCode, ImageFilter, ImageId, InUseReport, LifecycleReport, PageRequest,
    PlannedAction, PreviewFilter, PreviewStatus, RegistryError, TagStatus,
};
use wharf_store::meta::events;
use wharf_types::{Digest, Mutability, Reference, RepositoryRef};

const DAY: Duration = Duration::from_secs(86_400);

fn keep_newest(count: u64) -> String {
    format!(
        r#"{{"rules":[{{"rulePriority":1,"description":"keep the newest","selection":{{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":{count}}},"action":{{"type":"expire"}}}}]}}"#
    )
}

fn untagged_after(days: u64) -> String {
    format!(
        r#"{{"rules":[{{"rulePriority":1,"selection":{{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":{days}}},"action":{{"type":"expire"}}}}]}}"#
    )
}

/// Pushes images a day apart, the oldest first.
async fn push_daily(house: &House, at: &Authorized<RepositoryRef>, tags: &[&str]) -> Vec<Digest> {
    let mut digests = Vec::new();
    for tag in tags {
        digests.push(house.push(at, tag, Some(tag)).await);
        house.clock.advance(DAY);
    }
    digests
}

async fn images(house: &House, at: &Authorized<RepositoryRef>) -> Vec<Digest> {
    let filter = ImageFilter { tags: TagStatus::Any, status: None };
    let page = PageRequest { limit: 1000, token: None };
    let page = house.registry.describe_images(at, filter, page).await.unwrap();
    page.items.into_iter().map(|image| image.digest).collect()
}

fn sorted(digests: &[Digest]) -> Vec<Digest> {
    let mut digests = digests.to_vec();
    digests.sort();
    digests
}

fn first_page() -> PreviewFilter {
    PreviewFilter::Page(TagStatus::Any, PageRequest { limit: 100, token: None })
}

async fn run(house: &House, at: &Authorized<RepositoryRef>) -> LifecycleReport {
    house.registry.run_lifecycle(Some(at.target()), &()).await.unwrap()
}

#[tokio::test]
async fn a_policy_is_kept_byte_for_byte_and_a_bad_one_changes_nothing() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let registry = &house.registry;
    let none = registry.lifecycle_policy(&at).await.unwrap_err();
    assert_eq!(
        none.to_string(),
        "Lifecycle policy does not exist for the repository with name 'team/app' in the registry with id '123456789012'"
    );
    assert!(matches!(
        registry.delete_lifecycle_policy(&at).await,
        Err(RegistryError::LifecyclePolicyNotFound(_))
    ));
    let good = keep_newest(3);
    registry.put_lifecycle_policy(&at, &good).await.unwrap();
    for (bad, detail) in [
        (keep_newest(0), "numeric instance is lower than the required minimum (minimum: 1, found: 0)"),
        ("{".repeat(200), "Could not map policyString into LifecyclePolicy."),
        ("{}".to_owned(), "policy text must have 100 to 30720 characters, not 2"),
        (" ".repeat(30_721), "policy text must have 100 to 30720 characters, not 30721"),
    ] {
        let refused = registry.put_lifecycle_policy(&at, &bad).await.unwrap_err().to_string();
        assert_eq!(
            refused,
            format!(
                "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: \
                 'Lifecycle policy validation failure: {detail}'"
            )
        );
        let refused = registry.start_lifecycle_preview(&at, Some(&bad)).await.unwrap_err();
        assert!(matches!(refused, RegistryError::InvalidParameter { .. }), "{refused}");
    }
    let stored = registry.lifecycle_policy(&at).await.unwrap();
    assert_eq!((stored.document, stored.evaluated_at), (good.clone(), None));
    assert_eq!(registry.delete_lifecycle_policy(&at).await.unwrap().document, good);
    let gone = registry.lifecycle_preview(&at, first_page()).await.unwrap_err();
    assert!(matches!(gone, RegistryError::LifecyclePreviewNotFound(_)), "{gone}");
}

#[tokio::test]
async fn the_job_carries_a_policy_out_when_it_is_due_and_again() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Immutable).await;
    let pushed = push_daily(&house, &at, &["v1", "v2", "v3", "v4"]).await;
    house.registry.put_lifecycle_policy(&at, &keep_newest(2)).await.unwrap();
    assert_eq!(house.registry.run_due_jobs().await.unwrap(), 0, "not before the interval is over");
    assert_eq!(images(&house, &at).await.len(), 4);
    house.clock.advance(Duration::from_secs(3600));
    assert_eq!(house.registry.run_due_jobs().await.unwrap(), 1);
    assert_eq!(images(&house, &at).await, sorted(&pushed[2..]), "immutable tags do not protect");
    let evaluated = house.registry.lifecycle_policy(&at).await.unwrap().evaluated_at;
    assert_eq!(evaluated, Some(house.clock.now()));

    let fifth = house.push(&at, "v5", Some("v5")).await;
    assert_eq!(house.registry.run_due_jobs().await.unwrap(), 0);
    house.clock.advance(Duration::from_secs(3600));
    assert_eq!(house.registry.run_due_jobs().await.unwrap(), 1);
    assert_eq!(images(&house, &at).await, sorted(&[pushed[3], fifth]));

    // What went, went into the trash.
    let undeleted = house.registry.undelete(at.target(), Some(&pushed[0]), None).await;
    assert_eq!(undeleted.unwrap().restored, [pushed[0]]);
}

/// On one thread, so that the run goes on only when it is polled: each batch needs a task of its own, and with that
/// another poll.
#[tokio::test]
async fn a_job_that_is_stopped_in_the_middle_goes_on_at_the_next_start() {
    let mut house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    for number in 0..81 {
        let tag = format!("v{number}");
        house.push(&at, &tag, Some(&tag)).await;
    }
    house.registry.put_lifecycle_policy(&at, &keep_newest(1)).await.unwrap();
    house.clock.advance(Duration::from_secs(3600));
    {
        let running = house.registry.run_due_jobs();
        tokio::pin!(running);
        while house.meta.read(|tx| events::page(tx, 0, 1)).await.unwrap().is_empty() {
            assert!(futures_util::poll!(&mut running).is_pending(), "stopped too late to show anything");
            tokio::task::yield_now().await;
        }
        house.registry.stop_background();
        running.await.unwrap();
    }
    let left = images(&house, &at).await.len();
    assert!((21..81).contains(&left), "{left} images are left of four batches");
    assert_eq!(house.registry.lifecycle_policy(&at).await.unwrap().evaluated_at, None, "it is not through");
    house.restart().await;
    assert_eq!(house.registry.run_due_jobs().await.unwrap(), 1, "without another interval");
    assert_eq!(images(&house, &at).await.len(), 1);
    assert_eq!(house.registry.run_due_jobs().await.unwrap(), 0);
}

#[tokio::test]
async fn every_image_that_goes_leaves_an_event_with_its_rule() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let pushed = push_daily(&house, &at, &["v1", "v2"]).await;
    house.registry.put_lifecycle_policy(&at, &keep_newest(1)).await.unwrap();
    run(&house, &at).await;
    let noted = house.meta.read(|tx| events::page(tx, 0, 100)).await.unwrap();
    assert_eq!(noted.len(), 1);
    assert_eq!(noted[0].detail_type, "ECR Image Action");
    let detail: serde_json::Value = serde_json::from_str(&noted[0].detail).unwrap();
    assert_eq!(
        detail,
        serde_json::json!({
            "action-type": "DELETE", "image-digest": pushed[0].to_string(), "image-tag": "v1", "result": "SUCCESS",
            "repository-name": "team/app", "lifecycle-rule-priority": 1
        })
    );
}

#[tokio::test]
async fn a_preview_and_the_run_that_follows_agree() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let tags: Vec<String> = (0..23).map(|number| format!("v{number:02}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let pushed = push_daily(&house, &at, &tags).await;
    let policy = keep_newest(4);
    assert_eq!(house.registry.start_lifecycle_preview(&at, Some(&policy)).await.unwrap(), policy);
    let running = house.registry.lifecycle_preview(&at, first_page()).await.unwrap();
    assert_eq!((running.status, running.images.len()), (PreviewStatus::InProgress, 0));
    let twice = house.registry.start_lifecycle_preview(&at, Some(&policy)).await.unwrap_err();
    assert!(matches!(twice, RegistryError::LifecyclePreviewInProgress(_)), "{twice}");
    assert_eq!(house.registry.run_due_jobs().await.unwrap(), 1);

    let mut found = Vec::new();
    let mut token = None;
    loop {
        let filter = PreviewFilter::Page(TagStatus::Any, PageRequest { limit: 8, token });
        let page = house.registry.lifecycle_preview(&at, filter).await.unwrap();
        assert_eq!((page.status, page.expiring, page.archiving), (PreviewStatus::Complete, 19, 0));
        found.extend(page.images);
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    let previewed: Vec<Digest> = found.iter().map(|image| image.digest).collect();
    assert_eq!(previewed, pushed[..19], "the oldest first");
    assert_eq!((found[3].rule_priority, found[3].tags[0].as_str()), (1, "v03"));
    assert_eq!(images(&house, &at).await.len(), 23, "a preview changes nothing");

    let ids = vec![
        ImageId { digest: None, tag: Some("v03".into()) },
        ImageId { digest: Some(pushed[20].to_string()), tag: None },
    ];
    let some = house.registry.lifecycle_preview(&at, PreviewFilter::Images(ids)).await.unwrap();
    assert_eq!(some.images.iter().map(|image| image.digest).collect::<Vec<_>>(), [pushed[3]]);
    let untagged = PreviewFilter::Page(TagStatus::Untagged, PageRequest { limit: 100, token: None });
    assert!(house.registry.lifecycle_preview(&at, untagged).await.unwrap().images.is_empty());

    house.registry.put_lifecycle_policy(&at, &policy).await.unwrap();
    let report = run(&house, &at).await;
    assert_eq!((report.images, report.expired, report.failures.len()), (23, 19, 0));
    assert_eq!(images(&house, &at).await, sorted(&pushed[19..]));

    house.clock.advance(DAY);
    let expired = house.registry.lifecycle_preview(&at, first_page()).await.unwrap();
    assert_eq!((expired.status, expired.images.len(), expired.expiring), (PreviewStatus::Expired, 0, 0));
    // A new one takes its place, of the stored policy.
    assert_eq!(house.registry.start_lifecycle_preview(&at, None).await.unwrap(), policy);
    house.registry.run_due_jobs().await.unwrap();
    let again = house.registry.lifecycle_preview(&at, first_page()).await.unwrap();
    assert_eq!((again.status, again.expiring), (PreviewStatus::Complete, 0));
}

#[tokio::test]
async fn a_preview_survives_a_restart_and_the_loss_of_its_holder() {
    let mut house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    push_daily(&house, &at, &["v1", "v2"]).await;
    house.registry.start_lifecycle_preview(&at, Some(&keep_newest(1))).await.unwrap();
    // Somebody took the job and died.
    house
        .meta
        .write(|tx| wharf_store::meta::jobs::claim(tx, "lifecycle-preview", 60_000_000))
        .await
        .unwrap()
        .unwrap();
    house.restart().await;
    assert_eq!(house.registry.run_due_jobs().await.unwrap(), 0, "the lease still counts");
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(house.registry.run_due_jobs().await.unwrap(), 1);
    let preview = house.registry.lifecycle_preview(&at, first_page()).await.unwrap();
    assert_eq!((preview.status, preview.expiring), (PreviewStatus::Complete, 1));
}

#[tokio::test]
async fn a_repository_that_goes_takes_policy_preview_and_jobs_with_it() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    push_daily(&house, &at, &["v1", "v2"]).await;
    house.registry.put_lifecycle_policy(&at, &keep_newest(1)).await.unwrap();
    house.registry.start_lifecycle_preview(&at, None).await.unwrap();
    house.registry.delete_repository(&at, true).await.unwrap();
    house.clock.advance(DAY);
    house.registry.run_due_jobs().await.unwrap();
    house.registry.collect(&()).await.unwrap();
    house.registry.run_due_jobs().await.unwrap();
    let left: i64 = house
        .meta
        .read(|tx| {
            tx.query_one(
                "SELECT (SELECT COUNT(*) FROM jobs) + (SELECT COUNT(*) FROM lifecycle_policies)
                      + (SELECT COUNT(*) FROM lifecycle_previews)
                      + (SELECT COUNT(*) FROM lifecycle_preview_images)",
                &[],
                |row| row.get(0),
            )
        })
        .await
        .map_err(|error: wharf_store::meta::MetaError| error)
        .unwrap();
    assert_eq!(left, 0);
    // One of the same name begins anew.
    let again = house.create("team/app", Mutability::Mutable).await;
    assert!(house.registry.lifecycle_policy(&again).await.is_err());
}

#[tokio::test]
async fn children_wait_for_their_index_and_referrers_go_with_their_subject() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let child = house.push(&at, "child", None).await;
    let index = house.put(&at, index_of(&[child]), Some("multi")).await.unwrap().digest;
    let subject = house.push(&at, "subject", None).await;
    let signature = house.image(&at, "signature", Some(subject)).await;
    let signature = house.put(&at, signature, None).await.unwrap().digest;
    let of_signature = house.image(&at, "signature of the signature", Some(signature)).await;
    house.put(&at, of_signature, None).await.unwrap();
    house.registry.put_lifecycle_policy(&at, &untagged_after(1)).await.unwrap();
    house.clock.advance(2 * DAY);

    let report = run(&house, &at).await;
    assert_eq!((report.expired, report.referrers), (1, 2));
    assert_eq!(report.failures.len(), 1);
    assert_eq!(report.failures[0].digest, child.to_string());
    assert_eq!(report.failures[0].code, "ImageReferencedByManifestList");
    assert_eq!(images(&house, &at).await, sorted(&[child, index]));

    house.registry.delete_reference(&at, &index.to_string().parse().unwrap()).await.unwrap();
    let report = run(&house, &at).await;
    assert_eq!((report.expired, report.failures.len()), (1, 0));
    assert!(images(&house, &at).await.is_empty());
}

#[tokio::test]
async fn referrers_of_what_was_deleted_go_and_those_that_came_first_stay() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let subject = house.push(&at, "subject", Some("v1")).await;
    let orphan = house.image(&at, "orphan", Some(subject)).await;
    house.put(&at, orphan, None).await.unwrap();
    let early = house.image(&at, "early", Some(Digest::sha256(b"not there yet"))).await;
    let early = house.put(&at, early, None).await.unwrap().digest;
    house.registry.put_lifecycle_policy(&at, &keep_newest(10)).await.unwrap();
    house.registry.delete_reference(&at, &subject.to_string().parse().unwrap()).await.unwrap();
    let report = run(&house, &at).await;
    assert_eq!((report.expired, report.referrers), (0, 1));
    assert_eq!(images(&house, &at).await, [early]);
}

#[tokio::test]
async fn what_is_in_use_stays_with_its_relatives_and_the_preview_says_so() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let child = house.push(&at, "child", None).await;
    let index = house.put(&at, index_of(&[child]), Some("multi")).await.unwrap().digest;
    let signature = house.image(&at, "signature", Some(index)).await;
    let signature = house.put(&at, signature, None).await.unwrap().digest;
    house.clock.advance(DAY);
    let newest = house.push(&at, "newest", Some("new")).await;
    house.registry.put_lifecycle_policy(&at, &keep_newest(1)).await.unwrap();
    let report = InUseReport { holder: "cluster".into(), digests: vec![child], lifetime: DAY };
    house.registry.report_in_use(&house.here(), report.clone()).await.unwrap();

    let plan = house.registry.explain_lifecycle(at.target(), None).await.unwrap().images;
    let action = |digest: Digest| {
        plan.iter()
            .find(|image| image.digest == digest.to_string())
            .map(|image| image.action.clone())
            .unwrap()
    };
    assert_eq!(action(index), PlannedAction::KeepInUse);
    assert_eq!(action(child), PlannedAction::KeepInUse);
    assert_eq!((action(signature), action(newest)), (PlannedAction::Keep, PlannedAction::Keep));
    let done = run(&house, &at).await;
    assert_eq!((done.expired, done.failures.len()), (0, 2));
    assert_eq!(images(&house, &at).await, sorted(&[child, index, signature, newest]));

    for bad in [
        InUseReport { lifetime: Duration::ZERO, ..report.clone() },
        InUseReport { lifetime: 31 * DAY, ..report.clone() },
        InUseReport { holder: String::new(), ..report.clone() },
    ] {
        let refused = house.registry.report_in_use(&house.here(), bad).await.unwrap_err();
        assert!(matches!(refused, RegistryError::Validation(_)), "{refused}");
    }
    // The report runs out.
    house.clock.advance(DAY);
    assert!(house.registry.images_in_use(&house.here()).await.unwrap().is_empty());
    assert_eq!(run(&house, &at).await.expired, 1, "the index; its child the next time");
    assert_eq!(run(&house, &at).await.expired, 1);
    assert_eq!(images(&house, &at).await, [newest]);
}

#[tokio::test]
async fn where_configured_clients_delete_nothing_in_use_until_the_report_is_over() {
    let house = House::with(|options| options.protect_in_use = true).await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let child = house.push(&at, "child", None).await;
    let index = house.put(&at, index_of(&[child]), Some("multi")).await.unwrap().digest;
    let signature = house.image(&at, "signature", Some(index)).await;
    let signature = house.put(&at, signature, None).await.unwrap().digest;
    let free = house.push(&at, "free", Some("free")).await;
    for holder in ["blue", "green"] {
        let report = InUseReport { holder: holder.into(), digests: vec![child], lifetime: DAY };
        house.registry.report_in_use(&house.here(), report).await.unwrap();
    }

    let by_digest = |digest: &Digest| ImageId { digest: Some(digest.to_string()), tag: None };
    let by_tag = |tag: &str| ImageId { digest: None, tag: Some(tag.into()) };
    let ids = [by_digest(&signature), by_digest(&index), by_tag("multi"), by_digest(&free)];
    let (deleted, failures) = house.registry.delete_images(&at, &ids).await.unwrap();
    assert_eq!(deleted.iter().map(|image| image.digest).collect::<Vec<_>>(), [free]);
    assert_eq!(failures.len(), 3);
    for failure in &failures {
        assert_eq!(failure.code, ImageFailureCode::ImageInaccessible);
        let text = "The image is in use and stays, by in_use.protect: it or a relative is run by blue, green";
        assert_eq!(failure.reason, text);
    }
    let refused = house.registry.delete_reference(&at, &Reference::Digest(index)).await.unwrap_err();
    assert!(matches!(&refused, RegistryError::ImageInUse(holders) if holders == &["blue", "green"]));
    // A tag alone may go: the image stays.
    house.registry.delete_reference(&at, &Reference::Tag("multi".parse().unwrap())).await.unwrap();
    assert_eq!(images(&house, &at).await, sorted(&[child, index, signature]));

    house.clock.advance(DAY);
    let (deleted, failures) =
        house.registry.delete_images(&at, &[by_digest(&index), by_digest(&signature)]).await.unwrap();
    assert_eq!((deleted.len(), failures.len()), (2, 0));
    assert_eq!(images(&house, &at).await, [child]);
}

#[tokio::test]
async fn the_operator_overrides_the_protection_and_that_is_written_down() {
    let house = House::with(|options| options.protect_in_use = true).await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let running = house.push(&at, "running", Some("v1")).await;
    let report = InUseReport { holder: "blue".into(), digests: vec![running], lifetime: DAY };
    house.registry.report_in_use_as_operator(at.target().registry.account, report).await.unwrap();
    let tag = Reference::Tag("v1".parse().unwrap());
    let refused = house.registry.delete_as_operator(at.target(), &tag, false).await.unwrap_err();
    assert!(matches!(refused, RegistryError::ImageInUse(_)), "{refused}");
    assert!(house.meta.read(|tx| events::page(tx, 0, 100)).await.unwrap().is_empty());

    let done = house.registry.delete_as_operator(at.target(), &tag, true).await.unwrap();
    assert_eq!((done.deleted.len(), done.in_use_by.as_slice()), (1, &["blue".to_owned()][..]));
    assert!(images(&house, &at).await.is_empty());
    let noted = house.meta.read(|tx| events::page(tx, 0, 100)).await.unwrap();
    let details: Vec<serde_json::Value> =
        noted.iter().map(|event| serde_json::from_str(&event.detail).unwrap()).collect();
    assert_eq!(
        details,
        [serde_json::json!({
            "action-type": "DELETE", "result": "SUCCESS", "repository-name": "team/app",
            "image-digest": running.to_string(), "image-tag": "v1", "deleted-by": "operator", "forced": true,
            "in-use-by": ["blue"],
        })]
    );
    let gone = house.registry.delete_as_operator(at.target(), &tag, true).await.unwrap_err();
    assert!(matches!(gone, RegistryError::ManifestUnknown), "{gone}");
    let restored = house.registry.undelete(at.target(), Some(&running), None).await.unwrap();
    assert_eq!(restored.restored, [running], "it went into the trash");
}

#[tokio::test]
async fn unless_configured_images_in_use_are_deleted_as_ecr_does_it() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let running = house.push(&at, "running", Some("v1")).await;
    let report = InUseReport { holder: "blue".into(), digests: vec![running], lifetime: DAY };
    house.registry.report_in_use(&house.here(), report).await.unwrap();
    house.registry.delete_reference(&at, &Reference::Digest(running)).await.unwrap();
    assert!(images(&house, &at).await.is_empty());
}

#[tokio::test]
async fn pulls_of_the_last_seconds_count() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let pushed = push_daily(&house, &at, &["v1", "v2"]).await;
    let policy = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":30},"action":{"type":"transition","targetStorageClass":"archive"}}]}"#;
    house.registry.put_lifecycle_policy(&at, policy).await.unwrap();
    house.clock.advance(40 * DAY);
    let pulled = house.registry.get_manifest(&at, &"v1".parse().unwrap(), &[]).await.unwrap();
    house.registry.note_pull(&at, &pulled);
    let report = run(&house, &at).await;
    assert_eq!((report.archived, report.expired), (1, 0));
    assert_eq!(
        house.registry.get_manifest(&at, &"v1".parse().unwrap(), &[]).await.unwrap().digest,
        pushed[0]
    );
    let archived = house.registry.get_manifest(&at, &"v2".parse().unwrap(), &[]).await.unwrap_err();
    assert!(matches!(archived, RegistryError::ManifestUnknown), "{archived}");
}

#[tokio::test]
async fn an_explanation_counts_what_is_shared_once_and_what_others_hold_not_at_all() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let other = house.create("team/other", Mutability::Mutable).await;
    let own = house.blob(&at, &[1; 1000]).await;
    let shared = house.blob(&at, &[2; 200]).await;
    let kept = house.blob(&at, &[3; 30]).await;
    let elsewhere = house.blob(&at, &[4; 4000]).await;
    house.blob(&other, &[4; 4000]).await;
    for (tag, layers) in [("a", vec![own, shared, elsewhere]), ("b", vec![shared, kept]), ("c", vec![kept])] {
        let config = house.blob(&at, tag.as_bytes()).await;
        house.put(&at, house::image_of(config, &layers, None), Some(tag)).await.unwrap();
        house.clock.advance(DAY);
    }
    let explained = house.registry.explain_lifecycle(at.target(), Some(&keep_newest(1))).await.unwrap();
    assert_eq!((explained.expiring, explained.archiving, explained.bytes_freed), (2, 0, 1202));
    let freed = |tag: &str| {
        explained.images.iter().find(|image| image.tags == [tag]).map(|image| image.bytes_freed).unwrap()
    };
    assert_eq!((freed("a"), freed("b"), freed("c")), (1001, 201, 0));
    assert_eq!(images(&house, &at).await.len(), 3);
    let none = house.registry.explain_lifecycle(at.target(), None).await.unwrap_err();
    assert!(matches!(none, RegistryError::LifecyclePolicyNotFound(_)), "{none}");
}
