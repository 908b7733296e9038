//! AssumeRole: a session of a role for whom its trust policy, and their own policies, let.

use std::time::Duration;

use wharf_iam::decision::{IdentityKind, Need};
use wharf_iam::policy::{Policy, PolicyKind};
use wharf_store::meta::iam::principals::PrincipalRow;
use wharf_store::meta::iam::{roles, tags as principal_tags};
use wharf_types::{AccountId, Arn, Timestamp};

use super::limits::{Limits, request_tags};
use super::{Session, SessionCredentials, SessionKind};
use crate::identities::roles::max_session;
use crate::{Caller, IamError, Registry, RegistryError};

/// Seconds of a session, unless asked for otherwise; also the longest of a role assumed by a session of a role.
const HOUR: u32 = 3600;
/// How exactly `RoleLastUsed` is kept.
const LAST_USED: Duration = Duration::from_secs(60);

/// What is asked for; the face has checked every member by itself.
#[derive(Clone, Debug, Default)]
pub struct AssumeRole {
    /// Which role.
    pub role_arn: String,
    /// What the session is called.
    pub session_name: String,
    /// A session policy.
    pub policy: Option<String>,
    /// Managed policies that are session policies.
    pub policy_arns: Vec<String>,
    /// Seconds; an hour unless given.
    pub duration: Option<u32>,
    /// Session tags.
    pub tags: Vec<(String, String)>,
    /// Keys of those tags that sessions assumed from this one get too.
    pub transitive_keys: Vec<String>,
    /// `sts:ExternalId`.
    pub external_id: Option<String>,
    /// `sts:SourceIdentity`.
    pub source_identity: Option<String>,
    /// Whether a second factor was sent along; there are none here.
    pub with_second_factor: bool,
}

/// A role that was assumed.
#[derive(Clone, Debug)]
pub struct AssumedRole {
    /// The session's credentials.
    pub credentials: SessionCredentials,
    /// `AROA…:name`.
    pub id: String,
    /// `arn:aws:sts::<account>:assumed-role/<role>/<name>`.
    pub arn: String,
    /// Percent of what session policies and tags may take, if there are any.
    pub packed_size: Option<u32>,
    /// The source identity of the session.
    pub source_identity: Option<String>,
}

/// A role as it is looked up to be assumed.
pub(super) struct Candidate {
    pub(super) row: PrincipalRow,
    pub(super) tags: Vec<(String, String)>,
    pub(super) trust: Policy,
}

impl Registry {
    /// Gives a caller a session of a role.
    ///
    /// # Errors
    /// `AccessDenied`, the same whether the role is missing or does not trust the caller; `MalformedPolicyDocument` and
    /// `PackedPolicyTooLarge` for session policies; `ValidationError`.
    pub async fn assume_role(&self, caller: &Caller, ask: AssumeRole) -> Result<AssumedRole, RegistryError> {
        let inherited = caller.session().filter(|session| session.kind == SessionKind::AssumedRole);
        let limits = Limits {
            policy: ask.policy.clone(),
            policy_arns: ask.policy_arns.clone(),
            tags: with_inherited(&ask, inherited)?,
        };
        let packed_size = limits.check()?;
        if ask.with_second_factor {
            return Err(denied("MultiFactorAuthentication failed with invalid MFA one time pass code."));
        }
        let account = role_account(&ask.role_arn)?;
        let refused = |action: &str| {
            let (arn, role) = (&caller.identity.arn, &ask.role_arn);
            denied(&format!("User: {arn} is not authorized to perform: {action} on resource: {role}"))
        };
        let source_identity =
            source_identity(&ask, inherited).ok_or_else(|| refused("sts:SetSourceIdentity"))?;
        let candidate = match account {
            Some(account) => self.candidate(account, &ask.role_arn).await?,
            None => None,
        };
        let Some(candidate) = candidate else { return Err(refused("sts:AssumeRole")) };
        for need in needs(&ask, source_identity.as_deref(), &candidate) {
            if !self.is_trusted(caller, &need, &candidate.tags, &candidate.trust) {
                return Err(refused(need.action));
            }
        }
        let chained = caller.identity.kind == IdentityKind::AssumedRole;
        let lifetime = self.lifetime(ask.duration, &candidate.row, chained)?;
        let read = limits.clone();
        let owner = candidate.row.account;
        self.inner.meta.read(move |tx| read.require_policies(tx, owner)).await?;
        let mut transitive_keys = ask.transitive_keys;
        transitive_keys
            .extend(inherited.into_iter().flat_map(|session| session.transitive_keys.iter().cloned()));
        let session = Session {
            name: ask.session_name,
            transitive_keys,
            source_identity,
            chained,
            ..limits.session(SessionKind::AssumedRole, candidate.row.id.clone(), owner, lifetime)
        };
        self.begin_role_session(&candidate.row, session, packed_size, caller).await
    }

    /// The role an ARN names; `None` if there is none.
    pub(super) async fn candidate(
        &self,
        account: AccountId,
        arn: &str,
    ) -> Result<Option<Candidate>, RegistryError> {
        let Some((path, name)) = path_and_name(arn) else { return Ok(None) };
        let found = self
            .inner
            .meta
            .read(move |tx| {
                let Some(row) = roles::find_exactly(tx, account, &path, &name)? else { return Ok(None) };
                let tags = principal_tags::list(tx, &row.id)?;
                Ok::<_, RegistryError>(Some((row, tags)))
            })
            .await?;
        let Some((row, tags)) = found else { return Ok(None) };
        let trust = Policy::parse(PolicyKind::Trust, row.trust_policy.as_deref().unwrap_or_default());
        let trust = trust.map_err(|error| {
            RegistryError::Internal(format!("the trust policy of role {} is unusable: {error}", row.id))
        })?;
        Ok(Some(Candidate { row, tags, trust }))
    }

    /// From when to when a session lasts.
    ///
    /// # Errors
    /// `ValidationError` if it is to be longer than the role allows.
    pub(super) fn lifetime(
        &self,
        asked: Option<u32>,
        role: &PrincipalRow,
        chained: bool,
    ) -> Result<(Timestamp, Timestamp), IamError> {
        let seconds = asked.unwrap_or(HOUR);
        if chained && seconds > HOUR {
            return Err(IamError::Validation(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
                    .into(),
            ));
        }
        if seconds > max_session(role) {
            return Err(IamError::Validation(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.".into(),
            ));
        }
        let now = self.inner.clock.now();
        Ok((now, now.plus(Duration::from_secs(seconds.into()))))
    }

    pub(super) async fn begin_role_session(
        &self,
        role: &PrincipalRow,
        session: Session,
        packed_size: Option<u32>,
        caller: &Caller,
    ) -> Result<AssumedRole, RegistryError> {
        let credentials = self.issue_session(&session)?;
        let now = session.issued_at;
        if role.last_used_at.is_none_or(|last| last.plus(LAST_USED) <= now) {
            let region = caller.origin().map_or(&self.inner.options.default_region, |origin| &origin.region);
            let (id, region) = (role.id.clone(), region.to_string());
            self.inner.meta.write(move |tx| roles::note_use(tx, &id, &region, now)).await?;
        }
        Ok(AssumedRole {
            credentials,
            id: format!("{}:{}", role.id, session.name),
            arn: format!("arn:aws:sts::{}:assumed-role/{}/{}", role.account, role.name, session.name),
            packed_size,
            source_identity: session.source_identity,
        })
    }
}

/// Everything that must be allowed, on the role.
fn needs(ask: &AssumeRole, source_identity: Option<&str>, role: &Candidate) -> Vec<Need> {
    let mut context = request_tags(&ask.tags);
    let mut set = |key: &str, value: Option<&str>| {
        context.extend(value.map(|value| (key.to_owned(), vec![value.to_owned()])));
    };
    set("sts:RoleSessionName", Some(&ask.session_name));
    set("sts:ExternalId", ask.external_id.as_deref());
    set("sts:SourceIdentity", source_identity);
    if !ask.transitive_keys.is_empty() {
        context.push(("sts:TransitiveTagKeys".to_owned(), ask.transitive_keys.clone()));
    }
    for (key, value) in &role.tags {
        context.push((format!("iam:ResourceTag/{key}"), vec![value.clone()]));
    }
    let wanted = [
        Some("sts:AssumeRole"),
        (!ask.tags.is_empty()).then_some("sts:TagSession"),
        source_identity.map(|_| "sts:SetSourceIdentity"),
    ];
    let need = |action| Need {
        context: context.clone(),
        ..Need::new(action, ask.role_arn.clone(), role.row.account)
    };
    wanted.into_iter().flatten().map(need).collect()
}

/// The tags of the new session: those asked for, and those that are passed on by the one that asks.
fn with_inherited(ask: &AssumeRole, from: Option<&Session>) -> Result<Vec<(String, String)>, IamError> {
    let same = |key: &str, other: &str| key.to_lowercase() == other.to_lowercase();
    let asked = |key: &str| ask.tags.iter().any(|(known, _)| same(known, key));
    if let Some(key) = ask.transitive_keys.iter().find(|key| !asked(key)) {
        return Err(IamError::Validation(format!(
            "The transitive tag key '{key}' is not among the keys of the session tags"
        )));
    }
    let mut tags = ask.tags.clone();
    for (key, value) in from.into_iter().flat_map(|session| &session.tags) {
        let passed_on = from.is_some_and(|from| from.transitive_keys.iter().any(|known| same(known, key)));
        if passed_on && asked(key) {
            return Err(IamError::Validation(format!(
                "The session tag '{key}' is a transitive tag of the calling session and cannot be overridden"
            )));
        }
        if passed_on {
            tags.push((key.clone(), value.clone()));
        }
    }
    Ok(tags)
}

/// The source identity of the new session: once set it stays. `None`: the one asked for is another.
#[expect(clippy::option_option, reason = "the outer one says whether it may be")]
fn source_identity(ask: &AssumeRole, from: Option<&Session>) -> Option<Option<String>> {
    let there = from.and_then(|session| session.source_identity.as_ref());
    match (there, &ask.source_identity) {
        (Some(there), Some(asked)) if there != asked => None,
        (there, asked) => Some(there.or(asked.as_ref()).cloned()),
    }
}

/// The account of a role's ARN; `None` for ARNs of something else, which are refused like roles that are not there.
///
/// # Errors
/// `ValidationError` for what is no ARN.
pub(super) fn role_account(arn: &str) -> Result<Option<AccountId>, IamError> {
    let parsed: Arn = arn.parse().map_err(|_| IamError::Validation(format!("{arn} is invalid")))?;
    let is_role = parsed.service == "iam" && parsed.region.is_empty() && parsed.resource.starts_with("role/");
    Ok(parsed.account.parse().ok().filter(|_| is_role))
}

fn path_and_name(arn: &str) -> Option<(String, String)> {
    let (_, resource) = arn.split_once(":role")?;
    let (path, name) = resource.rsplit_once('/')?;
    Some((format!("{path}/"), name.to_owned()))
}

pub(super) fn denied(text: &str) -> RegistryError {
    IamError::AccessDenied(text.to_owned()).into()
}
