//! Whether a role's trust policy, together with the caller's own policies, lets a role be assumed.
//!
//! It differs from other resource policies in that it must always allow: without it, not even the policies of the
//! role's own account let anybody in (`iam-api` §3).

use std::borrow::Cow;

use wharf_iam::decision::{IdentityKind, Need};
use wharf_iam::evaluate::{CallerPolicies, Outcome, Principal, Request, evaluate};
use wharf_iam::policy::Policy;

use super::Caller;
use super::context::Sources;
use super::decide::lower;
use crate::Registry;

/// No account. A resource of nobody's is a foreign one to everybody: its policy must allow, and so must the caller's.
const FOREIGN: &str = "";

impl Registry {
    /// Whether a caller may do something with a role that has these tags and this trust policy.
    pub(crate) fn is_trusted(
        &self,
        caller: &Caller,
        need: &Need,
        tags: &[(String, String)],
        trust: &Policy,
    ) -> bool {
        let identity = &caller.identity;
        let with_own = caller.rights.borrow();
        let ask = |policies, owner| {
            self.ask_trust(caller, Principal::Identity(identity), policies, need, owner, tags, trust)
        };
        match ask(with_own, FOREIGN) {
            Outcome::Allowed => true,
            Outcome::ExplicitlyDenied => false,
            // In the role's own account it is enough to be named, within boundary and session policy.
            Outcome::ImplicitlyDenied => {
                let named = CallerPolicies { identity: &[], ..with_own };
                identity.account == need.resource_account
                    && identity.kind != IdentityKind::Root
                    && ask(named, need.resource_account.as_str()) == Outcome::Allowed
            }
        }
    }

    /// As [`is_trusted`](Self::is_trusted), for whom an identity provider vouches.
    pub(crate) fn is_trusted_federated(
        &self,
        caller: &Caller,
        provider: &str,
        need: &Need,
        tags: &[(String, String)],
        trust: &Policy,
    ) -> bool {
        let policies = CallerPolicies::default();
        let owner = need.resource_account.as_str();
        let principal = Principal::Federated(provider);
        self.ask_trust(caller, principal, policies, need, owner, tags, trust) == Outcome::Allowed
    }

    #[expect(clippy::too_many_arguments, reason = "the two above say the same at less length")]
    fn ask_trust(
        &self,
        caller: &Caller,
        principal: Principal<'_>,
        policies: CallerPolicies<'_>,
        need: &Need,
        owner: &str,
        tags: &[(String, String)],
        trust: &Policy,
    ) -> Outcome {
        let region = caller.origin().map_or(&self.inner.options.default_region, |origin| &origin.region);
        let sources = Sources { caller, need, tags, region: region.as_str(), now: self.inner.clock.now() };
        let theirs: Vec<Cow<'_, str>> = trust.context_keys().map(lower).collect();
        let asked = caller.rights.keys.iter().map(|key| &**key).chain(theirs.iter().map(|key| &**key));
        let context = sources.context(asked);
        let request = Request {
            action: need.action,
            resource: &need.resource,
            resource_account: owner,
            context: &context,
        };
        evaluate(principal, policies, &[trust], &request).outcome
    }
}
