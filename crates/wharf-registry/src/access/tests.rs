//! Sessions, at the level of the registry: what limits them, and when they end.

use aws_lc_rs::digest::{SHA256, digest};
use wharf_iam::decision::Need;
use wharf_types::{Mutability, Region, RegistryRef, RepositoryRef, Timestamp};

use super::*;
use crate::accounts::tests::{ACCOUNT, Fixture};
use crate::sessions::SessionKind;
use crate::{EncryptionType, NewRepository, PasswordError, RegistryError};

const NOW: i64 = 1_700_000_000_000_000;

fn session(kind: SessionKind, principal_id: &str) -> Session {
    Session {
        principal_id: principal_id.into(),
        kind,
        name: "ci".into(),
        account: ACCOUNT.parse().unwrap(),
        policies: Vec::new(),
        policy_arns: Vec::new(),
        tags: vec![("Team".into(), "red".into())],
        transitive_keys: Vec::new(),
        source_identity: None,
        provider: None,
        chained: false,
        issued_at: Timestamp::from_micros(NOW),
        expires_at: Timestamp::from_micros(NOW + 3_600_000_000),
    }
}

/// A role and a user that may do everything in ECR, the role only for its team.
async fn house() -> Fixture {
    let fixture = Fixture::new().await;
    for sql in [
        "INSERT INTO principals (id, account, kind, name, name_key, path, created_at)
         VALUES ('AROAONE', '123456789012', 'role', 'Build', 'build', '/ci/', 0),
                ('AIDAONE', '123456789012', 'user', 'Ann', 'ann', '/', 0)",
        "INSERT INTO principal_tags (principal_id, tag_key, key, value) VALUES ('AROAONE', 'team', 'team', 'blue')",
        r#"INSERT INTO inline_policies (principal_id, name, document)
         VALUES ('AROAONE', 'all', '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:*",
                 "Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"red"}}}]}'),
                ('AIDAONE', 'all', '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:*",
                 "Resource":"*"}]}')"#,
    ] {
        change(&fixture, sql).await;
    }
    fixture
}

async fn change(fixture: &Fixture, sql: &'static str) {
    fixture.registry.write_identities(move |tx| Ok(tx.execute(sql, &[])?)).await.unwrap();
}

async fn caller(fixture: &Fixture, session: Session) -> Option<Caller> {
    let mut presented = [0; 32];
    presented.copy_from_slice(digest(&SHA256, &session.encode()).as_ref());
    fixture.registry.session_caller(&presented, "ASIAONE", session).await.unwrap()
}

async fn may(fixture: &Fixture, caller: &Caller, action: &'static str) -> Result<(), String> {
    let account: AccountId = ACCOUNT.parse().unwrap();
    let registry = RegistryRef::new(account, "us-east-1".parse().unwrap());
    let need = Need::new(action, registry.repositories_arn(), account);
    match fixture.registry.authorize(caller, (), &[need]).await {
        Ok(_) => Ok(()),
        Err(RegistryError::AccessDenied(denied)) => Err(denied.to_string()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_role_s_session_is_the_role_with_its_tags_on_top() {
    let fixture = house().await;
    let builder = caller(&fixture, session(SessionKind::AssumedRole, "AROAONE")).await.unwrap();
    assert_eq!(builder.identity.arn, format!("arn:aws:sts::{ACCOUNT}:assumed-role/Build/ci"));
    assert_eq!(builder.identity.role_arn.as_deref(), Some(&*format!("arn:aws:iam::{ACCOUNT}:role/ci/Build")));
    assert_eq!(builder.identity.user_id, "AROAONE:ci");
    assert_eq!(may(&fixture, &builder, "ecr:PutImage").await, Ok(()));
    let untagged = Session { tags: Vec::new(), ..session(SessionKind::AssumedRole, "AROAONE") };
    let untagged = caller(&fixture, untagged).await.unwrap();
    let refused = may(&fixture, &untagged, "ecr:PutImage").await.unwrap_err();
    assert!(
        refused.contains("because no identity-based policy allows"),
        "the role is of another team: {refused}"
    );
    for (kind, id) in [
        (SessionKind::User, "AROAONE"),
        (SessionKind::AssumedRole, "AIDAONE"),
        (SessionKind::User, "AIDATWO"),
    ] {
        assert!(caller(&fixture, session(kind, id)).await.is_none(), "{kind:?} {id}");
    }
}

#[tokio::test]
async fn a_session_policy_cuts_and_a_federated_user_has_no_more_than_it() {
    let fixture = house().await;
    let pull = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecr:BatchGetImage","Resource":"*"}}"#;
    let limited = Session { policies: vec![pull.into()], ..session(SessionKind::AssumedRole, "AROAONE") };
    let limited = caller(&fixture, limited).await.unwrap();
    assert_eq!(may(&fixture, &limited, "ecr:BatchGetImage").await, Ok(()));
    let refused = may(&fixture, &limited, "ecr:PutImage").await.unwrap_err();
    assert!(refused.ends_with("because no session policy allows the ecr:PutImage action"), "{refused}");

    let federated = caller(&fixture, session(SessionKind::FederatedUser, "AIDAONE")).await.unwrap();
    assert_eq!(federated.identity.arn, format!("arn:aws:sts::{ACCOUNT}:federated-user/ci"));
    assert!(may(&fixture, &federated, "ecr:BatchGetImage").await.is_err(), "without a policy it may nothing");
    let by_arn = Session {
        policy_arns: vec!["arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly".into()],
        ..session(SessionKind::FederatedUser, "AIDAONE")
    };
    let by_arn = caller(&fixture, by_arn).await.unwrap();
    assert_eq!(may(&fixture, &by_arn, "ecr:BatchGetImage").await, Ok(()));
    assert!(may(&fixture, &by_arn, "ecr:PutImage").await.is_err());
}

#[tokio::test]
async fn a_session_s_password_ends_with_the_session_and_with_its_role() {
    let fixture = house().await;
    let region: Region = "us-east-1".parse().unwrap();
    let builder = caller(&fixture, session(SessionKind::AssumedRole, "AROAONE")).await.unwrap();
    let (password, expires_at) = fixture.registry.issue_token(&builder, &region, None);
    assert_eq!(expires_at.as_micros(), NOW + 3_600_000_000, "no longer than the session");
    let back = fixture.registry.authenticate_password(&password, &region).await.unwrap();
    assert_eq!(back.identity, builder.identity);
    assert_eq!(back.session(), builder.session());
    let now = fixture.registry.authenticate_password_now(&password, &region).unwrap().unwrap();
    assert_eq!(may(&fixture, &now, "ecr:PutImage").await, Ok(()));

    change(&fixture, "DELETE FROM inline_policies WHERE principal_id = 'AROAONE'").await;
    let back = fixture.registry.authenticate_password(&password, &region).await.unwrap();
    assert!(may(&fixture, &back, "ecr:PutImage").await.is_err());
    change(&fixture, "DELETE FROM principal_tags").await;
    change(&fixture, "DELETE FROM principals WHERE id = 'AROAONE'").await;
    assert!(
        fixture.registry.authenticate_password_now(&password, &region).is_none(),
        "nothing is remembered"
    );
    let refused = fixture.registry.authenticate_password(&password, &region).await.unwrap_err();
    assert!(matches!(refused, PasswordError::Invalid), "{refused}");

    let ann = caller(&fixture, session(SessionKind::User, "AIDAONE")).await.unwrap();
    let (password, _) = fixture.registry.issue_token(&ann, &region, None);
    assert!(fixture.registry.authenticate_password(&password, &region).await.is_ok());
    fixture.clock.advance(std::time::Duration::from_secs(3600));
    let over = fixture.registry.authenticate_password(&password, &region).await.unwrap_err();
    assert!(matches!(over, PasswordError::Expired), "{over}");
}

#[tokio::test]
async fn what_cannot_be_read_denies() {
    let breakages = [
        ("UPDATE inline_policies SET document = '{'", "with an explicit deny in an identity-based policy"),
        (
            "UPDATE principals SET boundary = 'arn:aws:iam::123456789012:policy/gone'",
            "with an explicit deny in a permissions boundary",
        ),
        (
            "INSERT INTO attached_policies (principal_id, policy_arn, attached_at)
             VALUES ('AIDAONE', 'arn:aws:iam::aws:policy/NoSuch', 0)",
            "with an explicit deny in an identity-based policy",
        ),
    ];
    for (breakage, why) in breakages {
        let fixture = house().await;
        let ann = || session(SessionKind::User, "AIDAONE");
        let sound = caller(&fixture, ann()).await.unwrap();
        assert_eq!(may(&fixture, &sound, "ecr:PutImage").await, Ok(()));
        change(&fixture, breakage).await;
        let broken = caller(&fixture, ann()).await.expect("it is still known who calls");
        let refused = may(&fixture, &broken, "ecr:PutImage").await.unwrap_err();
        assert!(refused.ends_with(why), "{breakage}: {refused}");
    }
}

#[tokio::test]
async fn a_session_policy_that_cannot_be_read_denies() {
    let fixture = house().await;
    let limited = Session { policies: vec!["{".into()], ..session(SessionKind::User, "AIDAONE") };
    let limited = caller(&fixture, limited).await.unwrap();
    let refused = may(&fixture, &limited, "ecr:PutImage").await.unwrap_err();
    assert!(refused.ends_with("with an explicit deny in a session policy"), "{refused}");
}

#[tokio::test]
async fn a_registry_policy_that_cannot_be_read_denies() {
    let fixture = house().await;
    let ann = caller(&fixture, session(SessionKind::User, "AIDAONE")).await.unwrap();
    let account: AccountId = ACCOUNT.parse().unwrap();
    let need = Need::new("ecr:PutImage", format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/a"), account);
    let broken = super::unusable::deny_all(wharf_iam::policy::PolicyKind::Registry { v1_scope: false });
    let rules = fixture.registry.rules(&ann, &need).await.unwrap();
    assert!(fixture.registry.evaluate(&ann, &need, &rules, &[]).is_ok());
    let refused = fixture.registry.evaluate(&ann, &need, &rules, &[&broken]).unwrap_err();
    assert!(matches!(refused, RegistryError::AccessDenied(_)), "{refused}");
}

/// The repository `team/api`, and what may be done with its policy and its registry's.
async fn with_policies(fixture: &Fixture) -> (RepositoryRef, RegistryRef) {
    let registry = fixture.here().target().clone();
    let repository = registry.repository("team/api".parse().unwrap());
    let new = NewRepository {
        mutability: Mutability::Mutable,
        scan_on_push: false,
        encryption_type: EncryptionType::Aes256,
        kms_key: None,
        tags: Vec::new(),
    };
    let at = fixture.authorized(ACCOUNT, repository.clone());
    fixture.registry.create_repository(&at, new).await.unwrap();
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"AWS":"999999999999"},"Action":"ecr:*"}]}"#;
    fixture.registry.set_repository_policy(&at, policy, false).await.unwrap();
    let policy = policy.replace("\"Action\"", "\"Resource\":\"*\",\"Action\"");
    fixture.registry.put_registry_policy(&fixture.here(), &policy).await.unwrap();
    (repository, registry)
}

#[tokio::test]
async fn the_root_user_alone_repairs_policies_that_cannot_be_read() {
    let fixture = house().await;
    let (repository, here) = with_policies(&fixture).await;
    let (at, of) = (fixture.authorized(ACCOUNT, repository.clone()), fixture.authorized(ACCOUNT, here));
    let root = Caller::root(ACCOUNT.parse().unwrap(), "AKIATEST");
    let ann = caller(&fixture, session(SessionKind::User, "AIDAONE")).await.unwrap();
    let foreign = Caller::root("999999999999".parse().unwrap(), "AKIATEST");
    let may = async |caller: &Caller, action: &'static str| {
        let account = ACCOUNT.parse().unwrap();
        let of_registry = action.contains("RegistryPolicy");
        let resource = if of_registry { "*".to_owned() } else { repository.arn() };
        fixture.registry.authorize(caller, (), &[Need::new(action, resource, account)]).await.is_ok()
    };
    let of_repository = ["ecr:GetRepositoryPolicy", "ecr:SetRepositoryPolicy", "ecr:DeleteRepositoryPolicy"];
    let of_registry = ["ecr:GetRegistryPolicy", "ecr:PutRegistryPolicy", "ecr:DeleteRegistryPolicy"];
    for (table, actions) in [("repository_policies", of_repository), ("registry_policies", of_registry)] {
        for broken in ["{", r#"{"Statement":[]}"#] {
            for action in actions.into_iter().chain(["ecr:PutImage"]) {
                assert!(may(&root, action).await && may(&ann, action).await, "{table}: {action}");
            }
            let sql = match table {
                "repository_policies" => "UPDATE repository_policies SET document = $1, bound = $1",
                _ => "UPDATE registry_policies SET document = $1, bound = $1",
            };
            fixture.registry.write_identities(move |tx| Ok(tx.execute(sql, &[&broken])?)).await.unwrap();
            fixture.registry.resource_policies_changed();
            for action in actions {
                assert!(may(&root, action).await, "{table}: {action}");
                assert!(!may(&ann, action).await && !may(&foreign, action).await, "{table}: {action}");
            }
            for action in ["ecr:PutImage", "ecr:BatchGetImage", "ecr:DeleteRepository"] {
                assert!(!may(&root, action).await && !may(&ann, action).await, "{table}: {action}");
            }
            let sound = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"AWS":"999999999999"},
                "Action":"ecr:*"}]}"#;
            if table == "repository_policies" {
                let shown = fixture.registry.repository_policy(&at).await.unwrap();
                assert_eq!(shown.starts_with("{\n"), broken != "{", "{shown}");
                fixture.registry.set_repository_policy(&at, sound, false).await.unwrap();
            } else {
                fixture.registry.registry_policy(&of).await.unwrap();
                fixture.registry.delete_registry_policy(&of).await.unwrap();
                let sound = sound.replace("\"Action\"", "\"Resource\":\"*\",\"Action\"");
                fixture.registry.put_registry_policy(&of, &sound).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn condition_keys_that_nothing_here_has_are_absent() {
    let absent = [
        "aws:PrincipalOrgID",
        "aws:PrincipalOrgPaths",
        "aws:ResourceOrgID",
        "aws:SourceVpc",
        "aws:SourceVpce",
        "aws:VpcSourceIp",
        "aws:MultiFactorAuthAge",
        "aws:CalledVia",
        "aws:SourceArn",
        "aws:SourceAccount",
        "aws:SourceOrgID",
        "aws:PrincipalServiceName",
    ];
    let fixture = house().await;
    for key in absent {
        for (operator, value, allowed) in
            [("Null", "true", true), ("StringEquals", "x", false), ("StringNotEquals", "x", true)]
        {
            let document = format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"ecr:*","Resource":"*",
                    "Condition":{{"{operator}":{{"{key}":"{value}"}}}}}}]}}"#
            );
            let sql = "UPDATE inline_policies SET document = $1 WHERE principal_id = 'AIDAONE'";
            let put =
                fixture.registry.write_identities(move |tx| Ok(tx.execute(sql, &[&document.as_str()])?));
            assert_eq!(put.await.unwrap(), 1);
            let ann = caller(&fixture, session(SessionKind::User, "AIDAONE")).await.unwrap();
            assert_eq!(may(&fixture, &ann, "ecr:PutImage").await.is_ok(), allowed, "{operator} {key}");
        }
    }
}
