//! Both ends of the socket, on a registry that only pretends.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wharf_registry::{Ask, InUseReport};
use wharf_types::{AccountId, Digest, Reference, Region, RepositoryName};

use super::{Connection, serve};
use crate::admin::{AdminError, AdminOps, AdminRequest, Progress, RootCredentials};

struct Pretend;

fn refused<T: Send>() -> impl Future<Output = Result<T, AdminError>> + Send {
    std::future::ready(Err(AdminError::new(std::io::Error::other("not pretended"))))
}

impl AdminOps for Pretend {
    fn create_account(
        &self,
        _: Option<AccountId>,
    ) -> impl Future<Output = Result<RootCredentials, AdminError>> + Send {
        refused()
    }
    async fn list_accounts(&self) -> Result<Value, AdminError> {
        Ok(json!([{"account_id": "123456789012"}]))
    }
    fn create_key(
        &self,
        _: Option<AccountId>,
    ) -> impl Future<Output = Result<RootCredentials, AdminError>> + Send {
        refused()
    }
    fn set_key_status(&self, _: &str, _: bool) -> impl Future<Output = Result<(), AdminError>> + Send {
        refused()
    }
    fn delete_key(&self, _: &str) -> impl Future<Output = Result<(), AdminError>> + Send {
        refused()
    }
    fn list_keys(&self, _: Option<AccountId>) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
    fn issue_token(
        &self,
        _: AccountId,
        _: Option<Region>,
        _: Option<Duration>,
    ) -> impl Future<Output = Result<String, AdminError>> + Send {
        refused()
    }
    fn back_up(&self, _: &Path, _: Progress) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
    async fn collect(&self, progress: Progress) -> Result<Value, AdminError> {
        for done in 1..=3 {
            progress.report("objects", done, 3);
            tokio::task::yield_now().await;
        }
        Ok(json!({"objects_deleted": 3}))
    }
    /// Never done.
    fn scrub(&self, _: Progress) -> impl Future<Output = Result<Value, AdminError>> + Send {
        std::future::pending()
    }
    fn undelete(
        &self,
        _: Option<AccountId>,
        _: Option<Region>,
        _: RepositoryName,
        _: Option<Reference>,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
    fn run_lifecycle(
        &self,
        _: Option<AccountId>,
        _: Option<Region>,
        _: Option<RepositoryName>,
        _: Progress,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
    fn explain_lifecycle(
        &self,
        _: Option<AccountId>,
        _: Option<Region>,
        _: RepositoryName,
        _: Option<String>,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
    fn explain(&self, _: Ask) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
    fn report_in_use(
        &self,
        _: Option<AccountId>,
        _: InUseReport,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
    fn release_in_use(
        &self,
        _: Option<AccountId>,
        _: String,
        _: Option<Vec<Digest>>,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send {
        std::future::ready(Ok(Value::Null))
    }

    fn list_in_use(&self, _: Option<AccountId>) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
    fn delete_image(
        &self,
        _: Option<AccountId>,
        _: Option<Region>,
        _: RepositoryName,
        _: Reference,
        _: bool,
    ) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
    fn rotate_key_ring(&self, _: Progress) -> impl Future<Output = Result<Value, AdminError>> + Send {
        refused()
    }
}

#[tokio::test]
async fn commands_are_answered_with_progress_results_and_errors_until_the_server_stops() {
    let directory = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let server = serve(directory.path(), Pretend, shutdown.clone()).unwrap();
    let connect = || async { Connection::open(directory.path()).await.unwrap() };

    let mut reports = Vec::new();
    let outcome = connect().await.run(&AdminRequest::Gc, |report| reports.push(report.done)).await.unwrap();
    assert_eq!(outcome, Ok(json!({"objects_deleted": 3})));
    assert_eq!(reports, [1, 2, 3]);

    let outcome = connect().await.run(&AdminRequest::KeyRingRotate, |_| {}).await.unwrap();
    assert_eq!(outcome, Err("not pretended".to_owned()));
    let outcome = connect().await.run(&AdminRequest::AccountList, |_| {}).await.unwrap();
    assert_eq!(outcome, Ok(json!([{"account_id": "123456789012"}])));

    let endless = connect().await;
    let endless = tokio::spawn(async move { endless.run(&AdminRequest::Scrub, |_| {}).await });
    // Answered after it: the endless command was accepted before this one.
    connect().await.run(&AdminRequest::AccountList, |_| {}).await.unwrap().unwrap();
    shutdown.cancel();
    server.await.unwrap();
    let broken = endless.await.unwrap().unwrap_err();
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    assert!(matches!(broken.kind(), UnexpectedEof | BrokenPipe | ConnectionReset), "{broken}");
}
