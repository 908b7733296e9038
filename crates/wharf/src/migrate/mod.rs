//! `wharf migrate`: moves a whole deployment to other stores, row by row and object by object as they are stored. Nothing
//! is decrypted, no digest changes, and the deployment stays the one it was.

mod arguments;
mod stores;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use wharf_store::meta::accounts;
use wharf_store::meta::copy::{self, Destination, StoredObject};
use wharf_store::object::{ObjectError, ObjectId, copy as objects};

pub use self::arguments::Migrate as Arguments;
use self::stores::Stores;
use crate::client;
use crate::command;

/// Differences that are told one by one.
const SHOWN: usize = 20;
/// What a data directory has beside its stores.
const KEYS: [&str; 2] = ["root-key", "root-credentials.json"];

/// Both ends.
struct Migration {
    from: Stores,
    to: Stores,
    id: String,
    jobs: usize,
    bar: Bar,
}

/// What was done.
#[derive(Default)]
struct Counts {
    tables: usize,
    rows: u64,
    rows_copied: u64,
    objects: u64,
    objects_copied: AtomicU64,
    bytes_copied: AtomicU64,
}

/// Moves a deployment. Exit status 1 if the copy is not what the source is.
///
/// # Errors
/// If one of the stores cannot be opened or fails, or the destination holds something else.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    ensure!(arguments.from != arguments.to, "source and destination are the same");
    let from = Stores::open(&arguments.from, false).await.context("cannot open the source")?;
    let id = from.meta.read(accounts::deployment).await?;
    let id = id.context("the source was never served: there is nothing to move")?;
    let marker = from.objects.deployment_marker().await?;
    if marker.as_deref() != Some(&id) {
        bail!("metadata and blobs of the source do not belong together");
    }
    let to = Stores::open(&arguments.to, true).await.context("cannot open the destination")?;
    let bar = Bar::new(arguments.output.json);
    let migration = Migration { from, to, id, jobs: arguments.jobs.into(), bar };
    let outcome = migration.run(arguments.restart).await;
    migration.bar.clear();
    let (from, to) = (migration.from, migration.to);
    let hint = root_key_hint(&from, &to);
    from.close().await;
    to.close().await;
    let mut result = outcome?;
    result["next"] = hint.into();
    command::print(&result, arguments.output.json)?;
    let identical = result["identical"] == true;
    Ok(if identical { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Migration {
    async fn run(&self, restart: bool) -> anyhow::Result<serde_json::Value> {
        match copy::destination(&self.to.meta, &self.id).await? {
            Destination::Stranger(id) => bail!("the destination holds another deployment, {id}"),
            Destination::Done => {
                return Ok(json!({"deployment": self.id, "identical": true, "already_done": true}));
            }
            Destination::Begun if !restart => {}
            Destination::Begun | Destination::Empty => copy::begin(&self.to.meta, &self.id).await?,
        }
        match self.to.objects.deployment_marker().await? {
            Some(marker) if marker == self.id => {}
            None if self.to.objects.list(None, 1).await?.is_empty() => {
                self.to.objects.write_deployment_marker(&self.id).await?;
            }
            _ => bail!("the destination's blobs belong to another deployment"),
        }
        // Before anybody opens it: an opening without a key makes one.
        self.files()?;
        let mut counts = Counts::default();
        let mut differences = self.rows(&mut counts).await?;
        differences.extend(self.objects(&mut counts, false).await?);
        if differences.is_empty() {
            differences.extend(self.objects(&mut counts, true).await?);
        }
        let identical = differences.is_empty();
        if identical {
            copy::finish(&self.from.meta, &self.to.meta, &self.id).await?;
        }
        Ok(json!({
            "deployment": self.id,
            "identical": identical,
            "tables": counts.tables,
            "rows": counts.rows,
            "rows_copied": counts.rows_copied,
            "objects": counts.objects,
            "objects_copied": counts.objects_copied.into_inner(),
            "bytes_copied": counts.bytes_copied.into_inner(),
            "differences": differences,
        }))
    }

    /// Copies the tables, and compares them.
    async fn rows(&self, counts: &mut Counts) -> anyhow::Result<Vec<String>> {
        let tables = copy::tables()?;
        let (from, to) = (&self.from.meta, &self.to.meta);
        for table in &tables {
            self.bar.begin(table.name(), 0);
            let added = copy::copy(from, to, table, |rows| self.bar.advance(rows)).await;
            counts.rows_copied += added.with_context(|| format!("cannot copy table {}", table.name()))?;
        }
        counts.tables = tables.len();
        let mut differences = Vec::new();
        for table in &tables {
            self.bar.begin(&format!("comparing {}", table.name()), 0);
            let (theirs, ours) = (copy::sum(from, table).await?, copy::sum(to, table).await?);
            counts.rows += ours.rows;
            if theirs != ours {
                let (name, there, here) = (table.name(), theirs.rows, ours.rows);
                differences.push(format!(
                    "table {name} has {here} rows instead of {there}, or other ones: the source was used since an \
                     earlier attempt; begin anew with --restart"
                ));
            }
        }
        Ok(differences)
    }

    /// Copies the objects, or compares them.
    async fn objects(&self, counts: &mut Counts, compare: bool) -> anyhow::Result<Vec<String>> {
        let (total, bytes) = self.from.meta.read(copy::stored_total).await?;
        counts.objects = total;
        self.bar.begin(if compare { "comparing blobs" } else { "blobs" }, bytes);
        let mut differences = Vec::new();
        let mut after: Option<ObjectId> = None;
        loop {
            let batch = self.from.meta.read(move |tx| copy::stored(tx, after)).await?;
            let Some(last) = batch.last() else { break };
            after = Some(last.id);
            let counts = &*counts;
            let working = futures_util::stream::iter(batch).map(|object| async move {
                let outcome =
                    if compare { self.compare(object).await } else { self.copy(object, counts).await };
                self.bar.advance(object.stored_size);
                outcome
            });
            let mut working = working.buffer_unordered(self.jobs);
            while let Some(outcome) = working.next().await {
                differences.extend(outcome?);
            }
            ensure!(differences.len() <= SHOWN, "too much is wrong: {}", differences.join("; "));
        }
        Ok(differences)
    }

    /// Answers what is wrong with the object at the source.
    async fn copy(&self, object: StoredObject, counts: &Counts) -> anyhow::Result<Option<String>> {
        let StoredObject { id, stored_size, quarantined } = object;
        let (from, to) = (&*self.from.objects, &*self.to.objects);
        match objects::copy(from, to, id, stored_size).await {
            Ok(copied) => {
                counts.objects_copied.fetch_add(u64::from(copied), Ordering::Relaxed);
                let bytes = if copied { stored_size } else { 0 };
                counts.bytes_copied.fetch_add(bytes, Ordering::Relaxed);
                Ok(None)
            }
            // Nobody can read it any more; a new push replaces it.
            Err(ObjectError::NotFound(_) | ObjectError::Short { .. }) if quarantined => Ok(None),
            Err(error @ (ObjectError::NotFound(_) | ObjectError::Short { .. })) => {
                Ok(Some(format!("the source is damaged: {error}; `wharf scrub` puts that aside")))
            }
            Err(error) => Err(error).with_context(|| format!("cannot copy object {id}")),
        }
    }

    async fn compare(&self, object: StoredObject) -> anyhow::Result<Option<String>> {
        let StoredObject { id, quarantined, .. } = object;
        let theirs = match objects::digest(&*self.from.objects, id).await {
            Err(ObjectError::NotFound(_) | ObjectError::Short { .. }) if quarantined => return Ok(None),
            theirs => theirs.with_context(|| format!("cannot read object {id} of the source"))?,
        };
        let ours = match objects::digest(&*self.to.objects, id).await {
            Err(ObjectError::NotFound(_)) => None,
            ours => Some(ours.with_context(|| format!("cannot read object {id} of the destination"))?),
        };
        Ok((ours != Some(theirs)).then(|| format!("object {id} is not the same at the destination")))
    }

    /// Copies the keys from data directory to data directory.
    fn files(&self) -> anyhow::Result<()> {
        let (Some(from), Some(to)) = (&self.from.directory, &self.to.directory) else { return Ok(()) };
        for name in KEYS {
            copy_file(&from.join(name), &to.join(name)).with_context(|| format!("cannot copy {name}"))?;
        }
        Ok(())
    }
}

/// Copies a file that only its owner reads; one that is not there is none to copy.
fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(text) = client::read_file(from)? {
        client::replace_file(to, &text)?;
    }
    Ok(())
}

/// What the operator has to do about the root key.
fn root_key_hint(from: &Stores, to: &Stores) -> &'static str {
    match (&from.directory, &to.directory) {
        (Some(_), Some(_)) => "root-key was copied; with a key in WHARF_ROOT_KEY, give the same one",
        _ => {
            "give the new deployment the same root key: the file root-key in its data directory, or WHARF_ROOT_KEY"
        }
    }
}

/// How far it is: a bar on a terminal, else a line for each step.
struct Bar {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Bar {
    fn new(json: bool) -> Self {
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{msg}: {human_pos} {wide_bar} {elapsed}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, quiet: json }
    }

    fn begin(&self, step: &str, expected: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(step.to_owned());
                bar.set_length(expected);
                bar.set_position(0);
            }
            None if !self.quiet => drop(writeln!(std::io::stderr(), "{step}")),
            None => {}
        }
    }

    fn advance(&self, by: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(by);
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
