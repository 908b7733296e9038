//! Reader connections: a bounded pool for work off the reactor, and a few for look-ups on the calling thread.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{SqliteOptions, open_reader, run};
use crate::meta::{error::MetaError, testing::Site, tx::Tx};

pub(super) struct Readers {
    options: SqliteOptions,
    /// One permit for each connection of the pool.
    permits: Arc<Semaphore>,
    /// Background work takes one of these first, so that it can never hold every connection.
    background: Arc<Semaphore>,
    pool: Mutex<Vec<Connection>>,
    immediate: Box<[Mutex<Option<Connection>>]>,
    next: AtomicUsize,
}

/// The right to one connection of the pool.
pub(super) struct Turn {
    _background: Option<OwnedSemaphorePermit>,
    _pool: OwnedSemaphorePermit,
}

impl Readers {
    pub fn open(path: &Path, options: &SqliteOptions) -> Result<Readers, MetaError> {
        let size = options.readers.max(2);
        let connect = || open_reader(path, options);
        let pool = (0..size).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
        let immediate = (0..options.immediate_readers.max(1))
            .map(|_| connect().map(|conn| Mutex::new(Some(conn))))
            .collect::<Result<Box<[_]>, _>>()?;
        Ok(Readers {
            options: options.clone(),
            permits: Arc::new(Semaphore::new(size)),
            background: Arc::new(Semaphore::new(size / 2)),
            pool: Mutex::new(pool),
            immediate,
            next: AtomicUsize::new(0),
        })
    }

    /// Waits for a connection of the pool to be free.
    pub async fn turn(&self, background: bool) -> Result<Turn, MetaError> {
        let closed = |_| MetaError::Closed;
        let share = match background {
            true => Some(Arc::clone(&self.background).acquire_owned().await.map_err(closed)?),
            false => None,
        };
        let pool = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        Ok(Turn { _background: share, _pool: pool })
    }

    /// Runs `work` on a connection of the pool.
    pub fn read<T, E: From<MetaError>>(
        &self,
        turn: Turn,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let lease = Lease { readers: self, conn: lock(&self.pool).pop() };
        let result = match &lease.conn {
            Some(conn) => self.transaction(conn, work),
            None => Err(MetaError::Closed.into()),
        };
        drop(lease);
        drop(turn);
        result
    }

    /// Runs `work` on a connection kept for the shortest reads.
    pub fn read_now<T, E: From<MetaError>>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match self.slot().as_ref() {
            Some(conn) => self.transaction(conn, work),
            None => Err(MetaError::Closed.into()),
        }
    }

    /// A free connection, or a turn at one whose holder needs microseconds.
    fn slot(&self) -> MutexGuard<'_, Option<Connection>> {
        for slot in &self.immediate {
            match slot.try_lock() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let index = self.next.fetch_add(1, Relaxed) % self.immediate.len();
        lock(&self.immediate[index])
    }

    fn transaction<T, E: From<MetaError>>(
        &self,
        conn: &Connection,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        run(conn, "BEGIN")?;
        let _ending = Ending { conn };
        work(&mut Tx::on_sqlite(conn, (self.options.clock)(), Site::Read, self.options.faults.as_deref()))
    }

    /// Refuses new reads and closes every connection, those in use as soon as they are given back.
    pub fn close(&self) {
        self.permits.close();
        self.background.close();
        lock(&self.pool).clear();
        for slot in &self.immediate {
            lock(slot).take();
        }
    }
}

/// Gives the connection back, after a panic too.
struct Lease<'r> {
    readers: &'r Readers,
    conn: Option<Connection>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut pool = lock(&self.readers.pool);
        if !self.readers.permits.is_closed() {
            pool.extend(self.conn.take());
        }
    }
}

/// Ends the read transaction, after a panic too. There is nothing to lose, so its failure is none.
struct Ending<'c> {
    conn: &'c Connection,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.conn.is_autocommit() {
            let _ = run(self.conn, "COMMIT");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
