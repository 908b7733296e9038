//! The query protocol of IAM and STS: form in, XML out.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Reads a form body or a query string. Of a repeated name the first value counts.
pub fn read_form(form: &[u8]) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, value) in form_urlencoded::parse(form) {
        members.entry(name.into_owned()).or_insert_with(|| Value::String(value.into_owned()));
    }
    members
}

/// The success answer of an operation around its result, which is XML already.
pub fn xml_response(operation: &str, namespace: &str, result: &str, request_id: &str) -> Vec<u8> {
    format!(
        "<{operation}Response xmlns=\"{namespace}\"><{operation}Result>{result}</{operation}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    )
    .into_bytes()
}

/// Escapes text for XML. Characters XML cannot carry at all become `?`.
pub fn xml_escape(text: &str) -> Cow<'_, str> {
    let special =
        |c: char| matches!(c, '<' | '>' | '&' | '"' | '\'') || (c.is_control() && !"\t\n\r".contains(c));
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if special(c) => out.push('?'),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        let form = read_form(b"Action=Get+It&Version=2011-06-15&Tags=&Action=other&x=%3C%26");
        assert_eq!(form["Action"], "Get It");
        assert_eq!(form["Tags"], "");
        assert_eq!(form["x"], "<&");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(xml_escape("plain é"), "plain é");
        assert_eq!(xml_escape("a<b>&\"'\u{0}\n"), "a&lt;b&gt;&amp;&quot;&apos;?\n");
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_form_it_is_read(form in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            proptest::prop_assert!(read_form(&form).values().all(Value::is_string));
        }

        #[test]
        fn nothing_escaped_opens_or_ends_an_element(text in proptest::prelude::any::<String>()) {
            let escaped = xml_escape(&text);
            proptest::prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\0']));
        }
    }
}
