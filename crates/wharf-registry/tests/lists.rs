//! Written lists are kept in memory, and no change that was acknowledged is ever hidden by them.
#![allow(clippy::unwrap_used)]

mod house;

use std::sync::atomic::{AtomicBool, Ordering};

use house::{House, image_of};
use wharf_registry::{ImageFilter, ImageId, NamePage, PageRequest, RegistryError, TagStatus, WrittenList};
use wharf_types::{Digest, Mutability, Reference, RepositoryRef};

type At = wharf_registry::Authorized<RepositoryRef>;

/// The tags, each followed by a space, as a face lists them: from memory where they are there. Also says from where.
async fn tags(house: &House, at: &At) -> Result<(String, bool), RegistryError> {
    if let Some(kept) = house.registry.kept_list(at, "/tags") {
        return kept.map(|list| (text(&list), true));
    }
    let stamp = house.registry.list_stamp(at).await?;
    let NamePage { names, .. } = house.registry.list_tags(at, None, 1000).await?;
    let body: String = names.iter().map(|name| format!("{name} ")).collect();
    let list = WrittenList { body: body.into(), link: None, filtered: false, content: false };
    house.registry.keep_list(stamp, "/tags", list.clone());
    Ok((text(&list), false))
}

/// The digests of the referrers, as [`tags`].
async fn referrers(house: &House, at: &At, subject: &Digest) -> (String, bool) {
    let target = format!("/referrers/{subject}");
    if let Some(kept) = house.registry.kept_list(at, &target) {
        return (text(&kept.unwrap()), true);
    }
    let stamp = house.registry.list_stamp(at).await.unwrap();
    let page = PageRequest { limit: 100, token: None };
    let page = house.registry.list_referrers(at, subject, &[], None, page).await.unwrap();
    let body: String = page.items.iter().map(|referrer| format!("{} ", referrer.digest)).collect();
    let list = WrittenList { body: body.into(), link: None, filtered: false, content: true };
    house.registry.keep_list(stamp, &target, list.clone());
    (text(&list), false)
}

fn text(list: &WrittenList) -> String {
    String::from_utf8(list.body.to_vec()).unwrap()
}

/// Reads twice: what is there now is told, and then from memory.
async fn assert_tags(house: &House, at: &At, expected: &str) {
    assert_eq!(tags(house, at).await.unwrap(), (expected.to_owned(), false));
    assert_eq!(tags(house, at).await.unwrap(), (expected.to_owned(), true));
}

fn by_tag(tag: &str) -> ImageId {
    ImageId { digest: None, tag: Some(tag.to_owned()) }
}

fn by_digest(digest: &Digest) -> ImageId {
    ImageId { digest: Some(digest.to_string()), tag: None }
}

#[tokio::test]
async fn every_change_of_tags_is_seen_by_the_next_list() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let other = house.create("team/other", Mutability::Mutable).await;
    house.push(&other, "other", Some("other")).await;
    assert_tags(&house, &other, "other ").await;
    assert_tags(&house, &at, "").await;

    let one = house.push(&at, "one", Some("a")).await;
    assert_tags(&house, &at, "a ").await;
    let two = house.push(&at, "two", Some("b")).await;
    assert_tags(&house, &at, "a b ").await;
    house.push(&at, "two", Some("c")).await;
    assert_tags(&house, &at, "a b c ").await;

    let registry = &house.registry;
    registry.delete_reference(&at, &Reference::Tag("c".parse().unwrap())).await.unwrap();
    assert_tags(&house, &at, "a b ").await;
    registry.delete_images(&at, &[by_tag("b")]).await.unwrap();
    assert_tags(&house, &at, "a ").await;
    registry.undelete(at.target(), Some(&two), None).await.unwrap();
    assert_tags(&house, &at, "a b ").await;
    registry.delete_reference(&at, &Reference::Digest(two)).await.unwrap();
    assert_tags(&house, &at, "a ").await;
    registry.delete_images(&at, &[by_digest(&one)]).await.unwrap();
    assert_tags(&house, &at, "").await;

    house.push(&at, "three", Some("d")).await;
    assert_tags(&house, &at, "d ").await;
    registry.delete_repository(&at, true).await.unwrap();
    assert!(matches!(tags(&house, &at).await, Err(RegistryError::RepositoryNotFound(_))));
    let at = house.create("team/app", Mutability::Mutable).await;
    assert_tags(&house, &at, "").await;

    assert!(tags(&house, &other).await.unwrap().1, "another repository's list was kept all the time");
}

#[tokio::test]
async fn every_change_of_referrers_is_seen_by_the_next_list() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let subject = house.push(&at, "one", Some("v1")).await;
    let assert_referrers = async |expected: String| {
        assert_eq!(referrers(&house, &at, &subject).await, (expected.clone(), false));
        assert_eq!(referrers(&house, &at, &subject).await, (expected, true));
    };
    assert_referrers(String::new()).await;
    let signature = house.image(&at, "signature", Some(subject)).await;
    let signature = house.put(&at, signature, None).await.unwrap().digest;
    assert_referrers(format!("{signature} ")).await;
    house.registry.delete_images(&at, &[by_digest(&signature)]).await.unwrap();
    assert_referrers(String::new()).await;
    house.registry.undelete(at.target(), Some(&signature), None).await.unwrap();
    assert_referrers(format!("{signature} ")).await;
    // A put that changes nothing forgets nothing.
    let again = house.image(&at, "signature", Some(subject)).await;
    assert!(!house.put(&at, again, None).await.unwrap().changed);
    assert!(referrers(&house, &at, &subject).await.1);
}

#[tokio::test]
async fn tags_of_inactive_images_are_left_out() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    for (text, tag) in [("one", "a"), ("two", "b"), ("one", "c"), ("three", "d")] {
        house.push(&at, text, Some(tag)).await;
    }
    let archived = house.push(&at, "one", None).await.to_string();
    let list = async |after: &'static str, limit| {
        let page = house.registry.list_tags(&at, Some(after), limit).await.unwrap();
        (page.names.iter().map(str::to_owned).collect::<Vec<_>>().concat(), page.more)
    };
    assert_eq!((list("", 2).await, list("b", 2).await), (("ab".into(), true), ("cd".into(), false)));
    let archive = house.meta.write(move |tx| {
        tx.execute("UPDATE manifests SET status = 'ARCHIVED' WHERE digest = $1", &[&archived])
    });
    assert_eq!(archive.await.unwrap(), 1);
    assert_eq!((list("", 2).await, list("b", 2).await), (("bd".into(), false), ("d".into(), false)));
    assert_eq!(list("", 1).await, ("b".into(), true));
}

/// Those of the images on the page and of no others, whichever filter chose the images.
#[tokio::test]
async fn descriptions_carry_the_tags_of_their_images() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    for number in 0..6 {
        let digest = house.push(&at, &number.to_string(), None).await;
        for copy in 0..number % 3 {
            house.push(&at, &number.to_string(), Some(&format!("t-{digest}-{copy}").replace(':', "_"))).await;
        }
    }
    for (filter, expected) in [(TagStatus::Any, 6), (TagStatus::Tagged, 6), (TagStatus::Untagged, 0)] {
        let (mut token, mut seen) = (None, 0);
        loop {
            let filter = ImageFilter { tags: filter, status: None };
            let page = PageRequest { limit: 2, token };
            let page = house.registry.describe_images(&at, filter, page).await.unwrap();
            for image in &page.items {
                let own = format!("t-{}-", image.digest).replace(':', "_");
                assert!(image.tags.iter().all(|tag| tag.as_str().starts_with(&own)), "{image:?}");
                seen += image.tags.len();
            }
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_answered_meets_no_older_list_whoever_reads_meanwhile() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let config = house.blob(&at, b"config").await;
    let manifest = image_of(config, &[], None);
    let done = AtomicBool::new(false);
    let read = async || {
        let mut from_memory = 0_u64;
        while !done.load(Ordering::SeqCst) {
            from_memory += u64::from(tags(&house, &at).await.unwrap().1);
            tokio::task::yield_now().await;
        }
        from_memory
    };
    let write = async || {
        for round in 0..80 {
            house.put(&at, manifest.clone(), Some("t")).await.unwrap();
            assert_eq!(tags(&house, &at).await.unwrap().0, "t ", "round {round}");
            let tag = Reference::Tag("t".parse().unwrap());
            house.registry.delete_reference(&at, &tag).await.unwrap();
            assert_eq!(tags(&house, &at).await.unwrap().0, "", "round {round}");
        }
        done.store(true, Ordering::SeqCst);
    };
    let ((), one, two) = futures_util::join!(write(), read(), read());
    assert!(one + two > 0, "something came from memory");
}
