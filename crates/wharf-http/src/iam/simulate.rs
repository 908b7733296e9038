//! Simulations: what policies would decide, and the condition keys they ask for.

use wharf_registry::{
    Authorized, ContextEntry, PageRequest, PolicyExclusion, PrincipalRef, SimulatedDecision,
    SimulatedStatement, SimulationAsk,
};
use wharf_types::AccountId;

use super::parameters::{self, POLICY_NAME};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Text, Xml};

/// `policyDocumentType`
const DOCUMENT: Text = Text::length(1, 131_072);
/// `ResourceNameType`
const RESOURCE: Text = Text::length(1, 2048);
/// Lists of the model have no longest length; the body's limit bounds them.
const ANY_COUNT: std::ops::RangeInclusive<usize> = 0..=usize::MAX;

/// `SimulatePrincipalPolicy`
pub(crate) struct SimulatePrincipalPolicy {
    ask: SimulationAsk,
    page: PageRequest,
}

impl Call for SimulatePrincipalPolicy {
    const ACTIONS: &'static [&'static str] = &["iam:SimulatePrincipalPolicy"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, _: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let arn = parameters::arn(&mut input, "PolicySourceArn")?;
        let exclusions = input.structures("PolicyExclusionList", 0..=256, exclusion)?.unwrap_or_default();
        let policies = input.texts("PolicyInputList", ANY_COUNT, &DOCUMENT)?.unwrap_or_default();
        let ask = SimulationAsk { policies, exclusions, ..ask(&mut input)? };
        let page = parameters::page(&mut input)?;
        Ok((Self { ask, page }, PrincipalRef::with_arn(&arn)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let page = request.registry().simulate_principal(&of, self.ask, self.page).await?;
        Ok(answer(&page.items, page.next.as_deref()))
    }
}

/// `SimulateCustomPolicy`
pub(crate) struct SimulateCustomPolicy {
    ask: SimulationAsk,
    page: PageRequest,
}

impl Call for SimulateCustomPolicy {
    const ACTIONS: &'static [&'static str] = &["iam:SimulateCustomPolicy"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let policies = input.required_texts("PolicyInputList", ANY_COUNT, &DOCUMENT)?;
        let ask = SimulationAsk { policies, ..ask(&mut input)? };
        if input.has("OrderedOrganizationPolicyInputList") {
            let text = "Policies of organizations are not simulated: there are no organizations here.";
            return Err(input.refuse("OrderedOrganizationPolicyInputList", "", text));
        }
        Ok((Self { ask, page: parameters::page(&mut input)? }, request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let page = request.registry().simulate_policies(&of, self.ask, self.page).await?;
        Ok(answer(&page.items, page.next.as_deref()))
    }
}

/// `GetContextKeysForPrincipalPolicy`
pub(crate) struct GetContextKeysForPrincipalPolicy(Vec<String>);

impl Call for GetContextKeysForPrincipalPolicy {
    const ACTIONS: &'static [&'static str] = &["iam:GetContextKeysForPrincipalPolicy"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, _: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let arn = parameters::arn(&mut input, "PolicySourceArn")?;
        let policies = input.texts("PolicyInputList", ANY_COUNT, &DOCUMENT)?.unwrap_or_default();
        Ok((Self(policies), PrincipalRef::with_arn(&arn)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let keys = request.registry().principal_context_keys(&of, &self.0).await?;
        Ok(Xml::new().texts("ContextKeyNames", keys).into())
    }
}

/// `GetContextKeysForCustomPolicy`
pub(crate) struct GetContextKeysForCustomPolicy(Vec<String>);

impl Call for GetContextKeysForCustomPolicy {
    const ACTIONS: &'static [&'static str] = &["iam:GetContextKeysForCustomPolicy"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let policies = input.required_texts("PolicyInputList", ANY_COUNT, &DOCUMENT)?;
        Ok((Self(policies), request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let keys = request.registry().policies_context_keys(&of, &self.0)?;
        Ok(Xml::new().texts("ContextKeyNames", keys).into())
    }
}

/// What both simulations take.
fn ask(input: &mut Input) -> Result<SimulationAsk, AwsError> {
    // The scenarios are EC2's: nothing here needs several resources at once.
    input.text("ResourceHandlingOption", &Text::length(1, 64))?;
    Ok(SimulationAsk {
        boundary: input
            .texts("PermissionsBoundaryPolicyInputList", ANY_COUNT, &DOCUMENT)?
            .unwrap_or_default(),
        actions: input.required_texts("ActionNames", ANY_COUNT, &Text::length(3, 128))?,
        resources: input.texts("ResourceArns", ANY_COUNT, &RESOURCE)?.unwrap_or_default(),
        resource_policy: input.text("ResourcePolicy", &DOCUMENT)?,
        resource_owner: input.text("ResourceOwner", &RESOURCE)?,
        caller: input.text("CallerArn", &RESOURCE)?,
        context: input.structures("ContextEntries", ANY_COUNT, context_entry)?.unwrap_or_default(),
        ..SimulationAsk::default()
    })
}

/// `ContextEntry`
fn context_entry(entry: &mut Input) -> Result<ContextEntry, AwsError> {
    const TYPES: &[&str] = &[
        "string",
        "stringList",
        "numeric",
        "numericList",
        "boolean",
        "booleanList",
        "ip",
        "ipList",
        "binary",
        "binaryList",
        "date",
        "dateList",
    ];
    let kind = entry.text("ContextKeyType", &Text::one_of(TYPES))?;
    Ok(ContextEntry {
        key: entry.required_text("ContextKeyName", &Text::length(5, 256))?,
        values: entry.texts("ContextKeyValues", ANY_COUNT, &Text::ANY)?.unwrap_or_default(),
        is_list: kind.is_some_and(|kind| kind.ends_with("List")),
    })
}

/// `PolicyIdentifier`, which has one member.
fn exclusion(policy: &mut Input) -> Result<PolicyExclusion, AwsError> {
    const KINDS: &[&str] = &["inline", "aws-managed", "user-managed", "permission-boundary", "scp", "rcp"];
    if let Some(kind) = policy.text("PolicyType", &Text::one_of(KINDS))? {
        return Ok(PolicyExclusion::Kind(kind));
    }
    let Some(mut inline) = policy.structure("InlinePolicyIdentifier")? else {
        return Ok(PolicyExclusion::Arn(parameters::arn(policy, "PolicyArn")?));
    };
    Ok(PolicyExclusion::Inline {
        kind: inline.required_text("AttachmentType", &Text::one_of(&["user", "group", "role"]))?,
        owner: parameters::name(&mut inline, "AttachmentName", 128)?,
        policy: parameters::name(&mut inline, "PolicyName", POLICY_NAME)?,
    })
}

/// `SimulatePolicyResponse`: a result for each action on each resource. One on a resource says the same again under
/// `ResourceSpecificResults`, where clients look for what they asked.
fn answer(decisions: &[SimulatedDecision], next: Option<&str>) -> Answer {
    Xml::new().list("EvaluationResults", decisions.iter().map(result)).page(next).into()
}

fn result(decision: &SimulatedDecision) -> Xml {
    let xml = Xml::new()
        .text("EvalActionName", &decision.action)
        .text("EvalResourceName", &decision.resource)
        .text("EvalDecision", decision.outcome.decision());
    let xml = with_details(xml, decision);
    if decision.resource == "*" {
        return xml;
    }
    let specific = Xml::new()
        .text("EvalResourceName", &decision.resource)
        .text("EvalResourceDecision", decision.outcome.decision());
    xml.list("ResourceSpecificResults", [with_details(specific, decision)])
}

fn with_details(xml: Xml, decision: &SimulatedDecision) -> Xml {
    let mut xml = xml
        .list("MatchedStatements", decision.statements.iter().map(statement))
        .texts("MissingContextValues", &decision.missing_context);
    if let Some(allows) = decision.boundary_allows {
        let inside = Xml::new().flag("AllowedByPermissionsBoundary", allows);
        xml = xml.element("PermissionsBoundaryDecisionDetail", inside);
    }
    if let Some(details) = &decision.details {
        let entry = |map: Xml, (key, outcome): &(&str, wharf_iam::evaluate::Outcome)| {
            map.element("entry", Xml::new().text("key", key).text("value", outcome.decision()))
        };
        xml = xml.element("EvalDecisionDetails", details.iter().fold(Xml::new(), entry));
    }
    xml
}

fn statement(by: &SimulatedStatement) -> Xml {
    let xml = Xml::new().text("SourcePolicyId", &by.policy).text("SourcePolicyType", by.source);
    let Some(span) = by.span else { return xml };
    [("StartPosition", span.start), ("EndPosition", span.end)].into_iter().fold(xml, |xml, (name, at)| {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        xml.element(name, Xml::new().number("Line", count(at.line)).number("Column", count(at.column)))
    })
}
