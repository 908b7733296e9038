//! Who may write an object in this process. The rows above decide between processes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::object::{ObjectError, ObjectId};

/// The writers of this process.
#[derive(Default)]
pub(super) struct Rights(Mutex<HashMap<ObjectId, Weak<Held>>>);

#[derive(Default)]
struct Held {
    revoked: AtomicBool,
    /// Shared by the requests of the writer, so that the one who revokes can wait for the last of them.
    busy: Arc<RwLock<()>>,
}

/// The right to write one object, until somebody takes it.
pub(super) struct Right {
    id: ObjectId,
    held: Arc<Held>,
}

impl Rights {
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectId, Weak<Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to write `id` from whoever has it and waits for their last request.
    pub(super) async fn take(&self, id: ObjectId) -> Right {
        let held = Arc::new(Held::default());
        let before = {
            let mut all = self.lock();
            all.retain(|_, held| held.strong_count() > 0);
            all.insert(id, Arc::downgrade(&held)).and_then(|held| held.upgrade())
        };
        if let Some(before) = before {
            before.revoked.store(true, Ordering::SeqCst);
            drop(before.busy.write().await);
        }
        Right { id, held }
    }
}

impl Right {
    /// Allows one request, which must hold what this returns while it is under way.
    pub(super) async fn exercise(&self) -> Result<OwnedRwLockReadGuard<()>, ObjectError> {
        let busy = Arc::clone(&self.held.busy).read_owned().await;
        match self.held.revoked.load(Ordering::SeqCst) {
            true => Err(ObjectError::Superseded(self.id)),
            false => Ok(busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_the_right_waits_for_the_request_under_way() {
        let (rights, id) = (Arc::new(Rights::default()), ObjectId::random());
        let first = rights.take(id).await;
        let request = first.exercise().await.unwrap();
        let taking = tokio::spawn({
            let rights = Arc::clone(&rights);
            async move { rights.take(id).await }
        });
        while !first.held.revoked.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        assert!(!taking.is_finished());
        drop(request);
        let second = taking.await.unwrap();
        assert!(matches!(first.exercise().await, Err(ObjectError::Superseded(_))));
        assert!(second.exercise().await.is_ok());
        drop((first, second));
        let _other = rights.take(ObjectId::random()).await;
        assert_eq!(rights.lock().len(), 1, "rights that nobody holds are forgotten");
    }
}
