//! The manifests of a repository that belong together: indexes with their children, images, and what refers to them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::StreamExt as _;
use wharf_types::{Descriptor, Digest, Manifest, Tag};

use super::source::Source;

/// How deep indexes and referrers may nest.
const DEPTH: usize = 16;

/// Manifests by digest.
#[derive(Default)]
pub struct Graph {
    /// Those that were read.
    pub nodes: HashMap<Digest, Node>,
    /// Why others were not, and why some of those read cannot be imported.
    pub failed: BTreeMap<Digest, String>,
    /// What somebody asked for, or refers to such: whatever is imported for its own sake.
    roots: BTreeSet<Digest>,
}

/// A manifest.
pub struct Node {
    /// Its bytes and what they name.
    pub manifest: Manifest,
    /// Whether the destination has it.
    pub present: bool,
}

impl Node {
    /// The manifests that it needs.
    fn children(&self) -> impl Iterator<Item = Digest> {
        self.manifest.children().into_iter().map(|child| child.digest)
    }
}

/// What a walk needs to know.
pub struct Walk<'a> {
    /// Where it goes.
    pub source: &'a Source,
    /// The repository.
    pub name: &'a str,
    /// Its tags.
    pub tags: &'a BTreeMap<Tag, Digest>,
    /// What the destination has.
    pub there: &'a HashSet<Digest>,
    /// What earlier walks have seen.
    pub seen: &'a mut HashSet<Digest>,
    /// Requests at a time.
    pub jobs: usize,
}

impl Walk<'_> {
    /// Reads `roots`, what they need and what refers to any of it.
    pub async fn from(self, roots: Vec<Digest>) -> Graph {
        let mut graph = Graph { roots: roots.iter().copied().collect(), ..Graph::default() };
        let mut frontier: Vec<Digest> = roots.into_iter().filter(|root| self.seen.insert(*root)).collect();
        for _ in 0..DEPTH {
            if frontier.is_empty() {
                return graph;
            }
            let (source, name, tags) = (self.source, self.name, self.tags);
            let reading =
                futures_util::stream::iter(std::mem::take(&mut frontier)).map(|digest| async move {
                    let manifest = source.manifest(name, &digest).await;
                    let referrers = match &manifest {
                        Ok(Some(_)) => source.referrers(name, &digest, tags).await,
                        _ => Ok(Vec::new()),
                    };
                    (digest, manifest, referrers)
                });
            let mut reading = reading.buffer_unordered(self.jobs);
            while let Some((digest, manifest, referrers)) = reading.next().await {
                match referrers {
                    Ok(referrers) => {
                        graph.roots.extend(&referrers);
                        frontier.extend(referrers);
                    }
                    Err(error) => graph.fail(digest, &error.into()),
                }
                match manifest {
                    Ok(Some(manifest)) => {
                        let node = Node { manifest, present: self.there.contains(&digest) };
                        frontier.extend(node.children());
                        graph.nodes.insert(digest, node);
                    }
                    Ok(None) => {
                        graph.failed.insert(digest, format!("the source has no manifest {digest}"));
                    }
                    Err(error) => graph.fail(digest, &error.into()),
                }
            }
            frontier.retain(|digest| self.seen.insert(*digest));
        }
        for digest in frontier {
            graph.failed.insert(digest, format!("manifest {digest} is nested too deep"));
        }
        graph
    }
}

impl Graph {
    /// Notes why a manifest cannot be imported; the first reason counts.
    pub fn fail(&mut self, digest: Digest, error: &anyhow::Error) {
        self.failed.entry(digest).or_insert_with(|| format!("{error:#}"));
    }

    /// The blobs of manifests that the destination lacks, once each, with the manifests that name them.
    pub fn blobs(&self) -> Vec<(Descriptor, Vec<Digest>)> {
        let mut all: BTreeMap<Digest, (Descriptor, Vec<Digest>)> = BTreeMap::new();
        for (digest, node) in self.nodes.iter().filter(|(_, node)| !node.present) {
            for blob in node.manifest.blobs() {
                let (descriptor, named_by) =
                    all.entry(blob.digest).or_insert_with(|| (blob.clone(), Vec::new()));
                descriptor.foreign &= blob.foreign;
                named_by.push(*digest);
            }
        }
        all.into_values().collect()
    }

    /// What is to be pushed, in an order in which each manifest comes after what it needs and what it refers to; those
    /// of one step may go at the same time. Nothing of an image or index that cannot be had whole is among it, unless
    /// somebody else needs it: `earlier` are manifests of earlier walks that failed.
    pub fn steps(&mut self, earlier: &BTreeMap<Digest, String>) -> Vec<Vec<Digest>> {
        self.spread(earlier);
        let mut wanted = BTreeSet::new();
        let mut open: Vec<Digest> =
            self.roots.iter().filter(|root| !self.failed.contains_key(root)).copied().collect();
        while let Some(digest) = open.pop() {
            if let Some(node) = self.nodes.get(&digest)
                && wanted.insert(digest)
            {
                open.extend(node.children());
            }
        }
        let mut steps = Vec::new();
        let mut done: HashSet<Digest> = HashSet::new();
        while !wanted.is_empty() {
            let waits = |digest: &Digest| wanted.contains(digest) && !done.contains(digest);
            let ready = |digest: &&Digest| {
                self.nodes.get(*digest).is_none_or(|node| !self.needs(node).any(|n| waits(&n)))
            };
            let step: Vec<Digest> = wanted.iter().filter(ready).copied().collect();
            if step.is_empty() {
                // Nothing can name what names it: digests do not run in circles.
                break;
            }
            for digest in &step {
                wanted.remove(digest);
                done.insert(*digest);
            }
            steps.push(step);
        }
        steps
    }

    /// What has to be there before a manifest: its children, and for a referrer its subject.
    fn needs<'a>(&self, node: &'a Node) -> impl Iterator<Item = Digest> + use<'a> {
        node.children().chain(node.manifest.subject().map(|subject| subject.digest))
    }

    /// What needs or refers to something that failed, fails.
    fn spread(&mut self, earlier: &BTreeMap<Digest, String>) {
        loop {
            let mut more = Vec::new();
            for (digest, node) in self.nodes.iter().filter(|(digest, _)| !self.failed.contains_key(digest)) {
                let bad = |need: &Digest| self.failed.contains_key(need) || earlier.contains_key(need);
                if let Some(need) = self.needs(node).find(bad) {
                    more.push((*digest, format!("{digest} needs {need}, which failed")));
                }
            }
            if more.is_empty() {
                return;
            }
            self.failed.extend(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn add(graph: &mut Graph, text: String) -> Digest {
        let manifest = Manifest::parse(Bytes::from(text), None).unwrap();
        let digest = manifest.digest(wharf_types::DigestAlgorithm::Sha256);
        graph.nodes.insert(digest, Node { manifest, present: false });
        digest
    }

    fn image(graph: &mut Graph, name: &str, subject: Option<Digest>) -> Digest {
        let blob = Digest::sha256(name.as_bytes());
        let subject = subject.map(|digest| {
            format!(r#""subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1}},"#)
        });
        let subject = subject.unwrap_or_default();
        let config = format!(r#"{{"mediaType":"application/json","digest":"{blob}","size":3}}"#);
        add(
            graph,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",{subject}"config":{config},"layers":[]}}"#
            ),
        )
    }

    fn index(graph: &mut Graph, children: &[Digest]) -> Digest {
        let children: Vec<String> = children
            .iter()
            .map(|digest| format!(r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1}}"#))
            .collect();
        add(
            graph,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
                children.join(",")
            ),
        )
    }

    #[test]
    fn what_is_needed_comes_first_and_referrers_last() {
        let mut graph = Graph::default();
        let (one, two) = (image(&mut graph, "one", None), image(&mut graph, "two", None));
        let list = index(&mut graph, &[one, two]);
        let signature = image(&mut graph, "signature", Some(list));
        graph.roots.extend([list, signature]);
        let mut children = vec![one, two];
        children.sort();
        assert_eq!(graph.steps(&BTreeMap::new()), [children, vec![list], vec![signature]]);
    }

    #[test]
    fn nothing_of_a_broken_index_is_pushed_but_what_others_need() {
        let mut graph = Graph::default();
        let (good, broken) = (image(&mut graph, "good", None), image(&mut graph, "broken", None));
        let list = index(&mut graph, &[good, broken]);
        let signature = image(&mut graph, "signature", Some(list));
        graph.roots.extend([list, signature]);
        graph.fail(broken, &anyhow::anyhow!("damaged"));
        assert!(graph.steps(&BTreeMap::new()).is_empty());
        assert_eq!(graph.failed.len(), 3);
        graph.roots.insert(good);
        assert_eq!(graph.steps(&BTreeMap::new()), [vec![good]]);
        let earlier = BTreeMap::from([(good, String::new())]);
        assert!(index(&mut graph, &[good]) != list && graph.steps(&earlier) == [vec![good]]);
    }
}
