//! A bounded number of connections for one purpose.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::{Connection, Connector, Role};
use crate::meta::error::MetaError;

pub(super) struct Pool {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
    connector: Arc<Connector>,
    role: Role,
    /// How long to wait for a turn.
    patience: Duration,
    waiting: AtomicUsize,
}

/// The right to one connection of the pool.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub fn new(connector: &Arc<Connector>, role: Role, size: usize, patience: Duration) -> Pool {
        Pool {
            permits: Arc::new(Semaphore::new(size.max(1))),
            idle: Mutex::new(Vec::new()),
            connector: Arc::clone(connector),
            role,
            patience,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits until a connection may be used. Fails with `MetaError::Busy` if that takes too long.
    pub async fn turn(&self) -> Result<Turn, MetaError> {
        let _waiting = Waiting::new(&self.waiting);
        match tokio::time::timeout(self.patience, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn { _permit: permit }),
            Ok(Err(_)) => Err(MetaError::Closed),
            Err(_) => Err(MetaError::Busy),
        }
    }

    /// As `turn`, for those who keep the time themselves.
    pub async fn turn_unhurried(&self) -> Result<Turn, MetaError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| MetaError::Closed)?;
        Ok(Turn { _permit: permit })
    }

    /// The connection used last, or a new one.
    pub fn take(&self) -> Result<Connection, MetaError> {
        while let Some(connection) = self.idle().pop() {
            if connection.is_usable() {
                return Ok(connection);
            }
        }
        self.take_new()
    }

    /// A new connection, those kept being in doubt.
    pub fn take_new(&self) -> Result<Connection, MetaError> {
        if self.permits.is_closed() {
            return Err(MetaError::Closed);
        }
        self.idle().retain(Connection::is_usable);
        self.connector.connect(self.role)
    }

    pub fn give_back(&self, connection: Connection) {
        let mut idle = self.idle();
        if connection.is_usable() && !self.permits.is_closed() {
            idle.push(connection);
        }
    }

    /// How many wait for a turn.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Refuses new turns, waits for those that were given, and ends the connections.
    pub async fn close(&self, size: usize) {
        let all = u32::try_from(size.max(1)).unwrap_or(u32::MAX);
        let _all = Arc::clone(&self.permits).acquire_many_owned(all).await;
        self.permits.close();
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting<'p>(&'p AtomicUsize);

impl<'p> Waiting<'p> {
    fn new(count: &'p AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
