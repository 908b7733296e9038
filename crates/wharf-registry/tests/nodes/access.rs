//! Who may: a change of identities or policies on one node counts on all within a second, and where a node cannot learn
//! of changes nobody may do anything.

use wharf_iam::decision::Need;
use wharf_registry::{
    AssumeRole, Caller, KeyOwner, NewRole, PasswordError, PrincipalKind, PrincipalRef, RegistryError,
};
use wharf_types::{Mutability, RepositoryRef};

use crate::cluster::{ACCOUNT, Cluster, Node, account, region};

const POWER: &str = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser";
const PULL: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecr:BatchGetImage","Resource":"*"}}"#;

/// Whether the holder of a password may pull, as a request finds out: from memory if that may answer.
async fn may_pull(node: &Node, password: &str, repository: &RepositoryRef) -> Result<(), RegistryError> {
    let caller = match node.authenticate_password_now(password, &region()) {
        Some(answer) => answer,
        None => node.authenticate_password(password, &region()).await,
    };
    let caller = caller.map_err(|error| match error {
        PasswordError::Store(error) => error,
        refused => RegistryError::NotFound(refused.to_string()),
    })?;
    let needs = [Need::new("ecr:BatchGetImage", repository.arn(), repository.registry.account)];
    match node.authorize_now(&caller, repository, &needs) {
        Some(answer) => answer.map(drop),
        None => node.authorize(&caller, repository.clone(), &needs).await.map(drop),
    }
}

async fn user(node: &Node, name: &str) -> PrincipalRef {
    let of = PrincipalRef::to_create(account(), PrincipalKind::User, "/", name);
    node.create_user(&node.may(of).await, None, Vec::new()).await.unwrap();
    let named = PrincipalRef::named(account(), PrincipalKind::User, name);
    node.look_up_principal(named).await.unwrap()
}

/// A user who may pull, her key and a password issued to it.
async fn ann(node: &Node) -> (PrincipalRef, String, String) {
    let ann = user(node, "ann").await;
    node.attach_policy(&node.may(ann.clone()).await, POWER.to_owned()).await.unwrap();
    let owner = node.may(KeyOwner::User(ann.clone())).await;
    let key = node.create_user_key(&owner).await.unwrap().0.access_key_id;
    let caller = node.authenticate_access_key(&key).await.unwrap().unwrap().caller;
    let (password, _) = node.issue_token(&caller, &region(), None);
    (ann, key, password)
}

async fn a_key_switched_off_on_one_node_counts_nowhere_after_a_second(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let (ann, key, password) = ann(&a).await;
    may_pull(&b, &password, at.target()).await.unwrap();
    assert!(b.authenticate_password_now(&password, &region()).is_some(), "B remembers");
    let owner = a.may(KeyOwner::User(ann)).await;
    a.update_user_key(&owner, key.clone(), false).await.unwrap();
    assert!(may_pull(&a, &password, at.target()).await.is_err(), "at once on the same node");
    cluster.a_second_passes();
    assert!(b.authenticate_password_now(&password, &region()).is_none(), "what B remembers is too old");
    assert!(may_pull(&b, &password, at.target()).await.is_err());
    assert!(!b.authenticate_access_key(&key).await.unwrap().unwrap().active);
    a.update_user_key(&owner, key.clone(), true).await.unwrap();
    cluster.a_second_passes();
    may_pull(&b, &password, at.target()).await.unwrap();
    a.delete_user_key(&owner, key).await.unwrap();
    cluster.a_second_passes();
    assert!(may_pull(&b, &password, at.target()).await.is_err());
}

async fn a_policy_detached_on_one_node_gives_nothing_on_the_other(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let (ann, _, password) = ann(&a).await;
    may_pull(&b, &password, at.target()).await.unwrap();
    let of = a.may(ann).await;
    a.detach_policy(&of, POWER.to_owned()).await.unwrap();
    cluster.a_second_passes();
    let denied = may_pull(&b, &password, at.target()).await;
    assert!(matches!(denied, Err(RegistryError::AccessDenied(_))), "{denied:?}");
    // What is given counts as well.
    a.put_inline_policy(&of, "pull".to_owned(), PULL.to_owned()).await.unwrap();
    cluster.a_second_passes();
    may_pull(&b, &password, at.target()).await.unwrap();
}

async fn a_session_ends_everywhere_with_its_role(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let of = PrincipalRef::to_create(account(), PrincipalKind::Role, "/", "builder");
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"{ACCOUNT}"}},"Action":"sts:AssumeRole"}}}}"#
    );
    let new = NewRole {
        trust_policy: trust,
        description: None,
        max_session: None,
        boundary: None,
        tags: Vec::new(),
    };
    let arn = a.create_role(&a.may(of).await, new).await.unwrap().principal.arn;
    let role = PrincipalRef::named(account(), PrincipalKind::Role, "builder");
    let role = a.may(a.look_up_principal(role).await.unwrap()).await;
    a.put_inline_policy(&role, "pull".to_owned(), PULL.to_owned()).await.unwrap();
    let ask = AssumeRole {
        role_arn: arn,
        session_name: "one".to_owned(),
        policy: None,
        policy_arns: Vec::new(),
        duration: None,
        tags: Vec::new(),
        transitive_keys: Vec::new(),
        external_id: None,
        source_identity: None,
        with_second_factor: false,
    };
    let credentials = a.assume_role(&Caller::root(account(), "AKIATEST"), ask).await.unwrap().credentials;
    let (id, token) = (&credentials.access_key_id, &credentials.session_token);
    let session = b.authenticate_session(id, token).await.unwrap().unwrap();
    let (password, _) = b.issue_token(&session.caller, &region(), None);
    may_pull(&a, &password, at.target()).await.unwrap();
    may_pull(&b, &password, at.target()).await.unwrap();
    a.delete_inline_policy(&role, "pull".to_owned()).await.unwrap();
    cluster.a_second_passes();
    let denied = may_pull(&b, &password, at.target()).await;
    assert!(matches!(denied, Err(RegistryError::AccessDenied(_))), "{denied:?}");
    a.delete_role(&role).await.unwrap();
    cluster.a_second_passes();
    let nobody = may_pull(&b, &password, at.target()).await;
    assert!(matches!(nobody, Err(RegistryError::NotFound(_))), "{nobody:?}");
    assert!(b.authenticate_session(id, token).await.unwrap().is_none());
}

async fn a_repository_s_policy_counts_on_every_node(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let (_, _, password) = ann(&a).await;
    may_pull(&b, &password, at.target()).await.unwrap();
    let deny = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"ecr:BatchGetImage"}}"#;
    a.set_repository_policy(&at, deny, true).await.unwrap();
    cluster.a_second_passes();
    let denied = may_pull(&b, &password, at.target()).await;
    assert!(matches!(denied, Err(RegistryError::AccessDenied(_))), "{denied:?}");
    assert!(b.repository_policy(&at).await.unwrap().contains("Deny"));
    b.delete_repository_policy(&at).await.unwrap();
    cluster.a_second_passes();
    may_pull(&a, &password, at.target()).await.unwrap();

    let registry = a.here().await;
    a.put_registry_policy(&registry, &deny.replace(r#""Action""#, r#""Resource":"*","Action""#))
        .await
        .unwrap();
    cluster.a_second_passes();
    assert!(matches!(may_pull(&b, &password, at.target()).await, Err(RegistryError::AccessDenied(_))));
    b.put_account_setting(&registry, "REGISTRY_POLICY_SCOPE", "V1").await.unwrap();
    cluster.a_second_passes();
    may_pull(&a, &password, at.target()).await.unwrap();
}

async fn settings_put_on_one_node_are_obeyed_by_the_other(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let here = a.here().await;
    assert!(b.blob_mounting_enabled(here.target()).await.unwrap());
    a.put_account_setting(&here, "BLOB_MOUNTING", "DISABLED").await.unwrap();
    cluster.a_second_passes();
    b.here().await;
    assert!(!b.blob_mounting_enabled(here.target()).await.unwrap());
}

async fn a_password_sealed_with_a_new_key_opens_on_every_node(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let (_, key, old) = ann(&a).await;
    a.rotate_key_ring(&()).await.unwrap();
    let caller = a.authenticate_access_key(&key).await.unwrap().unwrap().caller;
    let (new, _) = a.issue_token(&caller, &region(), None);
    for password in [&new, &old, &new] {
        may_pull(&b, password, at.target()).await.unwrap();
    }
    assert!(may_pull(&b, "nonsense", at.target()).await.is_err());
}

async fn a_node_that_cannot_learn_of_changes_lets_nobody_do_anything(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let (_, _, password) = ann(&a).await;
    may_pull(&b, &password, at.target()).await.unwrap();
    b.close().await;
    may_pull(&b, &password, at.target()).await.unwrap();
    cluster.a_second_passes();
    let refused = may_pull(&b, &password, at.target()).await;
    assert!(matches!(refused, Err(RegistryError::Meta(_))), "{refused:?}");
}

async fn confirming_costs_nothing_while_it_is_young_and_one_read_afterwards(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let (_, _, password) = ann(&a).await;
    may_pull(&b, &password, at.target()).await.unwrap();
    let reads = || b.meta_stats().reads;
    let before = reads();
    for _ in 0..10 {
        may_pull(&b, &password, at.target()).await.unwrap();
    }
    assert_eq!(reads(), before);
    cluster.a_second_passes();
    for _ in 0..10 {
        may_pull(&b, &password, at.target()).await.unwrap();
    }
    assert_eq!(reads(), before + 1);
}

async fn a_cached_manifest_costs_one_read(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let digest = a.push(&at, "one", Some("v1")).await;
    let layer = wharf_types::Digest::sha256(b"layer of one");
    b.pull(&at, "v1").await.unwrap();
    b.read(&at, &layer).await.unwrap();
    let before = b.meta_stats().reads;
    for reference in ["v1".to_owned(), digest.to_string()] {
        b.pull(&at, &reference).await.unwrap();
    }
    b.read(&at, &layer).await.unwrap();
    b.stat_blob(&at, &layer).await.unwrap();
    assert_eq!(b.meta_stats().reads, before + 4, "one each");
}

crate::on_every_engine!(
    a_key_switched_off_on_one_node_counts_nowhere_after_a_second,
    a_policy_detached_on_one_node_gives_nothing_on_the_other,
    a_session_ends_everywhere_with_its_role,
    a_repository_s_policy_counts_on_every_node,
    settings_put_on_one_node_are_obeyed_by_the_other,
    a_password_sealed_with_a_new_key_opens_on_every_node,
    a_node_that_cannot_learn_of_changes_lets_nobody_do_anything,
    confirming_costs_nothing_while_it_is_young_and_one_read_afterwards,
    a_cached_manifest_costs_one_read,
);
