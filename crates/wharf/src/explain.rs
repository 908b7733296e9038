//! `wharf explain`: a decision in words, or as JSON.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};
use wharf_iam::decision::Reason;
use wharf_iam::evaluate::Outcome;
use wharf_registry::Explanation;

use crate::admin::AdminRequest;
use crate::cli::Explain;

/// The question of a command line. A key that comes twice has two values.
pub fn request(asked: Explain) -> AdminRequest {
    let mut context: Vec<(String, Vec<String>)> = Vec::new();
    for (key, value) in asked.context {
        match context.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&key)) {
            Some((_, values)) => values.push(value),
            None => context.push((key, vec![value])),
        }
    }
    let Explain { principal, action, resource, .. } = asked;
    AdminRequest::Explain { principal, action, resource, context }
}

/// The answer, for machines.
pub fn to_json(explained: &Explanation) -> Value {
    let statements = explained.statements.iter().map(|by| {
        json!({
            "source": by.source,
            "policy": by.policy,
            "statement": by.index,
            "sid": by.sid,
            "effect": if by.deny { "Deny" } else { "Allow" },
        })
    });
    json!({
        "principal": explained.principal,
        "action": explained.action,
        "resource": explained.resource,
        "decision": explained.outcome.as_str(),
        "allowed": explained.outcome == Outcome::Allowed,
        "reason": explained.reason.as_str(),
        "missing": missing(explained),
        "message": explained.message,
        "statements": statements.collect::<Vec<_>>(),
        "identity_policies": explained.policies,
        "missing_context": explained.missing_context,
    })
}

/// What would have to be there, or go, for the request to be allowed. The first such thing: others may follow.
fn missing(explained: &Explanation) -> Option<String> {
    let Explanation { action, resource, principal, .. } = explained;
    let what = match explained.reason {
        Reason::NoIdentityPolicyAllows => {
            format!("a policy of {principal}, or of its groups, that allows {action} on {resource}")
        }
        Reason::NoResourcePolicyAllows => {
            format!(
                "a policy of the repository or its registry that allows {principal} {action} on {resource}"
            )
        }
        Reason::NoBoundaryAllows => format!("a statement of the permissions boundary that allows {action}"),
        Reason::NoSessionPolicyAllows => format!("a statement of the session's policy that allows {action}"),
        Reason::ExplicitDeny(_) => {
            "nothing that could be added: the statement that denies has to go".to_owned()
        }
        _ => return None,
    };
    Some(what)
}

/// Prints an answer. Exit status 0 if the request is allowed, 1 if not.
///
/// # Errors
/// If standard output is closed, or the answer is none.
pub fn print(answer: &Value, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{answer}")?;
    } else {
        out.write_all(words(answer).as_bytes())?;
    }
    let allowed = answer["allowed"].as_bool().context("the answer says nothing")?;
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let mut lines = vec![format!("{}: {}", text(&answer["decision"]), text(&answer["reason"]))];
    for by in list("statements") {
        let sid = by["sid"].as_str().map(|sid| format!(" \"{sid}\"")).unwrap_or_default();
        let (effect, source, policy) = (text(&by["effect"]), text(&by["source"]), text(&by["policy"]));
        lines.push(format!("  {effect} by {source} policy {policy}, statement {}{sid}", by["statement"]));
    }
    for (name, words) in [("missing", "missing: "), ("message", "told the client: ")] {
        if let Some(value) = answer[name].as_str() {
            lines.push(format!("{words}{value}"));
        }
    }
    for (name, words) in [
        ("identity_policies", "policies of the principal"),
        ("missing_context", "condition keys that policies ask for and the request does not have (--context)"),
    ] {
        let values: Vec<String> = list(name).iter().map(text).collect();
        if !values.is_empty() {
            lines.push(format!("{words}: {}", values.join(", ")));
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use wharf_registry::DecidingStatement;

    use super::*;

    fn explanation(outcome: Outcome, reason: Reason) -> Explanation {
        Explanation {
            principal: "arn:aws:iam::123456789012:user/erin".to_owned(),
            action: "ecr:PutImage",
            resource: "arn:aws:ecr:us-east-1:123456789012:repository/a".to_owned(),
            outcome,
            reason,
            message: None,
            statements: Vec::new(),
            policies: vec!["inline".to_owned()],
            missing_context: vec!["aws:SourceIp".to_owned()],
        }
    }

    #[test]
    fn an_answer_names_the_statement_and_what_is_missing() {
        let mut allowed = explanation(Outcome::Allowed, Reason::IdentityPolicyAllows);
        allowed.statements.push(DecidingStatement {
            source: "identity",
            policy: "inline".to_owned(),
            index: 2,
            sid: Some("push".to_owned()),
            deny: false,
        });
        allowed.missing_context.clear();
        assert_eq!(
            words(&to_json(&allowed)),
            "Allowed: an identity-based policy allows the action\n  Allow by identity policy inline, statement 2 \
             \"push\"\npolicies of the principal: inline\n"
        );
        let denied = words(&to_json(&explanation(Outcome::ImplicitlyDenied, Reason::NoIdentityPolicyAllows)));
        assert!(
            denied.contains(
                "\nmissing: a policy of arn:aws:iam::123456789012:user/erin, or of its groups, that"
            )
        );
        assert!(denied.ends_with("does not have (--context): aws:SourceIp\n"), "{denied}");
    }

    #[test]
    fn keys_that_come_twice_have_two_values() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let asked = Explain {
            principal: "p".to_owned(),
            action: "a".to_owned(),
            resource: None,
            context: vec![pair("aws:TagKeys", "x"), pair("k", "1"), pair("AWS:tagkeys", "y")],
            output: crate::cli::Output { json: false },
        };
        let AdminRequest::Explain { context, .. } = request(asked) else { panic!("another request") };
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        assert_eq!(context, [("aws:TagKeys".to_owned(), list(&["x", "y"])), ("k".to_owned(), list(&["1"]))]);
    }
}
