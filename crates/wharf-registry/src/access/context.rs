//! The condition keys of a request (`iam-evaluation` §2.1). Only those are supplied that a policy asks for.

use wharf_iam::context::Context;
use wharf_iam::decision::{IdentityKind, Need};
use wharf_iam::policy::Policy;
use wharf_types::Timestamp;

use super::Caller;
use crate::sessions::SessionKind;

/// The condition keys that policies ask for, in lower case, each once.
pub(super) fn distinct_keys<'a>(policies: impl Iterator<Item = &'a Policy>) -> Vec<Box<str>> {
    let mut keys: Vec<Box<str>> = policies
        .flat_map(|policy| policy.context_keys())
        .map(|key| key.to_ascii_lowercase().into())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What values come from.
pub(super) struct Sources<'a> {
    pub(super) caller: &'a Caller,
    pub(super) need: &'a Need,
    /// Tags of the repository that is acted on.
    pub(super) tags: &'a [(String, String)],
    /// The region that the resource is in, or that was asked.
    pub(super) region: &'a str,
    pub(super) now: Timestamp,
}

impl<'a> Sources<'a> {
    /// The context of a need, with the keys in `asked`, which are in lower case and may repeat.
    pub(super) fn context(&self, asked: impl Iterator<Item = &'a str>) -> Context<'a> {
        let mut context = Context::new();
        for key in asked {
            if context.get(key).is_none() {
                self.supply(key, &mut context);
            }
        }
        // What the request itself says, such as the tags it gives. Nothing the server knows can be hidden by it: the
        // operations name these keys, not the client.
        context.set_all(&self.need.context);
        context
    }

    fn supply(&self, key: &'a str, context: &mut Context<'a>) {
        match key.split_once('/') {
            Some(("aws:principaltag", tag)) => self.tag(key, tag, &self.caller.identity.tags, context),
            Some(("aws:resourcetag" | "ecr:resourcetag", tag)) => self.tag(key, tag, self.tags, context),
            _ if self.caller.is_anonymous() => {
                self.supply_request(key, context);
                if key == "aws:principaltype" {
                    context.set(key, "Anonymous");
                }
            }
            _ => {
                self.supply_request(key, context);
                self.supply_caller(key, context);
                self.supply_session(key, context);
            }
        }
    }

    /// Tag keys in key names compare ignoring case.
    fn tag(&self, key: &'a str, tag: &str, tags: &'a [(String, String)], context: &mut Context<'a>) {
        if let Some((_, value)) = tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(tag)) {
            context.set(key, value.as_str());
        }
    }

    fn supply_request(&self, key: &'a str, context: &mut Context<'a>) {
        let origin = self.caller.origin();
        match key {
            "aws:sourceip" => {
                if let Some(origin) = origin {
                    context.set(key, origin.address.to_canonical().to_string());
                }
            }
            "aws:securetransport" => {
                if let Some(origin) = origin {
                    context.set(key, if origin.secure { "true" } else { "false" });
                }
            }
            "aws:useragent" => {
                if let Some(agent) = origin.and_then(|origin| origin.user_agent.as_deref()) {
                    context.set(key, agent);
                }
            }
            "aws:referer" => {
                if let Some(referer) = origin.and_then(|origin| origin.referer.as_deref()) {
                    context.set(key, referer);
                }
            }
            "aws:currenttime" => context.set(key, self.now.to_rfc3339()),
            "aws:epochtime" => context.set(key, (self.now.as_micros() / 1_000_000).to_string()),
            "aws:requestedregion" => context.set(key, self.region),
            "aws:viaawsservice" => context.set(key, "false"),
            "aws:resourceaccount" => context.set(key, self.need.resource_account.as_str()),
            _ => {}
        }
    }

    fn supply_caller(&self, key: &'a str, context: &mut Context<'a>) {
        let identity = &*self.caller.identity;
        match key {
            "aws:principalarn" => {
                context.set(key, identity.role_arn.as_deref().unwrap_or(&identity.arn));
            }
            "aws:principalaccount" => context.set(key, identity.account.as_str()),
            "aws:principaltype" => context.set(key, identity.kind.principal_type()),
            "aws:principalisawsservice" => context.set(key, "false"),
            "aws:userid" => context.set(key, identity.user_id.as_str()),
            "aws:username" => {
                if let (IdentityKind::User, Some(name)) = (identity.kind, &identity.user_name) {
                    context.set(key, name.as_str());
                }
            }
            _ => {}
        }
    }

    fn supply_session(&self, key: &'a str, context: &mut Context<'a>) {
        let Some(session) = self.caller.session() else { return };
        match key {
            "aws:tokenissuetime" => context.set(key, session.issued_at.to_rfc3339()),
            "aws:sourceidentity" => {
                if let Some(identity) = &session.source_identity {
                    context.set(key, identity.as_str());
                }
            }
            "aws:federatedprovider" => {
                if let Some(provider) = &session.provider {
                    context.set(key, provider.as_str());
                }
            }
            // No session here was begun with a second factor; a federated user's key is absent.
            "aws:multifactorauthpresent" if session.kind != SessionKind::FederatedUser => {
                context.set(key, "false");
            }
            _ => {}
        }
    }
}
