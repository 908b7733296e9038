//! Sessions that a user asks for without a role: GetSessionToken and GetFederationToken; what sessions may call; and
//! whose a key is.

use std::time::Duration;

use wharf_iam::decision::IdentityKind;
use wharf_store::meta::accounts;
use wharf_types::{AccountId, Timestamp};

use super::assume::denied;
use super::credentials::account_of_key;
use super::limits::Limits;
use super::{Session, SessionCredentials, SessionKind};
use crate::{Authorized, Caller, IamError, Registry, RegistryError};

/// Seconds of a session, unless asked for otherwise.
const HALF_A_DAY: u32 = 43_200;
/// Seconds of the longest session of a root user.
const ROOT: u32 = 3600;

/// What GetFederationToken asks for.
#[derive(Clone, Debug, Default)]
pub struct GetFederationToken {
    /// What the federated user is called.
    pub name: String,
    /// A session policy.
    pub policy: Option<String>,
    /// Managed policies that are session policies.
    pub policy_arns: Vec<String>,
    /// Seconds; half a day unless given.
    pub duration: Option<u32>,
    /// Session tags.
    pub tags: Vec<(String, String)>,
}

/// A federated user.
#[derive(Clone, Debug)]
pub struct FederatedUser {
    /// The credentials.
    pub credentials: SessionCredentials,
    /// `<account>:<name>`.
    pub id: String,
    /// `arn:aws:sts::<account>:federated-user/<name>`.
    pub arn: String,
    /// Percent of what session policies and tags may take, if there are any.
    pub packed_size: Option<u32>,
}

impl Caller {
    /// Whether the caller's credentials are of a kind that an operation takes at all, whatever policies say. Sessions
    /// without a second factor, which is all of them here, cannot change identities nor make other sessions of users.
    ///
    /// # Errors
    /// `AccessDenied`; [`RegistryError::UnusableCredentials`] for IAM, which does not know such credentials.
    pub fn check_kind(&self, service: &str, operation: &str) -> Result<(), RegistryError> {
        let Some(session) = self.session() else { return Ok(()) };
        let may = match (service, session.kind) {
            ("sts", SessionKind::AssumedRole) => {
                !matches!(operation, "GetSessionToken" | "GetFederationToken")
            }
            ("sts", SessionKind::User) => matches!(operation, "AssumeRole" | "GetCallerIdentity"),
            ("sts", SessionKind::FederatedUser) => operation == "GetCallerIdentity",
            ("iam", SessionKind::User | SessionKind::FederatedUser) => {
                return Err(RegistryError::UnusableCredentials);
            }
            _ => true,
        };
        if may { Ok(()) } else { Err(denied(&format!("Cannot call {operation} with session credentials"))) }
    }
}

impl Registry {
    /// Gives a user, or an account's root, temporary credentials with their own permissions.
    ///
    /// # Errors
    /// `AccessDenied` to sessions, or with a second factor, of which there are none here.
    pub fn get_session_token(
        &self,
        caller: &Caller,
        duration: Option<u32>,
        with_second_factor: bool,
    ) -> Result<SessionCredentials, RegistryError> {
        if with_second_factor {
            return Err(denied("MultiFactorAuthentication failed with invalid MFA one time pass code."));
        }
        caller.check_kind("sts", "GetSessionToken")?;
        let identity = &caller.identity;
        let session = Limits::default().session(
            SessionKind::User,
            identity.principal_id.clone(),
            identity.account,
            self.user_lifetime(caller, duration),
        );
        self.issue_session(&session)
    }

    /// Gives somebody whom a user vouches for temporary credentials, limited by session policies.
    ///
    /// # Errors
    /// `AccessDenied` to sessions; `MalformedPolicyDocument`, `PackedPolicyTooLarge`, `ValidationError`.
    pub async fn get_federation_token(
        &self,
        of: &Authorized<AccountId>,
        ask: GetFederationToken,
    ) -> Result<FederatedUser, RegistryError> {
        let caller = of.caller();
        caller.check_kind("sts", "GetFederationToken")?;
        let limits = Limits { policy: ask.policy, policy_arns: ask.policy_arns, tags: ask.tags };
        let packed_size = limits.check()?;
        let (account, read) = (caller.identity.account, limits.clone());
        self.inner.meta.read(move |tx| read.require_policies(tx, account)).await?;
        let lifetime = self.user_lifetime(caller, ask.duration);
        let principal_id = caller.identity.principal_id.clone();
        let session = Session {
            name: ask.name,
            ..limits.session(SessionKind::FederatedUser, principal_id, account, lifetime)
        };
        Ok(FederatedUser {
            credentials: self.issue_session(&session)?,
            id: format!("{account}:{}", session.name),
            arn: format!("arn:aws:sts::{account}:federated-user/{}", session.name),
            packed_size,
        })
    }

    /// The account an access key is of, whether it may be used or not. Of temporary keys it is what their id says.
    ///
    /// # Errors
    /// `ValidationError` if it is nobody's.
    pub async fn access_key_account(
        &self,
        _of: &Authorized<AccountId>,
        access_key_id: &str,
    ) -> Result<AccountId, RegistryError> {
        let id = access_key_id.to_owned();
        let known = match account_of_key(&id) {
            Some(account) => {
                let exists = self.inner.meta.read(move |tx| accounts::account_exists(tx, account)).await?;
                exists.then_some(account)
            }
            None => {
                let found = self.inner.meta.read(move |tx| accounts::find_access_key(tx, &id)).await?;
                found.map(|key| key.account)
            }
        };
        known.ok_or_else(|| {
            IamError::Validation(format!("The access key ID {access_key_id} is not valid")).into()
        })
    }

    fn user_lifetime(&self, caller: &Caller, asked: Option<u32>) -> (Timestamp, Timestamp) {
        let seconds = match caller.identity.kind {
            // What is asked for above that is cut, as AWS does.
            IdentityKind::Root => asked.unwrap_or(ROOT).min(ROOT),
            _ => asked.unwrap_or(HALF_A_DAY),
        };
        let now = self.inner.clock.now();
        (now, now.plus(Duration::from_secs(seconds.into())))
    }
}
