//! The decision: which statements are about a request, and what they amount to together.

pub mod cases;
mod simulate;

use std::sync::Arc;

pub use simulate::{Simulation, simulate};

use crate::context::Context;
use crate::decision::{Identity, IdentityKind, Reason};
use crate::policy::{Grant, Policy, PolicyKind, ResourceName, Statement, is_v1_registry_action};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Principal<'a> {
    /// Nobody said who.
    Anonymous,
    /// A service by its DNS name, e.g. `replication.ecr.amazonaws.com`.
    Service(&'a str),
    /// Somebody whom an identity provider vouches for, before a role is assumed: the provider's ARN or name.
    Federated(&'a str),
    /// An authenticated caller.
    Identity(&'a Identity),
}

/// A policy and what it is called in explanations: a name, or the ARN of a managed policy.
#[derive(Clone, Debug)]
pub struct NamedPolicy {
    /// Its name or ARN.
    pub name: Arc<str>,
    /// The policy.
    pub policy: Arc<Policy>,
}

/// The policies that a caller brings along.
///
/// A root user's policies are whatever is given: that root may do everything in its own account needs none, but acting
/// in another account it needs an identity policy like anybody, such as
/// [`crate::managed::administrator_access`].
#[derive(Clone, Copy, Debug, Default)]
pub struct CallerPolicies<'a> {
    /// Inline, attached, and those of the user's groups; of a session those of its role.
    pub identity: &'a [NamedPolicy],
    /// The permissions boundary. An empty list is none.
    pub boundary: &'a [NamedPolicy],
    /// The policies that the session was limited to, if it was. They add up; an empty list allows nothing.
    pub session: Option<&'a [NamedPolicy]>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The action, e.g. `ecr:PutImage`.
    pub action: &'a str,
    /// An ARN, or `*` for actions without resource.
    pub resource: &'a str,
    /// The account that owns the resource.
    pub resource_account: &'a str,
    /// The request's condition keys.
    pub context: &'a Context<'a>,
}

/// The three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller may.
    Allowed,
    /// A statement denies it.
    ExplicitlyDenied,
    /// Not enough statements allow it.
    ImplicitlyDenied,
}

impl Outcome {
    /// The name that decision cases use, e.g. `ImplicitlyDenied`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::ExplicitlyDenied => "ExplicitlyDenied",
            Self::ImplicitlyDenied => "ImplicitlyDenied",
        }
    }
}

/// Where a statement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// A policy of the caller, its groups or its role.
    Identity,
    /// The policy of the repository, registry or role that is asked for.
    Resource,
    /// The caller's permissions boundary.
    Boundary,
    /// The session's policy.
    Session,
}

/// One statement of one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementRef<'a> {
    /// Which kind of policy it stands in.
    pub source: PolicySource,
    /// The name of the policy.
    pub policy: &'a str,
    /// Its place in the policy, from 0.
    pub index: usize,
    /// Its `Sid`.
    pub sid: Option<&'a str>,
    /// Whether it denies.
    pub deny: bool,
}

/// The decision and what made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation<'a> {
    /// The answer.
    pub outcome: Outcome,
    /// Why; of an implicit deny, what is missing first.
    pub reason: Reason,
    /// The statement that denies, or the one that allows; of several the first.
    pub by: Option<StatementRef<'a>>,
}

impl Evaluation<'_> {
    /// Whether the caller may.
    pub fn is_allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }
}

/// Decides a request. Never fails, and allocates nothing.
///
/// `resource_policies` are those of the resource: a repository's policy and its registry's, or a role's trust policy.
pub fn evaluate<'a>(
    principal: Principal<'a>,
    policies: CallerPolicies<'a>,
    resource_policies: &'a [&'a Policy],
    request: &Request<'_>,
) -> Evaluation<'a> {
    let principal = match principal {
        Principal::Identity(identity) if identity.kind == IdentityKind::Anonymous => Principal::Anonymous,
        other => other,
    };
    let question = Question::new(principal, policies, request);
    let gathered = match question.gather(policies, resource_policies) {
        Ok(gathered) => gathered,
        Err(deny) => {
            return Evaluation {
                outcome: Outcome::ExplicitlyDenied,
                reason: Reason::ExplicitDeny(deny.source),
                by: Some(deny),
            };
        }
    };
    match question.combine(&gathered) {
        Ok((reason, by)) => Evaluation { outcome: Outcome::Allowed, reason, by },
        Err(reason) => Evaluation { outcome: Outcome::ImplicitlyDenied, reason, by: None },
    }
}

/// A request with what is worked out once for all statements.
struct Question<'q> {
    principal: Principal<'q>,
    bounded: bool,
    action: &'q str,
    resource: ResourceName<'q>,
    resource_account: &'q str,
    context: &'q Context<'q>,
}

/// Allows of each source.
#[derive(Default)]
struct Gathered<'a> {
    identity: Option<StatementRef<'a>>,
    boundary: Limit,
    session: Limit,
    /// Allows of the resource's policies, by how they name the caller.
    resource: ResourceAllows<'a>,
}

/// What an upper limit says.
#[derive(Clone, Copy, Debug, Default)]
enum Limit {
    #[default]
    Absent,
    Allows,
    Silent,
}

impl Limit {
    fn permits(self) -> bool {
        !matches!(self, Self::Silent)
    }
}

#[derive(Default)]
struct ResourceAllows<'a> {
    /// User, session, federated user, service.
    direct: Option<StatementRef<'a>>,
    public: Option<StatementRef<'a>>,
    role: Option<StatementRef<'a>>,
    account: Option<StatementRef<'a>>,
}

impl<'a> ResourceAllows<'a> {
    fn add(&mut self, grant: Grant, by: StatementRef<'a>) {
        let places = [
            (Grant::DIRECT, &mut self.direct),
            (Grant::PUBLIC, &mut self.public),
            (Grant::ROLE, &mut self.role),
            (Grant::ACCOUNT, &mut self.account),
        ];
        for (kind, place) in places {
            if grant.intersects(kind) {
                place.get_or_insert(by);
            }
        }
    }

    fn any(&self) -> Option<StatementRef<'a>> {
        self.direct.or(self.public).or(self.role).or(self.account)
    }
}

impl<'q> Question<'q> {
    fn new<'r: 'q, 'p: 'q>(
        principal: Principal<'p>,
        policies: CallerPolicies<'p>,
        request: &'r Request<'_>,
    ) -> Self {
        Self {
            principal,
            bounded: !policies.boundary.is_empty(),
            action: request.action,
            resource: ResourceName::new(request.resource),
            resource_account: request.resource_account,
            context: request.context,
        }
    }

    /// Whether a statement is about the request, and how it names the caller.
    fn grant(&self, statement: &Statement) -> Grant {
        if !statement.actions.covers_action(self.action, self.context) {
            return Grant::default();
        }
        let grant = statement.principals.grant(&self.principal, self.bounded);
        let covered = !grant.is_none()
            && statement
                .resources
                .as_ref()
                .is_none_or(|rule| rule.covers_resource(&self.resource, self.context))
            && statement.conditions.iter().all(|condition| condition.holds(self.context));
        if covered { grant } else { Grant::default() }
    }

    /// The statements of a policy that are about the request.
    fn matches<'a>(
        &self,
        source: PolicySource,
        name: &'a str,
        policy: &'a Policy,
    ) -> impl Iterator<Item = (Grant, StatementRef<'a>)> {
        policy.statements().iter().enumerate().filter_map(move |(index, statement)| {
            let grant = self.grant(statement);
            let by = StatementRef {
                source,
                policy: name,
                index,
                sid: statement.sid.as_deref(),
                deny: statement.deny,
            };
            (!grant.is_none()).then_some((grant, by))
        })
    }

    /// The first allow of policies that belong to the caller.
    fn scan<'a>(
        &self,
        source: PolicySource,
        policies: &'a [NamedPolicy],
    ) -> Result<Option<StatementRef<'a>>, StatementRef<'a>> {
        let mut allow = None;
        for named in policies {
            for (_, by) in self.matches(source, &named.name, &named.policy) {
                if by.deny {
                    return Err(by);
                }
                allow.get_or_insert(by);
            }
        }
        Ok(allow)
    }

    fn limit<'a>(
        &self,
        source: PolicySource,
        policies: Option<&'a [NamedPolicy]>,
    ) -> Result<Limit, StatementRef<'a>> {
        let Some(policies) = policies else { return Ok(Limit::Absent) };
        Ok(if self.scan(source, policies)?.is_some() { Limit::Allows } else { Limit::Silent })
    }

    /// Collects the allows of all policies.
    ///
    /// # Errors
    /// The first matching deny, identity policies before resource policies before boundary before session.
    fn gather<'a>(
        &self,
        policies: CallerPolicies<'a>,
        resource_policies: &'a [&'a Policy],
    ) -> Result<Gathered<'a>, StatementRef<'a>> {
        let own = matches!(self.principal, Principal::Identity(_));
        let mut gathered = Gathered::default();
        if own {
            gathered.identity = self.scan(PolicySource::Identity, policies.identity)?;
        }
        for policy in resource_policies.iter().filter(|policy| self.applies(policy)) {
            for (grant, by) in
                self.matches(PolicySource::Resource, resource_policy_name(policy.kind()), policy)
            {
                if by.deny {
                    return Err(by);
                }
                gathered.resource.add(grant, by);
            }
        }
        if own {
            let boundary = Some(policies.boundary).filter(|boundary| !boundary.is_empty());
            gathered.boundary = self.limit(PolicySource::Boundary, boundary)?;
            gathered.session = self.limit(PolicySource::Session, policies.session)?;
        }
        if let Principal::Identity(identity) = self.principal
            && identity.kind == IdentityKind::FederatedUser
            && policies.session.is_none()
        {
            // Federated users have their user's permissions only as far as a session policy names them.
            gathered.identity = None;
        }
        Ok(gathered)
    }

    fn applies(&self, policy: &Policy) -> bool {
        policy.kind() != PolicyKind::Registry { v1_scope: true } || is_v1_registry_action(self.action)
    }

    /// Weighs allows that no deny overrules.
    ///
    /// # Errors
    /// What is missing.
    fn combine<'a>(&self, gathered: &Gathered<'a>) -> Result<(Reason, Option<StatementRef<'a>>), Reason> {
        let resource = &gathered.resource;
        let by_resource = |by| Ok((Reason::ResourcePolicyAllows, Some(by)));
        let identity = match self.principal {
            Principal::Anonymous => {
                return resource.public.map_or(Err(Reason::NoResourcePolicyAllows), by_resource);
            }
            Principal::Service(_) | Principal::Federated(_) => {
                return resource.direct.map_or(Err(Reason::NoResourcePolicyAllows), by_resource);
            }
            Principal::Identity(identity) => identity,
        };
        let same_account = identity.account.as_str() == self.resource_account;
        if same_account && identity.kind == IdentityKind::Root {
            return Ok((Reason::RootOfAccount, None));
        }
        if same_account && let Some(by) = resource.direct.or(resource.public) {
            return by_resource(by);
        }
        let of_role = resource.role.filter(|_| same_account);
        let allow = match (gathered.identity, of_role) {
            (Some(by), _) => (Reason::IdentityPolicyAllows, Some(by)),
            (None, Some(by)) => (Reason::ResourcePolicyAllows, Some(by)),
            (None, None) => return Err(Reason::NoIdentityPolicyAllows),
        };
        if !same_account && resource.any().is_none() {
            return Err(Reason::NoResourcePolicyAllows);
        }
        if !gathered.boundary.permits() {
            return Err(Reason::NoBoundaryAllows);
        }
        if !gathered.session.permits() {
            return Err(Reason::NoSessionPolicyAllows);
        }
        Ok(allow)
    }
}

/// What a resource's policy is called; it has no name of its own.
fn resource_policy_name(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Repository => "repository policy",
        PolicyKind::Registry { .. } => "registry policy",
        PolicyKind::Trust => "trust policy",
        PolicyKind::Resource => "ResourcePolicy",
        PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session => "policy",
    }
}

#[cfg(test)]
mod tests;
