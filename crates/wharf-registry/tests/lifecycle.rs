//! Lifecycle policies carried out and previewed, on a clock that the tests set.
#![allow(clippy::unwrap_used)]

mod house;

use std::time::Duration;

use house::{House, index_of};
use serde_json::{Value, json};
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
    let noted = noted(&house, "ECR Image Action").await;
    assert_eq!(
        noted,
        [json!({
            "action-type": "DELETE", "image-digest": pushed[0].to_string(), "image-tag": "v1", "result": "SUCCESS",
            "repository-name": "team/app", "lifecycle-rule-priority": 1
        })]
    );
}

/// The details of the events of a kind, in order.
async fn noted(house: &House, kind: &'static str) -> Vec<Value> {
    let events = house.meta.read(|tx| events::page(tx, 0, 1000)).await.unwrap();
    let of_kind = events.iter().filter(|event| event.detail_type == kind);
    of_kind.map(|event| serde_json::from_str(&event.detail).unwrap()).collect()
}

const RECORD: &str = "AWS Service Event via CloudTrail";

#[tokio::test]
async fn every_image_that_goes_is_recorded_for_the_audit_log_with_its_rule_and_the_policy() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let names: Vec<String> = (0..21).map(|number| format!("v{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pushed = push_daily(&house, &at, &names).await;
    let signature = house.image(&at, "signature", Some(pushed[0])).await;
    let signature = house.put(&at, signature, None).await.unwrap().digest;
    house.registry.put_lifecycle_policy(&at, &keep_newest(1)).await.unwrap();
    run(&house, &at).await;

    let records = noted(&house, RECORD).await;
    let mut ids: Vec<&Value> = records.iter().map(|record| &record["eventID"]).collect();
    ids.dedup();
    assert_eq!((records.len(), ids.len()), (3, 3), "21 images, nine at most in a record");
    let mut recorded = Vec::new();
    for record in &records {
        assert_eq!(record["eventName"], "PolicyExecutionEvent");
        assert_eq!(record["eventTime"], house.clock.now().to_rfc3339());
        assert_eq!(
            record["resources"],
            json!([{
                "ARN": "arn:aws:ecr:us-east-1:123456789012:repository/team/app", "accountId": "123456789012",
                "type": "AWS::ECR::Repository",
            }])
        );
        let details = &record["serviceEventDetails"];
        let policy = &details["lifecycleEventPolicy"];
        assert_eq!((&details["repositoryName"], &policy["policyVersion"]), (&json!("team/app"), &json!(1)));
        assert_eq!(
            policy["lifecycleEventRules"],
            json!([{
                "rulePriority": 1, "description": "keep the newest", "action": "expire",
                "lifecycleEventSelection": {
                    "tagStatus": "Any", "tagPrefixList": [], "countType": "Image count more than", "countNumber": 1,
                },
            }])
        );
        recorded.extend(details["lifecycleEventImageActions"].as_array().unwrap().clone());
    }
    assert_eq!(
        recorded[0],
        json!({
            "rulePriority": 1,
            "lifecycleEventImage": {
                "digest": pushed[0].to_string(), "tagStatus": "Tagged", "tagList": ["v00"],
                "pushedAt": 1_700_000_000_000_i64,
            },
        })
    );
    assert_eq!(
        recorded[1]["lifecycleEventImage"]["digest"],
        signature.to_string(),
        "it went with its subject"
    );
    let digests: Vec<&str> =
        recorded.iter().map(|image| image["lifecycleEventImage"]["digest"].as_str().unwrap()).collect();
    let mut expected: Vec<String> = pushed[..20].iter().map(Digest::to_string).collect();
    expected.insert(1, signature.to_string());
    assert_eq!(digests, expected);

    // Until the audit log says that it has them, they are handed out again; then there are none until more is done.
    let registry = &house.registry;
    let first = registry.service_records().await.unwrap().unwrap();
    let again = registry.service_records().await.unwrap().unwrap();
    assert_eq!((first.records.len(), &first.records), (3, &again.records));
    assert_eq!(serde_json::from_str::<Value>(&first.records[0]).unwrap(), records[0]);
    registry.service_records_copied(&first).await.unwrap();
    registry.service_records_copied(&again).await.unwrap();
    assert!(registry.service_records().await.unwrap().is_none());
    run(&house, &at).await;
    assert!(registry.service_records().await.unwrap().is_none(), "a run that does nothing records nothing");
}

#[tokio::test]
async fn what_cannot_go_and_what_lost_its_subject_is_recorded_too() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let child = house.push(&at, "child", None).await;
    let index = house.put(&at, index_of(&[child]), Some("multi")).await.unwrap().digest;
    let running = house.push(&at, "running", None).await;
    let report = InUseReport { holder: "blue".into(), digests: vec![running], lifetime: 30 * DAY };
    house.registry.report_in_use(&house.here(), report).await.unwrap();
    let subject = house.push(&at, "subject", Some("v1")).await;
    let orphan = house.image(&at, "orphan", Some(subject)).await;
    let orphan = house.put(&at, orphan, Some("sig")).await.unwrap().digest;
    house.registry.delete_reference(&at, &Reference::Digest(subject)).await.unwrap();
    house.registry.put_lifecycle_policy(&at, &untagged_after(1)).await.unwrap();
    house.clock.advance(2 * DAY);
    let report = run(&house, &at).await;
    assert_eq!((report.failures.len(), report.referrers), (2, 1));

    let records = noted(&house, RECORD).await;
    let failed = records[0]["serviceEventDetails"]["lifecycleEventFailureDetails"].as_array().unwrap();
    let mut codes: Vec<(&str, &str)> = failed
        .iter()
        .map(|failure| {
            let digest = failure["lifecycleEventImage"]["digest"].as_str().unwrap();
            (digest, failure["failureCode"].as_str().unwrap())
        })
        .collect();
    codes.sort_by_key(|(_, code)| *code);
    let (child, running) = (child.to_string(), running.to_string());
    assert_eq!(codes, [(running.as_str(), "ImageInUse"), (child.as_str(), "ImageReferencedByManifestList")]);
    let gone = &records[1]["serviceEventDetails"]["lifecycleEventImageActions"];
    let image = json!({"digest": orphan.to_string(), "tagStatus": "Tagged", "tagList": ["sig"]});
    assert_eq!(*gone, json!([{"lifecycleEventImage": image}]), "no rule was about it");
    let events = noted(&house, "ECR Referrer Action").await;
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["action-type"], &events[0]["image-digest"]), (&json!("DELETE"), &image["digest"]));
    assert!(images(&house, &at).await.contains(&index));
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
    assert!(house.registry.images_in_use(&house.here(), page_of(10)).await.unwrap().items.is_empty());
    assert_eq!(run(&house, &at).await.expired, 1, "the index; its child the next time");
    assert_eq!(run(&house, &at).await.expired, 1);
    assert_eq!(images(&house, &at).await, [newest]);
}

fn page_of(limit: usize) -> PageRequest {
    PageRequest { limit, token: None }
}

#[tokio::test]
async fn reports_are_listed_by_pages_renewed_released_and_forgotten() {
    let house = House::new().await;
    let (here, registry) = (house.here(), &house.registry);
    let digests: Vec<Digest> = (0..1203).map(|n: u32| Digest::sha256(&n.to_be_bytes())).collect();
    let report = |holder: &str, digests: &[Digest], lifetime| InUseReport {
        holder: holder.into(),
        digests: digests.to_vec(),
        lifetime,
    };
    registry.report_in_use(&here, report("blue", &digests, DAY)).await.unwrap();
    registry.report_in_use(&here, report("green", &digests[..2], 2 * DAY)).await.unwrap();
    let mut listed = Vec::new();
    let mut page = page_of(500);
    loop {
        let found = registry.images_in_use(&here, page.clone()).await.unwrap();
        assert!(found.items.len() <= 500);
        listed.extend(found.items);
        page.token = found.next;
        if page.token.is_none() {
            break;
        }
    }
    let named: Vec<String> = listed.iter().map(|image| image.digest.clone()).collect();
    let mut expected: Vec<String> = digests.iter().map(Digest::to_string).collect();
    expected.sort();
    assert_eq!(named, expected);
    let both = listed.iter().filter(|image| image.holders == ["blue", "green"]).count();
    assert_eq!((both, listed.iter().filter(|image| image.holders == ["blue"]).count()), (2, 1201));
    let exact = registry.images_in_use(&here, page_of(1203)).await.unwrap();
    assert_eq!((exact.items.len(), exact.next), (1203, None));
    let forged = PageRequest { limit: 10, token: Some("forged".into()) };
    let refused = registry.images_in_use(&here, forged).await.unwrap_err();
    assert!(matches!(refused, RegistryError::InvalidParameter { .. }), "{refused}");

    // One image of one holder, then what is left of him; the other's stay.
    assert_eq!(registry.release_in_use(&here, "blue", Some(&digests[..1])).await.unwrap(), 1);
    assert_eq!(registry.release_in_use(&here, "blue", Some(&digests[..1])).await.unwrap(), 0);
    assert_eq!(registry.release_in_use(&here, "red", None).await.unwrap(), 0);
    let both = registry.images_in_use(&here, page_of(2000)).await.unwrap();
    assert_eq!(both.items.iter().filter(|image| image.holders == ["green"]).count(), 1);
    assert_eq!(registry.release_in_use(&here, "blue", None).await.unwrap(), 1202);
    let left = registry.images_in_use(&here, page_of(10)).await.unwrap().items;
    assert_eq!(left.iter().map(|image| image.holders.join(",")).collect::<Vec<_>>(), ["green", "green"]);
    let nobody = registry.release_in_use(&here, "", None).await.unwrap_err();
    assert!(matches!(nobody, RegistryError::Validation(_)), "{nobody}");

    // A report that is renewed outlives its first lifetime, one that is not goes from the store too.
    house.clock.advance(DAY + DAY / 2);
    registry.report_in_use(&here, report("green", &digests[..1], DAY)).await.unwrap();
    house.clock.advance(DAY / 2);
    let left = registry.images_in_use(&here, page_of(10)).await.unwrap().items;
    assert_eq!(left.iter().map(|image| image.digest.clone()).collect::<Vec<_>>(), [digests[0].to_string()]);
    registry.collect(&()).await.unwrap();
    let rows = |tx: &mut wharf_store::meta::Tx<'_>| {
        tx.query_one("SELECT COUNT(*) FROM images_in_use", &[], |row| row.get::<i64>(0))
    };
    assert_eq!(house.meta.read(rows).await.unwrap(), 1);
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
    let record = noted(&house, RECORD).await.remove(0);
    assert_eq!(
        (&record["eventName"], &record["eventSource"]),
        (&json!("DeleteImage"), &json!("wharf.amazonaws.com"))
    );
    assert_eq!(record["userIdentity"], json!({"accountId": "123456789012", "invokedBy": "operator"}));
    assert_eq!(
        record["serviceEventDetails"],
        json!({
            "repositoryName": "team/app", "imageDigest": running.to_string(), "imageTag": "v1", "forced": true,
            "inUseBy": ["blue"],
        })
    );
    assert_eq!(
        noted(&house, "ECR Image Action").await,
        [json!({
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

/// What nobody has pulled for 30 days goes to the archive.
const ARCHIVE_UNUSED: &str = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":30},"action":{"type":"transition","targetStorageClass":"archive"}}]}"#;

#[tokio::test]
async fn a_referrer_that_runs_does_not_follow_its_subject_into_the_archive() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let subject = house.push(&at, "subject", Some("v1")).await;
    let [running, idle] = ["running", "idle"].map(|name| house.image(&at, name, Some(subject)));
    let running = house.put(&at, running.await, None).await.unwrap().digest;
    let idle = house.put(&at, idle.await, None).await.unwrap().digest;
    house.registry.put_lifecycle_policy(&at, ARCHIVE_UNUSED).await.unwrap();
    house.clock.advance(40 * DAY);
    let report = InUseReport { holder: "cluster".into(), digests: vec![running], lifetime: DAY };
    house.registry.report_in_use(&house.here(), report).await.unwrap();
    run(&house, &at).await;
    let pull = async |digest| house.registry.get_manifest(&at, &Reference::Digest(digest), &[]).await;
    assert!(pull(running).await.is_ok(), "it runs");
    for archived in [subject, idle] {
        let refused = pull(archived).await.unwrap_err();
        assert!(matches!(refused, RegistryError::ManifestUnknown), "{refused}");
    }
}

#[tokio::test]
async fn pulls_of_the_last_seconds_count() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let pushed = push_daily(&house, &at, &["v1", "v2"]).await;
    house.registry.put_lifecycle_policy(&at, ARCHIVE_UNUSED).await.unwrap();
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
    let record = noted(&house, RECORD).await.remove(0);
    let details = &record["serviceEventDetails"];
    assert_eq!(details["lifecycleEventPolicy"]["lifecycleEventRules"][0]["action"], "transition");
    let actions = details["lifecycleEventImageActions"].as_array().unwrap();
    assert_eq!(actions.len(), 1);
    assert_eq!(actions[0]["lifecycleEventImage"]["digest"], pushed[1].to_string());
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
