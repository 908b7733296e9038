//! Importing one repository: its images in batches, then its settings, then the comparison of both ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::StreamExt as _;
use wharf_types::{Descriptor, Digest, RepositoryName, Tag};

use super::Import;
use super::blobs::{Outcome, Transfer};
use super::ecr::{Images, Settings};
use super::graph::{Graph, Walk};
use super::registry::RegistryError;
use super::report::RepositoryReport;
use super::source::{Found, Roots};

/// Images looked at together, so that manifests of a large repository are not all in memory.
const BATCH: usize = 256;
/// Failures that are told one by one.
const SHOWN: usize = 100;

/// What is known of a repository while it is imported.
struct Work<'a> {
    import: &'a Import,
    found: &'a Found,
    to: &'a RepositoryName,
    /// Whether it is there, so that it can be asked.
    exists: bool,
    there: Images,
    /// By what they point at.
    tags: HashMap<Digest, Vec<Tag>>,
    all_tags: BTreeMap<Tag, Digest>,
    seen: HashSet<Digest>,
    failed: BTreeMap<Digest, String>,
    report: RepositoryReport,
}

impl Import {
    /// Imports a repository; what fails is in the report.
    pub async fn repository(&self, found: &Found, to: &RepositoryName) -> RepositoryReport {
        let report =
            RepositoryReport { source: found.name.clone(), repository: to.to_string(), ..Default::default() };
        self.progress.begin(to.as_str());
        let mut work = Work {
            import: self,
            found,
            to,
            exists: false,
            there: Images::default(),
            tags: HashMap::new(),
            all_tags: BTreeMap::new(),
            seen: HashSet::new(),
            failed: BTreeMap::new(),
            report,
        };
        if let Err(error) = work.run().await {
            work.report.failures.push(format!("{error:#}"));
        }
        let mut report = work.report;
        let more = report.failures.len().saturating_sub(SHOWN);
        if more > 0 {
            report.failures.truncate(SHOWN);
            report.failures.push(format!("and {more} more"));
        }
        self.progress.end(&report);
        report
    }
}

impl Work<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        let Import { source, ecr, options, .. } = self.import;
        let settings = if options.settings { source.settings(self.found).await? } else { None };
        let roots = source.roots(self.found, options.jobs).await?;
        let archived = source.archived(self.found).await?;
        if archived > 0 {
            let note = format!("{archived} archived images were left out: restore them first to import them");
            self.report.notes.push(note);
        }
        self.select(roots.unusable.clone());
        self.all_tags.clone_from(&roots.tags);
        let described = ecr.repository(self.to.as_str()).await?;
        self.exists = described.is_some();
        if let Some(described) = &described {
            self.there = ecr.images(self.to.as_str()).await?;
            self.loosen(described, settings.as_ref()).await?;
        } else if !options.dry_run {
            ecr.create(self.to.as_str(), settings.as_ref(), options.kms_key.as_deref()).await?;
            (self.exists, self.report.created) = (true, true);
        }
        let mut chosen = self.choose(&roots);
        loop {
            for batch in chosen.chunks(BATCH) {
                self.batch(batch.to_vec()).await;
            }
            // Signatures by tag: `sha256-<hex>.sig` belongs to the image of that digest.
            chosen = self.companions(&roots);
            if chosen.is_empty() {
                break;
            }
        }
        self.report.tags = self.tags.values().map(|tags| tags.len() as u64).sum();
        self.report.failures.extend(self.failed.values().cloned());
        if let Some(settings) = &settings {
            self.settle(settings).await?;
        }
        self.compare(&roots).await
    }

    /// Notes the tags that cannot be.
    fn select(&mut self, unusable: Vec<String>) {
        let filters = &self.import.options.tags;
        let wanted = |name: &String| filters.is_empty() || filters.iter().any(|filter| filter.matches(name));
        for name in unusable.into_iter().filter(wanted) {
            self.report.failures.push(format!("`{name}` is no tag"));
        }
    }

    /// The images to begin with.
    fn choose(&mut self, roots: &Roots) -> Vec<Digest> {
        let filters = &self.import.options.tags;
        let mut chosen = BTreeSet::new();
        for (tag, digest) in &roots.tags {
            if filters.is_empty() || filters.iter().any(|filter| filter.matches(tag.as_str())) {
                self.tags.entry(*digest).or_default().push(tag.clone());
                chosen.insert(*digest);
            }
        }
        if filters.is_empty() {
            chosen.extend(&roots.untagged);
        }
        if filters.is_empty() && roots.complete {
            // Every manifest is listed, what refers to others too: those that are there need no second look.
            let there = |digest: &Digest| {
                let tags = self.tags.get(digest).into_iter().flatten();
                self.there.digests.contains(digest)
                    && tags.into_iter().all(|tag| self.there.tags.get(tag.as_str()) == Some(digest))
            };
            let before = chosen.len();
            chosen.retain(|digest| !there(digest));
            self.report.done.manifests_present += (before - chosen.len()) as u64;
        }
        chosen.into_iter().collect()
    }

    /// Images that are tagged for one that was chosen, and not looked at yet.
    fn companions(&mut self, roots: &Roots) -> Vec<Digest> {
        if self.import.options.tags.is_empty() {
            return Vec::new();
        }
        let mut more = BTreeSet::new();
        for (tag, digest) in &roots.tags {
            let subject = tag.as_str().split('.').next().unwrap_or_default().replacen('-', ":", 1);
            let is_new = |tags: Option<&Vec<Tag>>| tags.is_none_or(|tags| !tags.contains(tag));
            if subject.parse().is_ok_and(|subject: Digest| self.seen.contains(&subject))
                && is_new(self.tags.get(digest))
            {
                self.tags.entry(*digest).or_default().push(tag.clone());
                // It may have been seen as what somebody needs; now it has a tag to get.
                self.seen.remove(digest);
                more.insert(*digest);
            }
        }
        more.into_iter().collect()
    }

    async fn batch(&mut self, roots: Vec<Digest>) {
        let Import { source, options, .. } = self.import;
        let walk = Walk {
            source,
            name: &self.found.name,
            tags: &self.all_tags,
            there: &self.there.digests,
            seen: &mut self.seen,
            jobs: options.jobs,
        };
        let mut graph = walk.from(roots).await;
        self.blobs(&mut graph).await;
        let steps = graph.steps(&self.failed);
        let failed: HashSet<Digest> = graph.failed.keys().copied().collect();
        self.failed.append(&mut graph.failed);
        if !failed.is_empty() {
            for tag in failed.iter().filter_map(|digest| self.tags.get(digest)).flatten() {
                self.report.failures.push(format!("tag `{tag}` was not imported"));
            }
        }
        for step in steps {
            self.push(&graph, step).await;
        }
    }

    /// Copies what the manifests name.
    async fn blobs(&mut self, graph: &mut Graph) {
        let blobs = graph.blobs();
        self.import.progress.expect(blobs.iter().map(|(blob, _)| blob.size).sum());
        let this = &*self;
        let copying = futures_util::stream::iter(blobs)
            .map(|(blob, named_by)| async move { (this.blob(&blob).await, blob, named_by) });
        let mut copying = copying.buffer_unordered(this.import.options.jobs);
        let mut done = this.report.done;
        while let Some((outcome, blob, named_by)) = copying.next().await {
            match outcome {
                Ok(outcome) => done.blob(outcome, blob.size),
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    for digest in named_by {
                        graph.fail(digest, &anyhow::anyhow!("{digest} was not imported: {error:#}"));
                    }
                }
            }
        }
        drop(copying);
        self.report.done = done;
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Outcome, RegistryError> {
        let Import { source, destination, options, progress, known, jobs, .. } = self.import;
        if options.dry_run {
            let there = self.exists && destination.has_blob(self.to.as_str(), &blob.digest).await?;
            return Ok(if there { Outcome::Present } else { Outcome::Copied });
        }
        let transfer = Transfer {
            source,
            from: &self.found.name,
            destination,
            to: self.to,
            blob,
            progress: &|bytes| progress.advance(bytes),
            jobs,
        };
        let outcome = transfer.run(known).await?;
        if outcome != Outcome::Copied {
            progress.advance(blob.size);
        }
        Ok(outcome)
    }

    /// Pushes manifests that do not need each other, with their tags.
    async fn push(&mut self, graph: &Graph, step: Vec<Digest>) {
        let this = &*self;
        let mut pushing = futures_util::stream::iter(step)
            .map(|digest| async move { (digest, this.put(graph, &digest).await) })
            .buffer_unordered(this.import.options.jobs);
        let mut outcomes = Vec::new();
        while let Some(outcome) = pushing.next().await {
            outcomes.push(outcome);
        }
        drop(pushing);
        for (digest, outcome) in outcomes {
            match outcome {
                Ok(Pushed { copied, tags, refused }) => {
                    let done = &mut self.report.done;
                    *if copied { &mut done.manifests_copied } else { &mut done.manifests_present } += 1;
                    done.tags_set += tags;
                    self.report.failures.extend(refused);
                }
                Err(error) => {
                    self.failed.insert(digest, format!("{digest} was not imported: {error:#}"));
                }
            }
        }
    }

    async fn put(&self, graph: &Graph, digest: &Digest) -> anyhow::Result<Pushed> {
        let Import { destination, options, .. } = self.import;
        let Some(node) = graph.nodes.get(digest) else { return Ok(Pushed::default()) };
        let wanted = self.tags.get(digest).into_iter().flatten();
        let points_elsewhere = |tag: &&Tag| self.there.tags.get(tag.as_str()) != Some(digest);
        let tags: Vec<Tag> = wanted.filter(points_elsewhere).cloned().collect();
        let mut pushed = Pushed { copied: !node.present, tags: tags.len() as u64, refused: Vec::new() };
        if options.dry_run || (node.present && tags.is_empty()) {
            return Ok(pushed);
        }
        let (to, manifest) = (self.to.as_str(), &node.manifest);
        match destination.put_manifest(to, digest, manifest, &tags).await {
            Ok(()) => return Ok(pushed),
            Err(error) if tags.is_empty() => return Err(error.into()),
            Err(_) => {}
        }
        // One of the tags may be taken for good: the image and the others go without it.
        if !node.present {
            destination.put_manifest(to, digest, manifest, &[]).await?;
        }
        for tag in tags {
            if let Err(error) =
                destination.put_manifest(to, digest, manifest, std::slice::from_ref(&tag)).await
            {
                pushed.tags -= 1;
                let error = anyhow::Error::from(error);
                pushed.refused.push(format!("tag `{tag}` was not set: {error:#}"));
            }
        }
        Ok(pushed)
    }

    /// Lets tags move before they are to, where the source lets them.
    async fn loosen(&self, described: &serde_json::Value, settings: Option<&Settings>) -> anyhow::Result<()> {
        let Some(settings) = settings else { return Ok(()) };
        if !self.import.options.dry_run
            && settings.mutability == "MUTABLE"
            && described["imageTagMutability"] != "MUTABLE"
        {
            self.import.ecr.put_mutability(self.to.as_str(), settings).await?;
        }
        Ok(())
    }

    /// Makes the repository what the source's is, once its images are there: no tag is immutable too early, no rule
    /// deletes what has just come.
    async fn settle(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let Import { ecr, options, .. } = self.import;
        let to = self.to.as_str();
        let Some(described) = ecr.repository(to).await? else {
            return Ok(());
        };
        let mut there = ecr.settings(&described).await?;
        if !options.dry_run && self.report.failures.is_empty() {
            self.report.failures.extend(ecr.apply(to, settings, &there).await);
            if let Some(described) = ecr.repository(to).await? {
                there = ecr.settings(&described).await?;
            }
        }
        self.report.differences.extend(settings.differences(&there));
        Ok(())
    }

    /// Compares tags and images of both ends by the destination's own list.
    async fn compare(&mut self, roots: &Roots) -> anyhow::Result<()> {
        if !self.exists {
            self.report.differences.push("the repository is missing".to_owned());
            return Ok(());
        }
        let there = self.import.ecr.images(self.to.as_str()).await?;
        let mut differences = BTreeSet::new();
        let mut wanted: BTreeSet<Digest> = self.seen.iter().copied().collect();
        for (digest, tags) in &self.tags {
            wanted.insert(*digest);
            for tag in tags {
                match there.tags.get(tag.as_str()) {
                    Some(actual) if actual == digest => {}
                    Some(actual) => {
                        differences.insert(format!("tag `{tag}` is {actual} instead of {digest}"));
                    }
                    None => drop(differences.insert(format!("tag `{tag}` is missing"))),
                }
            }
        }
        if self.import.options.tags.is_empty() {
            wanted.extend(&roots.untagged);
        }
        for digest in wanted.iter().filter(|digest| !there.digests.contains(digest)) {
            differences.insert(format!("image {digest} is missing"));
        }
        self.report.differences.extend(differences);
        let theirs: HashSet<&str> = roots.tags.keys().map(Tag::as_str).collect();
        let own = there.tags.keys().filter(|tag| !theirs.contains(&***tag)).count();
        if own > 0 && self.import.options.tags.is_empty() {
            self.report.notes.push(format!("{own} tags are only at the destination"));
        }
        Ok(())
    }
}

/// What became of a manifest.
#[derive(Default)]
struct Pushed {
    /// Whether the destination did not have it.
    copied: bool,
    /// Tags that were set.
    tags: u64,
    /// Tags that could not be set, and why.
    refused: Vec<String>,
}
