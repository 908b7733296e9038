//! The canonical request: one spelling for all requests that mean the same.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode};

use super::request::SignedRequest;

/// All but `A-Z a-z 0-9 - _ . ~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same, and `/` stays.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// The parameter a presigned target leaves out of what it signs.
const SIGNATURE_PARAMETER: &str = "X-Amz-Signature";

/// Builds the canonical request up to the payload's hash, which is not known before the body is read.
pub(super) fn canonical_request(
    request: &SignedRequest<'_>,
    signed_headers: &str,
    presigned: bool,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(request.method.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(canonical_path(request.path()).as_bytes());
    out.push(b'\n');
    out.extend_from_slice(canonical_query(request.query(), presigned).as_bytes());
    out.push(b'\n');
    for name in signed_headers.split(';') {
        push_header(&mut out, request, name);
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.as_bytes());
    out.push(b'\n');
    out
}

/// Normalises a path as every service but S3 does, on the still-encoded text, then encodes it once more:
/// `/a%20b/../c//` is `/c/`, `/a%20b` is `/a%2520b`.
pub fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len() + 1);
    for segment in &segments {
        out.push('/');
        out.extend(utf8_percent_encode(segment, RESERVED_IN_PATH));
    }
    if segments.is_empty() || path.ends_with('/') {
        out.push('/');
    }
    out
}

/// Decodes, encodes and sorts a query. `presigned` leaves out `X-Amz-Signature`. A plus is a plus.
pub fn canonical_query(query: &str, presigned: bool) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (reencode(name), reencode(value)))
        .filter(|(name, _)| !(presigned && name == SIGNATURE_PARAMETER))
        .collect();
    pairs.sort_unstable();
    let mut out = String::with_capacity(query.len());
    for (name, value) in &pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
    out
}

fn reencode(text: &str) -> String {
    let decoded: Vec<u8> = percent_decode_str(text).collect();
    percent_encode(&decoded, RESERVED).to_string()
}

/// Adds `name:value\n`; an absent header has an empty value.
fn push_header(out: &mut Vec<u8>, request: &SignedRequest<'_>, name: &str) {
    // A client of HTTP/2 may have signed the pseudo-header, which arrives here under its old name.
    let looked_up = if name == ":authority" { "host" } else { name };
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    for (position, value) in request.values(looked_up).enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push_collapsed(out, value);
    }
    out.push(b'\n');
}

/// Adds a value trimmed, with runs of spaces and line folds made one space.
fn push_collapsed(out: &mut Vec<u8>, value: &[u8]) {
    let mut in_gap = false;
    let mut in_fold = false;
    for &byte in value.trim_ascii() {
        match byte {
            b'\r' | b'\n' => (in_gap, in_fold) = (true, true),
            b' ' => in_gap = true,
            b'\t' if in_fold => {}
            _ => {
                if in_gap {
                    out.push(b' ');
                }
                (in_gap, in_fold) = (false, false);
                out.push(byte);
            }
        }
    }
}

/// Whether a list of signed headers has the form SigV4 wants: lower-case names, sorted, none twice.
pub(super) fn is_well_formed(signed_headers: &str) -> bool {
    let mut previous = "";
    signed_headers.split(';').all(|name| {
        let after = previous < name;
        previous = name;
        after && !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_encoded_twice() {
        for (path, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/./a/./b/", "/a/b/"),
            ("/a/../..", "/"),
            ("/../../a", "/a"),
            ("/a/b/..", "/a"),
            ("/a%20b", "/a%2520b"),
            ("/%2e%2e/a", "/%252e%252e/a"),
            ("/a b", "/a%20b"),
            ("/ሴ", "/%E1%88%B4"),
            ("/-_.~*:@+", "/-_.~%2A%3A%40%2B"),
        ] {
            assert_eq!(canonical_path(path), canonical, "{path:?}");
        }
    }

    #[test]
    fn queries_are_decoded_encoded_and_sorted() {
        for (query, canonical) in [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a", "a="),
            ("a=b=c", "a=b%3Dc"),
            ("a=+&b=%20", "a=%2B&b=%20"),
            ("a=/&a=%2f", "a=%2F&a=%2F"),
            ("a=2&a=10&a=1", "a=1&a=10&a=2"),
            ("a=%zz&%41=1", "A=1&a=%25zz"),
            ("&&a=1&", "a=1"),
        ] {
            assert_eq!(canonical_query(query, false), canonical, "{query:?}");
        }
        assert_eq!(canonical_query("X-Amz-Signature=x&a=1&X%2DAmz-Signature=y", true), "a=1");
        assert_eq!(canonical_query("X-Amz-Signature=x", false), "X-Amz-Signature=x");
    }

    #[test]
    fn header_values_are_trimmed_and_collapsed() {
        let collapsed = |value: &str| {
            let mut out = Vec::new();
            push_collapsed(&mut out, value.as_bytes());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(collapsed("  a   b \t"), "a b");
        assert_eq!(collapsed("\"a   b\""), "\"a b\"");
        assert_eq!(collapsed("a\r\n\t b\n   c"), "a b c");
        assert_eq!(collapsed("a\tb"), "a\tb");
        assert_eq!(collapsed(""), "");
    }

    #[test]
    fn a_signed_header_that_is_absent_counts_as_empty() {
        let request = SignedRequest { method: "GET", target: "/", headers: &[("Host", b"h:5050")] };
        let canonical = canonical_request(&request, "host;x-gone", false);
        assert_eq!(String::from_utf8(canonical).unwrap(), "GET\n/\n\nhost:h:5050\nx-gone:\n\nhost;x-gone\n");
    }

    #[test]
    fn signed_headers_are_lower_case_sorted_and_distinct() {
        assert!(is_well_formed("host"));
        assert!(is_well_formed("content-type;host;x-amz-date"));
        for bad in ["", "Host", "x-amz-date;host", "host;host", "host;", ";host", "host; x-a"] {
            assert!(!is_well_formed(bad), "{bad:?}");
        }
    }
}
