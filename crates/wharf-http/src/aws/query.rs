//! The query protocol of IAM and STS: form in, XML out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use wharf_types::Timestamp;

use super::{Answer, AwsError};

/// Deepest nesting of a form's names; the models need five.
const DEEPEST: usize = 12;

/// What RFC 3986 leaves as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Reads a form body or a query string. Of a repeated name the first value counts.
pub fn read_form(form: &[u8]) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, value) in form_urlencoded::parse(form) {
        members.entry(name.into_owned()).or_insert_with(|| Value::String(value.into_owned()));
    }
    members
}

/// Puts the members of a form into their structures and lists: `Tags.member.1.Key=k` is one structure in a list.
///
/// # Errors
/// [`AwsError::Serialization`] when a name is both a value and a structure, or nested too deeply.
pub fn nest(form: Map<String, Value>) -> Result<Map<String, Value>, AwsError> {
    let mut root = Map::new();
    for (name, value) in form {
        let parts: Vec<&str> = name.split('.').collect();
        let refused = || {
            let shown: String = name.chars().take(128).collect();
            AwsError::Serialization(format!("The parameter {shown} does not fit the request"))
        };
        let (Some((last, structures)), true) = (parts.split_last(), parts.len() <= DEEPEST) else {
            return Err(refused());
        };
        let mut at = &mut root;
        for part in structures {
            let inner = at.entry(*part).or_insert_with(|| Value::Object(Map::new()));
            at = inner.as_object_mut().ok_or_else(refused)?;
        }
        if at.insert((*last).to_owned(), value).is_some() {
            return Err(refused());
        }
    }
    Ok(root.into_iter().map(|(name, value)| (name, with_lists(value))).collect())
}

/// Makes lists of what was written with `member.1`, `member.2`, …
fn with_lists(value: Value) -> Value {
    let Value::Object(mut members) = value else { return value };
    if members.len() == 1
        && let Some(Value::Object(items)) = members.get("member")
        && items.keys().all(|position| position.parse::<u32>().is_ok())
        && let Some(Value::Object(items)) = members.remove("member")
    {
        let numbered = |(position, item): (String, Value)| Some((position.parse::<u32>().ok()?, item));
        let items: BTreeMap<u32, Value> = items.into_iter().filter_map(numbered).collect();
        return Value::Array(items.into_values().map(with_lists).collect());
    }
    Value::Object(members.into_iter().map(|(name, value)| (name, with_lists(value))).collect())
}

/// The inside of an element, written one element after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xml(String);

impl Xml {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An element with a text.
    #[must_use]
    pub fn text(self, name: &str, text: &str) -> Self {
        self.raw(name, &xml_escape(text))
    }

    /// An element with a text, if there is one.
    #[must_use]
    pub fn optional(self, name: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// An element with a whole number.
    #[must_use]
    pub fn number(self, name: &str, number: i64) -> Self {
        self.raw(name, &number.to_string())
    }

    /// An element with `true` or `false`.
    #[must_use]
    pub fn flag(self, name: &str, flag: bool) -> Self {
        self.raw(name, if flag { "true" } else { "false" })
    }

    /// An element with a time, in whole seconds.
    #[must_use]
    pub fn time(self, name: &str, time: Timestamp) -> Self {
        let micros = time.as_micros();
        self.raw(name, &Timestamp::from_micros(micros - micros.rem_euclid(1_000_000)).to_rfc3339())
    }

    /// An element with a policy: IAM percent-encodes the JSON.
    #[must_use]
    pub fn document(self, name: &str, document: &str) -> Self {
        self.raw(name, &utf8_percent_encode(document, RESERVED).to_string())
    }

    /// An element with elements in it.
    #[must_use]
    pub fn element(self, name: &str, inside: Xml) -> Self {
        self.raw(name, &inside.0)
    }

    /// A list: a `member` for each item.
    #[must_use]
    pub fn list(self, name: &str, items: impl IntoIterator<Item = Xml>) -> Self {
        let members = items.into_iter().fold(Xml::new(), |members, item| members.element("member", item));
        self.element(name, members)
    }

    /// A list of texts.
    #[must_use]
    pub fn texts(self, name: &str, items: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let members =
            items.into_iter().fold(Xml::new(), |members, item| members.text("member", item.as_ref()));
        self.element(name, members)
    }

    /// `IsTruncated`, and `Marker` when there is another page.
    #[must_use]
    pub fn page(self, next: Option<&str>) -> Self {
        self.flag("IsTruncated", next.is_some()).optional("Marker", next)
    }

    fn raw(mut self, name: &str, inside: &str) -> Self {
        self.0.extend(["<", name, ">", inside, "</", name, ">"]);
        self
    }
}

impl From<Xml> for Answer {
    fn from(xml: Xml) -> Self {
        Self::Xml(xml.0)
    }
}

/// The success answer of an operation that has no result.
pub fn xml_empty_response(operation: &str, namespace: &str, request_id: &str) -> Vec<u8> {
    format!(
        "<{operation}Response xmlns=\"{namespace}\"><ResponseMetadata><RequestId>{request_id}</RequestId>\
         </ResponseMetadata></{operation}Response>"
    )
    .into_bytes()
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
    fn forms_are_structures_and_lists() {
        let form = b"A=1&Tags.member.2.Key=b&Tags.member.1.Key=a&Tags.member.10.Key=c&S.x.y=z&Keys.member.1=k&Empty=";
        assert_eq!(
            Value::Object(nest(read_form(form)).unwrap()),
            serde_json::json!({
                "A": "1", "Tags": [{"Key": "a"}, {"Key": "b"}, {"Key": "c"}], "S": {"x": {"y": "z"}},
                "Keys": ["k"], "Empty": "",
            })
        );
        let deep = format!("{}=1", "a.".repeat(100_000));
        for bad in ["A=1&A.b=2", "A.b=2&A=1", &deep] {
            assert!(matches!(nest(read_form(bad.as_bytes())), Err(AwsError::Serialization(_))), "{bad:.20}");
        }
    }

    #[test]
    fn answers_are_elements() {
        let xml = Xml::new()
            .text("Name", "<a>")
            .optional("None", None)
            .time("At", Timestamp::from_micros(1_772_366_400_999_999))
            .document("Document", "{\"a b\": \"é*~\"}")
            .list("Tags", [Xml::new().number("Key", 1), Xml::new().flag("Key", false)])
            .texts("Names", ["x", "&"])
            .page(Some("more"));
        assert_eq!(
            Answer::from(xml),
            Answer::Xml(
                "<Name>&lt;a&gt;</Name><At>2026-03-01T12:00:00Z</At>\
                 <Document>%7B%22a%20b%22%3A%20%22%C3%A9%2A~%22%7D</Document>\
                 <Tags><member><Key>1</Key></member><member><Key>false</Key></member></Tags>\
                 <Names><member>x</member><member>&amp;</member></Names>\
                 <IsTruncated>true</IsTruncated><Marker>more</Marker>"
                    .into()
            )
        );
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(xml_escape("plain é"), "plain é");
        assert_eq!(xml_escape("a<b>&\"'\u{0}\n"), "a&lt;b&gt;&amp;&quot;&apos;?\n");
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_form_it_is_read(form in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let members = read_form(&form);
            proptest::prop_assert!(members.values().all(Value::is_string));
            let _ = nest(members);
        }

        #[test]
        fn nothing_escaped_opens_or_ends_an_element(text in proptest::prelude::any::<String>()) {
            let escaped = xml_escape(&text);
            proptest::prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\0']));
        }
    }
}
