//! The request as it came over the wire.

/// What the verifier reads of a request. Everything is as received: no decoding, no normalisation.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// The method, e.g. `POST`.
    pub method: &'a str,
    /// The raw request target: path and query still encoded, e.g. `/a%20b?x=%2F`.
    pub target: &'a str,
    /// Headers in order of arrival, names in any case. Over HTTP/2 the caller passes `:authority` as `host`.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl<'a> SignedRequest<'a> {
    /// The path of the target, still encoded.
    pub(super) fn path(&self) -> &'a str {
        split_target(self.target).0
    }

    /// The query of the target, still encoded; empty if there is none.
    pub(super) fn query(&self) -> &'a str {
        split_target(self.target).1
    }

    /// The values of a header, in order of arrival.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// A header as text: trimmed, repeats joined with commas, bytes that are not UTF-8 replaced.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let mut joined: Option<String> = None;
        for value in self.values(name) {
            let value = String::from_utf8_lossy(value.trim_ascii());
            match &mut joined {
                None => joined = Some(value.into_owned()),
                Some(text) => {
                    text.push(',');
                    text.push_str(&value);
                }
            }
        }
        joined
    }
}

/// Splits at the first `?`; of a target in absolute form (a proxy's), scheme and authority are left out.
fn split_target(target: &str) -> (&str, &str) {
    let after_scheme = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let origin = match after_scheme {
        Some(rest) => &rest[rest.find(['/', '?']).unwrap_or(rest.len())..],
        None => target,
    };
    origin.split_once('?').unwrap_or((origin, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_split_without_decoding() {
        assert_eq!(split_target("/a%3Fb?c?d=%20"), ("/a%3Fb", "c?d=%20"));
        assert_eq!(split_target("/"), ("/", ""));
        assert_eq!(split_target(""), ("", ""));
        assert_eq!(split_target("http://host:1/p?q"), ("/p", "q"));
        assert_eq!(split_target("http://host?q"), ("", "q"));
    }

    #[test]
    fn repeated_headers_keep_their_order() {
        let headers: [(&str, &[u8]); 3] = [("A", b"1"), ("b", b"x"), ("a", b" 2 ")];
        let request = SignedRequest { method: "GET", target: "/", headers: &headers };
        assert_eq!(request.text("a").as_deref(), Some("1,2"));
        assert_eq!(request.text("c"), None);
    }
}
