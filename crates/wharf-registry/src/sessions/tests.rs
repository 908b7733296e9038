use std::time::Duration;

use super::*;
use crate::accounts::tests::{ACCOUNT, Fixture};
use crate::{Caller, NewRole, PasswordError, PrincipalKind, PrincipalRef, RegistryError, Role};

const ROLE: &str = "arn:aws:iam::123456789012:role/ci/builder";

fn root() -> Caller {
    Caller::root(ACCOUNT.parse().unwrap(), "AKIATEST")
}

async fn role(fixture: &Fixture) -> Role {
    let of = PrincipalRef::to_create(ACCOUNT.parse().unwrap(), PrincipalKind::Role, "/ci/", "builder");
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"{ACCOUNT}"}},"Action":"sts:AssumeRole"}}}}"#
    );
    let new = NewRole {
        trust_policy: trust,
        description: None,
        max_session: Some(7200),
        boundary: None,
        tags: Vec::new(),
    };
    fixture.registry.create_role(&fixture.authorized(ACCOUNT, of), new).await.unwrap()
}

fn ask(duration: Option<u32>) -> AssumeRole {
    AssumeRole { role_arn: ROLE.into(), session_name: "one".into(), duration, ..AssumeRole::default() }
}

#[tokio::test]
async fn credentials_stand_for_the_role_until_it_goes() {
    let fixture = Fixture::new().await;
    let (registry, role) = (&fixture.registry, role(&fixture).await);
    let assumed = registry.assume_role(&root(), ask(None)).await.unwrap();
    assert_eq!(assumed.arn, "arn:aws:sts::123456789012:assumed-role/builder/one");
    assert_eq!(assumed.credentials.expires_at, registry.clock().now().plus(Duration::from_secs(3600)));
    let (id, token) = (&assumed.credentials.access_key_id, &assumed.credentials.session_token);
    let key = registry.authenticate_session(id, token).await.unwrap().unwrap();
    assert_eq!(*key.secret, *assumed.credentials.secret_access_key);
    assert_eq!(key.expires_at, assumed.credentials.expires_at);
    assert_eq!(key.caller.identity.user_id, format!("{}:one", role.principal.id));

    let other = registry.assume_role(&root(), ask(None)).await.unwrap().credentials;
    for (id, token) in [(id, &other.session_token), (&other.access_key_id, token), (id, &"x".repeat(70_000))]
    {
        assert!(registry.authenticate_session(id, token).await.unwrap().is_none());
    }
    let of = PrincipalRef::named(ACCOUNT.parse().unwrap(), PrincipalKind::Role, "builder");
    let of = registry.look_up_principal(of).await.unwrap();
    registry.delete_role(&fixture.authorized(ACCOUNT, of)).await.unwrap();
    assert!(registry.authenticate_session(id, token).await.unwrap().is_none());
    self::role(&fixture).await;
    assert!(
        registry.authenticate_session(id, token).await.unwrap().is_none(),
        "another role of the same name"
    );
}

#[tokio::test]
async fn a_password_of_a_session_ends_with_it() {
    let fixture = Fixture::new().await;
    let (registry, _) = (&fixture.registry, role(&fixture).await);
    let assumed = registry.assume_role(&root(), ask(Some(900))).await.unwrap().credentials;
    let key =
        registry.authenticate_session(&assumed.access_key_id, &assumed.session_token).await.unwrap().unwrap();
    let region = "us-east-1".parse().unwrap();
    let (password, expires_at) = registry.issue_token(&key.caller, &region, None);
    assert_eq!(expires_at, assumed.expires_at);
    fixture.clock.advance(Duration::from_secs(899));
    assert_eq!(
        registry.authenticate_password(&password, &region).await.unwrap().identity.arn,
        "arn:aws:sts::123456789012:assumed-role/builder/one"
    );
    fixture.clock.advance(Duration::from_secs(1));
    let refused = registry.authenticate_password(&password, &region).await.unwrap_err();
    assert!(matches!(refused, PasswordError::Expired), "{refused}");
}

#[tokio::test]
async fn sessions_are_no_longer_than_the_role_allows() {
    let fixture = Fixture::new().await;
    let (registry, _) = (&fixture.registry, role(&fixture).await);
    registry.assume_role(&root(), ask(Some(7200))).await.unwrap();
    let refused = registry.assume_role(&root(), ask(Some(7201))).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    );
    let root = registry.get_session_token(&root(), Some(129_600), false).unwrap();
    assert_eq!(root.expires_at, registry.clock().now().plus(Duration::from_secs(3600)));
}

#[tokio::test]
async fn nobody_of_another_account_is_let_in() {
    let fixture = Fixture::new().await;
    role(&fixture).await;
    let stranger = Caller::root("210987654321".parse().unwrap(), "AKIATEST");
    let refused = fixture.registry.assume_role(&stranger, ask(None)).await.unwrap_err();
    let text = format!(
        "User: arn:aws:iam::210987654321:root is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
    );
    assert!(matches!(refused, RegistryError::Iam(_)));
    assert_eq!(refused.to_string(), text);
}
