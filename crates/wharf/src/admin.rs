//! The administrator's commands: one executor, whether the command comes over the socket or runs in its own process.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wharf_registry::{Ask, InUseReport};
use wharf_types::{AccountId, Digest, Reference, Region, RepositoryName};

/// What can be asked. On the wire `{"command":"account-create","id":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AdminRequest {
    /// Creates an account and its root key.
    AccountCreate {
        /// Its id, or a random one.
        id: Option<Text<AccountId>>,
    },
    /// Lists the accounts.
    AccountList,
    /// Creates a root key.
    KeyCreate {
        /// Owner; the default account if not given.
        account: Option<Text<AccountId>>,
    },
    /// Stops or allows the use of a key.
    KeyStatus {
        /// The key.
        access_key_id: String,
        /// Whether it may be used.
        active: bool,
    },
    /// Deletes a key.
    KeyDelete {
        /// The key.
        access_key_id: String,
    },
    /// Lists an account's keys.
    KeyList {
        /// Owner; the default account if not given.
        account: Option<Text<AccountId>>,
    },
    /// Issues a registry password.
    TokenIssue {
        /// The account whose root it stands for.
        account: Text<AccountId>,
        /// Region; the default one if not given.
        region: Option<Text<Region>>,
        /// Validity in milliseconds; the setting's if not given.
        ttl_ms: Option<u64>,
    },
    /// Collects garbage.
    Gc,
    /// Checks every object.
    Scrub,
    /// Makes a backup.
    Backup {
        /// The directory, absolute.
        to: PathBuf,
    },
    /// Restores deleted images.
    Undelete {
        /// Owner; the default account if not given.
        account: Option<Text<AccountId>>,
        /// Region; the default one if not given.
        region: Option<Text<Region>>,
        /// Where the image was.
        repository: Text<RepositoryName>,
        /// Which image, by digest or by a tag it had; all of them if not given.
        image: Option<Text<Reference>>,
    },
    /// Carries lifecycle policies out now.
    LifecycleRun {
        /// Owner; the default account if not given.
        account: Option<Text<AccountId>>,
        /// Region; the default one if not given.
        region: Option<Text<Region>>,
        /// The one repository; every one that has a policy if not given.
        repository: Option<Text<RepositoryName>>,
    },
    /// Says what a lifecycle policy would do with every image of a repository.
    LifecycleExplain {
        /// Owner; the default account if not given.
        account: Option<Text<AccountId>>,
        /// Region; the default one if not given.
        region: Option<Text<Region>>,
        /// Whose images.
        repository: Text<RepositoryName>,
        /// The policy's text; the repository's own if not given.
        policy: Option<String>,
    },
    /// Notes which images run.
    InUseReport {
        /// Owner of the registry; the default account if not given.
        account: Option<Text<AccountId>>,
        /// Who runs them.
        holder: String,
        /// Which.
        digests: Vec<Text<Digest>>,
        /// For how long that counts, in milliseconds.
        lifetime_ms: u64,
    },
    /// Takes reports of a holder back.
    InUseRelease {
        /// Owner of the registry; the default account if not given.
        account: Option<Text<AccountId>>,
        /// Whose reports.
        holder: String,
        /// Of which images; of all if not given.
        digests: Option<Vec<Text<Digest>>>,
    },
    /// Lists the images that are reported to run.
    InUseList {
        /// Owner of the registry; the default account if not given.
        account: Option<Text<AccountId>>,
    },
    /// Deletes an image or a tag.
    ImageDelete {
        /// Owner; the default account if not given.
        account: Option<Text<AccountId>>,
        /// Region; the default one if not given.
        region: Option<Text<Region>>,
        /// Where it is.
        repository: Text<RepositoryName>,
        /// Which.
        image: Text<Reference>,
        /// Whether also if somebody runs it.
        force: bool,
    },
    /// Re-wraps every data key under new keys.
    KeyRingRotate,
    /// Says what is decided of a request, and why.
    Explain {
        /// Who: an ARN, an account id, or `anonymous`.
        principal: String,
        /// What.
        action: String,
        /// On what: an ARN or the name of a repository.
        resource: Option<String>,
        /// Condition keys and their values.
        context: Vec<(String, Vec<String>)>,
    },
}

/// What is answered: any number of `progress`, then one of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminReply {
    /// How far it has come.
    Progress(Report),
    /// Done, with the result.
    Ok(Value),
    /// Failed, with the reason in words.
    Error(String),
}

impl AdminReply {
    /// The last reply of a command.
    pub fn of(outcome: Result<Value, AdminError>) -> Self {
        outcome.map_or_else(|error| Self::Error(error.to_string()), Self::Ok)
    }
}

/// A value that travels as the text it is written as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T> Text<T> {
    fn take(text: Option<Self>) -> Option<T> {
        text.map(|text| text.0)
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// How far a long command has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What is counted, in the plural.
    pub what: String,
    /// How many are done.
    pub done: u64,
    /// Of how many; 0 if not known.
    pub total: u64,
}

/// Why a command failed, with the whole chain of causes: the caller is the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AdminError(String);

impl AdminError {
    /// Keeps an error's message and those of its sources.
    pub fn new(error: impl std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self(text)
    }
}

/// Where reports go. Reports are dropped rather than waited for: the newest is soon followed by a newer one.
#[derive(Clone, Debug)]
pub struct Progress(mpsc::Sender<Report>);

impl Progress {
    /// Sends reports to a channel.
    pub fn new(sender: mpsc::Sender<Report>) -> Self {
        Self(sender)
    }

    /// Reports `done` of `total` (0: not known).
    pub fn report(&self, what: &str, done: u64, total: u64) {
        let _ = self.0.try_send(Report { what: what.to_owned(), done, total });
    }
}

/// A new access key; the only time its secret is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootCredentials {
    /// Owner.
    pub account_id: Text<AccountId>,
    /// The key's id.
    pub access_key_id: String,
    /// The key's secret.
    pub secret_access_key: String,
}

/// What commands act on: the registry. A second implementation stands in for it in tests of the socket.
pub trait AdminOps: Send + Sync + 'static {
    /// Creates an account with a root key.
    fn create_account(
        &self,
        id: Option<AccountId>,
    ) -> impl Future<Output = Result<RootCredentials, AdminError>> + Send;
    /// Lists accounts: a JSON list of objects.
    fn list_accounts(&self) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Creates a root key.
    fn create_key(
        &self,
        account: Option<AccountId>,
    ) -> impl Future<Output = Result<RootCredentials, AdminError>> + Send;
    /// Stops or allows the use of a key.
    fn set_key_status(
        &self,
        access_key_id: &str,
        active: bool,
    ) -> impl Future<Output = Result<(), AdminError>> + Send;
    /// Deletes a key.
    fn delete_key(&self, access_key_id: &str) -> impl Future<Output = Result<(), AdminError>> + Send;
    /// Lists keys: a JSON list of objects without secrets.
    fn list_keys(&self, account: Option<AccountId>)
    -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Issues a registry password.
    fn issue_token(
        &self,
        account: AccountId,
        region: Option<Region>,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<String, AdminError>> + Send;
    /// Collects garbage; a JSON object of counts.
    fn collect(&self, progress: Progress) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Checks every object; a JSON object of counts and findings.
    fn scrub(&self, progress: Progress) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Makes a backup in a directory; a JSON object of counts and of what is missing.
    fn back_up(
        &self,
        to: &Path,
        progress: Progress,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Restores images; a JSON object of what was restored.
    fn undelete(
        &self,
        account: Option<AccountId>,
        region: Option<Region>,
        repository: RepositoryName,
        image: Option<Reference>,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Carries lifecycle policies out; a JSON object of counts and failures.
    fn run_lifecycle(
        &self,
        account: Option<AccountId>,
        region: Option<Region>,
        repository: Option<RepositoryName>,
        progress: Progress,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Says what a policy would do; a JSON object with a list of images.
    fn explain_lifecycle(
        &self,
        account: Option<AccountId>,
        region: Option<Region>,
        repository: RepositoryName,
        policy: Option<String>,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Notes which images run; a JSON object with the time until when that counts.
    fn report_in_use(
        &self,
        account: Option<AccountId>,
        report: InUseReport,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Takes reports back; a JSON object with their number.
    fn release_in_use(
        &self,
        account: Option<AccountId>,
        holder: String,
        digests: Option<Vec<Digest>>,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Lists what is reported to run: a JSON list of objects.
    fn list_in_use(
        &self,
        account: Option<AccountId>,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Deletes an image or a tag; a JSON object of what went, and of who ran it.
    fn delete_image(
        &self,
        account: Option<AccountId>,
        region: Option<Region>,
        repository: RepositoryName,
        image: Reference,
        force: bool,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Re-wraps data keys; a JSON object of counts.
    fn rotate_key_ring(&self, progress: Progress) -> impl Future<Output = Result<Value, AdminError>> + Send;
    /// Decides a request that nobody makes; a JSON object of the decision and what led to it.
    fn explain(&self, ask: Ask) -> impl Future<Output = Result<Value, AdminError>> + Send;
}

/// Runs one command.
///
/// # Errors
/// If the command fails; nothing is left half done.
pub async fn run<O: AdminOps>(
    ops: &O,
    request: AdminRequest,
    progress: Progress,
) -> Result<Value, AdminError> {
    let done = json!({});
    match request {
        AdminRequest::AccountCreate { id } => to_json(ops.create_account(Text::take(id)).await?),
        AdminRequest::AccountList => ops.list_accounts().await,
        AdminRequest::KeyCreate { account } => to_json(ops.create_key(Text::take(account)).await?),
        AdminRequest::KeyStatus { access_key_id, active } => {
            ops.set_key_status(&access_key_id, active).await.map(|()| done)
        }
        AdminRequest::KeyDelete { access_key_id } => ops.delete_key(&access_key_id).await.map(|()| done),
        AdminRequest::KeyList { account } => ops.list_keys(Text::take(account)).await,
        AdminRequest::TokenIssue { account, region, ttl_ms } => {
            let token =
                ops.issue_token(account.0, Text::take(region), ttl_ms.map(Duration::from_millis)).await?;
            Ok(json!({ "token": token }))
        }
        AdminRequest::Gc => ops.collect(progress).await,
        AdminRequest::Scrub => ops.scrub(progress).await,
        AdminRequest::Backup { to } => ops.back_up(&to, progress).await,
        AdminRequest::Undelete { account, region, repository, image } => {
            ops.undelete(Text::take(account), Text::take(region), repository.0, Text::take(image)).await
        }
        AdminRequest::LifecycleRun { account, region, repository } => {
            let (account, region) = (Text::take(account), Text::take(region));
            ops.run_lifecycle(account, region, Text::take(repository), progress).await
        }
        AdminRequest::LifecycleExplain { account, region, repository, policy } => {
            ops.explain_lifecycle(Text::take(account), Text::take(region), repository.0, policy).await
        }
        AdminRequest::InUseReport { account, holder, digests, lifetime_ms } => {
            let digests = digests.into_iter().map(|digest| digest.0).collect();
            let report = InUseReport { holder, digests, lifetime: Duration::from_millis(lifetime_ms) };
            ops.report_in_use(Text::take(account), report).await
        }
        AdminRequest::InUseRelease { account, holder, digests } => {
            let digests = digests.map(|digests| digests.into_iter().map(|digest| digest.0).collect());
            ops.release_in_use(Text::take(account), holder, digests).await
        }
        AdminRequest::InUseList { account } => ops.list_in_use(Text::take(account)).await,
        AdminRequest::ImageDelete { account, region, repository, image, force } => {
            let (account, region) = (Text::take(account), Text::take(region));
            ops.delete_image(account, region, repository.0, image.0, force).await
        }
        AdminRequest::KeyRingRotate => ops.rotate_key_ring(progress).await,
        AdminRequest::Explain { principal, action, resource, context } => {
            ops.explain(Ask { principal, action, resource, context }).await
        }
    }
}

fn to_json(value: impl Serialize) -> Result<Value, AdminError> {
    serde_json::to_value(value).map_err(AdminError::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_have_the_documented_form() {
        let request = AdminRequest::KeyStatus { access_key_id: "AKIA".to_owned(), active: false };
        let wire = json!({"command": "key-status", "access_key_id": "AKIA", "active": false});
        assert_eq!(serde_json::to_value(&request).unwrap(), wire);
        assert_eq!(serde_json::from_value::<AdminRequest>(wire).unwrap(), request);
        assert_eq!(serde_json::from_str::<AdminRequest>(r#"{"command":"gc"}"#).unwrap(), AdminRequest::Gc);
        assert!(serde_json::from_str::<AdminRequest>(r#"{"command":"format-disk"}"#).is_err());

        let report = Report { what: "objects".to_owned(), done: 1, total: 2 };
        for (reply, wire) in [
            (AdminReply::Progress(report), r#"{"progress":{"what":"objects","done":1,"total":2}}"#),
            (AdminReply::Ok(json!({})), r#"{"ok":{}}"#),
            (AdminReply::Error("no".to_owned()), r#"{"error":"no"}"#),
        ] {
            assert_eq!(serde_json::to_string(&reply).unwrap(), wire);
        }
    }

    #[test]
    fn errors_tell_their_causes_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot collect")]
        struct Outer(#[source] std::io::Error);
        let error = AdminError::new(Outer(std::io::Error::other("disk is gone")));
        assert_eq!(error.to_string(), "cannot collect: disk is gone");
    }
}
