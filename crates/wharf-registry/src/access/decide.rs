//! The decision: every need of a request against the policies of its caller and its resource.

use std::borrow::Cow;
use std::fmt;

use wharf_iam::context::Context;
use wharf_iam::decision::{AccessDenied, Need, Reason};
use wharf_iam::evaluate::{CallerPolicies, Evaluation, Principal, Request, StatementRef, evaluate};
use wharf_iam::policy::Policy;

use super::context::Sources;
use super::resources::Rules;
use super::{Authorized, Caller, Rights};
use crate::{Registry, RegistryError};

/// What decided, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Why.
    pub reason: Reason,
    /// The statement: its policy, place and `Sid`. None where nothing said anything.
    pub statement: Option<String>,
}

impl Decided {
    fn of(evaluation: &Evaluation<'_>) -> Self {
        Self { reason: evaluation.reason, statement: evaluation.by.as_ref().map(statement_name) }
    }
}

impl From<&AccessDenied> for Decided {
    fn from(denied: &AccessDenied) -> Self {
        Self { reason: denied.reason, statement: denied.by.clone() }
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_str())?;
        self.statement.iter().try_for_each(|statement| write!(f, ": {statement}"))
    }
}

fn statement_name(by: &StatementRef<'_>) -> String {
    match by.sid {
        Some(sid) => format!("{}, statement {} ({sid})", by.policy, by.index),
        None => format!("{}, statement {}", by.policy, by.index),
    }
}

impl Rights {
    pub(super) fn borrow(&self) -> CallerPolicies<'_> {
        CallerPolicies {
            identity: &self.identity,
            boundary: &self.boundary,
            session: self.session.as_deref(),
        }
    }
}

impl Registry {
    /// Decides every need; all must be allowed.
    ///
    /// # Errors
    /// [`RegistryError::AccessDenied`] with AWS's text for the first that is not. Existence is not looked at, so it
    /// cannot leak. When the policies cannot be read, that error.
    pub async fn authorize<T>(
        &self,
        caller: &Caller,
        target: T,
        needs: &[Need],
    ) -> Result<Authorized<T>, RegistryError> {
        let mut decided = None;
        for need in needs {
            let rules = match self.rules_now(caller, need) {
                Some(rules) => rules,
                None => self.rules(caller, need).await?,
            };
            let this = self.decide(caller, need, &rules)?;
            decided = decided.or(this);
        }
        Ok(Authorized { target, caller: caller.clone(), decided })
    }

    /// As [`authorize`](Self::authorize), on the calling thread: `None` when a policy is not in memory.
    pub fn authorize_now<T: Clone>(
        &self,
        caller: &Caller,
        target: &T,
        needs: &[Need],
    ) -> Option<Result<Authorized<T>, RegistryError>> {
        let mut decided = None;
        for need in needs {
            let rules = self.rules_now(caller, need)?;
            match self.decide(caller, need, &rules) {
                Ok(this) => decided = decided.or(this),
                Err(denied) => return Some(Err(denied)),
            }
        }
        Some(Ok(Authorized { target: target.clone(), caller: caller.clone(), decided }))
    }

    /// What decided, if the caller's origin wants to know.
    fn decide(&self, caller: &Caller, need: &Need, rules: &Rules) -> Result<Option<Decided>, RegistryError> {
        let policies: Vec<&Policy> = rules.policies().collect();
        self.evaluate(caller, need, rules, &policies)
    }

    /// As [`decide`](Self::decide), with these policies of the resource.
    pub(crate) fn evaluate(
        &self,
        caller: &Caller,
        need: &Need,
        rules: &Rules,
        policies: &[&Policy],
    ) -> Result<Option<Decided>, RegistryError> {
        let sources =
            Sources { caller, need, tags: rules.tags(), region: rules.region(), now: self.inner.clock.now() };
        let theirs = policies.iter().flat_map(|policy| policy.context_keys());
        // Keys of resource policies come as written.
        let theirs: Vec<Cow<'_, str>> = theirs.map(lower).collect();
        let asked = caller.rights.keys.iter().map(|key| &**key).chain(theirs.iter().map(|key| &**key));
        let context: Context<'_> = sources.context(asked);
        let request = Request {
            action: need.action,
            resource: &need.resource,
            resource_account: need.resource_account.as_str(),
            context: &context,
        };
        let evaluation =
            evaluate(Principal::Identity(&caller.identity), caller.rights.borrow(), policies, &request);
        if evaluation.is_allowed() {
            let explain = caller.origin().is_some_and(|origin| origin.explain);
            return Ok(explain.then(|| Decided::of(&evaluation)));
        }
        let mut denied = AccessDenied::new(&caller.identity, need, evaluation.reason);
        denied.by = evaluation.by.as_ref().map(statement_name);
        Err(denied.into())
    }
}

pub(super) fn lower(key: &str) -> Cow<'_, str> {
    match key.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(key.to_ascii_lowercase()),
        false => Cow::Borrowed(key),
    }
}
