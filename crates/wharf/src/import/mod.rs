//! `wharf import`: copies repositories of another registry, of ECR or of an image layout into a wharf, by the API of that
//! wharf. What is there already is recognised by its digest, so that an import that was interrupted goes on where it was.

mod arguments;
mod blobs;
mod connect;
mod ecr;
mod graph;
mod layout;
mod registry;
mod report;
mod repository;
mod source;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use wharf_types::{RepositoryName, TagFilter};

pub use self::arguments::Import as Arguments;
use self::ecr::Ecr;
use self::registry::Registry;
use self::report::{Progress, Report};
use self::source::{Found, Source};
use crate::settings::Settings;

/// Repositories imported at a time.
const REPOSITORIES: usize = 4;

/// Both ends, and what is to be done between them.
struct Import {
    source: Source,
    destination: Registry,
    ecr: Arc<Ecr>,
    options: Options,
    known: blobs::Known,
    jobs: Semaphore,
    progress: Progress,
}

/// How to import.
struct Options {
    tags: Vec<TagFilter>,
    jobs: usize,
    settings: bool,
    kms_key: Option<String>,
    dry_run: bool,
}

/// Imports. Exit status 1 if source and destination differ at the end.
///
/// # Errors
/// If one of them cannot be reached, or there is nothing to import: then nothing was changed.
pub async fn run(arguments: Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let (destination, ecr) = connect::destination(&arguments.to, settings).await?;
    let source = connect::source(&arguments).await?;
    let found = source.repositories().await?;
    let plan = plan(&arguments, found)?;
    let json = arguments.output.json;
    let import = Import {
        source,
        destination,
        ecr,
        known: blobs::Known::default(),
        jobs: Semaphore::new(arguments.jobs.into()),
        progress: Progress::new(json),
        options: Options {
            tags: arguments.tags,
            jobs: arguments.jobs.into(),
            settings: !arguments.no_settings,
            kms_key: arguments.kms_key,
            dry_run: arguments.dry_run,
        },
    };
    let importing = futures_util::stream::iter(&plan).map(|(found, to)| import.repository(found, to));
    // Each asks for so many manifests at a time itself.
    let repositories = importing.buffer_unordered(import.options.jobs.min(REPOSITORIES)).collect().await;
    let differences = if arguments.registry_policy { import.registry_policy().await } else { Vec::new() };
    import.progress.clear();
    let report = Report::new(import.options.dry_run, repositories, differences);
    report.print(json)?;
    Ok(if report.identical { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Which repository goes where.
fn plan(arguments: &Arguments, found: Vec<Found>) -> anyhow::Result<Vec<(Found, RepositoryName)>> {
    let mut plan = Vec::new();
    let mut names = BTreeSet::new();
    let several = found.len() > 1;
    for found in found {
        let to = match (&arguments.repository, &arguments.prefix) {
            (Some(_), _) if several => {
                bail!("the source has several repositories; --prefix puts them below a name")
            }
            (Some(to), _) => to.clone(),
            (None, _) if found.name.is_empty() => bail!("a layout has no name: say --repository NAME"),
            (None, Some(prefix)) => name(&format!("{prefix}/{}", found.name))?,
            (None, None) => name(&found.name)?,
        };
        if !names.insert(to.clone()) {
            bail!("two repositories would become `{to}`");
        }
        plan.push((found, to));
    }
    Ok(plan)
}

fn name(text: &str) -> anyhow::Result<RepositoryName> {
    text.parse()
        .with_context(|| format!("`{text}` cannot be a repository's name here; import it by --repository"))
}

impl Import {
    /// Copies the registry's own policy; in words, what differs then.
    async fn registry_policy(&self) -> Vec<String> {
        let Source::Registry { ecr: Some(from), .. } = &self.source else {
            return vec!["only an ecr:// source has a registry policy".to_owned()];
        };
        let copying = async {
            let Some(policy) = from.registry_policy().await? else { return Ok(true) };
            let there = self.ecr.registry_policy().await?;
            if ecr::same_document(Some(&policy), there.as_ref()) {
                return Ok(true);
            }
            if self.options.dry_run {
                return Ok(false);
            }
            self.ecr.put_registry_policy(&policy).await?;
            anyhow::Ok(ecr::same_document(Some(&policy), self.ecr.registry_policy().await?.as_ref()))
        };
        match copying.await {
            Ok(true) => Vec::new(),
            Ok(false) => vec!["the registry policy is another".to_owned()],
            Err(error) => vec![format!("the registry policy was not imported: {error:#}")],
        }
    }
}
