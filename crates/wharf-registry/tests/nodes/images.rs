//! Images: what one node was told to keep, move or remove, every other node sees in its very next request.

use wharf_registry::{EncryptionType, ImageFilter, ImageId, NewKey, PageRequest, RegistryError, TagStatus};
use wharf_types::{Digest, Mutability, Reference, Tag};

use crate::cluster::{At, Cluster, Node};

fn by_tag(tag: &str) -> ImageId {
    ImageId { digest: None, tag: Some(tag.to_owned()) }
}

async fn tags(node: &Node, at: &At) -> Vec<String> {
    if let Some(kept) = node.kept_list(at, "/tags") {
        panic!("{:?} may be old", kept.unwrap());
    }
    let page = node.list_tags(at, None, 100).await.unwrap();
    page.names.iter().map(str::to_owned).collect()
}

async fn a_push_on_one_node_is_pulled_from_the_other(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    assert!(matches!(b.pull(&at, "v1").await, Err(RegistryError::ManifestUnknown)));
    let one = a.push(&at, "one", Some("v1")).await;
    for node in [&b, &a, &b] {
        assert_eq!(node.pull(&at, "v1").await.unwrap(), one);
        assert_eq!(node.pull(&at, &one.to_string()).await.unwrap(), one);
    }
    let layer = Digest::sha256(b"layer of one");
    assert_eq!(b.read(&at, &layer).await.unwrap(), "layer of one");
    assert_eq!(b.stat_blob(&at, &layer).await.unwrap().size, 12);
}

async fn a_tag_that_moves_on_one_node_has_moved_on_the_other(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let digests = [a.push(&at, "one", None).await, a.push(&at, "two", None).await];
    let mut turn = [&a, &b];
    for round in 0..6 {
        let digest = digests[round % 2];
        let text = ["one", "two"][round % 2];
        turn[0].push(&at, text, Some("latest")).await;
        for node in turn {
            assert_eq!(node.pull(&at, "latest").await.unwrap(), digest, "round {round}");
        }
        turn.swap(0, 1);
    }
    assert_eq!(tags(&b, &at).await, ["latest"]);
}

async fn what_one_node_deletes_the_other_does_not_serve(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let digest = a.push(&at, "one", Some("v1")).await;
    let layer = Digest::sha256(b"layer of one");
    b.pull(&at, "v1").await.unwrap();
    b.read(&at, &layer).await.unwrap();
    assert_eq!(tags(&b, &at).await, ["v1"]);
    a.delete_images(&at, &[ImageId { digest: Some(digest.to_string()), tag: None }]).await.unwrap();
    for reference in ["v1".to_owned(), digest.to_string()] {
        let gone = b.pull(&at, &reference).await;
        assert!(matches!(gone, Err(RegistryError::ManifestUnknown)), "{reference}: {gone:?}");
    }
    assert!(tags(&b, &at).await.is_empty());
    // It went through B's memory, which must not hide that another node deletes it.
    a.delete_blob(&at, &layer).await.unwrap();
    assert!(matches!(b.read(&at, &layer).await, Err(RegistryError::BlobUnknown(_))));
    assert!(matches!(b.stat_blob(&at, &layer).await, Err(RegistryError::BlobUnknown(_))));
    assert!(b.stat_blob_now(&at, &layer).is_none());

    // Undeleted through one node, it is there on the other.
    b.undelete(at.target(), Some(&digest), None).await.unwrap();
    assert_eq!(a.pull(&at, &digest.to_string()).await.unwrap(), digest);
    assert_eq!(b.pull(&at, "v1").await.unwrap(), digest);
}

async fn a_tag_that_one_node_takes_away_is_gone_on_the_other(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let digest = a.push(&at, "one", Some("v1")).await;
    b.pull(&at, "v1").await.unwrap();
    let tag: Tag = "v1".parse().unwrap();
    a.delete_reference(&at, &Reference::Tag(tag)).await.unwrap();
    assert!(matches!(b.pull(&at, "v1").await, Err(RegistryError::ManifestUnknown)));
    let (found, failures) = b.batch_get_images(&at, &[by_tag("v1")], &[]).await.unwrap();
    assert!(found.is_empty() && failures.len() == 1);
    assert_eq!(b.pull(&at, &digest.to_string()).await.unwrap(), digest, "the image stays");
}

async fn a_repository_made_again_under_its_name_is_another_one_everywhere(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let old = a.push(&at, "old", Some("v1")).await;
    b.pull(&at, "v1").await.unwrap();
    b.read(&at, &Digest::sha256(b"layer of old")).await.unwrap();
    a.delete_repository(&at, true).await.unwrap();
    assert!(matches!(b.pull(&at, "v1").await, Err(RegistryError::RepositoryNotFound(_))));
    assert!(matches!(b.start_upload(&at).await, Err(RegistryError::RepositoryNotFound(_))));

    a.create("team/app", Mutability::Immutable).await;
    assert!(matches!(b.pull(&at, &old.to_string()).await, Err(RegistryError::ManifestUnknown)));
    assert!(matches!(
        b.read(&at, &Digest::sha256(b"layer of old")).await,
        Err(RegistryError::BlobUnknown(_))
    ));
    let new = b.push(&at, "new", Some("v1")).await;
    assert_eq!(a.pull(&at, "v1").await.unwrap(), new);
    assert_eq!(b.repository(&at).await.unwrap().mutability, Mutability::Immutable);
}

async fn immutability_set_on_one_node_is_kept_by_the_other(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    b.push(&at, "one", Some("v1")).await;
    a.put_tag_mutability(&at, Mutability::Immutable).await.unwrap();
    let manifest = b.image(&at, "two").await;
    let refused = b.put(&at, manifest, Some("v1")).await;
    assert!(matches!(refused, Err(RegistryError::ImageTagAlreadyExists { .. })), "{refused:?}");
    assert_eq!(b.repository(&at).await.unwrap().mutability, Mutability::Immutable);
}

async fn an_immutable_tag_that_two_nodes_push_has_one_winner(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Immutable).await;
    for round in 0..20 {
        let tag = format!("v{round}");
        let images = [a.image(&at, &format!("a{round}")).await, b.image(&at, &format!("b{round}")).await];
        let [one, two] = images.map(Some);
        let (one, two) =
            tokio::join!(a.put(&at, one.unwrap(), Some(&tag)), b.put(&at, two.unwrap(), Some(&tag)),);
        let winner = match (&one, &two) {
            (Ok(won), Err(RegistryError::ImageTagAlreadyExists { .. }))
            | (Err(RegistryError::ImageTagAlreadyExists { .. }), Ok(won)) => won.digest,
            _ => panic!("round {round}: {one:?}, {two:?}"),
        };
        for node in [&a, &b] {
            assert_eq!(node.pull(&at, &tag).await.unwrap(), winner);
        }
    }
}

async fn the_same_image_pushed_by_two_nodes_at_once_is_there_once(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    for round in 0..10 {
        let text = format!("image {round}");
        let (one, two) = tokio::join!(a.push(&at, &text, Some("v1")), b.push(&at, &text, Some("v1")));
        assert_eq!(one, two);
        assert_eq!(b.pull(&at, "v1").await.unwrap(), one);
    }
    let filter = ImageFilter { tags: TagStatus::Any, status: None };
    let page = PageRequest { limit: 100, token: None };
    let images = a.describe_images(&at, filter, page).await.unwrap();
    assert_eq!(images.items.len(), 10);
}

async fn the_next_page_may_be_asked_of_another_node(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    for text in ["one", "two", "three"] {
        a.push(&at, text, Some(text)).await;
    }
    let filter = || ImageFilter { tags: TagStatus::Any, status: None };
    let first = a.list_images(&at, filter(), PageRequest { limit: 2, token: None }).await.unwrap();
    let second = b.list_images(&at, filter(), PageRequest { limit: 2, token: first.next }).await.unwrap();
    assert_eq!((first.items.len(), second.items.len(), second.next), (2, 1, None));
}

async fn a_key_switched_off_on_one_node_stops_its_images_on_the_other(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    // Made after both had looked at the states of keys.
    let key = a.kms_create_key(&a.here().await, NewKey::default()).await.unwrap();
    let at = a.create_with("team/app", Mutability::Mutable, EncryptionType::Kms).await;
    let digest = b.push(&at, "one", Some("v1")).await;
    let layer = Digest::sha256(b"layer of one");
    assert_eq!(a.pull(&at, "v1").await.unwrap(), digest);
    b.read(&at, &layer).await.unwrap();

    let here = a.here().await;
    let own = a.repository(&at).await.unwrap();
    let arn = own.domain.encryption.kms_key().unwrap().to_owned();
    assert_ne!(arn, key.arn, "the account's own key for ECR, which nobody switches off");
    let refused = a.kms_set_enabled(&here, &arn, false).await;
    assert!(refused.is_err());

    let named = named_key(&a, &b, &key.id).await;
    a.kms_set_enabled(&here, &key.id, false).await.unwrap();
    assert!(matches!(a.pull(&named, "v1").await, Err(RegistryError::Kms { .. })), "at once on the same node");
    cluster.a_second_passes();
    let named_on_b = b.at("team/named").await;
    for reference in ["v1".to_owned(), Digest::sha256(b"layer of named").to_string()] {
        let stopped = match reference.parse::<Tag>() {
            Ok(_) => b.pull(&named_on_b, &reference).await.map(drop),
            Err(_) => b.read(&named_on_b, &reference.parse().unwrap()).await.map(drop),
        };
        assert!(matches!(stopped, Err(RegistryError::Kms { .. })), "{reference}: {stopped:?}");
    }
    assert!(matches!(b.start_upload(&named_on_b).await, Err(RegistryError::Kms { .. })));
    a.kms_set_enabled(&here, &key.id, true).await.unwrap();
    cluster.a_second_passes();
    b.pull(&b.at("team/named").await, "v1").await.unwrap();
}

/// A repository under a named key, with an image that both nodes have served.
async fn named_key(a: &Node, b: &Node, key: &str) -> At {
    let at = b.at("team/named").await;
    let new = wharf_registry::NewRepository {
        mutability: Mutability::Mutable,
        scan_on_push: false,
        encryption_type: EncryptionType::Kms,
        kms_key: Some(key.to_owned()),
        tags: Vec::new(),
    };
    b.create_repository(&at, new).await.unwrap();
    a.push(&at, "named", Some("v1")).await;
    for node in [a, b] {
        node.pull(&at, "v1").await.unwrap();
        node.read(&at, &Digest::sha256(b"layer of named")).await.unwrap();
    }
    at
}

async fn a_rotation_of_keys_on_one_node_is_followed_by_the_other(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let digest = b.push(&at, "one", Some("v1")).await;
    a.rotate_key_ring(&()).await.unwrap();
    assert_eq!(b.pull(&at, "v1").await.unwrap(), digest);
    let two = a.push(&at, "two", Some("v2")).await;
    assert_eq!(b.pull(&at, "v2").await.unwrap(), two, "sealed under a key that B had not heard of");
    assert_eq!(b.read(&at, &Digest::sha256(b"layer of two")).await.unwrap(), "layer of two");
    let upload = a.start_upload(&at).await.unwrap();
    assert_eq!(b.upload_status(&at, upload.id).await.unwrap().received, 0, "an id of the new key");
}

crate::on_every_engine!(
    a_push_on_one_node_is_pulled_from_the_other,
    a_tag_that_moves_on_one_node_has_moved_on_the_other,
    what_one_node_deletes_the_other_does_not_serve,
    a_tag_that_one_node_takes_away_is_gone_on_the_other,
    a_repository_made_again_under_its_name_is_another_one_everywhere,
    immutability_set_on_one_node_is_kept_by_the_other,
    an_immutable_tag_that_two_nodes_push_has_one_winner,
    the_same_image_pushed_by_two_nodes_at_once_is_there_once,
    the_next_page_may_be_asked_of_another_node,
    a_key_switched_off_on_one_node_stops_its_images_on_the_other,
    a_rotation_of_keys_on_one_node_is_followed_by_the_other,
);
