//! Storage classes: what is archived cannot be pulled, and comes back.
#![allow(clippy::unwrap_used)]

mod depot;

use std::time::Duration;

use depot::{At, Depot, content};
use wharf_registry::{
    ImageDetail, ImageFailureCode, ImageFilter, ImageId, ImageStatus, LayerState, PageRequest, PutImage,
    RegistryError, StorageClass, TagStatus,
};
use wharf_store::meta::{MetaError, events};
use wharf_types::Digest;

/// The event of another action than these tests are about.
const CLASS: &str = "UPDATE_STORAGE_CLASS";

fn id(digest: &Digest) -> ImageId {
    ImageId { digest: Some(digest.to_string()), tag: None }
}

fn tag(tag: &str) -> ImageId {
    ImageId { digest: None, tag: Some(tag.to_owned()) }
}

async fn archive(depot: &Depot, at: &At, image: &ImageId) -> Result<ImageStatus, RegistryError> {
    let changed = depot.registry.update_image_storage_class(at, image, StorageClass::Archive).await;
    changed.map(|(_, status)| status)
}

async fn restore(depot: &Depot, at: &At, image: &ImageId) -> Result<ImageStatus, RegistryError> {
    let changed = depot.registry.update_image_storage_class(at, image, StorageClass::Standard).await;
    changed.map(|(_, status)| status)
}

async fn describe(depot: &Depot, at: &At, digest: &Digest) -> ImageDetail {
    depot.registry.describe_images_by_id(at, &[id(digest)]).await.unwrap().remove(0)
}

async fn listed(depot: &Depot, at: &At, status: Option<ImageStatus>) -> Vec<Digest> {
    let (filter, page) =
        (ImageFilter { tags: TagStatus::Any, status }, PageRequest { limit: 100, token: None });
    let described = depot.registry.describe_images(at, filter, page.clone()).await.unwrap();
    let mut listed: Vec<Digest> = depot
        .registry
        .list_images(at, filter, page)
        .await
        .unwrap()
        .items
        .iter()
        .map(|id| id.digest)
        .collect();
    listed.dedup();
    assert_eq!(listed, described.items.iter().map(|image| image.digest).collect::<Vec<_>>());
    listed
}

/// Whether an image can be pulled, which every way must answer alike.
async fn is_pulled(depot: &Depot, at: &At, name: &str, digest: &Digest) -> bool {
    let registry = &depot.registry;
    let by_tag = registry.get_manifest(at, &name.parse().unwrap(), &[]).await;
    let by_digest = registry.get_manifest(at, &digest.to_string().parse().unwrap(), &[]).await;
    let now = registry.get_manifest_now(at, &digest.to_string().parse().unwrap(), &[]);
    let (images, failures) = registry.batch_get_images(at, &[tag(name), id(digest)], &[]).await.unwrap();
    let pulled = by_tag.is_ok();
    assert_eq!((by_digest.is_ok(), now.is_some()), (pulled, pulled));
    assert_eq!((images.len(), failures.len()), if pulled { (2, 0) } else { (0, 2) });
    for failure in failures {
        assert_eq!(failure.code, ImageFailureCode::ImageInaccessible, "{failure:?}");
    }
    if let Err(error) = by_tag {
        assert!(matches!(error, RegistryError::ManifestUnknown), "{error}");
    }
    pulled
}

async fn layer_state(depot: &Depot, at: &At, layer: &Digest) -> &'static str {
    let state = depot.registry.check_layers(at, &[layer.to_string()]).await.unwrap().remove(0).state;
    let (token, read) =
        (depot.registry.layer_download_token(at, layer).await, depot.registry.open_blob(at, layer).await);
    // Whoever pushes need not send again what is in the archive.
    assert!(depot.registry.stat_blob(at, layer).await.is_ok());
    match state {
        LayerState::Available { .. } => {
            assert!(token.is_ok() && read.is_ok());
            "available"
        }
        LayerState::Archived { size } => {
            assert!(size > 0);
            assert!(matches!(token, Err(RegistryError::LayerArchived(digest)) if digest == *layer));
            assert!(matches!(read.err(), Some(RegistryError::BlobUnknown(digest)) if digest == *layer));
            "archived"
        }
        other => panic!("{other:?}"),
    }
}

async fn noted(depot: &Depot) -> Vec<(String, serde_json::Value)> {
    let rows = depot.meta.read(|tx| events::page(tx, 0, 1000)).await;
    rows.map_err(|error: MetaError| error)
        .unwrap()
        .into_iter()
        .map(|row| (row.detail_type, serde_json::from_str(&row.detail).unwrap()))
        .collect()
}

#[tokio::test]
async fn an_archived_image_is_pulled_by_no_way_and_comes_back_by_a_job() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let (own, shared) = (depot.put(&at, &content(1, 900)).await, depot.put(&at, &content(2, 900)).await);
    let image = depot.image(&at, &[own, shared], "v1").await.unwrap();
    let other = depot.image(&at, &[shared], "v2").await.unwrap();
    assert!(is_pulled(&depot, &at, "v1", &image).await);
    assert_eq!(
        (layer_state(&depot, &at, &own).await, layer_state(&depot, &at, &shared).await),
        ("available", "available")
    );

    let (named, status) =
        depot.registry.update_image_storage_class(&at, &tag("v1"), StorageClass::Archive).await.unwrap();
    assert_eq!((named.digest, named.tag.unwrap().as_str(), status), (image, "v1", ImageStatus::Archived));
    assert!(!is_pulled(&depot, &at, "v1", &image).await);
    assert!(is_pulled(&depot, &at, "v2", &other).await);
    assert_eq!(
        (layer_state(&depot, &at, &own).await, layer_state(&depot, &at, &shared).await),
        ("archived", "available")
    );
    assert_eq!(listed(&depot, &at, Some(ImageStatus::Active)).await, [other]);
    assert_eq!(listed(&depot, &at, Some(ImageStatus::Archived)).await, [image]);
    assert_eq!(listed(&depot, &at, None).await.len(), 2);
    let archived = describe(&depot, &at, &image).await;
    assert_eq!((archived.status, archived.archived_at), (ImageStatus::Archived, Some(depot.clock.now())));
    assert_eq!(archived.tags.len(), 1, "the tag stays");
    assert_eq!(depot.registry.list_tags(&at, None, 10).await.unwrap().names.len(), 1);

    // The last active image that shares the layer goes, and the layer with it.
    depot.registry.delete_images(&at, &[id(&other)]).await.unwrap();
    assert_eq!(layer_state(&depot, &at, &shared).await, "archived");

    depot.clock.advance(Duration::from_secs(60));
    assert_eq!(restore(&depot, &at, &id(&image)).await.unwrap(), ImageStatus::Activating);
    assert!(!is_pulled(&depot, &at, "v1", &image).await);
    assert_eq!(listed(&depot, &at, Some(ImageStatus::Activating)).await, [image]);
    assert_eq!(depot.registry.run_due_jobs().await.unwrap(), 1);
    assert!(is_pulled(&depot, &at, "v1", &image).await);
    assert_eq!(
        (layer_state(&depot, &at, &own).await, layer_state(&depot, &at, &shared).await),
        ("available", "available")
    );
    let active = describe(&depot, &at, &image).await;
    assert_eq!((active.status, active.activated_at), (ImageStatus::Active, Some(depot.clock.now())));

    let events = noted(&depot).await;
    let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["ECR Image Action", "ECR Image Action", "AWS Service Event via CloudTrail"]);
    assert_eq!(
        (&events[0].1["action-type"], &events[0].1["target-storage-class"]),
        (&CLASS.into(), &"ARCHIVE".into())
    );
    assert!(events[0].1.get("last-activated-at").is_none());
    let back = &events[1].1;
    assert_eq!(
        (&back["target-storage-class"], &back["image-digest"]),
        (&"STANDARD".into(), &image.to_string().into())
    );
    assert_eq!(back["last-activated-at"], depot.clock.now().to_rfc3339());
    assert_eq!(back["manifest-media-type"], "application/vnd.oci.image.manifest.v1+json");
    let details = &events[2].1["serviceEventDetails"];
    assert_eq!((&details["result"], &details["imageStatus"]), (&"SUCCESS".into(), &"ACTIVE".into()));
    depot.assert_clean().await;
}

#[tokio::test]
async fn a_class_that_cannot_be_is_refused_and_changes_nothing() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let layer = depot.put(&at, b"layer").await;
    let image = depot.image(&at, &[layer], "v1").await.unwrap();
    let index = depot.index(&at, &[image], "all").await;
    let refused = |error: RegistryError, why: &str| {
        let text = error.to_string();
        assert!(
            matches!(error, RegistryError::StorageClassUpdateNotSupported { .. }) && text.ends_with(why),
            "{text}"
        );
    };
    refused(
        restore(&depot, &at, &id(&image)).await.unwrap_err(),
        "cannot be updated to STANDARD: the image is active already",
    );
    let held = archive(&depot, &at, &id(&image)).await.unwrap_err();
    refused(held, &format!("the image is referenced by manifest list: [{index}]"));
    let absent = Digest::sha256(b"absent");
    for wrong in
        [id(&absent), tag("none"), ImageId { digest: Some(absent.to_string()), tag: Some("v1".into()) }]
    {
        for outcome in [archive(&depot, &at, &wrong).await, restore(&depot, &at, &wrong).await] {
            assert!(matches!(outcome, Err(RegistryError::ImageNotFound(..))), "{outcome:?}");
        }
    }
    for wrong in [ImageId { digest: None, tag: None }, ImageId { digest: Some("sha256".into()), tag: None }] {
        let outcome = archive(&depot, &at, &wrong).await;
        assert!(matches!(outcome, Err(RegistryError::InvalidParameter { .. })), "{outcome:?}");
    }
    let nowhere = archive(&depot, &depot.at("no/where"), &id(&image)).await;
    assert!(matches!(nowhere, Err(RegistryError::RepositoryNotFound(_))), "{nowhere:?}");
    assert_eq!(listed(&depot, &at, Some(ImageStatus::Active)).await.len(), 2);
    assert!(noted(&depot).await.is_empty());

    // The index first, then what it names.
    assert_eq!(archive(&depot, &at, &tag("all")).await.unwrap(), ImageStatus::Archived);
    assert_eq!(archive(&depot, &at, &tag("v1")).await.unwrap(), ImageStatus::Archived);
    refused(archive(&depot, &at, &tag("v1")).await.unwrap_err(), "the image is archived already");
    // What is active can be pulled whole.
    assert_eq!(restore(&depot, &at, &tag("all")).await.unwrap(), ImageStatus::Activating);
    refused(restore(&depot, &at, &tag("v1")).await.unwrap_err(), "the image is being restored");
    refused(archive(&depot, &at, &tag("all")).await.unwrap_err(), "the image is being restored");
    depot.registry.run_due_jobs().await.unwrap();
    assert!(is_pulled(&depot, &at, "all", &index).await && is_pulled(&depot, &at, "v1", &image).await);
}

#[tokio::test]
async fn referrers_follow_their_subject() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let layer = depot.put(&at, b"layer").await;
    let image = depot.image(&at, &[layer], "v1").await.unwrap();
    let config = depot.put(&at, b"signature").await;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/x-signature","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":9}},"layers":[],"subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{image}","size":7}}}}"#
    );
    let manifest = wharf_types::Manifest::parse(text.into(), None).unwrap();
    let put = PutImage { manifest, digest: None, tags: Vec::new() };
    let signature = depot.registry.put_image(&at, put).await.unwrap().digest;
    let referrers = async |status| {
        let page = PageRequest { limit: 10, token: None };
        let page = depot.registry.list_referrers(&at, &image, &[], status, page).await.unwrap();
        page.items.into_iter().map(|referrer| referrer.digest).collect::<Vec<_>>()
    };
    assert_eq!(referrers(Some(ImageStatus::Active)).await, [signature]);
    archive(&depot, &at, &tag("v1")).await.unwrap();
    assert!(referrers(Some(ImageStatus::Active)).await.is_empty());
    assert_eq!(referrers(Some(ImageStatus::Archived)).await, [signature]);
    restore(&depot, &at, &tag("v1")).await.unwrap();
    assert_eq!(referrers(Some(ImageStatus::Activating)).await, [signature]);
    depot.registry.run_due_jobs().await.unwrap();
    assert_eq!(referrers(Some(ImageStatus::Active)).await, [signature]);
    let events = noted(&depot).await;
    let of_signature: Vec<_> = events.iter().filter(|(kind, _)| kind == "ECR Referrer Action").collect();
    assert_eq!(of_signature.len(), 2);
    assert_eq!(of_signature[0].1["artifact-media-type"], "application/x-signature");
}

#[tokio::test]
async fn an_image_that_is_pushed_again_is_active_at_once() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let layer = depot.put(&at, b"layer").await;
    let image = depot.image(&at, &[layer], "v1").await.unwrap();
    archive(&depot, &at, &tag("v1")).await.unwrap();
    assert_eq!(layer_state(&depot, &at, &layer).await, "archived");
    // Another image on the same layer makes the layer available, not the image.
    let other = depot.image(&at, &[layer], "v2").await.unwrap();
    assert_eq!(layer_state(&depot, &at, &layer).await, "available");
    assert!(is_pulled(&depot, &at, "v2", &other).await && !is_pulled(&depot, &at, "v1", &image).await);
    depot.clock.advance(Duration::from_secs(60));
    assert_eq!(depot.image(&at, &[layer], "v1").await.unwrap(), image);
    assert!(is_pulled(&depot, &at, "v1", &image).await);
    let active = describe(&depot, &at, &image).await;
    assert_eq!((active.activated_at, active.pushed_at < depot.clock.now()), (Some(depot.clock.now()), true));
    // While it is being restored, too; the job finds nothing to do.
    archive(&depot, &at, &tag("v1")).await.unwrap();
    restore(&depot, &at, &tag("v1")).await.unwrap();
    depot.image(&at, &[layer], "v1").await.unwrap();
    let events = noted(&depot).await.len();
    assert_eq!(depot.registry.run_due_jobs().await.unwrap(), 1);
    assert_eq!(noted(&depot).await.len(), events);
    assert!(is_pulled(&depot, &at, "v1", &image).await);
}

#[tokio::test]
async fn an_index_that_is_pushed_makes_its_children_active() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let layer = depot.put(&at, b"layer").await;
    let image = depot.image(&at, &[layer], "v1").await.unwrap();
    archive(&depot, &at, &tag("v1")).await.unwrap();
    let index = depot.index(&at, &[image], "all").await;
    assert!(is_pulled(&depot, &at, "all", &index).await && is_pulled(&depot, &at, "v1", &image).await);
}

#[tokio::test]
async fn what_is_archived_can_be_deleted_and_comes_back_archived() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let layer = depot.put(&at, b"layer").await;
    let image = depot.image(&at, &[layer], "v1").await.unwrap();
    archive(&depot, &at, &tag("v1")).await.unwrap();
    let (deleted, failures) = depot.registry.delete_images(&at, &[id(&image)]).await.unwrap();
    assert_eq!((deleted.len(), failures.len()), (1, 0));
    depot.registry.undelete(at.target(), Some(&image), None).await.unwrap();
    assert_eq!(describe(&depot, &at, &image).await.status, ImageStatus::Archived);
    assert_eq!(layer_state(&depot, &at, &layer).await, "archived");
    // On its way when it was deleted, it is on its way when it is back.
    restore(&depot, &at, &tag("v1")).await.unwrap();
    depot.registry.delete_images(&at, &[id(&image)]).await.unwrap();
    depot.registry.run_due_jobs().await.unwrap();
    depot.registry.undelete(at.target(), Some(&image), None).await.unwrap();
    assert_eq!(describe(&depot, &at, &image).await.status, ImageStatus::Activating);
    depot.registry.run_due_jobs().await.unwrap();
    assert!(is_pulled(&depot, &at, "v1", &image).await);
    depot.assert_clean().await;
}

#[tokio::test]
async fn a_pull_restores_where_that_is_configured() {
    let depot = Depot::with(|options| options.restore_on_pull = true).await;
    let at = depot.create("team/app").await;
    let layer = depot.put(&at, b"layer").await;
    let image = depot.image(&at, &[layer], "v1").await.unwrap();
    archive(&depot, &at, &tag("v1")).await.unwrap();
    for _ in 0..2 {
        let again = depot.registry.get_manifest(&at, &"v1".parse().unwrap(), &[]).await.unwrap_err();
        assert!(matches!(again, RegistryError::ImageActivating(digest) if digest == image), "{again}");
        assert_eq!(describe(&depot, &at, &image).await.status, ImageStatus::Activating);
    }
    let unknown = depot.registry.get_manifest(&at, &"v2".parse().unwrap(), &[]).await.unwrap_err();
    assert!(matches!(unknown, RegistryError::ManifestUnknown), "{unknown}");
    assert_eq!(depot.registry.run_due_jobs().await.unwrap(), 1);
    assert!(is_pulled(&depot, &at, "v1", &image).await);
    archive(&depot, &at, &tag("v1")).await.unwrap();
    let (_, failures) = depot.registry.batch_get_images(&at, &[tag("v1")], &[]).await.unwrap();
    assert_eq!(failures[0].reason, "Requested image is being restored");
    assert_eq!(depot.registry.run_due_jobs().await.unwrap(), 1);
    assert!(is_pulled(&depot, &at, "v1", &image).await);
}

#[tokio::test]
async fn a_rule_takes_children_to_the_archive_after_their_index() {
    let depot = Depot::with(|options| options.archive_min_days = 7).await;
    let at = depot.create("team/app").await;
    let layer = depot.put(&at, b"layer").await;
    let image = depot.image(&at, &[layer], "v1").await.unwrap();
    let index = depot.index(&at, &[image], "all").await;
    let rule = |priority: u64, class: &str, count: &str, days: u64, action: &str| {
        format!(
            r#"{{"rulePriority":{priority},"selection":{{"tagStatus":"any","storageClass":"{class}","countType":"{count}","countUnit":"days","countNumber":{days}}},"action":{action}}}"#
        )
    };
    let archive = r#"{"type":"transition","targetStorageClass":"archive"}"#;
    let policy = |days| {
        let rules = [
            rule(1, "standard", "sinceImagePushed", 1, archive),
            rule(2, "archive", "sinceImageTransitioned", days, r#"{"type":"expire"}"#),
        ];
        format!(r#"{{"rules":[{}]}}"#, rules.join(","))
    };
    let short = depot.registry.put_lifecycle_policy(&at, &policy(6)).await.unwrap_err().to_string();
    assert!(
        short.contains("countNumber must be at least 7 when countType=sinceImageTransitioned."),
        "{short}"
    );
    depot.registry.put_lifecycle_policy(&at, &policy(7)).await.unwrap();
    depot.clock.advance(Duration::from_secs(2 * 86_400));
    let run = async || depot.registry.run_lifecycle(Some(at.target()), &()).await.unwrap();
    let first = run().await;
    assert_eq!(
        (first.archived, first.failures.len()),
        (1, 1),
        "the index; its child the next time: {first:?}"
    );
    assert_eq!(describe(&depot, &at, &index).await.status, ImageStatus::Archived);
    assert_eq!(run().await.archived, 1);
    assert_eq!(describe(&depot, &at, &image).await.status, ImageStatus::Archived);
    assert!(!is_pulled(&depot, &at, "v1", &image).await);
    let events = noted(&depot).await;
    let archived = events.iter().find(|(kind, _)| kind == "ECR Image Action").unwrap();
    assert_eq!(archived.1["lifecycle-rule-priority"], 1);
    depot.clock.advance(Duration::from_secs(8 * 86_400));
    run().await;
    run().await;
    assert!(listed(&depot, &at, None).await.is_empty());
}
