//! Keeping up with other nodes. What a node remembers of identities, policies, settings and keys is the truth as long as
//! their epochs stand still, and every change of them moves its epoch in its own transaction. So a node reads the
//! epochs, forgets what has moved, and may then act on its memory for [`CURRENT`] after that read *began*, by the
//! monotonic clock. After that it reads again before it decides anything, and decides nothing where it cannot: what a
//! change on another node takes away is taken away everywhere within that time.
//!
//! A node that is alone reads nothing: its own changes clear its memory before they are answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wharf_store::meta::MetaError;
use wharf_store::meta::iam::epochs;

use crate::options::Nodes;
use crate::{Clock, Registry, RegistryError};

/// For how long a read of the epochs counts.
const CURRENT: Duration = Duration::from_secs(1);
/// How often they are read, so that requests hardly ever wait for it.
const CONFIRM_EVERY: Duration = Duration::from_millis(250);
/// How long a request waits for them before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// How current the memory of this node is.
pub(crate) struct Freshness {
    nodes: Nodes,
    /// The time of tests; else it is the monotonic clock's.
    clock: Clock,
    base: Instant,
    /// When the read began that confirmed the memory last, in nanoseconds after `base`; 0 = none has.
    confirmed: AtomicU64,
    /// Where the epochs stood then. Held by the one who reads.
    seen: tokio::sync::Mutex<HashMap<String, i64>>,
}

impl Freshness {
    pub(crate) fn new(nodes: Nodes, clock: Clock) -> Self {
        let seen = tokio::sync::Mutex::default();
        Self { nodes, clock, base: Instant::now(), confirmed: AtomicU64::new(0), seen }
    }

    fn now(&self) -> u64 {
        let passed = match &self.clock {
            Clock::System => self.base.elapsed(),
            Clock::Manual(_) => Duration::from_micros(self.clock.now().as_micros().unsigned_abs()),
        };
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn confirmed_since(&self, since: u64) -> bool {
        self.confirmed.load(Ordering::Acquire) >= since
    }

    fn is_current(&self) -> bool {
        let oldest = self.now().saturating_sub(CURRENT.as_nanos() as u64).max(1);
        self.nodes == Nodes::One || self.confirmed_since(oldest)
    }
}

impl Registry {
    /// Whether other processes work on the same stores, so that memory alone answers nothing that must be current.
    pub(crate) fn has_peers(&self) -> bool {
        self.inner.options.nodes == Nodes::Many
    }

    /// Whether what is remembered of identities, policies, settings and keys may decide now.
    pub(crate) fn is_current(&self) -> bool {
        self.inner.freshness.is_current()
    }

    /// Makes sure of it. Reads only where the last read is too old.
    ///
    /// # Errors
    /// When the metadata fails: then nothing may be decided.
    pub(crate) async fn confirm(&self) -> Result<(), RegistryError> {
        if self.is_current() {
            return Ok(());
        }
        self.confirm_anew().await
    }

    /// Learns of every change that was committed before this is called; nothing to learn where this node is alone.
    ///
    /// # Errors
    /// When the metadata fails.
    pub(crate) async fn confirm_anew(&self) -> Result<(), RegistryError> {
        let freshness = &self.inner.freshness;
        if freshness.nodes == Nodes::One {
            return Ok(());
        }
        let asked = freshness.now();
        let confirming = async {
            let mut seen = freshness.seen.lock().await;
            // Somebody else's read will do if it began after this was asked for: that is, later than `asked`.
            if freshness.confirmed_since(asked + 1) {
                return Ok(());
            }
            let began = freshness.now();
            let all = self.inner.meta.read_quick(epochs::all).await;
            for (name, value) in all.map_err(|error: MetaError| RegistryError::from(error))? {
                if seen.get(&name) != Some(&value) {
                    self.follow(&name).await?;
                    seen.insert(name, value);
                }
            }
            freshness.confirmed.fetch_max(began, Ordering::AcqRel);
            Ok(())
        };
        let late = || RegistryError::Internal("the epochs were not read in time".to_owned());
        tokio::time::timeout(PATIENCE, confirming).await.unwrap_or_else(|_| Err(late()))
    }

    /// Opens what was sealed, perhaps by a node that knew newer keys.
    pub(crate) async fn open_anywhere<T, E>(&self, open: impl Fn() -> Result<T, E>) -> Result<T, E> {
        match open() {
            Err(_) if self.has_peers() && self.confirm_anew().await.is_ok() => open(),
            outcome => outcome,
        }
    }

    /// Forgets, or reads again, what an epoch stands for.
    async fn follow(&self, epoch: &str) -> Result<(), RegistryError> {
        match epoch {
            epochs::IDENTITIES => self.identities_changed(),
            epochs::RESOURCE_POLICIES => self.resource_policies_changed(),
            epochs::SETTINGS => {
                self.inner.settings.clear();
                self.inner.pull_times.forget_exclusions();
            }
            epochs::KMS_KEYS => self.inner.keys.follow_states(&self.inner.meta).await?,
            epochs::KEY_RING => self.inner.keys.follow_versions(&self.inner.meta).await?,
            // Of a newer program, which remembers more than this one.
            _ => {}
        }
        Ok(())
    }

    /// Reads the epochs all the time, so that requests find them read.
    pub(crate) fn start_confirming(&self) {
        if self.has_peers() {
            let confirm = |registry: Registry| async move { registry.confirm_anew().await };
            self.repeat(CONFIRM_EVERY, "reading the epochs", confirm);
        }
    }
}
