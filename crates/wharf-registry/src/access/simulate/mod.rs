//! IAM's policy simulations (`iam/2010-05-08`): decisions about requests that nobody makes.
//!
//! Nothing is looked up but the policies and tags of the principal that is named: not the resource, not its policy,
//! not the request. Those the question brings along.

mod sources;

use std::sync::Arc;

use wharf_iam::actions::{self, ActionResource};
use wharf_iam::context::Context;
use wharf_iam::decision::Identity;
use wharf_iam::evaluate::{
    CallerPolicies, NamedPolicy, Outcome, PolicySource, Principal, Request, StatementRef, simulate,
};
use wharf_iam::policy::{Policy, PolicyKind, Span};
use wharf_types::AccountId;

pub use self::sources::PolicyExclusion;
pub(crate) use self::sources::entity_named;
use self::sources::{Sources, entity_of, source_of};
use crate::{Authorized, IamError, Page, PageRequest, PrincipalRef, Registry, RegistryError};

/// Characters of policies that one page may look through. What is longer has shorter pages, as IAM's may be.
const BUDGET: usize = 16 << 20;
/// What the resource's policy is called.
const RESOURCE_POLICY: &str = "ResourcePolicy";

/// What is to be simulated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulationAsk {
    /// Policies of the caller, besides those of a principal that is named.
    pub policies: Vec<String>,
    /// The permissions boundary, in place of the principal's; one at most.
    pub boundary: Vec<String>,
    /// Policies of the principal that do not count.
    pub exclusions: Vec<PolicyExclusion>,
    /// Actions, e.g. `ecr:PutImage`.
    pub actions: Vec<String>,
    /// ARNs, or `*`; empty is `*`.
    pub resources: Vec<String>,
    /// The policy that every resource has.
    pub resource_policy: Option<String>,
    /// The account of resources whose ARN names none: an id, or the ARN of a root user.
    pub resource_owner: Option<String>,
    /// The ARN of the user, group or role that calls.
    pub caller: Option<String>,
    /// Condition keys.
    pub context: Vec<ContextEntry>,
}

/// A condition key of a simulated request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextEntry {
    /// Its name.
    pub key: String,
    /// Its values.
    pub values: Vec<String>,
    /// Whether it is a list by nature.
    pub is_list: bool,
}

/// The answer about one action on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedDecision {
    /// The action, as it was asked.
    pub action: String,
    /// The resource it was decided on: `*` for actions that act on none in particular.
    pub resource: String,
    /// The decision.
    pub outcome: Outcome,
    /// The statements of the caller's and the resource's policies that decide.
    pub statements: Vec<SimulatedStatement>,
    /// Condition keys that policies ask for and the question does not have.
    pub missing_context: Vec<String>,
    /// Whether the permissions boundary allows it, if there is one.
    pub boundary_allows: Option<bool>,
    /// Of a resource in another account what each policy says alone, by its kind.
    pub details: Option<Vec<(&'static str, Outcome)>>,
}

/// A statement that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedStatement {
    /// `PolicyInputList.1`, `user_<user>_<policy>` of an inline policy, a managed policy's name, `ResourcePolicy`.
    pub policy: String,
    /// IAM's word for where it comes from: `user`, `group`, `role`, `aws-managed`, `user-managed`, `resource`, `none`.
    pub source: &'static str,
    /// Where it stands in the policy.
    pub span: Option<Span>,
}

impl Registry {
    /// Decides what a user, a role or the members of a group may do.
    ///
    /// # Errors
    /// `NoSuchEntity`; `InvalidInput` for policies, actions, resources and principals that are none; `ValidationError`
    /// for a marker of another question.
    pub async fn simulate_principal(
        &self,
        of: &Authorized<PrincipalRef>,
        ask: SimulationAsk,
        page: PageRequest,
    ) -> Result<Page<SimulatedDecision>, RegistryError> {
        let principal = of.target().clone();
        let excluded = ask.exclusions.clone();
        let sources = self.inner.meta.read(move |tx| Sources::load(tx, &principal, &excluded)).await?;
        self.simulate_page(&of.arn(), sources, ask, page).await
    }

    /// Decides what a caller with these policies, and no others, may do.
    ///
    /// # Errors
    /// As [`simulate_principal`](Self::simulate_principal).
    pub async fn simulate_policies(
        &self,
        of: &Authorized<AccountId>,
        ask: SimulationAsk,
        page: PageRequest,
    ) -> Result<Page<SimulatedDecision>, RegistryError> {
        self.simulate_page(of.as_str(), Sources::nobody(*of.target()), ask, page).await
    }

    /// The condition keys that a principal's policies ask for, together with those of more policies.
    ///
    /// # Errors
    /// `NoSuchEntity`; `InvalidInput` for what is no policy.
    pub async fn principal_context_keys(
        &self,
        of: &Authorized<PrincipalRef>,
        policies: &[String],
    ) -> Result<Vec<String>, RegistryError> {
        let principal = of.target().clone();
        let mut sources = self.inner.meta.read(move |tx| Sources::load(tx, &principal, &[])).await?;
        sources.identity.extend(given(PolicyKind::Identity, "PolicyInputList", policies)?);
        Ok(context_keys(&sources.identity))
    }

    /// The condition keys that policies ask for.
    ///
    /// # Errors
    /// `InvalidInput` for what is no policy.
    pub fn policies_context_keys(
        &self,
        _of: &Authorized<AccountId>,
        policies: &[String],
    ) -> Result<Vec<String>, RegistryError> {
        Ok(context_keys(&given(PolicyKind::Identity, "PolicyInputList", policies)?))
    }

    async fn simulate_page(
        &self,
        of: &str,
        sources: Sources,
        ask: SimulationAsk,
        page: PageRequest,
    ) -> Result<Page<SimulatedDecision>, RegistryError> {
        let asked = format!("{ask:?}");
        let query = ["iam:Simulate", of, &asked];
        let [from] = self.open_iam_marker(&query, &page)?;
        let from = from.parse().unwrap_or(0);
        let scene = Scene::new(sources, ask)?;
        let limit = page.limit.min(BUDGET / scene.size.max(1)).max(1);
        let (items, more) = tokio::task::spawn_blocking(move || {
            let items: Vec<_> = (from..from + limit).map_while(|index| scene.decide(index)).collect();
            (items, scene.decide(from + limit).is_some())
        })
        .await
        .map_err(|error| RegistryError::Internal(error.to_string()))?;
        let next = match more {
            true => Some(self.seal_page(&query, vec![(from + limit).to_string()])?),
            false => None,
        };
        Ok(Page { items, next })
    }
}

/// A question with its policies compiled.
struct Scene {
    identity: Identity,
    /// Whether it is known who calls, so that the condition keys of the caller exist.
    known: bool,
    policies: Vec<NamedPolicy>,
    boundary: Vec<NamedPolicy>,
    resource_policy: Option<Policy>,
    owner: AccountId,
    actions: Vec<String>,
    resources: Vec<String>,
    context: Vec<ContextEntry>,
    /// Characters of all policies.
    size: usize,
}

impl Scene {
    fn new(sources: Sources, ask: SimulationAsk) -> Result<Self, IamError> {
        if ask.boundary.len() > 1 {
            return Err(invalid("Only one permissions boundary policy can be simulated."));
        }
        let mut policies = sources.identity;
        policies.extend(given(PolicyKind::Identity, "PolicyInputList", &ask.policies)?);
        let boundary = match ask.boundary.is_empty() {
            true => sources.boundary,
            false => given(PolicyKind::Boundary, "PermissionsBoundaryPolicyInputList", &ask.boundary)?,
        };
        let resource_policy = ask.resource_policy.as_deref();
        let resource_policy = resource_policy.map(|text| read(PolicyKind::Resource, RESOURCE_POLICY, text));
        let resource_policy = resource_policy.transpose()?;
        let (identity, known) = match (ask.caller.as_deref(), sources.identity_of) {
            (Some(arn), Some(own)) if own.arn == arn => (own, true),
            (Some(arn), _) => (entity_of(arn)?, true),
            (None, Some(own)) => (own, true),
            (None, None) if resource_policy.is_some() => {
                return Err(invalid("CallerArn is required when ResourcePolicy is given."));
            }
            (None, None) => (Identity::user(sources.account, "", "", "", ""), false),
        };
        let owner = match ask.resource_owner.as_deref() {
            Some(owner) => account_named(owner)?,
            None => identity.account,
        };
        ask.actions.iter().try_for_each(|action| check_action(action))?;
        let mut resources = ask.resources;
        resources.iter().try_for_each(|resource| check_resource(resource))?;
        if resources.is_empty() {
            resources.push("*".to_owned());
        }
        if let Some(entry) = ask.context.iter().find(|entry| !entry.is_list && entry.values.len() != 1) {
            return Err(invalid(format!("The context key {} must have one value.", entry.key)));
        }
        let all = policies.iter().chain(&boundary).map(|named| &*named.policy).chain(&resource_policy);
        let size = all.map(|policy| policy.text().len()).sum();
        Ok(Self {
            identity,
            known,
            policies,
            boundary,
            resource_policy,
            owner,
            actions: ask.actions,
            resources,
            context: ask.context,
            size,
        })
    }

    /// The answer about the combination of an action and a resource, counted from 0, the actions in order and of each
    /// the resources in order.
    fn decide(&self, index: usize) -> Option<SimulatedDecision> {
        let action = self.actions.get(index / self.resources.len())?;
        let asked = &self.resources[index % self.resources.len()];
        let resource = if acts_on_all(action) { "*" } else { asked };
        let owner = resource.split(':').nth(4).and_then(|account| account.parse().ok()).unwrap_or(self.owner);
        let context = self.context();
        let request = Request { action, resource, resource_account: owner.as_str(), context: &context };
        let own = CallerPolicies { identity: &self.policies, boundary: &self.boundary, session: None };
        let of_resource: Vec<&Policy> = self.resource_policy.iter().collect();
        let done = simulate(Principal::Identity(&self.identity), own, &of_resource, &request);
        let decides = |by: &&StatementRef<'_>| by.deny || by.source != PolicySource::Boundary;
        let foreign = owner != self.identity.account;
        let details = || {
            let mut details = vec![("IAM Policy", done.identity)];
            details.extend(self.resource_policy.is_some().then_some(("Resource Policy", done.resource)));
            details.extend(done.boundary.map(|boundary| ("Permissions Boundary Policy", boundary)));
            details
        };
        Some(SimulatedDecision {
            action: action.clone(),
            resource: resource.to_owned(),
            outcome: done.evaluation.outcome,
            statements: done.matched.iter().filter(decides).map(|by| self.statement(by)).collect(),
            missing_context: done.missing_context.iter().map(|key| (*key).to_owned()).collect(),
            boundary_allows: done.boundary.map(|boundary| boundary == Outcome::Allowed),
            details: foreign.then(details),
        })
    }

    fn context(&self) -> Context<'_> {
        let mut context = Context::new();
        if self.known {
            self.identity.describe(&mut context);
        }
        for entry in &self.context {
            match &entry.values[..] {
                [value] if !entry.is_list => context.set(&*entry.key, value.as_str()),
                values => context.set_list(&*entry.key, values),
            }
        }
        context
    }

    fn statement(&self, by: &StatementRef<'_>) -> SimulatedStatement {
        let own = self.policies.iter().chain(&self.boundary).find(|named| &*named.name == by.policy);
        let policy = match by.source {
            PolicySource::Resource => self.resource_policy.as_ref(),
            _ => own.map(|named| &*named.policy),
        };
        let (policy_id, source) = source_of(by.policy);
        let span = policy.and_then(|policy| policy.span(by.index));
        SimulatedStatement { policy: policy_id.to_owned(), source, span }
    }
}

/// Whether an action is always decided on `*`.
fn acts_on_all(action: &str) -> bool {
    let all = actions::ECR.iter().chain(actions::ECR_PUBLIC);
    all.into_iter()
        .any(|known| known.resource == ActionResource::Registry && known.name.eq_ignore_ascii_case(action))
}

fn invalid(text: impl Into<String>) -> IamError {
    IamError::InvalidInput(text.into())
}

fn read(kind: PolicyKind, name: &str, text: &str) -> Result<Policy, IamError> {
    Policy::parse(kind, text).map_err(|fault| invalid(format!("{name}: {}", fault.message())))
}

/// Policies that the question brings along, called by their place in a list of it.
fn given(kind: PolicyKind, list: &str, texts: &[String]) -> Result<Vec<NamedPolicy>, IamError> {
    let one = |(index, text): (usize, &String)| {
        let name = format!("{list}.{}", index + 1);
        Ok(NamedPolicy { policy: Arc::new(read(kind, &name, text)?), name: name.into() })
    };
    texts.iter().enumerate().map(one).collect()
}

fn context_keys(policies: &[NamedPolicy]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for key in policies.iter().flat_map(|named| named.policy.context_keys()) {
        if !keys.iter().any(|known| known.eq_ignore_ascii_case(key)) {
            keys.push(key.to_owned());
        }
    }
    keys.sort_unstable();
    keys
}

fn account_named(text: &str) -> Result<AccountId, IamError> {
    let id = text.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root")).unwrap_or(text);
    id.parse().map_err(|_| invalid(format!("Invalid resource owner: {text}")))
}

fn check_action(action: &str) -> Result<(), IamError> {
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match action.split_once(':') {
        Some((vendor, name)) if word(vendor) && word(name) => Ok(()),
        _ => Err(invalid(format!("Invalid action name: {action}"))),
    }
}

fn check_resource(resource: &str) -> Result<(), IamError> {
    let is_arn = resource.starts_with("arn:") && resource.split(':').count() >= 6;
    match is_arn || resource == "*" {
        true => Ok(()),
        false => Err(invalid(format!("Invalid resource ARN: {resource}"))),
    }
}
