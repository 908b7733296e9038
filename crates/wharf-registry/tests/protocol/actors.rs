//! What the actors do: short programs of the registry's own operations, and two broken ones to show that it would show.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use wharf_registry::{ImageId, MountOutcome, RegistryError};
use wharf_store::meta::MetaError;
use wharf_store::object::{ObjectId, ObjectStore};
use wharf_types::UploadId;

use crate::depot::{self, body};
use crate::world::World;

/// One operation of an actor. Repositories, blobs and manifests are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The whole of a blob in one request.
    PutBlob(usize, usize),
    /// A session, half of a blob, the other half.
    Start(usize),
    Append(usize, usize),
    Finish(usize, usize),
    /// To the first repository from the second number.
    Mount(usize, usize, usize),
    /// A manifest whose blobs were pushed before.
    PutImage(usize, usize),
    /// A client that pushes what it is told is missing, and tries again.
    Push(usize, usize),
    DeleteImage(usize, usize),
    DeleteBlob(usize, usize),
    Untag(usize),
    Undelete(usize, usize),
    Advance(Duration),
    Collect,
    /// Takes bytes out of the trash without saying so first.
    BrokenSweep,
    /// Throws away what was not named when it looked, without looking again.
    BrokenCollect,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Done,
    /// For a reason that a client can understand.
    Refused(&'static str),
    /// That must not happen.
    Wrong(String),
}

/// What an actor remembers from one operation to the next.
pub type Memory = Arc<Mutex<Option<UploadId>>>;

/// Begins an operation.
pub fn begin(world: Arc<World>, memory: Memory, op: Op) -> BoxFuture<'static, Outcome> {
    async move {
        match run(&world, &memory, op).await {
            Ok(outcome) => outcome,
            Err(error) => refused(op, error),
        }
    }
    .boxed()
}

/// Which refusals an operation may meet when others are at work.
fn refused(op: Op, error: RegistryError) -> Outcome {
    match (op, &error) {
        (Op::PutImage(..), RegistryError::LayersNotFound(..)) => Outcome::Refused("layers"),
        (Op::Append(..) | Op::Finish(..), RegistryError::UploadNotFound(_)) => Outcome::Refused("upload"),
        // It stood still for longer than the lease of an upload.
        (Op::PutBlob(..) | Op::Push(..), RegistryError::UploadNotFound(_)) => Outcome::Refused("upload"),
        // The collector has it in its hands, to end it.
        (Op::Append(..) | Op::Finish(..), RegistryError::UploadBusy) => Outcome::Refused("busy"),
        (Op::DeleteImage(..), RegistryError::ManifestUnknown) => Outcome::Refused("image"),
        (Op::Untag(_), RegistryError::ManifestUnknown) => Outcome::Refused("tag"),
        (Op::DeleteBlob(..), RegistryError::BlobUnknown(_)) => Outcome::Refused("blob"),
        (Op::DeleteBlob(..), RegistryError::Unsupported(_)) => Outcome::Refused("in use"),
        _ => Outcome::Wrong(format!("{op:?}: {error:?}")),
    }
}

async fn run(world: &World, memory: &Memory, op: Op) -> Result<Outcome, RegistryError> {
    let registry = &world.registry;
    let (blobs, manifests) = (&world.universe.blobs, &world.universe.manifests);
    match op {
        Op::PutBlob(at, blob) => {
            registry.put_blob(&world.at(at), blobs[blob].0, body(&blobs[blob].1)).await?;
        }
        Op::Start(at) => {
            let upload = registry.start_upload(&world.at(at)).await?;
            *memory.lock().unwrap() = Some(upload.id);
        }
        Op::Append(at, blob) => {
            let (id, content) = (memory.lock().unwrap().unwrap(), &blobs[blob].1);
            registry.append_upload(&world.at(at), id, None, body(&content[..content.len() / 2])).await?;
        }
        Op::Finish(at, blob) => {
            let (id, (digest, content)) = (memory.lock().unwrap().unwrap(), &blobs[blob]);
            let rest = body(&content[content.len() / 2..]);
            registry.finish_upload(&world.at(at), id, &[*digest], None, Some(rest)).await?;
        }
        Op::Mount(to, from, blob) => {
            match registry.mount_blob(&world.at(to), &blobs[blob].0, Some(&world.at(from))).await? {
                MountOutcome::Mounted(_) => {}
                MountOutcome::NotMounted => return Ok(Outcome::Refused("not there")),
            }
        }
        Op::PutImage(at, manifest) => {
            registry.put_image(&world.at(at), depot::put(&manifests[manifest].1, "tag")).await?;
        }
        Op::Push(at, manifest) => return push(world, at, manifest).await,
        Op::DeleteImage(at, manifest) => {
            let digest = wharf_types::Reference::Digest(manifests[manifest].0);
            registry.delete_reference(&world.at(at), &digest).await?;
        }
        Op::DeleteBlob(at, blob) => registry.delete_blob(&world.at(at), &blobs[blob].0).await?,
        Op::Untag(at) => {
            let id = ImageId { digest: None, tag: Some("tag".into()) };
            let (deleted, _) = registry.delete_images(&world.at(at), &[id]).await?;
            return Ok(if deleted.is_empty() { Outcome::Refused("tag") } else { Outcome::Done });
        }
        Op::Undelete(at, manifest) => {
            let at = world.at(at);
            let report = registry.undelete(at.target(), Some(&manifests[manifest].0), None).await?;
            return Ok(match (&report.restored[..], &report.skipped[..]) {
                ([_], []) => Outcome::Done,
                ([], [(_, reason)]) if reason.contains("not in the trash") => {
                    Outcome::Refused("not in the trash")
                }
                ([], [(_, reason)]) if reason.contains("is gone") => Outcome::Refused("content is gone"),
                _ => Outcome::Wrong(format!("{report:?}")),
            });
        }
        Op::Advance(time) => world.clock.advance(time),
        Op::Collect => {
            registry.collect(&()).await?;
        }
        Op::BrokenSweep => broken_sweep(world).await.map_err(RegistryError::from)?,
        Op::BrokenCollect => broken_collect(world).await.map_err(RegistryError::from)?,
    }
    Ok(Outcome::Done)
}

/// Pushes like a client: blobs, then the manifest; again from the beginning when something has gone meanwhile.
async fn push(world: &World, at: usize, manifest: usize) -> Result<Outcome, RegistryError> {
    let place = world.at(at);
    for _ in 0..3 {
        for blob in crate::world::Universe::named(manifest) {
            let (digest, content) = &world.universe.blobs[*blob];
            match world.registry.stat_blob(&place, digest).await {
                Ok(_) => {}
                Err(RegistryError::BlobUnknown(_)) => {
                    world.registry.put_blob(&place, *digest, body(content)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        match world.registry.put_image(&place, depot::put(&world.universe.manifests[manifest].1, "tag")).await
        {
            Ok(_) => return Ok(Outcome::Done),
            Err(RegistryError::LayersNotFound(..)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Outcome::Refused("three times"))
}

async fn broken_sweep(world: &World) -> Result<(), MetaError> {
    let trashed: Vec<String> = world
        .meta
        .read(|tx| tx.query_all("SELECT id FROM objects WHERE state = 'trashed'", &[], |row| row.get(0)))
        .await?;
    for id in trashed {
        let object: ObjectId = id.parse().unwrap();
        let _ = world.objects.delete(object).await;
        world
            .meta
            .write(move |tx| tx.execute("DELETE FROM objects WHERE id = $1 AND state = 'trashed'", &[&id]))
            .await?;
    }
    Ok(())
}

async fn broken_collect(world: &World) -> Result<(), MetaError> {
    let unnamed: Vec<String> = world
        .meta
        .read(|tx| {
            tx.query_all(
                "SELECT b.object_id
                 FROM blobs b
                 WHERE NOT EXISTS (SELECT 1 FROM repository_blobs l JOIN manifest_blobs e
                                   ON e.repository_id = l.repository_id AND e.blob = l.digest
                                   WHERE l.digest = b.digest)",
                &[],
                |row| row.get(0),
            )
        })
        .await?;
    for id in unnamed {
        let gone = world.meta.write(move |tx| {
            let digest: Option<String> =
                tx.query_opt("SELECT digest FROM blobs WHERE object_id = $1", &[&id], |row| row.get(0))?;
            tx.execute("DELETE FROM manifest_blobs WHERE blob = $1", &[&digest])?;
            tx.execute("DELETE FROM repository_blobs WHERE digest = $1", &[&digest])?;
            tx.execute("DELETE FROM blobs WHERE object_id = $1", &[&id])?;
            tx.execute("UPDATE objects SET state = 'trashed', trashed_at = 0 WHERE id = $1", &[&id])
        });
        gone.await?;
    }
    Ok(())
}
