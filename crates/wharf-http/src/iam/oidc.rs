//! OIDC providers.

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, OidcChange, OidcProviderRef, PageRequest, RegistryError};
use wharf_types::AccountId;

use super::answers::{tags_xml, with_tags};
use super::needs::with_request_tags;
use super::parameters;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Target, Text, Xml};

/// `clientIDType`
const CLIENT_ID: Text = Text::length(1, 255);
/// `thumbprintType`
const THUMBPRINT: Text = Text::length(40, 40);
/// More entries than any quota allows.
const MANY: usize = 1000;

impl Target for OidcProviderRef {
    fn need(&self, action: &'static str) -> Need {
        Need::new(action, self.arn(), self.account())
    }
}

/// Takes the parameter that names a provider.
fn existing(input: &mut Input) -> Result<OidcProviderRef, AwsError> {
    let arn = parameters::arn(input, "OpenIDConnectProviderArn")?;
    Ok(OidcProviderRef::of_arn(&arn).map_err(RegistryError::from)?)
}

/// `CreateOpenIDConnectProvider`
pub(crate) struct CreateProvider {
    client_ids: Vec<String>,
    thumbprints: Vec<String>,
    tags: Vec<(String, String)>,
}

impl Call for CreateProvider {
    const ACTIONS: &'static [&'static str] =
        &["iam:CreateOpenIDConnectProvider", "iam:TagOpenIDConnectProvider"];
    type Target = OidcProviderRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, OidcProviderRef), AwsError> {
        let url = input.required_text("Url", &Text::length(1, 255))?;
        let call = Self {
            client_ids: input.texts("ClientIDList", 0..=MANY, &CLIENT_ID)?.unwrap_or_default(),
            thumbprints: input.texts("ThumbprintList", 0..=MANY, &THUMBPRINT)?.unwrap_or_default(),
            tags: parameters::tags(&mut input)?,
        };
        let account = request.caller().identity.account;
        Ok((call, OidcProviderRef::of_url(account, &url).map_err(RegistryError::from)?))
    }

    /// Who brings tags must be allowed to tag, too.
    fn needs(&self, of: &OidcProviderRef) -> Vec<Need> {
        let count = if self.tags.is_empty() { 1 } else { 2 };
        let need = |action: &&'static str| with_request_tags(of.need(action), &self.tags);
        Self::ACTIONS.iter().take(count).map(need).collect()
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        of: Authorized<OidcProviderRef>,
    ) -> Result<Answer, AwsError> {
        let made = request
            .registry()
            .create_oidc_provider(&of, self.client_ids, self.thumbprints, self.tags)
            .await?;
        let xml = Xml::new().text("OpenIDConnectProviderArn", &made.arn);
        Ok(with_tags(xml, &made.tags).into())
    }
}

/// `GetOpenIDConnectProvider`
pub(crate) struct GetProvider;

impl Call for GetProvider {
    const ACTIONS: &'static [&'static str] = &["iam:GetOpenIDConnectProvider"];
    type Target = OidcProviderRef;

    fn parse(mut input: Input, _request: &AwsRequest<'_>) -> Result<(Self, OidcProviderRef), AwsError> {
        Ok((Self, existing(&mut input)?))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        of: Authorized<OidcProviderRef>,
    ) -> Result<Answer, AwsError> {
        let provider = request.registry().oidc_provider(&of).await?;
        let xml = Xml::new()
            .text("Url", &provider.url)
            .texts("ClientIDList", &provider.client_ids)
            .texts("ThumbprintList", &provider.thumbprints)
            .time("CreateDate", provider.created_at);
        Ok(with_tags(xml, &provider.tags).into())
    }
}

/// `ListOpenIDConnectProviders`
pub(crate) struct ListProviders;

impl Call for ListProviders {
    const ACTIONS: &'static [&'static str] = &["iam:ListOpenIDConnectProviders"];
    type Target = AccountId;

    fn parse(_input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        Ok((Self, request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let providers = request.registry().list_oidc_providers(&of).await?;
        let entries = providers.iter().map(|provider| Xml::new().text("Arn", &provider.arn));
        Ok(Xml::new().list("OpenIDConnectProviderList", entries).into())
    }
}

/// `DeleteOpenIDConnectProvider`
pub(crate) struct DeleteProvider;

impl Call for DeleteProvider {
    const ACTIONS: &'static [&'static str] = &["iam:DeleteOpenIDConnectProvider"];
    type Target = OidcProviderRef;

    fn parse(mut input: Input, _request: &AwsRequest<'_>) -> Result<(Self, OidcProviderRef), AwsError> {
        Ok((Self, existing(&mut input)?))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        of: Authorized<OidcProviderRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().delete_oidc_provider(&of).await?;
        Ok(Answer::Empty)
    }
}

/// One way to change a provider.
pub(crate) trait Change: Send + Sync + 'static {
    const ACTIONS: &'static [&'static str];

    /// Takes the parameters that say what changes.
    fn read(input: &mut Input) -> Result<OidcChange, AwsError>;
}

/// `AddClientIDToOpenIDConnectProvider`
pub(crate) struct AddClientId;
/// `RemoveClientIDFromOpenIDConnectProvider`
pub(crate) struct RemoveClientId;
/// `UpdateOpenIDConnectProviderThumbprint`
pub(crate) struct SetThumbprints;
/// `TagOpenIDConnectProvider`
pub(crate) struct Tag;
/// `UntagOpenIDConnectProvider`
pub(crate) struct Untag;

impl Change for AddClientId {
    const ACTIONS: &'static [&'static str] = &["iam:AddClientIDToOpenIDConnectProvider"];

    fn read(input: &mut Input) -> Result<OidcChange, AwsError> {
        Ok(OidcChange::AddClientId(input.required_text("ClientID", &CLIENT_ID)?))
    }
}

impl Change for RemoveClientId {
    const ACTIONS: &'static [&'static str] = &["iam:RemoveClientIDFromOpenIDConnectProvider"];

    fn read(input: &mut Input) -> Result<OidcChange, AwsError> {
        Ok(OidcChange::RemoveClientId(input.required_text("ClientID", &CLIENT_ID)?))
    }
}

impl Change for SetThumbprints {
    const ACTIONS: &'static [&'static str] = &["iam:UpdateOpenIDConnectProviderThumbprint"];

    fn read(input: &mut Input) -> Result<OidcChange, AwsError> {
        Ok(OidcChange::SetThumbprints(input.required_texts("ThumbprintList", 0..=MANY, &THUMBPRINT)?))
    }
}

impl Change for Tag {
    const ACTIONS: &'static [&'static str] = &["iam:TagOpenIDConnectProvider"];

    fn read(input: &mut Input) -> Result<OidcChange, AwsError> {
        Ok(OidcChange::Tag(parameters::required_tags(input)?))
    }
}

impl Change for Untag {
    const ACTIONS: &'static [&'static str] = &["iam:UntagOpenIDConnectProvider"];

    fn read(input: &mut Input) -> Result<OidcChange, AwsError> {
        Ok(OidcChange::Untag(parameters::tag_keys(input)?))
    }
}

/// A change of a provider.
pub(crate) struct ChangeProvider<C> {
    change: OidcChange,
    kind: std::marker::PhantomData<C>,
}

impl<C: Change> Call for ChangeProvider<C> {
    const ACTIONS: &'static [&'static str] = C::ACTIONS;
    type Target = OidcProviderRef;

    fn parse(mut input: Input, _request: &AwsRequest<'_>) -> Result<(Self, OidcProviderRef), AwsError> {
        let of = existing(&mut input)?;
        Ok((Self { change: C::read(&mut input)?, kind: std::marker::PhantomData }, of))
    }

    fn needs(&self, of: &OidcProviderRef) -> Vec<Need> {
        let need = of.need(Self::ACTIONS[0]);
        vec![match &self.change {
            OidcChange::Tag(tags) => with_request_tags(need, tags),
            OidcChange::Untag(keys) => need.with("aws:TagKeys", keys.clone()),
            _ => need,
        }]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        of: Authorized<OidcProviderRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().change_oidc_provider(&of, self.change).await?;
        Ok(Answer::Empty)
    }
}

/// `ListOpenIDConnectProviderTags`
pub(crate) struct ListTags(PageRequest);

impl Call for ListTags {
    const ACTIONS: &'static [&'static str] = &["iam:ListOpenIDConnectProviderTags"];
    type Target = OidcProviderRef;

    fn parse(mut input: Input, _request: &AwsRequest<'_>) -> Result<(Self, OidcProviderRef), AwsError> {
        let of = existing(&mut input)?;
        Ok((Self(parameters::page(&mut input)?), of))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        of: Authorized<OidcProviderRef>,
    ) -> Result<Answer, AwsError> {
        let page = request.registry().oidc_provider_tags(&of, self.0).await?;
        Ok(tags_xml(Xml::new(), &page.items).page(page.next.as_deref()).into())
    }
}
