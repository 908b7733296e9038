//! Authentication and authorization: who calls, and whether they may. A function that acts takes [`Authorized`],
//! which only [`Registry::authorize`] makes.

mod context;
mod decide;
mod explain;
mod principals;
mod resources;
mod simulate;
mod trust;
mod unusable;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use wharf_iam::decision::{Identity, IdentityKind};
use wharf_iam::evaluate::NamedPolicy;
use wharf_iam::managed::administrator_access;
use wharf_types::{AccountId, Region};

pub use self::decide::Decided;
pub use self::explain::{Ask, DecidingStatement, ExplainError, Explanation};
pub(crate) use self::principals::Principals;
pub(crate) use self::resources::ResourceRules;
pub(crate) use self::simulate::entity_named;
pub use self::simulate::{
    ContextEntry, PolicyExclusion, SimulatedDecision, SimulatedStatement, SimulationAsk,
};
use crate::{Registry, sessions::Session};

/// Who calls: an identity whose credential was checked for this request, what its policies are, and where it calls
/// from.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The identity.
    pub identity: Arc<Identity>,
    rights: Arc<Rights>,
    session: Option<Arc<Session>>,
    origin: Option<Arc<Origin>>,
}

/// Where a request comes from, for the condition keys of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's address, by trusted proxies' word.
    pub address: IpAddr,
    /// Whether the client speaks TLS.
    pub secure: bool,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// `Referer`.
    pub referer: Option<String>,
    /// The region that was asked.
    pub region: Region,
    /// Whether the statement that decides is to be named, for the audit log. A refusal always names it.
    pub explain: bool,
}

/// The policies a caller brings along, compiled.
#[derive(Debug, Default)]
pub(crate) struct Rights {
    /// Inline, attached, and those of the user's groups; of a session those of its role.
    identity: Vec<NamedPolicy>,
    /// The permissions boundary, if there is one.
    boundary: Vec<NamedPolicy>,
    /// What the session was limited to, if it was.
    session: Option<Vec<NamedPolicy>>,
    /// The condition keys that any of them asks for, in lower case.
    keys: Vec<Box<str>>,
}

impl Caller {
    /// The root user of an account.
    pub fn root(account: AccountId, access_key_id: impl Into<String>) -> Self {
        static RIGHTS: OnceLock<Arc<Rights>> = OnceLock::new();
        // Its own account lets root do everything; another account wants to see a policy that allows it.
        let rights = RIGHTS
            .get_or_init(|| Arc::new(Rights::new(vec![administrator_access().clone()], Vec::new(), None)));
        Self::new(Identity::root(account, access_key_id), Arc::clone(rights), None)
    }

    /// Nobody in particular. `account` is where a host that names no registry leads.
    pub fn anonymous(account: AccountId) -> Self {
        let identity = Identity {
            kind: IdentityKind::Anonymous,
            arn: "anonymous".into(),
            principal_id: "anonymous".into(),
            user_id: "anonymous".into(),
            ..Identity::root(account, "")
        };
        Self::new(identity, Arc::default(), None)
    }

    fn new(identity: Identity, rights: Arc<Rights>, session: Option<Arc<Session>>) -> Self {
        Self { identity: Arc::new(identity), rights, session, origin: None }
    }

    /// The same caller, calling from somewhere.
    #[must_use]
    pub fn from(self, origin: Arc<Origin>) -> Self {
        Self { origin: Some(origin), ..self }
    }

    /// The session of temporary credentials; long-term ones have none.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// Where it calls from; commands come from nowhere.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// Whether it has shown no credential.
    pub fn is_anonymous(&self) -> bool {
        self.identity.kind == IdentityKind::Anonymous
    }
}

/// Proof that a caller may act on a target. Made by [`Registry::authorize`] only.
#[derive(Clone, Debug)]
pub struct Authorized<T> {
    target: T,
    caller: Caller,
    decided: Option<Decided>,
}

impl<T> Authorized<T> {
    /// What may be acted on.
    pub fn target(&self) -> &T {
        &self.target
    }

    /// Who may.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What allowed the first need, if the caller's origin asks for explanations.
    pub fn decided(&self) -> Option<&Decided> {
        self.decided.as_ref()
    }
}

impl<T> std::ops::Deref for Authorized<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.target
    }
}

impl Rights {
    fn new(
        identity: Vec<NamedPolicy>,
        boundary: Vec<NamedPolicy>,
        session: Option<Vec<NamedPolicy>>,
    ) -> Self {
        let all = identity.iter().chain(&boundary).chain(session.iter().flatten());
        let keys = context::distinct_keys(all.map(|named| &*named.policy));
        Self { identity, boundary, session, keys }
    }
}

impl Registry {
    /// Forgets what is remembered of the policies of repositories and registries. Called after a change on another
    /// node; a change here forgets what it changes.
    pub fn resource_policies_changed(&self) {
        self.inner.resource_rules.clear();
    }
}

#[cfg(test)]
mod tests;
