//! OIDC providers: the issuers whose identity tokens an account accepts for its roles.

use wharf_store::meta::Tx;
use wharf_store::meta::iam::oidc::{self, OidcProviderRow};
use wharf_types::{AccountId, Arn};

use super::IamError;
use super::tags::{check_tags, merged, without};
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Providers of an account (IAM quota).
const PROVIDERS: usize = 100;
/// Client ids of a provider (IAM quota).
const CLIENT_IDS: usize = 100;
/// Thumbprints of a provider (IAM quota).
const THUMBPRINTS: usize = 5;

pub use wharf_store::meta::iam::oidc::OidcProviderRow as OidcProvider;

/// A provider as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcProviderRef {
    account: AccountId,
    url: String,
}

impl OidcProviderRef {
    /// The one of an issuer, given by its URL.
    ///
    /// # Errors
    /// `ValidationError` for what no issuer can be called: not `https`, without a host, with a query or a fragment.
    pub fn of_url(account: AccountId, url: &str) -> Result<Self, IamError> {
        let invalid = || IamError::Validation(format!("Invalid Open ID Connect Provider URL: {url}"));
        let issuer = url.strip_prefix("https://").ok_or_else(invalid)?;
        let uri: http::Uri = url.parse().map_err(|_| invalid())?;
        let plain = uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
            && !issuer.contains(['#', '@', '?'])
            && !issuer.starts_with('/');
        if plain { Ok(Self { account, url: issuer.to_owned() }) } else { Err(invalid()) }
    }

    /// The one with an ARN.
    ///
    /// # Errors
    /// `InvalidInput` for what is no ARN of a provider.
    pub fn of_arn(text: &str) -> Result<Self, IamError> {
        let invalid = || IamError::InvalidInput(format!("Invalid ARN: {text}"));
        let arn: Arn = text.parse().map_err(|_| invalid())?;
        let url = arn.resource.strip_prefix("oidc-provider/").filter(|url| !url.is_empty());
        let account = arn.account.parse().map_err(|_| invalid())?;
        match url {
            Some(url) if arn.service == "iam" && arn.region.is_empty() => {
                Ok(Self { account, url: url.to_owned() })
            }
            _ => Err(invalid()),
        }
    }

    /// The account it belongs to.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// `arn:aws:iam::<account>:oidc-provider/<url>`.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:oidc-provider/{}", self.account, self.url)
    }

    fn hold(&self, tx: &mut Tx<'_>) -> Result<OidcProviderRow, RegistryError> {
        let arn = self.arn();
        oidc::find(tx, &arn)?.ok_or_else(|| {
            IamError::NoSuchEntity(format!("OpenIDConnect Provider not found for arn {arn}")).into()
        })
    }
}

/// A change of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OidcChange {
    /// Accepts tokens for another audience; one that is accepted already is no error.
    AddClientId(String),
    /// Accepts them no longer; one that is not accepted is no error.
    RemoveClientId(String),
    /// Puts thumbprints in place of the earlier ones.
    SetThumbprints(Vec<String>),
    /// Adds tags or gives them other values.
    Tag(Vec<(String, String)>),
    /// Removes tags by key.
    Untag(Vec<String>),
}

impl Registry {
    /// Makes a provider; answers its ARN.
    ///
    /// # Errors
    /// `EntityAlreadyExists`, `LimitExceeded`, `InvalidInput` (tags, thumbprints).
    pub async fn create_oidc_provider(
        &self,
        of: &Authorized<OidcProviderRef>,
        mut client_ids: Vec<String>,
        thumbprints: Vec<String>,
        tags: Vec<(String, String)>,
    ) -> Result<OidcProvider, RegistryError> {
        check_tags(&tags)?;
        client_ids.dedup();
        let row = OidcProviderRow {
            arn: of.arn(),
            account: of.account,
            url: of.url.clone(),
            client_ids,
            thumbprints,
            tags: merged(tags, &[])?,
            created_at: self.inner.clock.now(),
        };
        check(&row)?;
        self.write_identities(move |tx| {
            if oidc::find(tx, &row.arn)?.is_some() {
                return Err(IamError::EntityAlreadyExists(format!(
                    "Provider with url https://{} already exists.",
                    row.url
                ))
                .into());
            }
            if oidc::list(tx, row.account)?.len() >= PROVIDERS {
                return Err(IamError::quota("OpenIdConnectProvidersPerAccount", PROVIDERS).into());
            }
            oidc::insert(tx, &row)?;
            Ok(row.clone())
        })
        .await
    }

    /// A provider.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn oidc_provider(
        &self,
        of: &Authorized<OidcProviderRef>,
    ) -> Result<OidcProvider, RegistryError> {
        let wanted = of.target().clone();
        self.inner.meta.read(move |tx| wanted.hold(tx)).await
    }

    /// The providers of an account, in order of URL.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn list_oidc_providers(
        &self,
        of: &Authorized<AccountId>,
    ) -> Result<Vec<OidcProvider>, RegistryError> {
        let account = *of.target();
        Ok(self.inner.meta.read(move |tx| oidc::list(tx, account)).await?)
    }

    /// Deletes a provider; one that is not there is no error, as in IAM. Sessions that were begun go on.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn delete_oidc_provider(&self, of: &Authorized<OidcProviderRef>) -> Result<(), RegistryError> {
        let arn = of.arn();
        self.write_identities(move |tx| Ok(oidc::delete(tx, &arn).map(|_| ())?)).await
    }

    /// Changes a provider.
    ///
    /// # Errors
    /// `NoSuchEntity`, `LimitExceeded`, `InvalidInput`.
    pub async fn change_oidc_provider(
        &self,
        of: &Authorized<OidcProviderRef>,
        change: OidcChange,
    ) -> Result<(), RegistryError> {
        if let OidcChange::Tag(tags) = &change {
            check_tags(tags)?;
        }
        let of = of.target().clone();
        self.write_identities(move |tx| {
            let mut row = of.hold(tx)?;
            match &change {
                OidcChange::AddClientId(id) if !row.client_ids.contains(id) => {
                    row.client_ids.push(id.clone())
                }
                OidcChange::AddClientId(_) => {}
                OidcChange::RemoveClientId(id) => row.client_ids.retain(|known| known != id),
                OidcChange::SetThumbprints(thumbprints) => row.thumbprints.clone_from(thumbprints),
                OidcChange::Tag(tags) => row.tags = merged(row.tags, tags)?,
                OidcChange::Untag(keys) => row.tags = without(row.tags, keys),
            }
            check(&row)?;
            Ok(oidc::update(tx, &row)?)
        })
        .await
    }

    /// The tags of a provider, in order of key.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn oidc_provider_tags(
        &self,
        of: &Authorized<OidcProviderRef>,
        page: PageRequest,
    ) -> Result<Page<(String, String)>, RegistryError> {
        let tags = self.oidc_provider(of).await?.tags;
        self.iam_page_of(&["iam:ListOidcTags", &of.arn()], tags, page, |(key, _)| key.to_lowercase())
    }
}

fn check(row: &OidcProviderRow) -> Result<(), IamError> {
    if row.client_ids.len() > CLIENT_IDS {
        return Err(IamError::quota("ClientIdsPerOpenIdConnectProvider", CLIENT_IDS));
    }
    if row.thumbprints.len() > THUMBPRINTS {
        return Err(IamError::InvalidInput("Thumbprint list must contain fewer than 5 entries.".into()));
    }
    match row.thumbprints.iter().find(|text| !text.bytes().all(|b| b.is_ascii_hexdigit())) {
        Some(text) => Err(IamError::InvalidInput(format!("Thumbprint {text} is not hexadecimal."))),
        None => Ok(()),
    }
}
