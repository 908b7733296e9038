use serde_json::{Value, json};

use super::*;

const OWN: &str = "111122223333";
const OTHER: &str = "444455556666";
const ACTION: &str = "ecr:BatchGetImage";

fn named(kind: PolicyKind, statements: &Value) -> NamedPolicy {
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let policy = Policy::parse(kind, &text).unwrap_or_else(|error| panic!("{}: {text}", error.detail()));
    NamedPolicy { name: "p".into(), policy: policy.into() }
}

fn allow(action: &str) -> Value {
    json!({"Effect": "Allow", "Action": action, "Resource": "*"})
}

fn deny(action: &str) -> Value {
    json!({"Effect": "Deny", "Action": action, "Resource": "*"})
}

fn erin() -> Identity {
    let arn = format!("arn:aws:iam::{OWN}:user/dev/erin");
    Identity::user(OWN.parse().unwrap(), "AKIA", arn, "erin", "AIDAERIN")
}

fn builder() -> Identity {
    let role = format!("arn:aws:iam::{OWN}:role/ci/builder");
    Identity::assumed_role(OWN.parse().unwrap(), "ASIA", role, "AROABUILDER", "run-1")
}

/// Policies around a caller, as statements; null is none.
#[derive(Default)]
struct Around {
    identity: Value,
    resource: Value,
    boundary: Value,
    session: Value,
}

fn decide(principal: Principal<'_>, around: &Around, owner: &str) -> (Outcome, Reason) {
    let own = |kind, statements: &Value| (!statements.is_null()).then(|| named(kind, statements));
    let identity: Vec<_> = own(PolicyKind::Identity, &around.identity).into_iter().collect();
    let boundary: Vec<_> = own(PolicyKind::Boundary, &around.boundary).into_iter().collect();
    let session = own(PolicyKind::Session, &around.session).map(|policy| vec![policy]);
    let resource = own(PolicyKind::Repository, &around.resource);
    let resource: Vec<&Policy> = resource.iter().map(|named| &*named.policy).collect();
    let policies = CallerPolicies { identity: &identity, boundary: &boundary, session: session.as_deref() };
    let mut context = Context::new();
    if let Principal::Identity(identity) = principal {
        identity.describe(&mut context);
    }
    let arn = format!("arn:aws:ecr:us-east-1:{owner}:repository/team/api");
    let request = Request { action: ACTION, resource: &arn, resource_account: owner, context: &context };
    let evaluation = evaluate(principal, policies, &resource, &request);
    (evaluation.outcome, evaluation.reason)
}

fn to(principal: Value) -> Value {
    json!({"Effect": "Allow", "Principal": principal, "Action": "ecr:*"})
}

/// The table of section 4: which allows suffice in the same account and in another.
#[test]
fn strengths_of_resource_grants() {
    use Reason::{
        IdentityPolicyAllows, NoBoundaryAllows, NoIdentityPolicyAllows, NoResourcePolicyAllows,
        NoSessionPolicyAllows, ResourcePolicyAllows,
    };
    let (erin, builder) = (erin(), builder());
    let user = json!({"AWS": erin.arn});
    let session = json!({"AWS": builder.arn});
    let role = json!({"AWS": builder.role_arn});
    let (yes, no) = (allow("ecr:*"), allow("s3:*"));
    let none = Value::Null;
    let table: &[(&Identity, &Value, Value, &Value, &Value, &str, Reason)] = &[
        // caller, identity, resource, boundary, session, owner
        (&erin, &yes, none.clone(), &none, &none, OWN, IdentityPolicyAllows),
        (&erin, &no, none.clone(), &none, &none, OWN, NoIdentityPolicyAllows),
        (&erin, &yes, none.clone(), &no, &none, OWN, NoBoundaryAllows),
        (&erin, &yes, none.clone(), &yes, &no, OWN, NoSessionPolicyAllows),
        (&erin, &yes, none.clone(), &yes, &yes, OWN, IdentityPolicyAllows),
        (&erin, &none, to(user.clone()), &no, &no, OWN, ResourcePolicyAllows),
        (&erin, &none, to(json!("*")), &no, &no, OWN, ResourcePolicyAllows),
        (&erin, &none, to(json!({"AWS": OWN})), &none, &none, OWN, NoIdentityPolicyAllows),
        (&erin, &none, to(json!({"AWS": "AIDAERIN"})), &none, &none, OWN, ResourcePolicyAllows),
        (&erin, &none, to(json!({"AWS": "AIDAELSE"})), &none, &none, OWN, NoIdentityPolicyAllows),
        (
            &erin,
            &none,
            to(json!({"AWS": format!("arn:aws:iam::{OWN}:user/erin")})),
            &none,
            &none,
            OWN,
            NoIdentityPolicyAllows,
        ),
        (&builder, &none, to(session.clone()), &no, &no, OWN, ResourcePolicyAllows),
        (&builder, &none, to(role.clone()), &none, &none, OWN, ResourcePolicyAllows),
        (&builder, &none, to(role.clone()), &no, &none, OWN, NoBoundaryAllows),
        (&builder, &none, to(role.clone()), &yes, &no, OWN, NoSessionPolicyAllows),
        (&builder, &none, to(role.clone()), &yes, &yes, OWN, ResourcePolicyAllows),
        (&builder, &none, to(json!({"AWS": "AROABUILDER"})), &none, &no, OWN, NoSessionPolicyAllows),
        (&erin, &yes, none.clone(), &none, &none, OTHER, NoResourcePolicyAllows),
        (&erin, &no, to(user.clone()), &none, &none, OTHER, NoIdentityPolicyAllows),
        (&erin, &no, to(json!("*")), &none, &none, OTHER, NoIdentityPolicyAllows),
        (&erin, &yes, to(json!("*")), &none, &none, OTHER, IdentityPolicyAllows),
        (&erin, &yes, to(json!({"AWS": OWN})), &none, &none, OTHER, IdentityPolicyAllows),
        (&erin, &yes, to(user.clone()), &no, &none, OTHER, NoBoundaryAllows),
        (&builder, &yes, to(session), &none, &no, OTHER, NoSessionPolicyAllows),
        (&builder, &yes, to(role), &yes, &yes, OTHER, IdentityPolicyAllows),
        (&erin, &yes, to(json!({"AWS": OTHER})), &none, &none, OTHER, NoResourcePolicyAllows),
    ];
    for (caller, identity, resource, boundary, session, owner, reason) in table {
        let around = Around {
            identity: (*identity).clone(),
            resource: resource.clone(),
            boundary: (*boundary).clone(),
            session: (*session).clone(),
        };
        let allowed = matches!(reason, IdentityPolicyAllows | ResourcePolicyAllows);
        let outcome = if allowed { Outcome::Allowed } else { Outcome::ImplicitlyDenied };
        let decided = decide(Principal::Identity(caller), &around, owner);
        assert_eq!(decided, (outcome, *reason), "{} {resource} {boundary} {session} {owner}", caller.arn);
    }
}

#[test]
fn a_deny_wins_wherever_it_is() {
    let erin = erin();
    let all = || Around {
        identity: allow("*"),
        resource: json!([to(json!({"AWS": erin.arn}))]),
        boundary: allow("*"),
        session: allow("*"),
    };
    assert_eq!(decide(Principal::Identity(&erin), &all(), OWN).0, Outcome::Allowed);
    let denied = json!({"Effect": "Deny", "Principal": {"AWS": OWN}, "Action": "ecr:*"});
    let cases = [
        (Around { identity: json!([allow("*"), deny(ACTION)]), ..all() }, PolicySource::Identity),
        (Around { resource: json!([to(json!({"AWS": erin.arn})), denied]), ..all() }, PolicySource::Resource),
        (Around { boundary: json!([allow("*"), deny(ACTION)]), ..all() }, PolicySource::Boundary),
        (Around { session: json!([allow("*"), deny(ACTION)]), ..all() }, PolicySource::Session),
    ];
    for (around, source) in cases {
        for owner in [OWN, OTHER] {
            let decided = decide(Principal::Identity(&erin), &around, owner);
            assert_eq!(decided, (Outcome::ExplicitlyDenied, Reason::ExplicitDeny(source)));
        }
    }
}

#[test]
fn callers_without_identity_policies() {
    let outcome =
        |principal, resource: Value| decide(principal, &Around { resource, ..Around::default() }, OWN).0;
    let service = || Principal::Service("codebuild.amazonaws.com");
    let named = || to(json!({"Service": "codebuild.amazonaws.com"}));
    assert_eq!(outcome(Principal::Anonymous, Value::Null), Outcome::ImplicitlyDenied);
    assert_eq!(outcome(Principal::Anonymous, to(json!("*"))), Outcome::Allowed);
    assert_eq!(outcome(Principal::Anonymous, to(json!({"AWS": OWN}))), Outcome::ImplicitlyDenied);
    assert_eq!(outcome(service(), named()), Outcome::Allowed);
    assert_eq!(outcome(service(), to(json!("*"))), Outcome::ImplicitlyDenied);
    assert_eq!(outcome(Principal::Service("other.amazonaws.com"), named()), Outcome::ImplicitlyDenied);
    let shut = json!([named(), {"Effect": "Deny", "Principal": "*", "Action": "*"}]);
    assert_eq!(outcome(service(), shut), Outcome::ExplicitlyDenied);

    let root = Identity::root(OWN.parse().unwrap(), "AKIA");
    let root = || Principal::Identity(&root);
    assert_eq!(outcome(root(), Value::Null), Outcome::Allowed);
    let shut = json!({"Effect": "Deny", "Principal": {"AWS": OWN}, "Action": "*"});
    assert_eq!(outcome(root(), shut), Outcome::ExplicitlyDenied);
    let foreign = |identity| Around { identity, resource: to(json!({"AWS": OWN})), ..Around::default() };
    assert_eq!(decide(root(), &foreign(Value::Null), OTHER).0, Outcome::ImplicitlyDenied);
    assert_eq!(decide(root(), &foreign(allow("*")), OTHER).0, Outcome::Allowed);
}

#[test]
fn federated_users_have_what_their_session_policy_names() {
    let bob = Identity::federated_user(OWN.parse().unwrap(), "ASIA", "bob");
    let bob = || Principal::Identity(&bob);
    let around = |session, resource| Around { identity: allow("*"), session, resource, ..Around::default() };
    assert_eq!(decide(bob(), &around(Value::Null, Value::Null), OWN).1, Reason::NoIdentityPolicyAllows);
    assert_eq!(decide(bob(), &around(allow("ecr:*"), Value::Null), OWN).0, Outcome::Allowed);
    let arn = json!({"AWS": format!("arn:aws:sts::{OWN}:federated-user/bob")});
    assert_eq!(decide(bob(), &around(Value::Null, to(arn)), OWN).0, Outcome::Allowed);
}

#[test]
fn not_principal_spares_only_the_callers_own_names() {
    let (erin, builder) = (erin(), builder());
    let root = Identity::root(OWN.parse().unwrap(), "AKIA");
    let except = |named: Value| json!({"Effect": "Deny", "NotPrincipal": {"AWS": named}, "Action": "*"});
    let account = format!("arn:aws:iam::{OWN}:root");
    let table: &[(&Identity, Value, bool)] = &[
        (&erin, json!(erin.arn), true),
        (&erin, json!([erin.arn, account]), true),
        (&erin, json!(account), false),
        (&erin, json!(OWN), false),
        (&erin, json!(builder.arn), false),
        (&builder, json!(builder.arn), true),
        (&builder, json!(builder.role_arn), true),
        (&builder, json!("AROABUILDER"), true),
        (&builder, json!(account), false),
        (&root, json!(account), true),
        (&root, json!(erin.arn), false),
    ];
    for (caller, named, spared) in table {
        let around = Around { identity: allow("*"), resource: except(named.clone()), ..Around::default() };
        let outcome = decide(Principal::Identity(caller), &around, OWN).0;
        assert_eq!(outcome == Outcome::Allowed, *spared, "{} {named}", caller.arn);
        let bounded = Around { boundary: allow("*"), ..around };
        assert_eq!(decide(Principal::Identity(caller), &bounded, OWN).0, Outcome::ExplicitlyDenied);
    }
    let around = Around { resource: json!([to(json!("*")), except(json!(erin.arn))]), ..Around::default() };
    assert_eq!(decide(Principal::Anonymous, &around, OWN).0, Outcome::ExplicitlyDenied);
}

#[test]
fn resources_compare_field_by_field() {
    let erin = erin();
    let arn = format!("arn:aws:ecr:us-east-1:{OWN}:repository/team/api");
    let matches = |element: &str, pattern: Value, resource: &str| {
        let statement = json!({"Effect": "Allow", "Action": "ecr:*", element: pattern});
        let identity = [named(PolicyKind::Identity, &statement)];
        let policies = CallerPolicies { identity: &identity, ..CallerPolicies::default() };
        let mut context = Context::new();
        erin.describe(&mut context);
        let request = Request { action: ACTION, resource, resource_account: OWN, context: &context };
        evaluate(Principal::Identity(&erin), policies, &[], &request).is_allowed()
    };
    let table = [
        ("*", true),
        (&*arn, true),
        ("arn:aws:ecr:*:*:repository/team/*", true),
        ("arn:aws:ecr:*:*:repository/*/api", true),
        ("arn:aws:ecr:*:*:repository/*api", true),
        ("arn:aws:ecr:*:*:repository/Team/api", false),
        ("arn:aws:ecr:us-*:*:*", true),
        ("arn:aws:ecr:*:repository/team/api", false),
        ("arn:aws:ecr:us-east-1*team/api", false),
        ("arn:aws:ecr", true),
        ("arn:aws:ecr:us-east-1", true),
        ("arn:aws:ecr:eu-west-1", false),
        ("arn:aws:s3:*", false),
        ("arn:aws:ecr:us-east-?:*:repository/team/ap?", true),
        ("arn:aws:ecr:*:*:repository/team/api?", false),
        ("arn:aws:ecr:*:*:repository/${aws:username}/api", false),
        ("arn:aws:ecr:*:*:repository/${aws:PrincipalTag/t, 'team'}/api", true),
        ("arn:aws:ecr:*:*:repository/${aws:PrincipalTag/t}*", false),
        // Only the last field knows variables.
        ("arn:aws:ecr:*:${aws:PrincipalAccount}:repository/team/api", false),
    ];
    for (pattern, expected) in table {
        assert_eq!(matches("Resource", json!(pattern), &arn), expected, "{pattern}");
        assert_eq!(matches("NotResource", json!(pattern), &arn), !expected, "{pattern}");
    }
    assert!(matches("Resource", json!(["arn:aws:ecr:*:*:repository/x", "*"]), "*"));
    assert!(!matches("Resource", json!("arn:aws:ecr:*:*:*"), "*"));
    assert!(!matches("Resource", json!("arn:aws:ecr:*"), "*"));
    assert!(matches("NotResource", json!("arn:aws:ecr:*:*:repository/*"), "*"));
    assert!(!matches("NotResource", json!("*"), "*"));
}

#[test]
fn a_registry_policy_of_the_first_scope_is_about_three_actions() {
    let erin = erin();
    let text = json!({"Statement": {"Effect": "Deny", "Principal": "*", "Action": "ecr:*", "Resource": "*"}})
        .to_string();
    let identity = [named(PolicyKind::Identity, &allow("*"))];
    let policies = CallerPolicies { identity: &identity, ..CallerPolicies::default() };
    let context = Context::new();
    let outcome = |v1_scope, action| {
        let policy = Policy::parse(PolicyKind::Registry { v1_scope }, &text).unwrap();
        let request = Request { action, resource: "*", resource_account: OWN, context: &context };
        evaluate(Principal::Identity(&erin), policies, &[&policy], &request).outcome
    };
    assert_eq!(outcome(true, ACTION), Outcome::Allowed);
    assert_eq!(outcome(true, "ecr:CreateRepository"), Outcome::ExplicitlyDenied);
    assert_eq!(outcome(false, ACTION), Outcome::ExplicitlyDenied);
}

#[test]
fn a_simulation_tells_what_matched_and_what_was_missing() {
    let erin = erin();
    let identity = [
        named(
            PolicyKind::Identity,
            &json!([
                {"Sid": "Other", "Effect": "Allow", "Action": "s3:*", "Resource": "*"},
                {"Sid": "Own", "Effect": "Allow", "Action": "ecr:*", "Resource": "*"},
            ]),
        ),
        named(
            PolicyKind::Identity,
            &json!([
                {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"},
                {"Effect": "Deny", "Action": "ecr:*", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/a": "${aws:PrincipalTag/b}"}}},
            ]),
        ),
    ];
    let policies = CallerPolicies { identity: &identity, ..CallerPolicies::default() };
    let mut context = Context::new();
    let simulated = |context: &Context<'_>, action| {
        let request = Request { action, resource: "*", resource_account: OWN, context };
        let simulation = simulate(Principal::Identity(&erin), policies, &[], &request);
        let matched: Vec<_> =
            simulation.matched.iter().map(|by| (by.index, by.sid.map(str::to_owned))).collect();
        let missing: Vec<_> = simulation.missing_context.iter().map(|key| (*key).to_owned()).collect();
        (simulation.evaluation.outcome.decision(), matched, missing)
    };
    let missing = vec!["aws:PrincipalTag/b".to_owned(), "aws:ResourceTag/a".to_owned()];
    let own = (1, Some("Own".to_owned()));
    assert_eq!(simulated(&context, ACTION), ("allowed", vec![own, (0, None)], missing.clone()));
    assert_eq!(simulated(&context, "iam:GetUser"), ("implicitDeny", vec![], missing));
    context.set("aws:resourcetag/A", "x");
    context.set("aws:PrincipalTag/b", "x");
    assert_eq!(simulated(&context, ACTION), ("explicitDeny", vec![(1, None)], vec![]));
}
