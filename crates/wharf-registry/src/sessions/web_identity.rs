//! AssumeRoleWithWebIdentity: a session of a role for whom an OIDC provider of the role's account vouches.

use wharf_iam::decision::Need;
use wharf_iam::web_identity::{IdentityToken, IdentityTokenError};
use wharf_store::meta::iam::oidc;
use wharf_types::AccountId;

use super::assume::{AssumedRole, denied, role_account};
use super::limits::Limits;
use super::{Session, SessionKind};
use crate::identities::OidcProvider;
use crate::{Caller, IamError, Registry, RegistryError};

const ACTION: &str = "sts:AssumeRoleWithWebIdentity";

/// What is asked for; the face has checked every member by itself.
#[derive(Clone, Debug, Default)]
pub struct WebIdentity {
    /// Which role.
    pub role_arn: String,
    /// What the session is called.
    pub session_name: String,
    /// The identity token.
    pub token: String,
    /// A session policy.
    pub policy: Option<String>,
    /// Managed policies that are session policies.
    pub policy_arns: Vec<String>,
    /// Seconds; an hour unless given.
    pub duration: Option<u32>,
}

/// A role that was assumed, and what the token said.
#[derive(Clone, Debug)]
pub struct WebIdentityRole {
    /// The role.
    pub role: AssumedRole,
    /// `sub`.
    pub subject: String,
    /// The one of `aud` that the provider accepts.
    pub audience: String,
    /// The ARN of the provider.
    pub provider: String,
}

impl Registry {
    /// Gives the bearer of an identity token a session of a role. The request is signed by nobody: `caller` is
    /// anonymous, with the request's origin.
    ///
    /// # Errors
    /// `InvalidIdentityToken`, `ExpiredTokenException`, `IDPCommunicationError`; `AccessDenied`, the same whether the role
    /// is missing or does not trust the token's subject; `MalformedPolicyDocument`, `PackedPolicyTooLarge`,
    /// `ValidationError`.
    pub async fn assume_role_with_web_identity(
        &self,
        caller: &Caller,
        ask: WebIdentity,
    ) -> Result<WebIdentityRole, RegistryError> {
        let limits = Limits { policy: ask.policy, policy_arns: ask.policy_arns, tags: Vec::new() };
        let packed_size = limits.check()?;
        let refused = || denied(&format!("Not authorized to perform {ACTION}"));
        let Some(account) = role_account(&ask.role_arn)? else { return Err(refused()) };
        let token = IdentityToken::parse(&ask.token).map_err(told)?;
        let (provider, audience) = self.verified(account, &token).await?;
        let Some(candidate) = self.candidate(account, &ask.role_arn).await? else { return Err(refused()) };

        let of = |claim: &str| format!("{}:{claim}", provider.url);
        let mut need = Need::new(ACTION, ask.role_arn.clone(), account)
            .with(of("aud"), vec![audience.clone()])
            .with(of("sub"), vec![token.subject.clone()])
            .with("sts:RoleSessionName", vec![ask.session_name.clone()])
            .with("aws:FederatedProvider", vec![provider.arn.clone()]);
        if !token.methods.is_empty() {
            need = need.with(of("amr"), token.methods.clone());
        }
        if !self.is_trusted_federated(caller, &provider.arn, &need, &candidate.tags, &candidate.trust) {
            return Err(refused());
        }
        let lifetime = self.lifetime(ask.duration, &candidate.row, false)?;
        let read = limits.clone();
        self.inner.meta.read(move |tx| read.require_policies(tx, account)).await?;
        let session = Session {
            name: ask.session_name,
            provider: Some(provider.arn.clone()),
            ..limits.session(SessionKind::AssumedRole, candidate.row.id.clone(), account, lifetime)
        };
        let role = self.begin_role_session(&candidate.row, session, packed_size, caller).await?;
        Ok(WebIdentityRole { role, subject: token.subject, audience, provider: provider.arn })
    }

    /// The provider that vouches for a token, and the audience of it that it accepts. Nothing is fetched for a token
    /// whose issuer the account does not trust, that is for somebody else, or over.
    async fn verified(
        &self,
        account: AccountId,
        token: &IdentityToken,
    ) -> Result<(OidcProvider, String), RegistryError> {
        let issuer = token.issuer.strip_prefix("https://").unwrap_or(&token.issuer).to_owned();
        let arn = format!("arn:aws:iam::{account}:oidc-provider/{issuer}");
        let found = self.inner.meta.read(move |tx| oidc::find(tx, &arn)).await?;
        let Some(provider) = found else {
            return Err(IamError::InvalidIdentityToken(format!(
                "No OpenIDConnect provider found in your account for {}",
                token.issuer
            ))
            .into());
        };
        let audience = token.audiences.iter().find(|audience| provider.client_ids.contains(audience));
        let Some(audience) = audience.cloned() else {
            return Err(IamError::InvalidIdentityToken("Incorrect token audience".into()).into());
        };
        token.check_time(self.inner.clock.now()).map_err(told)?;
        let keys = self.issuer_keys(&issuer, token).await?;
        token.verify(&keys).map_err(told)?;
        Ok((provider, audience))
    }
}

fn told(error: IdentityTokenError) -> IamError {
    let text = error.to_string();
    match error {
        IdentityTokenError::Expired { .. } => IamError::ExpiredToken(text),
        _ => IamError::InvalidIdentityToken(text),
    }
}
