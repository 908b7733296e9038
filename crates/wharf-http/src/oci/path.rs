//! What a path below `/v2/` names (distribution-spec, "Endpoints"). Read from its end, because repository names contain
//! slashes and may contain words like `manifests` or `blobs`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use wharf_types::{
    Digest, DigestError, NameError, Reference, ReferenceError, RepositoryName, TagError, UploadId,
};

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(RepositoryName, UploadId),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
}

/// What sort of thing a path names; the routing table's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Base,
    Catalog,
    Tags,
    Manifest,
    Blob,
    Uploads,
    Upload,
    Referrers,
}

/// Why a path names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// No endpoint looks like this.
    Unknown,
    /// The repository's name breaks the rules.
    Name(NameError),
    /// Percent-encoding that is broken, or that hides a slash or a control character.
    Encoding,
    /// Not a tag.
    Tag(TagError),
    /// Not a digest, or one of an algorithm that nothing here is stored under.
    Digest(DigestError),
    /// Not the form of an upload's id, so there is no such upload.
    Upload(String),
}

impl Path {
    /// Parses a request's raw path.
    ///
    /// # Errors
    /// See [`PathError`]. The name is judged before what follows it.
    pub(crate) fn parse(raw: &str) -> Result<Self, PathError> {
        let rest = match raw.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or(PathError::Unknown)?,
            None => return Err(PathError::Unknown),
        };
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        let (head, last) = rest.rsplit_once('/').ok_or(PathError::Unknown)?;
        if let Some(raw_name) = head.strip_suffix("/blobs/uploads") {
            let name = name(raw_name)?;
            return if last.is_empty() { Ok(Self::Uploads(name)) } else { upload(name, last) };
        }
        let (raw_name, family) = head.rsplit_once('/').ok_or(PathError::Unknown)?;
        match (family, last) {
            ("tags", "list") => Ok(Self::Tags(name(raw_name)?)),
            // Without its final slash; no digest looks like this.
            ("blobs", "uploads") => Ok(Self::Uploads(name(raw_name)?)),
            ("manifests", _) => manifest(name(raw_name)?, last),
            ("blobs", _) => Ok(Self::Blob(name(raw_name)?, digest(last)?)),
            ("referrers", _) => Ok(Self::Referrers(name(raw_name)?, digest(last)?)),
            _ => Err(PathError::Unknown),
        }
    }

    /// The routing table's key.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Base => Place::Base,
            Self::Catalog => Place::Catalog,
            Self::Tags(_) => Place::Tags,
            Self::Manifest(..) => Place::Manifest,
            Self::Blob(..) => Place::Blob,
            Self::Uploads(_) => Place::Uploads,
            Self::Upload(..) => Place::Upload,
            Self::Referrers(..) => Place::Referrers,
        }
    }

    /// The repository it lies in.
    pub(crate) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }
}

impl Place {
    /// Every place, in the order of the documentation.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 8] = [
        Self::Base,
        Self::Catalog,
        Self::Tags,
        Self::Manifest,
        Self::Blob,
        Self::Uploads,
        Self::Upload,
        Self::Referrers,
    ];

    /// Its form, as the specification writes it.
    pub(crate) fn pattern(self) -> &'static str {
        match self {
            Self::Base => "/v2/",
            Self::Catalog => "/v2/_catalog",
            Self::Tags => "/v2/<name>/tags/list",
            Self::Manifest => "/v2/<name>/manifests/<reference>",
            Self::Blob => "/v2/<name>/blobs/<digest>",
            Self::Uploads => "/v2/<name>/blobs/uploads/",
            Self::Upload => "/v2/<name>/blobs/uploads/<id>",
            Self::Referrers => "/v2/<name>/referrers/<digest>",
        }
    }
}

/// Decodes each component for itself, so that an encoded slash never becomes a separator.
fn name(raw: &str) -> Result<RepositoryName, PathError> {
    if !raw.contains('%') {
        return raw.parse().map_err(PathError::Name);
    }
    let mut decoded = String::with_capacity(raw.len());
    for (index, component) in raw.split('/').enumerate() {
        if index > 0 {
            decoded.push('/');
        }
        decoded.push_str(&decode(component)?);
    }
    decoded.parse().map_err(PathError::Name)
}

fn manifest(name: RepositoryName, raw: &str) -> Result<Path, PathError> {
    match decode(raw)?.parse() {
        Ok(reference) => Ok(Path::Manifest(name, reference)),
        Err(ReferenceError::Digest(error)) => Err(PathError::Digest(error)),
        Err(ReferenceError::Tag(error)) => Err(PathError::Tag(error)),
    }
}

fn digest(raw: &str) -> Result<Digest, PathError> {
    decode(raw)?.parse().map_err(PathError::Digest)
}

fn upload(name: RepositoryName, raw: &str) -> Result<Path, PathError> {
    match raw.parse() {
        Ok(id) => Ok(Path::Upload(name, id)),
        Err(_) => Err(PathError::Upload(raw.chars().take(64).collect())),
    }
}

/// One component without its percent-encoding.
fn decode(component: &str) -> Result<Cow<'_, str>, PathError> {
    if !component.contains('%') {
        return Ok(Cow::Borrowed(component));
    }
    let escapes_are_whole = component
        .split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
    if !escapes_are_whole {
        return Err(PathError::Encoding);
    }
    let decoded = percent_decode_str(component).decode_utf8().map_err(|_| PathError::Encoding)?;
    if decoded.contains(|c: char| c == '/' || c == '\\' || c.is_control()) {
        return Err(PathError::Encoding);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const UPLOAD: &str = "6f0f1f9a-60a4-4d0c-9d3f-0d6f6f2b8f11";

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn digest() -> Digest {
        DIGEST.parse().unwrap()
    }

    #[test]
    fn every_endpoint_has_a_path() {
        let tag = |text: &str| Reference::Tag(text.parse().unwrap());
        let table = [
            ("/v2/".to_owned(), Path::Base),
            ("/v2".into(), Path::Base),
            ("/v2/_catalog".into(), Path::Catalog),
            ("/v2/team/api/tags/list".into(), Path::Tags(name("team/api"))),
            ("/v2/team/api/manifests/v1".into(), Path::Manifest(name("team/api"), tag("v1"))),
            (
                format!("/v2/team/api/manifests/{DIGEST}"),
                Path::Manifest(name("team/api"), Reference::Digest(digest())),
            ),
            (format!("/v2/team/api/blobs/{DIGEST}"), Path::Blob(name("team/api"), digest())),
            (format!("/v2/team/api/referrers/{DIGEST}"), Path::Referrers(name("team/api"), digest())),
            ("/v2/team/api/blobs/uploads/".into(), Path::Uploads(name("team/api"))),
            ("/v2/team/api/blobs/uploads".into(), Path::Uploads(name("team/api"))),
            (
                format!("/v2/team/api/blobs/uploads/{UPLOAD}"),
                Path::Upload(name("team/api"), UPLOAD.parse().unwrap()),
            ),
        ];
        for (raw, expected) in table {
            assert_eq!(Path::parse(&raw), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn names_may_contain_the_words_of_paths() {
        let table = [
            ("/v2/manifests/manifests/v1".to_owned(), "manifests"),
            ("/v2/a/manifests/manifests/tags".into(), "a/manifests"),
            ("/v2/blobs/uploads/tags/list".into(), "blobs/uploads"),
            ("/v2/a/blobs/uploads/manifests/list".into(), "a/blobs/uploads"),
            (format!("/v2/a/blobs/uploads/blobs/{DIGEST}"), "a/blobs/uploads"),
            (format!("/v2/tags/list/referrers/{DIGEST}"), "tags/list"),
            ("/v2/blobs/uploads/blobs/uploads/".into(), "blobs/uploads"),
            ("/v2/v2/v2/tags/list".into(), "v2/v2"),
        ];
        for (raw, expected) in table {
            let path = Path::parse(&raw).unwrap_or_else(|error| panic!("{raw}: {error:?}"));
            assert_eq!(path.repository(), Some(&name(expected)), "{raw}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_once_and_hides_nothing() {
        let encoded = format!("/v2/team/api/blobs/{}", DIGEST.replace(':', "%3A"));
        assert_eq!(Path::parse(&encoded), Ok(Path::Blob(name("team/api"), digest())));
        assert_eq!(Path::parse("/v2/te%61m/api/tags/list"), Ok(Path::Tags(name("team/api"))));
        for raw in [
            "/v2/team%2Fapi/tags/list",
            "/v2/team%5capi/tags/list",
            "/v2/team%/tags/list",
            "/v2/team%4/tags/list",
            "/v2/team%zz/tags/list",
            "/v2/team%00/tags/list",
            "/v2/team%ff/tags/list",
            "/v2/team/manifests/a%2Fb",
        ] {
            assert_eq!(Path::parse(raw), Err(PathError::Encoding), "{raw}");
        }
        assert!(matches!(Path::parse("/v2/te%2561m/tags/list"), Err(PathError::Name(_))));
        assert!(matches!(Path::parse("/v2/a%2e%2e/tags/list"), Err(PathError::Name(_))));
    }

    #[test]
    fn traversal_and_bad_names_are_refused() {
        for raw in [
            "/v2/../tags/list",
            "/v2/a/../b/tags/list",
            "/v2/%2e%2e/aa/tags/list",
            "/v2/./aa/tags/list",
            "/v2//aa/tags/list",
            "/v2/aa//tags/list",
            "/v2/UPPER/tags/list",
            "/v2/a/tags/list",
            "/v2/aa/../../etc/passwd/manifests/v1",
        ] {
            assert!(matches!(Path::parse(raw), Err(PathError::Name(_))), "{raw}: {:?}", Path::parse(raw));
        }
    }

    #[test]
    fn what_is_no_endpoint() {
        for raw in [
            "",
            "/",
            "/v1/",
            "/v2x",
            "/v2/aa",
            "/v2/tags/list",
            "/v2/manifests/v1",
            "/v2/aa/tags/x",
            "/v2/aa/tags/list/",
        ] {
            assert_eq!(Path::parse(raw), Err(PathError::Unknown), "{raw}");
        }
        assert!(matches!(Path::parse("/v2/aa/blobs/sha256:beef"), Err(PathError::Digest(_))));
        assert!(matches!(Path::parse("/v2/aa/manifests/sha256:beef"), Err(PathError::Digest(_))));
        assert!(matches!(Path::parse("/v2/aa/manifests/-bad"), Err(PathError::Tag(_))));
        assert!(matches!(Path::parse("/v2/aa/manifests/"), Err(PathError::Tag(_))));
        assert!(matches!(Path::parse("/v2/aa/blobs/uploads/nothing"), Err(PathError::Upload(_))));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(raw in "(/v2/)?([a-z]{1,3}|manifests|blobs|uploads|tags|list|%[0-9a-g]{0,3}|[./:é\u{0}-\u{7f}]){0,12}") {
            let _ = Path::parse(&raw);
        }

        #[test]
        fn a_parsed_path_keeps_its_name(a in "[a-z]{2,8}", b in "(manifests|blobs|uploads|tags|list)(/(blobs|uploads|tags|list)){0,3}") {
            let raw = format!("/v2/{a}/{b}/manifests/latest");
            let expected = format!("{a}/{b}");
            let path = Path::parse(&raw).unwrap();
            prop_assert_eq!(path.repository().unwrap().as_str(), expected);
        }
    }
}
