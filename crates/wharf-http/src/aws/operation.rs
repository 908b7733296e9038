//! The operation tables: one per service. An operation is a type that implements [`Call`]: how its input is read, what
//! it needs, what it does. It cannot be registered without its needs, and what it does takes an [`Authorized`] target,
//! so none can be served unauthorized.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;

use serde_json::Value;
use wharf_iam::decision::Need;
use wharf_registry::{Authorized, Registry, RegistryError};
use wharf_types::{RegistryRef, RepositoryRef};

use super::{AwsError, AwsRequest, Input, Vocabulary};
use crate::metrics::Face;
use crate::{ecr, iam, kms, sts, wharf_api};

/// Bytes of an ordinary operation's body.
const BODY_LIMIT: usize = 1 << 20;

/// What an operation answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A JSON structure.
    Json(Value),
    /// Nothing: the model has no output.
    Empty,
    /// The inside of a query service's `…Result` element.
    Xml(String),
}

/// What an operation acts on, as the authorization step needs to know it.
pub trait Target: Send + Sync + 'static {
    /// The need of an action on it.
    fn need(&self, action: &'static str) -> Need;

    /// Looks up what the request names, where the need speaks of more than the name.
    ///
    /// # Errors
    /// When the metadata fails. That there is none is no error here.
    fn look_up(self, _registry: &Registry) -> impl Future<Output = Result<Self, RegistryError>> + Send
    where
        Self: Sized,
    {
        std::future::ready(Ok(self))
    }
}

impl Target for RepositoryRef {
    fn need(&self, action: &'static str) -> Need {
        Need::new(action, self.arn(), self.registry.account)
    }
}

impl Target for RegistryRef {
    fn need(&self, action: &'static str) -> Need {
        Need::new(action, "*", self.account)
    }
}

/// One operation, as the input of one call.
pub trait Call: Sized + Send + 'static {
    /// Every action a call may need; the first is the one it always needs.
    const ACTIONS: &'static [&'static str];

    /// What it acts on.
    type Target: Target;

    /// Reads the input and checks the model's constraints.
    ///
    /// # Errors
    /// [`AwsError::Serialization`], or the constraint not met.
    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, Self::Target), AwsError>;

    /// What the call needs; all must be allowed.
    fn needs(&self, target: &Self::Target) -> Vec<Need> {
        Self::ACTIONS.iter().take(1).map(|action| target.need(action)).collect()
    }

    /// Acts.
    fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<Self::Target>,
    ) -> impl Future<Output = Result<Answer, AwsError>> + Send;
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Answer, AwsError>> + Send + 'a>>;
type Run = for<'a> fn(&'a AwsRequest<'a>, Input) -> Running<'a>;

/// One row of a table.
#[derive(Clone, Copy)]
pub struct Operation {
    /// The name on the wire.
    pub name: &'static str,
    /// Every action a call may need.
    pub actions: &'static [&'static str],
    /// Largest body in bytes.
    pub body_limit: usize,
    /// Whether it is served to whom nobody signs for.
    pub unsigned: bool,
    run: Option<Run>,
}

impl Operation {
    /// An operation that is built.
    pub const fn built<C: Call>(name: &'static str) -> Self {
        Self { name, actions: C::ACTIONS, body_limit: BODY_LIMIT, unsigned: false, run: Some(dispatch::<C>) }
    }

    /// An operation of the model that answers `NotImplementedException` for now.
    pub const fn not_built(name: &'static str, actions: &'static [&'static str]) -> Self {
        Self { name, actions, body_limit: BODY_LIMIT, unsigned: false, run: None }
    }

    /// Allows longer bodies.
    #[must_use]
    pub const fn with_body_limit(self, body_limit: usize) -> Self {
        Self { body_limit, ..self }
    }

    /// Serves it to callers without a signature; the operation itself finds out who they are.
    #[must_use]
    pub const fn unsigned(self) -> Self {
        Self { unsigned: true, ..self }
    }

    /// Whether it does anything.
    pub fn is_built(&self) -> bool {
        self.run.is_some()
    }

    /// Serves a call whose caller is authenticated.
    pub(super) async fn serve(&self, request: &AwsRequest<'_>, input: Input) -> Result<Answer, AwsError> {
        match self.run {
            Some(run) => run(request, input).await,
            None => Err(AwsError::NotImplemented { service: request.service(), operation: self.name.into() }),
        }
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation")
            .field("name", &self.name)
            .field("built", &self.is_built())
            .finish_non_exhaustive()
    }
}

/// The one way to an operation: input, then permission, then action.
fn dispatch<'a, C: Call>(request: &'a AwsRequest<'a>, input: Input) -> Running<'a> {
    Box::pin(async move {
        let (call, target) = C::parse(input, request)?;
        let target = target.look_up(request.registry()).await?;
        let needs = call.needs(&target);
        debug_assert!(needs.iter().all(|need| C::ACTIONS.contains(&need.action)), "{:?}", C::ACTIONS);
        let authorized = request.registry().authorize(request.caller(), target, &needs).await;
        request.note(needs, authorized.as_ref());
        call.run(request, authorized?).await
    })
}

/// A service and its table.
#[derive(Debug)]
pub struct Service {
    /// The name in credential scopes.
    pub name: &'static str,
    /// The name in audit records.
    pub event_source: &'static str,
    /// What comes before the operation's name in `X-Amz-Target`, dot included. Query services have none.
    pub target_prefix: Option<&'static str>,
    /// `Version` of a query service.
    pub version: Option<&'static str>,
    /// How it words errors.
    pub vocabulary: Vocabulary,
    /// The label of its requests.
    pub face: Face,
    /// Its operations in order of name.
    pub operations: &'static [Operation],
    /// Whether the table holds the model's every operation, so that any other is unknown. Otherwise any other is one
    /// that is not built.
    pub complete: bool,
}

impl Service {
    /// Looks an operation up.
    pub fn find(&self, name: &str) -> Option<&'static Operation> {
        let index = self.operations.binary_search_by_key(&name, |operation| operation.name).ok()?;
        Some(&self.operations[index])
    }

    /// The error of an operation that [`Service::find`] does not find.
    pub(super) fn unknown(&self, operation: &str) -> AwsError {
        let operation = operation.chars().take(128).collect();
        match self.version {
            _ if !self.complete => AwsError::NotImplemented { service: self.name, operation },
            Some(version) => AwsError::InvalidAction { operation, version: version.into() },
            None => AwsError::UnknownOperation,
        }
    }
}

static ECR_PUBLIC: Service = Service {
    name: "ecr-public",
    event_source: "ecr-public.amazonaws.com",
    target_prefix: Some("SpencerFrontendService."),
    version: None,
    vocabulary: Vocabulary::Ecr,
    face: Face::Ecr,
    operations: &[],
    complete: false,
};

static SECRETS_MANAGER: Service = Service {
    name: "secretsmanager",
    event_source: "secretsmanager.amazonaws.com",
    target_prefix: Some("secretsmanager."),
    version: None,
    vocabulary: Vocabulary::Ecr,
    face: Face::Other,
    operations: &[],
    complete: false,
};

static SERVICES: [&Service; 7] = [
    &ecr::SERVICE,
    &iam::SERVICE,
    &sts::SERVICE,
    &kms::SERVICE,
    &wharf_api::SERVICE,
    &ECR_PUBLIC,
    &SECRETS_MANAGER,
];

/// Every service with its table.
pub fn tables() -> &'static [&'static Service] {
    &SERVICES
}

/// The operations as a table for the README.
pub fn operations_markdown() -> String {
    let mut out = String::from("| Service | Operation | Actions it needs | Built |\n|---|---|---|---|\n");
    for service in tables() {
        // Of the companions only what is built is listed, with a row for the rest: they are as large as ECR's users need.
        let is_companion = service.name != "ecr";
        let mut left_out = 0;
        for operation in service.operations {
            if is_companion && !operation.is_built() {
                left_out += 1;
                continue;
            }
            let actions: Vec<String> = operation.actions.iter().map(|action| format!("`{action}`")).collect();
            let actions = if actions.is_empty() { "none".to_owned() } else { actions.join(", ") };
            let built = if operation.is_built() { "yes" } else { "not yet" };
            // Writing to a string does not fail.
            let _ = writeln!(out, "| {} | `{}` | {actions} | {built} |", service.name, operation.name);
        }
        if service.operations.is_empty() {
            let _ = writeln!(out, "| {} | all | | not yet |", service.name);
        } else if left_out > 0 {
            let _ = writeln!(out, "| {} | {left_out} others of the model | | not yet |", service.name);
        }
    }
    out
}
