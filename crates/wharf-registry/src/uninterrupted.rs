//! Work that goes on to its end when the client that asked for it goes away.

use std::future::Future;

use crate::RegistryError;

/// Runs a change and what must follow its commit (caches, states held in memory) as one: a request that is dropped in
/// between must not leave the memory behind the store.
pub(crate) async fn uninterrupted<T: Send + 'static>(
    work: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
) -> Result<T, RegistryError> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(RegistryError::Internal(format!("a change broke off: {error}"))),
    }
}
