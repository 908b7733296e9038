//! `wharf explain`: what would be decided of a principal that is not here, and why.

use wharf_iam::actions::{self, ActionResource};
use wharf_iam::context::Context;
use wharf_iam::decision::{AccessDenied, Need, Reason};
use wharf_iam::evaluate::{CallerPolicies, Outcome, Principal, Request, StatementRef, simulate};
use wharf_iam::policy::Policy;
use wharf_iam::sigv4::body_sha256;
use wharf_store::meta::accounts;
use wharf_store::meta::iam::principals::{self, PrincipalKind, PrincipalRow};
use wharf_types::{AccountId, Arn, RepositoryName, RepositoryRef};

use super::Caller;
use super::context::Sources;
use crate::{Registry, RegistryError, Session, SessionKind};

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The ARN of a root user, user, role or role session, an account id (its root user), or `anonymous`.
    pub principal: String,
    /// An action, e.g. `ecr:PutImage` or `iam:CreateUser`.
    pub action: String,
    /// An ARN, `*`, or the name of a repository in the principal's account and the default region. None: `*`.
    pub resource: Option<String>,
    /// Condition keys of the request, with their values; they hide what is known of the principal and the resource.
    pub context: Vec<(String, Vec<String>)>,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// Not a principal that can call.
    #[error(
        "`{0}` is no principal: expected the ARN of a root user, user, role or role session, or `anonymous`"
    )]
    Principal(String),
    /// There is no such principal.
    #[error("there is no {0}")]
    Absent(String),
    /// Not an action that is decided here by policies of the caller and the resource alone.
    #[error("`{0}` is no action of ECR, IAM, STS or KMS that can be explained")]
    Action(String),
    /// Not a resource.
    #[error("`{0}` is neither an ARN nor the name of a repository")]
    Resource(String),
    /// The action is on a repository, and none is named.
    #[error("{0} acts on a repository: say which")]
    NoResource(&'static str),
    /// The metadata failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A decision with what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Who, as policies see it.
    pub principal: String,
    /// What.
    pub action: &'static str,
    /// On what.
    pub resource: String,
    /// The answer.
    pub outcome: Outcome,
    /// Why; of an implicit deny, what is missing first.
    pub reason: Reason,
    /// What the client would be told, if it is refused.
    pub message: Option<String>,
    /// The statements that decide, the first of them before the others; none for an implicit deny.
    pub statements: Vec<DecidingStatement>,
    /// The principal's policies, its boundary and session policies not included.
    pub policies: Vec<String>,
    /// Condition keys that policies ask for and the request does not have.
    pub missing_context: Vec<String>,
}

/// A statement that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidingStatement {
    /// `identity`, `resource`, `boundary` or `session`.
    pub source: &'static str,
    /// The policy's name or ARN.
    pub policy: String,
    /// Its place in the policy, from 0.
    pub index: usize,
    /// Its `Sid`.
    pub sid: Option<String>,
    /// Whether it denies.
    pub deny: bool,
}

impl From<&StatementRef<'_>> for DecidingStatement {
    fn from(by: &StatementRef<'_>) -> Self {
        use wharf_iam::evaluate::PolicySource::{Boundary, Identity, Resource, Session};
        let source = match by.source {
            Identity => "identity",
            Resource => "resource",
            Boundary => "boundary",
            Session => "session",
        };
        let (policy, sid) = (by.policy.to_owned(), by.sid.map(str::to_owned));
        Self { source, policy, index: by.index, sid, deny: by.deny }
    }
}

impl Registry {
    /// Decides like [`authorize`](Self::authorize) does for a request of this principal, and says why.
    ///
    /// # Errors
    /// If the question names nobody or nothing that is; nothing is changed.
    pub async fn explain(&self, ask: Ask) -> Result<Explanation, ExplainError> {
        let Some((action, acts_on)) = known_action(&ask.action) else {
            return Err(ExplainError::Action(ask.action));
        };
        let caller = self.caller_named(&ask.principal).await?;
        let (resource, account) = self.resource_named(ask.resource.as_deref(), caller.identity.account)?;
        let resource = match (resource, acts_on) {
            (_, Some(ActionResource::Registry)) | (None, None) => "*".to_owned(),
            (Some(arn), _) => arn,
            (None, Some(_)) => return Err(ExplainError::NoResource(action)),
        };
        let need = Need { context: ask.context, ..Need::new(action, resource, account) };
        Ok(self.simulated(&caller, &need).await?)
    }

    async fn simulated(&self, caller: &Caller, need: &Need) -> Result<Explanation, RegistryError> {
        let rules = self.rules(caller, need).await?;
        let policies: Vec<&Policy> = rules.policies().collect();
        let rights = &*caller.rights;
        let sources =
            Sources { caller, need, tags: rules.tags(), region: rules.region(), now: self.clock().now() };
        let theirs = policies.iter().flat_map(|policy| policy.context_keys());
        let asked: Vec<String> =
            theirs.chain(rights.keys.iter().map(|key| &**key)).map(str::to_ascii_lowercase).collect();
        let context: Context<'_> = sources.context(asked.iter().map(String::as_str));
        let request = Request {
            action: need.action,
            resource: &need.resource,
            resource_account: need.resource_account.as_str(),
            context: &context,
        };
        let own = CallerPolicies {
            identity: &rights.identity,
            boundary: &rights.boundary,
            session: rights.session.as_deref(),
        };
        let done = simulate(Principal::Identity(&caller.identity), own, &policies, &request);
        let mut statements: Vec<DecidingStatement> =
            done.evaluation.by.iter().map(DecidingStatement::from).collect();
        for other in done.matched.iter().map(DecidingStatement::from) {
            if !statements.contains(&other) {
                statements.push(other);
            }
        }
        let refused = || AccessDenied::new(&caller.identity, need, done.evaluation.reason).to_string();
        Ok(Explanation {
            principal: caller.identity.arn.clone(),
            action: need.action,
            resource: need.resource.to_string(),
            outcome: done.evaluation.outcome,
            reason: done.evaluation.reason,
            message: (!done.evaluation.is_allowed()).then(refused),
            statements,
            policies: rights.identity.iter().map(|named| named.name.to_string()).collect(),
            missing_context: done.missing_context.iter().map(|key| (*key).to_owned()).collect(),
        })
    }

    /// The ARN of a resource and the account that owns it; no ARN for `*` and for nothing.
    fn resource_named(
        &self,
        named: Option<&str>,
        own: AccountId,
    ) -> Result<(Option<String>, AccountId), ExplainError> {
        let Some(text) = named.filter(|text| *text != "*") else { return Ok((None, own)) };
        let wrong = || ExplainError::Resource(text.to_owned());
        if text.starts_with("arn:") {
            let account =
                text.split(':').nth(4).and_then(|account| account.parse().ok()).ok_or_else(wrong)?;
            return Ok((Some(text.to_owned()), account));
        }
        let name: RepositoryName = text.parse().map_err(|_| wrong())?;
        let region = self.options().default_region.clone();
        Ok((Some(RepositoryRef::private(own, region, name).arn()), own))
    }

    /// The caller that a principal would be.
    async fn caller_named(&self, principal: &str) -> Result<Caller, ExplainError> {
        if principal == "anonymous" || principal == "*" {
            return Ok(Caller::anonymous(self.options().default_account));
        }
        let wrong = || ExplainError::Principal(principal.to_owned());
        let absent = || ExplainError::Absent(principal.to_owned());
        let (account, resource) = match principal.parse::<AccountId>() {
            Ok(account) => (account, "root".to_owned()),
            Err(_) => {
                let arn: Arn = principal.parse().map_err(|_| wrong())?;
                let account: AccountId = arn.account.parse().map_err(|_| wrong())?;
                (account, arn.resource.to_string())
            }
        };
        if resource == "root" {
            let known = self.inner.meta.read(move |tx| accounts::account_exists(tx, account)).await;
            let known = known.map_err(RegistryError::from)?;
            return known.then(|| Caller::root(account, "")).ok_or_else(absent);
        }
        let (kind, rest) = resource.split_once('/').ok_or_else(wrong)?;
        let (kind, name, session) = match (kind, rest.split_once('/')) {
            ("user", _) => (PrincipalKind::User, last_part(rest), ""),
            ("role", _) => (PrincipalKind::Role, last_part(rest), "explain"),
            ("assumed-role", Some((role, session))) => (PrincipalKind::Role, role, session),
            _ => return Err(wrong()),
        };
        let named = name.to_owned();
        let row = self.inner.meta.read(move |tx| principals::find(tx, account, kind, &named)).await;
        let row = row.map_err(RegistryError::from)?;
        let is_it = |row: &PrincipalRow| {
            // Sessions are named without their role's path.
            resource.starts_with("assumed-role/")
                || format!("{}{}{}", kind.as_str(), row.path, row.name) == resource
        };
        let row = row.filter(is_it).ok_or_else(absent)?;
        let caller = match kind {
            PrincipalKind::Role => {
                // Remembered like a session that somebody presents, under a name that nobody can.
                let presented = body_sha256(format!("explain\n{}\n{session}", row.id).as_bytes());
                self.session_caller(&presented, "", role_session(&row, session, self.clock().now())).await?
            }
            _ => self.user_caller(&row.id, "").await?,
        };
        caller.ok_or_else(absent)
    }
}

/// An action's name as it is written, and what it acts on; companions' actions act on anything.
fn known_action(name: &str) -> Option<(&'static str, Option<ActionResource>)> {
    let known = [actions::ECR, actions::ECR_PUBLIC, actions::WHARF].into_iter().flatten();
    let mut known = known.map(|action| (action.name, Some(action.resource)));
    let companion = || actions::COMPANIONS.iter().map(|action| (*action, None));
    known
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .or_else(|| companion().find(|(known, _)| known.eq_ignore_ascii_case(name)))
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A session of a role without anything special.
fn role_session(role: &PrincipalRow, name: &str, now: wharf_types::Timestamp) -> Session {
    Session {
        principal_id: role.id.clone(),
        kind: SessionKind::AssumedRole,
        name: name.to_owned(),
        account: role.account,
        policies: Vec::new(),
        policy_arns: Vec::new(),
        tags: Vec::new(),
        transitive_keys: Vec::new(),
        source_identity: None,
        provider: None,
        chained: false,
        issued_at: now,
        expires_at: now.plus(std::time::Duration::from_secs(3600)),
    }
}
