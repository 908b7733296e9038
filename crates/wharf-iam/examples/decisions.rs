//! How many decisions one core makes in a second.
//!
//! `cargo run --release -p wharf-iam --example decisions`
//!
//! The principal has 5 identity policies of 10 statements each, with actions, resource patterns, variables and
//! conditions as people write them; no statement can be skipped, since any later one may deny. CPU time of the process
//! is measured, not wall time. On a shared virtual machine (EPYC, 2 cores) it was 858,000, best of seven.

// A tool for people: its output is the point, and a failure may well stop it.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use wharf_iam::context::Context;
use wharf_iam::decision::Identity;
use wharf_iam::evaluate::{CallerPolicies, NamedPolicy, Principal, Request, evaluate};
use wharf_iam::policy::{Policy, PolicyKind};

const ACCOUNT: &str = "123456789012";

/// Ten statements; `team` tells one policy from another.
fn policy(team: usize) -> NamedPolicy {
    let repository = |name: &str| format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}");
    let text = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["ecr:GetAuthorizationToken", "ecr:DescribeRegistry"], "Resource": "*"},
            {"Effect": "Allow", "Action": ["ecr:Describe*", "ecr:List*"], "Resource": repository(&format!("team-{team}/*"))},
            {"Effect": "Allow", "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], "Resource": repository("base/*")},
            {"Effect": "Allow", "Action": ["ecr:PutImage", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"], "Resource": repository(&format!("team-{team}/*"))},
            {"Effect": "Allow", "Action": "ecr:*", "Resource": repository("${aws:username}/*")},
            {"Effect": "Deny", "Action": "ecr:DeleteRepository", "Resource": "*"},
            {"Effect": "Deny", "Action": "ecr:*", "Resource": repository("secret-*/*"), "Condition": {"StringNotEquals": {"aws:PrincipalTag/clearance": "high"}}},
            {"Effect": "Deny", "NotAction": ["ecr:*", "sts:*", "iam:Get*"], "Resource": "*"},
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"},
            {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8", "192.168.0.0/16"]}, "Bool": {"aws:ViaAWSService": "false"}}},
        ]
    });
    let policy = Policy::parse(PolicyKind::Identity, &text.to_string()).unwrap();
    NamedPolicy { name: format!("team-{team}").into(), policy: Arc::new(policy) }
}

fn main() {
    let identity = Identity::user(
        ACCOUNT.parse().unwrap(),
        "AKIAEXAMPLE",
        format!("arn:aws:iam::{ACCOUNT}:user/ci/erin"),
        "erin",
        "AIDAEXAMPLE",
    );
    let policies: Vec<NamedPolicy> = (0..5).map(policy).collect();
    let mut context = Context::new();
    identity.describe(&mut context);
    context.set("aws:SourceIp", "10.1.2.3");
    context.set("aws:SecureTransport", "true");
    context.set("aws:CurrentTime", "2026-01-15T00:00:00Z");
    context.set("aws:RequestedRegion", "us-east-1");
    context.set("aws:ViaAWSService", "false");
    let resource = format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/base/alpine");
    let decide = |action| {
        let request = Request { action, resource: &resource, resource_account: ACCOUNT, context: &context };
        let policies = CallerPolicies { identity: &policies, ..CallerPolicies::default() };
        evaluate(Principal::Identity(&identity), policies, &[], black_box(&request)).is_allowed()
    };
    assert!(
        decide("ecr:BatchGetImage") && !decide("ecr:DeleteRepository") && !decide("ecr:PutLifecyclePolicy")
    );

    const ROUNDS: u32 = 300_000;
    let mut best = 0.0_f64;
    for _ in 0..7 {
        let started = cpu_seconds();
        for _ in 0..ROUNDS {
            black_box(decide(black_box("ecr:BatchGetImage")));
            black_box(decide(black_box("ecr:PutLifecyclePolicy")));
        }
        best = best.max(f64::from(2 * ROUNDS) / (cpu_seconds() - started));
    }
    println!("{best:.0} decisions/s on one core (5 policies of 10 statements, best of 7)");
}

/// CPU time of this process from Linux's accounting, in seconds (nanosecond clock of the scheduler).
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
