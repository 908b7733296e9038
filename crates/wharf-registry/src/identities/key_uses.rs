//! When access keys were last used. Gathered in memory and written in batches, so that a request waits for no write.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wharf_store::meta::iam::keys;
pub use wharf_store::meta::iam::keys::KeyUse;
use wharf_types::{Region, Timestamp};

use crate::{Registry, RegistryError};

/// How often what is gathered is written.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// A use is not noted again for the same service and region before it is this old; AWS's own are 15 minutes coarse.
const COARSE: Duration = Duration::from_secs(60);
/// Keys per transaction, and keys remembered at most.
const BATCH: usize = 500;
const REMEMBERED: usize = 100_000;

/// Uses by access key id: the last one of each, and whether it waits to be written.
#[derive(Default)]
pub(crate) struct KeyUses(Mutex<HashMap<String, Noted>>);

struct Noted {
    used: KeyUse,
    pending: bool,
}

impl KeyUses {
    fn noted(&self) -> MutexGuard<'_, HashMap<String, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last use of a key, if it may not be in the metadata yet.
    pub(super) fn pending(&self, id: &str) -> Option<KeyUse> {
        self.noted().get(id).filter(|noted| noted.pending).map(|noted| noted.used.clone())
    }

    fn note(&self, id: &str, service: &str, region: &str, now: Timestamp) {
        let mut all = self.noted();
        if let Some(last) = all.get_mut(id) {
            let same = last.used.service == service && last.used.region == region;
            if same && now < last.used.at.plus(COARSE) {
                return;
            }
        } else if all.len() >= REMEMBERED {
            all.retain(|_, noted| noted.pending);
            if all.len() >= REMEMBERED {
                return;
            }
        }
        let used = KeyUse { at: now, service: service.to_owned(), region: region.to_owned() };
        all.insert(id.to_owned(), Noted { used, pending: true });
    }
}

impl Registry {
    /// Notes that a key signed a request. Cheap; written within seconds, and lost if the process is killed before.
    /// Keys of sessions are not noted.
    pub fn note_key_use(&self, access_key_id: &str, service: &str, region: &Region) {
        if access_key_id.starts_with("AKIA") {
            self.inner.key_uses.note(access_key_id, service, region.as_str(), self.inner.clock.now());
        }
    }

    /// Writes what is gathered every few seconds until the registry stops.
    pub(crate) fn start_key_use_writer(&self) {
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            let mut turns = tokio::time::interval(WRITE_EVERY);
            turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = registry.inner.stop.cancelled() => return,
                    _ = turns.tick() => {}
                }
                if let Err(error) = registry.write_key_uses().await {
                    tracing::warn!(%error, "uses of access keys were not written, they are tried again");
                }
            }
        });
    }

    /// Writes what is gathered now.
    ///
    /// # Errors
    /// When the metadata fails; what was not written is kept for the next time.
    pub(crate) async fn write_key_uses(&self) -> Result<(), RegistryError> {
        loop {
            let batch: Vec<(String, KeyUse)> = {
                let noted = self.inner.key_uses.noted();
                let pending = noted.iter().filter(|(_, noted)| noted.pending);
                pending.take(BATCH).map(|(id, noted)| (id.clone(), noted.used.clone())).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            let written = batch.clone();
            self.inner
                .meta
                .write(move |tx| {
                    for (id, used) in &batch {
                        keys::set_last_used(tx, id, used)?;
                    }
                    Ok::<_, RegistryError>(())
                })
                .await?;
            let mut noted = self.inner.key_uses.noted();
            for (id, used) in written {
                // Used again meanwhile: that is written with the next batch.
                if let Some(noted) = noted.get_mut(&id).filter(|noted| noted.used == used) {
                    noted.pending = false;
                }
            }
        }
    }
}
