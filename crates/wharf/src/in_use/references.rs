//! Digests out of the texts by which runtimes call images.

use std::collections::BTreeSet;

use wharf_types::Digest;

/// The images found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Their digests.
    pub digests: BTreeSet<Digest>,
    /// References without one.
    pub ignored: u64,
}

impl Found {
    /// Notes a reference: `registry/repository:tag@sha256:…`, Kubernetes' `docker-pullable://…@sha256:…`, or a bare digest.
    /// Text without a digest is counted, empty text is not.
    pub fn add(&mut self, reference: &str) {
        let reference = reference.trim();
        if reference.is_empty() {
            return;
        }
        let digest = reference.rsplit_once('@').map_or(reference, |(_, digest)| digest);
        match digest.parse() {
            Ok(digest) => {
                self.digests.insert(digest);
            }
            Err(_) => self.ignored += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_taken_from_every_form_of_a_reference_once_and_the_rest_is_counted() {
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let mut found = Found::default();
        for line in [
            format!("  {one}  "),
            format!("127.0.0.1:5050/team/app:v1@{one}"),
            format!("docker-pullable://registry.example/team/app@{two}\r"),
            String::new(),
            "   ".to_owned(),
            "registry.example/team/app:v1".to_owned(),
            "registry.example/team/app@sha256:12".to_owned(),
            format!("{two}@"),
        ] {
            found.add(&line);
        }
        assert_eq!((found.digests, found.ignored), (BTreeSet::from([one, two]), 3));
    }
}
