//! `n` and `last`: how `tags/list` and `_catalog` are cut into pages, in both dialects.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use wharf_registry::{Dialect, NamePage, Names, RegistryError, WrittenList};

use super::answer;
use super::error::OciError;
use super::query::Query;

/// Larger pages are cut to this, with a `Link` to the rest: an answer is made in memory.
const MOST: usize = 10_000;
/// Names read at once for an answer without an end.
pub(crate) const STREAMED: usize = 10_000;

/// The page that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    /// Names after this one.
    pub(crate) after: Option<String>,
    /// At most so many; `None` = all, to be streamed.
    pub(crate) limit: Option<usize>,
    opaque: bool,
}

impl Paging {
    /// Reads `n` and `last`.
    ///
    /// # Errors
    /// `n` that is no number; in the `ecr` dialect `n` out of 1 to 1000, and `last` that was not made here.
    pub(crate) fn of(query: &Query<'_>, dialect: Dialect) -> Result<Self, OciError> {
        let number = |text: &str| {
            let shown: String = text.chars().take(32).collect();
            let message = format!("invalid number of results requested: '{shown}'");
            OciError::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message)
        };
        let asked: Option<u64> = match query.get("n") {
            // `u64::from_str` takes a plus sign.
            Some(text) if text.starts_with('+') => return Err(number(&text)),
            _ => query.parsed("n", number)?,
        };
        let asked = asked.map(|n| usize::try_from(n).map_or(MOST, |n| n.min(MOST)));
        let last = query.get("last").filter(|last| !last.is_empty());
        let (default, largest) = dialect.list_page();
        let Some(largest) = largest else {
            return Ok(Self { after: last.map(Into::into), limit: asked.or(default), opaque: false });
        };
        if asked == Some(0) {
            return Err(constraint("Member must have value greater than or equal to 1".into()));
        }
        if asked.is_some_and(|n| n > largest) {
            return Err(constraint(format!("Member must have value less than or equal to {largest}")));
        }
        let after = last.map(|last| reveal(&last)).transpose()?;
        Ok(Self { after, limit: asked.or(default), opaque: true })
    }

    /// A page of names: `{"name":…,"tags":[…]}` and the like. `head` is the JSON before the list.
    pub(crate) fn write(&self, head: &str, page: &NamePage, path: &str) -> WrittenList {
        let mut json = String::with_capacity(head.len() + page.names.len() * 24 + 2);
        json.push_str(head);
        Self::write_names(&mut json, &page.names, true);
        json.push_str("]}");
        let link = match (page.more, page.names.last(), self.limit) {
            (true, Some(last), Some(limit)) => {
                let last = if self.opaque { URL_SAFE_NO_PAD.encode(last) } else { last.to_owned() };
                Some(answer::next_link(path, &[("n", &limit.to_string()), ("last", &last)]).into())
            }
            _ => None,
        };
        WrittenList { body: json.into(), link, filtered: false, content: false }
    }

    /// Writes members of a JSON list; `first`: nothing stands before them. They need no escaping, because what made
    /// the names allows no such characters.
    pub(crate) fn write_names(json: &mut String, names: &Names, first: bool) {
        let mut separator = if first { "\"" } else { ",\"" };
        for name in names.iter() {
            json.push_str(separator);
            json.push_str(name);
            json.push('"');
            separator = ",\"";
        }
    }
}

fn constraint(text: String) -> OciError {
    RegistryError::invalid("maxResults", text).into()
}

/// The name behind an opaque `last`.
fn reveal(last: &str) -> Result<String, OciError> {
    let bytes = URL_SAFE_NO_PAD.decode(last).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        let text = "Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'";
        OciError::unsupported(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(query: &str, dialect: Dialect) -> Result<Paging, (&'static str, String)> {
        let uri: http::Uri = format!("/v2/_catalog?{query}").parse().unwrap();
        Paging::of(&Query::of(&uri), dialect).map_err(|error| (error.code(), format!("{error:?}")))
    }

    #[test]
    fn pages_by_the_specification() {
        let page =
            |limit, after: Option<&str>| Ok(Paging { after: after.map(Into::into), limit, opaque: false });
        assert_eq!(paging("", Dialect::Spec), page(None, None));
        assert_eq!(paging("n=0", Dialect::Spec), page(Some(0), None));
        assert_eq!(paging("n=5000&last=v1", Dialect::Spec), page(Some(5000), Some("v1")));
        assert_eq!(paging("last=", Dialect::Spec), page(None, None));
        for bad in ["n=", "n=-1", "n=%2B1", "n=x", "n=99999999999999999999"] {
            assert_eq!(paging(bad, Dialect::Spec).unwrap_err().0, "PAGINATION_NUMBER_INVALID", "{bad}");
        }
    }

    #[test]
    fn pages_as_ecr_makes_them() {
        assert_eq!(paging("", Dialect::Ecr).unwrap().limit, Some(100));
        assert_eq!(paging("n=1000", Dialect::Ecr).unwrap().limit, Some(1000));
        let (code, text) = paging("n=1001", Dialect::Ecr).unwrap_err();
        assert_eq!(code, "UNSUPPORTED");
        assert!(text.contains("'Member must have value less than or equal to 1000'"), "{text}");
        assert_eq!(paging("n=0", Dialect::Ecr).unwrap_err().0, "UNSUPPORTED");
        assert_eq!(paging("last=v1!", Dialect::Ecr).unwrap_err().0, "UNSUPPORTED");
    }

    fn page_of(names: &[&str], more: bool) -> NamePage {
        let mut page = NamePage::default();
        names.iter().for_each(|name| page.names.push(name));
        page.more = more;
        page
    }

    #[test]
    fn the_link_leads_to_the_next_page() {
        for (dialect, last) in [(Dialect::Spec, "v2"), (Dialect::Ecr, "djI")] {
            let first = paging("n=2", dialect).unwrap();
            let list = first.write("{\"tags\":[", &page_of(&["v1", "v2"], true), "/v2/a/tags/list");
            assert_eq!(list.link.unwrap(), format!("</v2/a/tags/list?n=2&last={last}>; rel=\"next\""));
            assert_eq!(list.body, "{\"tags\":[\"v1\",\"v2\"]}");
            assert_eq!(paging(&format!("n=2&last={last}"), dialect).unwrap().after.as_deref(), Some("v2"));
        }
        let nothing = paging("n=0", Dialect::Spec).unwrap().write("{\"tags\":[", &page_of(&[], true), "/");
        assert_eq!((nothing.link, nothing.body), (None, "{\"tags\":[]}".into()));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_asked_for_pages_stay_in_bounds(n in "[0-9+-]{0,22}|.{0,6}", last in "\\PC{0,20}", ecr in proptest::prelude::any::<bool>()) {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let query = format!("n={}&last={}", encode(&n), encode(&last));
            if let Ok(page) = paging(&query, if ecr { Dialect::Ecr } else { Dialect::Spec }) {
                let most = if ecr { 1000 } else { MOST };
                proptest::prop_assert!(page.limit.is_none_or(|limit| limit <= most));
                // What a link repeats is encoded: nothing of it can end a line or the link.
                if let Some(link) = page.write("{\"tags\":[", &page_of(&["v1"], true), "/v2/aa/tags/list").link {
                    proptest::prop_assert!(link.iter().all(|byte| (32..127).contains(byte)));
                }
            }
        }
    }
}
