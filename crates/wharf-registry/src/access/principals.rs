//! From credentials to callers: users, roles and sessions with their compiled policies, remembered until any identity
//! changes.

use std::sync::Arc;

use wharf_iam::decision::Identity;
use wharf_iam::evaluate::NamedPolicy;
use wharf_iam::managed;
use wharf_iam::policy::{Policy, PolicyKind};
use wharf_store::meta::Tx;
use wharf_store::meta::iam::effective::{self, EffectivePolicy, PrincipalRow};
use wharf_store::meta::iam::principals::PrincipalKind;

use super::unusable::usable_or_deny;
use super::{Caller, Rights};
use crate::cache::CoherentCache;
use crate::identities::principal_arn;
use crate::sessions::{Session, SessionKind};
use crate::{Registry, RegistryError};

/// Users, roles and callers by temporary credentials that were seen lately.
pub(crate) struct Principals {
    standings: CoherentCache<String, Arc<Standing>>,
    /// By the hash of what was presented.
    sessions: CoherentCache<[u8; 32], Caller>,
}

impl Default for Principals {
    fn default() -> Self {
        Self { standings: CoherentCache::new(10_000), sessions: CoherentCache::new(10_000) }
    }
}

impl Principals {
    pub(crate) fn clear(&self) {
        self.standings.clear();
        self.sessions.clear();
    }

    /// The caller of temporary credentials that were presented before. Whether they are over is not looked at.
    pub(crate) fn session(&self, presented: &[u8; 32]) -> Option<Caller> {
        self.sessions.get(presented)
    }
}

/// A user or role as it stands.
#[derive(Debug)]
struct Standing {
    row: PrincipalRow,
    rights: Arc<Rights>,
}

/// What is read of a user or role in one snapshot.
struct Loaded {
    row: PrincipalRow,
    policies: Vec<EffectivePolicy>,
    boundary: Option<EffectivePolicy>,
}

impl Registry {
    /// The user with a unique id, calling with one of its own keys; `None` when it has gone.
    pub(crate) async fn user_caller(
        &self,
        id: &str,
        access_key_id: &str,
    ) -> Result<Option<Caller>, RegistryError> {
        let standing = self.standing(id).await?.filter(|standing| standing.row.kind == "user");
        Ok(standing.map(|standing| {
            let identity = user(&standing.row, access_key_id);
            Caller::new(identity, Arc::clone(&standing.rights), None)
        }))
    }

    /// The caller of temporary credentials, as it stands now; `None` when its user or role has gone. `presented`: the
    /// hash of what was presented, under which the answer is remembered. Whether the session is over is the caller's
    /// to look at, each time.
    ///
    /// # Errors
    /// When the metadata fails.
    pub(crate) async fn session_caller(
        &self,
        presented: &[u8; 32],
        access_key_id: &str,
        session: Session,
    ) -> Result<Option<Caller>, RegistryError> {
        self.confirm().await?;
        if let Some(known) = self.inner.principals.session(presented) {
            return Ok(Some(known));
        }
        let ticket = self.inner.principals.sessions.ticket();
        let caller = if session.principal_id == session.account.as_str() {
            self.root_session(access_key_id, session).await?
        } else {
            match self.standing(&session.principal_id).await? {
                Some(standing) => self.principal_session(&standing, access_key_id, session).await?,
                None => None,
            }
        };
        if let Some(caller) = &caller {
            self.inner.principals.sessions.fill(ticket, presented, caller.clone());
        }
        Ok(caller)
    }

    async fn root_session(
        &self,
        access_key_id: &str,
        session: Session,
    ) -> Result<Option<Caller>, RegistryError> {
        let root = Caller::root(session.account, access_key_id);
        let identity = match session.kind {
            SessionKind::User => (*root.identity).clone(),
            SessionKind::FederatedUser => federated(&session, access_key_id, &[]),
            SessionKind::AssumedRole => return Ok(None),
        };
        let limits = self.session_policies(&session).await?;
        let rights = Arc::new(Rights::new(root.rights.identity.clone(), Vec::new(), limits));
        Ok(Some(Caller::new(identity, rights, Some(Arc::new(session)))))
    }

    async fn principal_session(
        &self,
        standing: &Standing,
        access_key_id: &str,
        session: Session,
    ) -> Result<Option<Caller>, RegistryError> {
        let row = &standing.row;
        let identity = match (session.kind, row.kind.as_str()) {
            _ if row.account != session.account => return Ok(None),
            (SessionKind::AssumedRole, "role") => Identity {
                tags: overlaid(&row.tags, &session.tags),
                ..Identity::assumed_role(row.account, access_key_id, arn(row), &row.id, &session.name)
            },
            (SessionKind::User, "user") => user(row, access_key_id),
            (SessionKind::FederatedUser, "user") => federated(&session, access_key_id, &row.tags),
            _ => return Ok(None),
        };
        let rights = match self.session_policies(&session).await? {
            None => Arc::clone(&standing.rights),
            limits => {
                let own = &standing.rights;
                Arc::new(Rights::new(own.identity.clone(), own.boundary.clone(), limits))
            }
        };
        Ok(Some(Caller::new(identity, rights, Some(Arc::new(session)))))
    }

    /// The policies a session was limited to; `None` if it was not. A managed policy that has gone allows nothing.
    async fn session_policies(&self, session: &Session) -> Result<Option<Vec<NamedPolicy>>, RegistryError> {
        if session.policies.is_empty() && session.policy_arns.is_empty() {
            return Ok(None);
        }
        let mut found = Vec::new();
        for text in &session.policies {
            found.push(EffectivePolicy { name: "session policy".into(), document: Some(text.clone()) });
        }
        if !session.policy_arns.is_empty() {
            let arns = session.policy_arns.clone();
            let read = move |tx: &mut Tx<'_>| {
                arns.iter().map(|arn| managed_policy(tx, arn)).collect::<Result<Vec<_>, RegistryError>>()
            };
            found.extend(self.inner.meta.read(read).await?.into_iter().flatten());
        }
        Ok(Some(found.iter().map(|policy| compile(PolicyKind::Session, policy)).collect()))
    }

    async fn standing(&self, id: &str) -> Result<Option<Arc<Standing>>, RegistryError> {
        self.confirm().await?;
        let (cache, id) = (&self.inner.principals.standings, id.to_owned());
        if let Some(standing) = cache.get(&id) {
            return Ok(Some(standing));
        }
        let ticket = cache.ticket();
        let wanted = id.clone();
        let Some(loaded) = self.inner.meta.read(move |tx| load(tx, &wanted)).await? else { return Ok(None) };
        let identity = loaded.policies.iter().map(|policy| compile(PolicyKind::Identity, policy));
        let boundary = loaded.boundary.iter().map(|policy| compile(PolicyKind::Boundary, policy));
        let rights = Rights::new(identity.collect(), boundary.collect(), None);
        let standing = Arc::new(Standing { row: loaded.row, rights: Arc::new(rights) });
        cache.fill(ticket, &id, Arc::clone(&standing));
        Ok(Some(standing))
    }
}

fn load(tx: &mut Tx<'_>, id: &str) -> Result<Option<Loaded>, RegistryError> {
    let Some(row) = effective::principal(tx, id)? else { return Ok(None) };
    let policies = effective::policies(tx, id)?;
    let boundary = match &row.boundary {
        None => None,
        Some(arn) => {
            let gone = || EffectivePolicy { name: arn.clone(), document: None };
            Some(managed_policy(tx, arn)?.unwrap_or_else(gone))
        }
    };
    Ok(Some(Loaded { row, policies, boundary }))
}

/// A managed policy, AWS's own or a customer's.
pub(super) fn managed_policy(tx: &mut Tx<'_>, arn: &str) -> Result<Option<EffectivePolicy>, RegistryError> {
    if managed::find(arn).is_some() {
        return Ok(Some(EffectivePolicy { name: arn.to_owned(), document: None }));
    }
    let document = effective::managed_document(tx, arn)?;
    Ok(document.map(|text| EffectivePolicy { name: arn.to_owned(), document: Some(text) }))
}

/// A policy that has gone or does not parse any more denies everything.
pub(super) fn compile(kind: PolicyKind, policy: &EffectivePolicy) -> NamedPolicy {
    let stored = match &policy.document {
        Some(text) => Policy::parse(kind, text).map_err(|error| error.to_string()),
        None => match managed::find(&policy.name) {
            Some(managed) => return managed.policy.clone(),
            None => Err("there is no such policy".to_owned()),
        },
    };
    let policy_or_denial = usable_or_deny(kind, stored, &policy.name);
    NamedPolicy { name: policy.name.as_str().into(), policy: Arc::new(policy_or_denial) }
}

fn arn(row: &PrincipalRow) -> String {
    let kind = if row.kind == "role" { PrincipalKind::Role } else { PrincipalKind::User };
    principal_arn(row.account, kind, &row.path, &row.name)
}

fn user(row: &PrincipalRow, access_key_id: &str) -> Identity {
    Identity {
        tags: row.tags.clone(),
        ..Identity::user(row.account, access_key_id, arn(row), &row.name, &row.id)
    }
}

fn federated(session: &Session, access_key_id: &str, tags: &[(String, String)]) -> Identity {
    Identity {
        principal_id: session.principal_id.clone(),
        tags: overlaid(tags, &session.tags),
        ..Identity::federated_user(session.account, access_key_id, &session.name)
    }
}

/// Tags of a principal with a session's on top; keys compare ignoring case.
fn overlaid(own: &[(String, String)], session: &[(String, String)]) -> Vec<(String, String)> {
    let hidden = |key: &str| session.iter().any(|(over, _)| over.eq_ignore_ascii_case(key));
    let kept = own.iter().filter(|(key, _)| !hidden(key));
    kept.chain(session).cloned().collect()
}
