use wharf_types::AccountId;

use super::*;
use crate::accounts::tests::{ACCOUNT, Fixture};
use crate::{Authorized, PageRequest, RegistryError};

const ALLOW: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecr:*","Resource":"*"}}"#;
const READ_ONLY: &str = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly";
const KINDS: [PrincipalKind; 3] = [PrincipalKind::User, PrincipalKind::Group, PrincipalKind::Role];

fn account() -> AccountId {
    ACCOUNT.parse().unwrap()
}

fn all() -> PageRequest {
    PageRequest { limit: 1000, token: None }
}

/// Whom a name stands for now, authorized.
async fn named(fixture: &Fixture, kind: PrincipalKind, name: &str) -> Authorized<PrincipalRef> {
    let named = PrincipalRef::named(account(), kind, name);
    fixture.authorized(ACCOUNT, fixture.registry.look_up_principal(named).await.unwrap())
}

/// Makes a user, group or role.
async fn create(fixture: &Fixture, kind: PrincipalKind, name: &str) -> Authorized<PrincipalRef> {
    let of = PrincipalRef::to_create(account(), kind, "/", name);
    let row = fixture.registry.new_principal(&of).unwrap();
    fixture.registry.create_principal(row, Vec::new()).await.unwrap();
    named(fixture, kind, name).await
}

async fn policy_ref(fixture: &Fixture, arn: &str) -> Authorized<PolicyRef> {
    let named = PolicyRef::named(account(), arn).unwrap();
    fixture.authorized(ACCOUNT, fixture.registry.look_up_policy(named).await.unwrap())
}

async fn create_policy(fixture: &Fixture, name: &str) -> Authorized<PolicyRef> {
    let of = fixture.authorized(ACCOUNT, PolicyRef::to_create(account(), "/", name));
    let (path, name, document) = ("/".to_owned(), name.to_owned(), ALLOW.to_owned());
    let new = NewPolicy { path, name, document, description: None, tags: Vec::new() };
    let made = fixture.registry.create_policy(&of, new).await.unwrap();
    policy_ref(fixture, &made.arn).await
}

#[track_caller]
fn code<T: std::fmt::Debug>(outcome: Result<T, RegistryError>) -> &'static str {
    match outcome.unwrap_err() {
        RegistryError::Iam(error) => error.code(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_true_of_users_is_true_of_groups_and_roles() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let mine = create_policy(&fixture, "mine").await;
    for (kind, most) in KINDS.into_iter().zip([2048, 5120, 10_240]) {
        let of = create(&fixture, kind, "Ann").await;
        assert!(of.arn().ends_with(&format!("{}/Ann", kind.as_str())));
        registry.put_inline_policy(&of, "p".into(), ALLOW.into()).await.unwrap();
        assert_eq!(registry.inline_policy(&of, "p").await.unwrap(), ALLOW);
        // White space is free; what counts is all inline policies together.
        let room = most - 2 * written::size(ALLOW) + "ecr:*".len();
        let filling = ALLOW.replace("ecr:*", &format!("ecr:{}", "x".repeat(room - "ecr:".len())));
        let spacious = filling.replace(',', &format!(",{}", " ".repeat(5000)));
        registry.put_inline_policy(&of, "q".into(), spacious).await.unwrap();
        let over = registry.put_inline_policy(&of, "r".into(), ALLOW.into()).await;
        assert_eq!(code(over), "LimitExceeded", "{kind:?}");
        assert_eq!(registry.list_inline_policies(&of, all()).await.unwrap().items, ["p", "q"]);

        for _ in 0..2 {
            registry.attach_policy(&of, mine.arn().into()).await.unwrap();
        }
        assert_eq!(registry.list_attached_policies(&of, "/", all()).await.unwrap().items.len(), 1);
        let delete = || async {
            match kind {
                PrincipalKind::Group => registry.delete_group(&of).await,
                _ => registry.delete_user(&of).await,
            }
        };
        assert_eq!(code(delete().await), "DeleteConflict");
        for name in ["p", "q"] {
            registry.delete_inline_policy(&of, name.into()).await.unwrap();
        }
        assert_eq!(code(delete().await), "DeleteConflict");
        registry.detach_policy(&of, mine.arn().into()).await.unwrap();
        assert_eq!(code(registry.detach_policy(&of, mine.arn().into()).await), "NoSuchEntity");
        delete().await.unwrap();
        assert_eq!(code(delete().await), "NoSuchEntity");
    }
}

#[tokio::test]
async fn whoever_is_no_longer_who_was_authorized_is_left_alone() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let ann = create(&fixture, PrincipalKind::User, "ann").await;
    registry.rename_principal(&ann, None, Some("/elsewhere/".into())).await.unwrap();
    assert_eq!(code(registry.delete_user(&ann).await), "ConcurrentModification");
    let moved = named(&fixture, PrincipalKind::User, "ann").await;
    registry.delete_user(&moved).await.unwrap();
    create(&fixture, PrincipalKind::User, "ann").await;
    assert_eq!(code(registry.delete_user(&moved).await), "ConcurrentModification", "made anew");
    let absent = named(&fixture, PrincipalKind::User, "bob").await;
    create(&fixture, PrincipalKind::User, "bob").await;
    assert_eq!(code(registry.delete_user(&absent).await), "ConcurrentModification", "made meanwhile");
    assert_eq!(
        registry
            .list_principals(&fixture.authorized(ACCOUNT, account()), PrincipalKind::User, "/", all())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
}

#[tokio::test]
async fn names_are_taken_whatever_their_case() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    for kind in KINDS {
        create(&fixture, kind, "Ann").await;
        let again = PrincipalRef::to_create(account(), kind, "/other/", "aNN");
        let row = registry.new_principal(&again).unwrap();
        assert_eq!(code(registry.create_principal(row, Vec::new()).await), "EntityAlreadyExists");
    }
    let bob = create(&fixture, PrincipalKind::User, "bob").await;
    assert_eq!(code(registry.rename_principal(&bob, Some("ANN".into()), None).await), "EntityAlreadyExists");
    registry.rename_principal(&bob, Some("BOB".into()), None).await.unwrap();
    assert_eq!(named(&fixture, PrincipalKind::User, "bob").await.name(), "BOB");
}

#[tokio::test]
async fn a_user_is_in_ten_groups_at_most_and_leaves_each_once() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let ann = create(&fixture, PrincipalKind::User, "ann").await;
    for number in 0..=10 {
        let group = create(&fixture, PrincipalKind::Group, &format!("g{number}")).await;
        for _ in 0..2 {
            let joined = registry.add_user_to_group(&group, "ANN".into()).await;
            if number == 10 {
                assert_eq!(code(joined), "LimitExceeded");
            } else {
                joined.unwrap();
            }
        }
    }
    let page = PageRequest { limit: 7, token: None };
    let first = registry.groups_of_user(&ann, page).await.unwrap();
    let rest = registry.groups_of_user(&ann, PageRequest { limit: 7, token: first.next }).await.unwrap();
    assert_eq!((first.items.len(), rest.items.len(), rest.next), (7, 3, None));
    assert_eq!(code(registry.delete_user(&ann).await), "DeleteConflict");
    let group = named(&fixture, PrincipalKind::Group, "g1").await;
    assert_eq!(code(registry.delete_group(&group).await), "DeleteConflict");
    registry.remove_user_from_group(&group, "ann".into()).await.unwrap();
    assert_eq!(code(registry.remove_user_from_group(&group, "ann".into()).await), "NoSuchEntity");
    registry.delete_group(&group).await.unwrap();
}

#[tokio::test]
async fn versions_of_a_policy() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let policy = create_policy(&fixture, "mine").await;
    for number in 2..=5 {
        let made = registry.create_policy_version(&policy, ALLOW.into(), number == 3).await.unwrap();
        assert_eq!((made.id, made.is_default), (format!("v{number}"), number == 3));
    }
    assert_eq!(code(registry.create_policy_version(&policy, ALLOW.into(), false).await), "LimitExceeded");
    assert_eq!(code(registry.delete_policy_version(&policy, "v3".into()).await), "DeleteConflict");
    registry.delete_policy_version(&policy, "v5".into()).await.unwrap();
    assert_eq!(code(registry.policy_version(&policy, "v5").await), "NoSuchEntity");
    let made = registry.create_policy_version(&policy, ALLOW.into(), false).await.unwrap();
    assert_eq!(made.id, "v6", "numbers are never used twice");
    registry.set_default_policy_version(&policy, "v1".into()).await.unwrap();
    for absent in ["v5", "v1.x", "v0", "v99999999999999999999"] {
        let refused = registry.set_default_policy_version(&policy, absent.into()).await;
        assert_eq!(code(refused), "NoSuchEntity", "{absent}");
    }
    let newest_first = registry.list_policy_versions(&policy, all()).await.unwrap().items;
    let ids: Vec<&str> = newest_first.iter().map(|version| version.id.as_str()).collect();
    assert_eq!(ids, ["v6", "v4", "v3", "v2", "v1"]);
    assert!(newest_first.iter().all(|version| version.is_default == (version.id == "v1")));
    let large = ALLOW.replace("ecr:*", &format!("ecr:{}", "x".repeat(6144)));
    assert_eq!(code(registry.create_policy_version(&policy, large, false).await), "LimitExceeded");
    assert_eq!(code(registry.delete_policy(&policy).await), "DeleteConflict", "more than one version");
    for id in &ids[..4] {
        registry.delete_policy_version(&policy, (*id).into()).await.unwrap();
    }
    registry.delete_policy(&policy).await.unwrap();
    assert_eq!(code(registry.managed_policy(&policy).await), "NoSuchEntity");
}

#[tokio::test]
async fn aws_s_own_policies_are_everybody_s_and_nobody_s() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let policy = policy_ref(&fixture, READ_ONLY).await;
    let ann = create(&fixture, PrincipalKind::User, "ann").await;
    registry.attach_policy(&ann, READ_ONLY.into()).await.unwrap();
    registry.put_boundary(&ann, READ_ONLY.into()).await.unwrap();
    let shown = registry.managed_policy(&policy).await.unwrap();
    assert_eq!((shown.attachments, shown.boundaries, shown.default_version.as_str()), (1, 1, "v3"));
    assert_eq!(registry.policy_version(&policy, "v3").await.unwrap().id, "v3");
    assert_eq!(code(registry.delete_policy(&policy).await), "AccessDenied");
    assert_eq!(code(registry.create_policy_version(&policy, ALLOW.into(), true).await), "AccessDenied");
    assert_eq!(code(registry.tag_policy(&policy, vec![("a".into(), "b".into())]).await), "AccessDenied");
    let only = |usage| EntityFilter { usage: Some(usage), ..EntityFilter::default() };
    for usage in [PolicyUsage::Permissions, PolicyUsage::Boundary] {
        let users = registry.entities_for_policy(&policy, only(usage), all()).await.unwrap().items;
        assert_eq!(users.len(), 1, "{usage:?}");
    }
    registry.delete_boundary(&ann).await.unwrap();
    let bounded = registry.entities_for_policy(&policy, only(PolicyUsage::Boundary), all()).await.unwrap();
    assert!(bounded.items.is_empty());
    let attachable = |arn: &str| registry.attach_policy(&ann, arn.to_owned());
    let role = "arn:aws:iam::aws:policy/aws-service-role/ECRReplicationServiceRolePolicy";
    assert_eq!(code(attachable(role).await), "PolicyNotAttachable");
    assert_eq!(code(attachable("arn:aws:iam::210987654321:policy/x").await), "NoSuchEntity");
    assert_eq!(code(attachable("arn:aws:iam::210987654321:user/x").await), "InvalidInput");
}

#[tokio::test]
async fn tags_keep_their_case_and_are_one_key_whatever_it_is() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let ann = create(&fixture, PrincipalKind::User, "ann").await;
    let policy = create_policy(&fixture, "mine").await;
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    for (put, wanted) in [
        (vec![pair("b", "1"), pair("a", "2")], vec![pair("a", "2"), pair("b", "1")]),
        (vec![pair("B", "3")], vec![pair("a", "2"), pair("B", "3")]),
    ] {
        registry.tag_principal(&ann, put.clone()).await.unwrap();
        registry.tag_policy(&policy, put).await.unwrap();
        assert_eq!(registry.principal_tags(&ann, all()).await.unwrap().items, wanted);
        assert_eq!(registry.policy_tags(&policy, all()).await.unwrap().items, wanted);
    }
    for bad in [vec![pair("x", "1"), pair("X", "2")], vec![pair("AWS:x", "1")]] {
        assert_eq!(code(registry.tag_principal(&ann, bad.clone()).await), "InvalidInput");
        assert_eq!(code(registry.tag_policy(&policy, bad).await), "InvalidInput");
    }
    let many: Vec<_> = (0..49).map(|number| pair(&format!("k{number}"), "")).collect();
    assert_eq!(code(registry.tag_principal(&ann, many.clone()).await), "LimitExceeded");
    assert_eq!(code(registry.tag_policy(&policy, many).await), "LimitExceeded");
    registry.untag_principal(&ann, vec!["b".into(), "none".into()]).await.unwrap();
    registry.untag_policy(&policy, vec!["b".into(), "none".into()]).await.unwrap();
    assert_eq!(registry.principal_tags(&ann, all()).await.unwrap().items, [pair("a", "2")]);
    assert_eq!(registry.policy_tags(&policy, all()).await.unwrap().items, [pair("a", "2")]);
}

#[tokio::test]
async fn uses_of_keys_are_written_in_batches_and_survive() {
    let mut fixture = Fixture::new().await;
    let ann = create(&fixture, PrincipalKind::User, "ann").await;
    let owner = fixture.authorized(ACCOUNT, KeyOwner::User(ann.target().clone()));
    let (key, _) = fixture.registry.create_user_key(&owner).await.unwrap();
    let id = key.access_key_id;
    let identity = fixture.registry.authenticate_access_key(&id).await.unwrap().unwrap();
    assert_eq!(identity.caller.identity.arn, ann.arn());
    let last = async |fixture: &Fixture| {
        let key = fixture.registry.look_up_access_key(KeyRef::named(account(), id.clone())).await.unwrap();
        fixture.registry.key_last_used(&fixture.authorized(ACCOUNT, key)).await.unwrap().last
    };
    assert_eq!(last(&fixture).await, None);
    fixture.registry.note_key_use(&id, "ecr", &"eu-west-1".parse().unwrap());
    fixture.registry.note_key_use("ASIASESSION", "ecr", &"eu-west-1".parse().unwrap());
    let noted = last(&fixture).await.unwrap();
    assert_eq!((noted.service.as_str(), noted.region.as_str()), ("ecr", "eu-west-1"));
    fixture.reopen().await;
    assert_eq!(last(&fixture).await, Some(noted));
    let foreign = KeyRef::named("210987654321".parse().unwrap(), id.clone());
    let foreign = fixture.registry.look_up_access_key(foreign).await.unwrap();
    assert!(foreign.owner().is_none(), "another account's keys are nobody's");
}

#[tokio::test]
async fn keys_of_users_are_no_keys_of_the_root_user() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let ann = create(&fixture, PrincipalKind::User, "ann").await;
    let owner = fixture.authorized(ACCOUNT, KeyOwner::User(ann.target().clone()));
    let (key, _) = registry.create_user_key(&owner).await.unwrap();
    assert!(registry.list_access_keys(account()).await.unwrap().is_empty());
    assert!(registry.root_caller(account()).await.is_err(), "a user's key makes nobody the root user");
    let root = fixture.authorized(ACCOUNT, KeyOwner::Root(account()));
    let id = key.access_key_id;
    assert_eq!(code(registry.delete_user_key(&root, id.clone()).await), "NoSuchEntity");
    assert_eq!(code(registry.delete_user(&ann).await), "DeleteConflict");
    registry.update_user_key(&owner, id.clone(), false).await.unwrap();
    assert!(!registry.authenticate_access_key(&id).await.unwrap().unwrap().active);
    registry.delete_user_key(&owner, id.clone()).await.unwrap();
    assert!(registry.authenticate_access_key(&id).await.unwrap().is_none());
}
