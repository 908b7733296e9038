//! A seam for tests: makes a chosen statement or commit fail. Costs one `Option` check when it is not used.

use std::sync::{Mutex, PoisonError};

use super::error::MetaError;

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// A statement in a write transaction.
    Statement,
    /// A statement in a read transaction.
    Read,
    /// The commit of a batch of write transactions.
    Commit,
}

/// Whether the failing call has had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The call fails and nothing has happened.
    Before,
    /// The call does its work and then reports failure.
    After,
}

/// Faults to come, counted per site. Give it to `SqliteOptions::faults` and keep a clone of the `Arc`.
#[derive(Debug, Default)]
pub struct FaultPlan {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: [u64; 3],
    faults: Vec<Fault>,
}

#[derive(Debug)]
struct Fault {
    site: Site,
    call: u64,
    when: When,
    error: MetaError,
}

impl FaultPlan {
    /// A plan without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the `nth` call at `site` from now (1 is the next one) fail once with `error`.
    pub fn fail(&self, site: Site, nth: u64, when: When, error: MetaError) {
        let mut state = self.lock();
        let call = state.calls[site as usize] + nth;
        state.faults.push(Fault { site, call, when, error });
    }

    /// How many calls there have been at `site`, so that a test can strike each in turn.
    pub fn calls(&self, site: Site) -> u64 {
        self.lock().calls[site as usize]
    }

    /// How many planned faults have not struck yet.
    pub fn pending(&self) -> usize {
        self.lock().faults.len()
    }

    /// Forgets the faults that have not struck.
    pub fn clear(&self) {
        self.lock().faults.clear();
    }

    pub(super) fn around<T>(
        &self,
        site: Site,
        call: impl FnOnce() -> Result<T, MetaError>,
    ) -> Result<T, MetaError> {
        match self.strike(site) {
            None => call(),
            Some((When::Before, error)) => Err(error),
            Some((When::After, error)) => call().and(Err(error)),
        }
    }

    fn strike(&self, site: Site) -> Option<(When, MetaError)> {
        let mut state = self.lock();
        state.calls[site as usize] += 1;
        let call = state.calls[site as usize];
        let found = state.faults.iter().position(|fault| fault.site == site && fault.call == call)?;
        let fault = state.faults.swap_remove(found);
        Some((fault.when, fault.error))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
