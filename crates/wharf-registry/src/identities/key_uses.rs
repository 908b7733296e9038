//! When access keys were last used.

use std::time::Duration;

use wharf_store::meta::iam::keys;
pub use wharf_store::meta::iam::keys::KeyUse;
use wharf_types::Region;

use crate::gathered::Gathered;
use crate::{Registry, RegistryError};

/// How often what is gathered is written.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// A use is not noted again for the same service and region before it is this old; AWS's own are 15 minutes coarse.
const COARSE: Duration = Duration::from_secs(60);

/// Uses by access key id.
pub(crate) type KeyUses = Gathered<String, KeyUse>;

impl Registry {
    /// Notes that a key signed a request. Cheap; written within seconds, and lost if the process is killed before.
    /// Keys of sessions are not noted.
    pub fn note_key_use(&self, access_key_id: &str, service: &str, region: &Region) {
        if !access_key_id.starts_with("AKIA") {
            return;
        }
        let (now, id) = (self.inner.clock.now(), access_key_id.to_owned());
        let same = |last: &KeyUse| last.service == service && last.region == region.as_str();
        if !self.inner.key_uses.knows(&id, |last| same(last) && now < last.at.plus(COARSE)) {
            let used = KeyUse { at: now, service: service.to_owned(), region: region.to_string() };
            self.inner.key_uses.note(id, used);
        }
    }

    /// Writes what is gathered every few seconds until the registry stops.
    pub(crate) fn start_key_use_writer(&self) {
        let write = |registry: Registry| async move { registry.write_key_uses().await };
        self.repeat(WRITE_EVERY, "writing uses of access keys", write);
    }

    /// Writes what is gathered now.
    ///
    /// # Errors
    /// When the metadata fails; what was not written is kept for the next time.
    pub(crate) async fn write_key_uses(&self) -> Result<(), RegistryError> {
        self.write_gathered(&self.inner.key_uses, |tx, id, used| keys::set_last_used(tx, id, used)).await
    }
}
