//! Reading an operation's input: types, then the model's constraints, each with the service's own text.
//!
//! A query service's form is the same structure, all of whose values are texts: `Tags.member.1.Key=k`.
//!
//! Wrong JSON types are `SerializationException`; a constraint that is not met names the member by its path
//! (`imageIds.1.member.imageTag`). `null` is the same as absent; members nobody asks for are ignored.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::AwsError;

/// How an operation words a constraint that is not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `InvalidParameterException`: ECR's older operations.
    InvalidParameter,
    /// `ValidationException`: ECR's newer operations and the other services.
    Validation,
}

/// A pattern of the model. Written as a function, because there are few; `text` is what the client reads.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// The regular expression as the service prints it.
    pub text: &'static str,
    /// Whether a text matches it as a whole.
    pub matches: fn(&str) -> bool,
}

/// The constraints of a text.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    length: (usize, usize),
    pattern: Option<Pattern>,
    choices: &'static [&'static str],
}

impl Text {
    /// Any text.
    pub const ANY: Self = Self { length: (0, usize::MAX), pattern: None, choices: &[] };

    /// A text of `min` to `max` characters.
    pub const fn length(min: usize, max: usize) -> Self {
        Self { length: (min, max), ..Self::ANY }
    }

    /// One of some words.
    pub const fn one_of(choices: &'static [&'static str]) -> Self {
        Self { choices, ..Self::ANY }
    }

    /// It also matches a pattern.
    pub const fn matching(self, pattern: Pattern) -> Self {
        Self { pattern: Some(pattern), ..self }
    }

    /// The first constraint that `text` does not meet.
    fn violation(&self, text: &str) -> Option<Violation> {
        let count = text.chars().count();
        let (min, max) = self.length;
        if count < min {
            return Some(Violation::ShorterThan(min));
        }
        if count > max {
            return Some(Violation::LongerThan(max));
        }
        if !self.choices.is_empty() && !self.choices.contains(&text) {
            return Some(Violation::NotOneOf(self.choices));
        }
        self.pattern
            .filter(|pattern| !(pattern.matches)(text))
            .map(|pattern| Violation::Pattern(pattern.text))
    }
}

/// A constraint that is not met.
enum Violation {
    Null,
    ShorterThan(usize),
    LongerThan(usize),
    LessThan(i64),
    MoreThan(i64),
    NotOneOf(&'static [&'static str]),
    Pattern(&'static str),
}

impl Violation {
    fn text(&self, style: Style) -> String {
        match self {
            Self::Null => "Member must not be null".into(),
            Self::ShorterThan(min) => format!("Member must have length greater than or equal to {min}"),
            Self::LongerThan(max) => format!("Member must have length less than or equal to {max}"),
            Self::LessThan(min) => format!("Member must have value greater than or equal to {min}"),
            Self::MoreThan(max) => format!("Member must have value less than or equal to {max}"),
            Self::NotOneOf(words) => format!("Member must satisfy enum value set: [{}]", words.join(", ")),
            Self::Pattern(pattern) if style == Style::Validation => {
                format!("Member must satisfy regular expression pattern: {pattern}")
            }
            Self::Pattern(pattern) => format!("must satisfy regular expression '{pattern}'"),
        }
    }
}

/// The members of a structure, to be taken out one by one.
#[derive(Debug)]
pub struct Input {
    members: Map<String, Value>,
    style: Style,
    path: String,
    /// Whether it came as a form, so that numbers and booleans are texts and an empty text may be an empty list.
    is_form: bool,
}

impl Input {
    /// Reads a JSON body; an empty one is an empty structure.
    ///
    /// # Errors
    /// `SerializationException` for anything but an object of bounded depth.
    pub fn from_json(body: &[u8]) -> Result<Self, AwsError> {
        let members = if body.iter().all(u8::is_ascii_whitespace) {
            Map::new()
        } else {
            match serde_json::from_slice(body) {
                Ok(Value::Object(members)) => members,
                Ok(other) => return Err(unexpected(&other, "structure")),
                Err(error) => {
                    return Err(AwsError::Serialization(format!("The request is not valid JSON: {error}")));
                }
            }
        };
        Ok(Self { members, style: Style::InvalidParameter, path: String::new(), is_form: false })
    }

    /// Reads the members of a query service's form, as `read_form` gives them.
    ///
    /// # Errors
    /// [`AwsError::Serialization`] when a name is both a value and a structure, or nested too deeply.
    pub fn from_form(members: Map<String, Value>) -> Result<Self, AwsError> {
        let members = super::query::nest(members)?;
        Ok(Self { members, style: Style::Validation, path: String::new(), is_form: true })
    }

    /// The members of a structure inside.
    fn inside(&self, members: Map<String, Value>, path: String) -> Self {
        Self { members, style: self.style, path: format!("{path}."), is_form: self.is_form }
    }

    /// Chooses how constraints are worded; `InvalidParameter` unless told.
    #[must_use]
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    /// An optional text.
    ///
    /// # Errors
    /// The wrong type, or a constraint not met; so do all functions here.
    pub fn text(&mut self, name: &str, rule: &Text) -> Result<Option<String>, AwsError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        self.checked_text(&self.path_of(name), value, rule).map(Some)
    }

    /// A text that must be there.
    pub fn required_text(&mut self, name: &str, rule: &Text) -> Result<String, AwsError> {
        let text = self.text(name, rule)?;
        self.required(name, text)
    }

    /// A text whose pattern is a type: parsed once its constraints are met.
    pub fn parsed<T: std::str::FromStr>(&mut self, name: &str, rule: &Text) -> Result<Option<T>, AwsError> {
        let Some(text) = self.text(name, rule)? else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => {
                let pattern = rule.pattern.map_or("", |pattern| pattern.text);
                Err(self.violated(&self.path_of(name), &shown(&text), &Violation::Pattern(pattern)))
            }
        }
    }

    /// A typed text that must be there.
    pub fn required_parsed<T: std::str::FromStr>(&mut self, name: &str, rule: &Text) -> Result<T, AwsError> {
        let value = self.parsed(name, rule)?;
        self.required(name, value)
    }

    /// An optional whole number.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, AwsError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) if self.is_form => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else { return Err(unexpected(&value, "Integer")) };
        let violation = if number < *range.start() {
            Violation::LessThan(*range.start())
        } else if number > *range.end() {
            Violation::MoreThan(*range.end())
        } else {
            return Ok(Some(number));
        };
        Err(self.violated(&self.path_of(name), &shown(&number.to_string()), &violation))
    }

    /// A number of bytes or a position that must be there.
    pub fn required_position(&mut self, name: &str) -> Result<u64, AwsError> {
        let number = self.integer(name, 0..=i64::MAX)?;
        self.required(name, number.and_then(|number| u64::try_from(number).ok()))
    }

    /// An optional boolean.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, AwsError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(Value::String(text)) if self.is_form && text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if self.is_form && text.eq_ignore_ascii_case("false") => {
                Ok(Some(false))
            }
            Some(other) => Err(unexpected(&other, "Boolean")),
        }
    }

    /// Base64 that must be there, not decoded yet.
    pub fn required_base64(&mut self, name: &str) -> Result<String, AwsError> {
        let blob = match self.take(name) {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => return Err(unexpected(&other, "Blob")),
        };
        self.required(name, blob)
    }

    /// An optional list of texts.
    pub fn texts(
        &mut self,
        name: &str,
        count: RangeInclusive<usize>,
        rule: &Text,
    ) -> Result<Option<Vec<String>>, AwsError> {
        let Some(values) = self.list(name, count)? else { return Ok(None) };
        let mut texts = Vec::with_capacity(values.len());
        for (position, value) in values.into_iter().enumerate() {
            texts.push(self.checked_text(&self.path_of_item(name, position), value, rule)?);
        }
        Ok(Some(texts))
    }

    /// A list of texts that must be there.
    pub fn required_texts(
        &mut self,
        name: &str,
        count: RangeInclusive<usize>,
        rule: &Text,
    ) -> Result<Vec<String>, AwsError> {
        let texts = self.texts(name, count, rule)?;
        self.required(name, texts)
    }

    /// An optional structure.
    pub fn structure(&mut self, name: &str) -> Result<Option<Input>, AwsError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(self.inside(members, self.path_of(name)))),
            Some(other) => Err(unexpected(&other, "structure")),
        }
    }

    /// An optional list of structures.
    pub fn structures<T>(
        &mut self,
        name: &str,
        count: RangeInclusive<usize>,
        read: impl Fn(&mut Input) -> Result<T, AwsError>,
    ) -> Result<Option<Vec<T>>, AwsError> {
        let Some(values) = self.list(name, count)? else { return Ok(None) };
        let mut items = Vec::with_capacity(values.len());
        for (position, value) in values.into_iter().enumerate() {
            let path = self.path_of_item(name, position);
            let members = match value {
                Value::Object(members) => members,
                Value::Null => return Err(self.violated(&path, "null", &Violation::Null)),
                other => return Err(unexpected(&other, "structure")),
            };
            items.push(read(&mut self.inside(members, path))?);
        }
        Ok(Some(items))
    }

    /// Makes an absent member an error.
    pub fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, AwsError> {
        value.ok_or_else(|| self.violated(&self.path_of(name), "null", &Violation::Null))
    }

    /// Whether a member is there and not `null`.
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// A constraint that no function here knows, in the words of the style.
    pub fn refuse(&self, name: &str, value: &str, constraint: impl Into<String>) -> AwsError {
        self.worded(&self.path_of(name), &shown(value), constraint.into())
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    fn list(&mut self, name: &str, count: RangeInclusive<usize>) -> Result<Option<Vec<Value>>, AwsError> {
        let values = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(values)) => values,
            Some(Value::String(text)) if self.is_form && text.is_empty() => Vec::new(),
            Some(other) => return Err(unexpected(&other, "list")),
        };
        let violation = if values.len() < *count.start() {
            Violation::ShorterThan(*count.start())
        } else if values.len() > *count.end() {
            Violation::LongerThan(*count.end())
        } else {
            return Ok(Some(values));
        };
        Err(self.violated(&self.path_of(name), &format!("'[{} items]'", values.len()), &violation))
    }

    fn checked_text(&self, path: &str, value: Value, rule: &Text) -> Result<String, AwsError> {
        let text = match value {
            Value::String(text) => text,
            Value::Null => return Err(self.violated(path, "null", &Violation::Null)),
            other => return Err(unexpected(&other, "String")),
        };
        match rule.violation(&text) {
            None => Ok(text),
            Some(violation) => Err(self.violated(path, &shown(&text), &violation)),
        }
    }

    fn violated(&self, path: &str, value: &str, violation: &Violation) -> AwsError {
        self.worded(path, value, violation.text(self.style))
    }

    fn worded(&self, path: &str, value: &str, constraint: String) -> AwsError {
        let member = path.to_owned();
        match self.style {
            Style::InvalidParameter => AwsError::InvalidParameter { member, constraint },
            Style::Validation => AwsError::Validation { member, value: value.to_owned(), constraint },
        }
    }

    fn path_of(&self, name: &str) -> String {
        let mut path = format!("{}{name}", self.path);
        if self.is_form
            && let Some(first) = path.get_mut(self.path.len()..=self.path.len())
        {
            // Query services name members in errors by their names in Java.
            first.make_ascii_lowercase();
        }
        path
    }

    fn path_of_item(&self, name: &str, position: usize) -> String {
        format!("{}.{}.member", self.path_of(name), position + 1)
    }
}

/// A value as an error quotes it: cut, because clients send long ones.
fn shown(text: &str) -> String {
    match text.char_indices().nth(256) {
        None => format!("'{text}'"),
        Some((end, _)) => format!("'{}…'", &text[..end]),
    }
}

/// A number that JSON wrote with a fraction of zero.
fn whole(number: f64) -> Option<i64> {
    // Up to 2^53 every whole number is exact; nothing here is larger.
    (number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0).then_some(number as i64)
}

fn unexpected(value: &Value, wanted: &str) -> AwsError {
    AwsError::Serialization(match value {
        Value::Array(_) => "Start of list found where not expected".to_owned(),
        Value::Object(_) => "Start of structure or map found where not expected.".to_owned(),
        Value::String(_) => format!("STRING_VALUE can not be converted to a {wanted}"),
        Value::Number(_) => format!("NUMBER_VALUE can not be converted to a {wanted}"),
        Value::Bool(true) => format!("TRUE_VALUE can not be converted to a {wanted}"),
        Value::Bool(false) => format!("FALSE_VALUE can not be converted to a {wanted}"),
        Value::Null => format!("NULL_VALUE can not be converted to a {wanted}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIGITS: Pattern =
        Pattern { text: "[0-9]+", matches: |text| text.bytes().all(|b| b.is_ascii_digit()) };
    const RULE: Text = Text::length(2, 4).matching(DIGITS);

    fn input(value: Value) -> Input {
        Input::from_json(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn constraints_have_ecr_s_texts() {
        let text =
            |value: Value| input(json!({ "a": value })).required_text("a", &RULE).unwrap_err().to_string();
        let prefix = "Invalid parameter at 'a' failed to satisfy constraint: ";
        for (value, constraint) in [
            (json!(null), "'Member must not be null'"),
            (json!("1"), "'Member must have length greater than or equal to 2'"),
            (json!("12345"), "'Member must have length less than or equal to 4'"),
            (json!("12x"), "'must satisfy regular expression '[0-9]+''"),
        ] {
            assert_eq!(text(value), format!("{prefix}{constraint}"));
        }
        let number =
            |value: i64| input(json!({ "a": value })).integer("a", 1..=1000).unwrap_err().to_string();
        assert_eq!(number(1001), format!("{prefix}'Member must have value less than or equal to 1000'"));
        assert_eq!(number(0), format!("{prefix}'Member must have value greater than or equal to 1'"));
        let word = input(json!({"a": "C"})).text("a", &Text::one_of(&["A", "B"])).unwrap_err().to_string();
        assert_eq!(word, format!("{prefix}'Member must satisfy enum value set: [A, B]'"));
    }

    #[test]
    fn newer_operations_say_it_otherwise() {
        let error = input(json!({"a": "12x"})).style(Style::Validation).text("a", &RULE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "1 validation error detected: Value '12x' at 'a' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: [0-9]+"
        );
        let error = input(json!({})).style(Style::Validation).required_text("a", &RULE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "1 validation error detected: Value null at 'a' failed to satisfy constraint: Member must not be null"
        );
    }

    #[test]
    fn nested_members_are_named_by_their_path() {
        let mut list = input(json!({"ids": [{"tag": "12"}, {"tag": "x"}]}));
        let error = list.structures("ids", 1..=2, |item| item.text("tag", &RULE)).unwrap_err();
        assert!(error.to_string().starts_with("Invalid parameter at 'ids.2.member.tag' "), "{error}");
        let mut nested = input(json!({"filter": {"status": 5}}));
        let mut filter = nested.structure("filter").unwrap().unwrap();
        assert!(matches!(filter.text("status", &RULE), Err(AwsError::Serialization(_))));
        for empty in [json!([]), json!([{}, {}, {}])] {
            let error = input(json!({ "ids": empty })).structures("ids", 1..=2, |_| Ok(())).unwrap_err();
            assert!(matches!(error, AwsError::InvalidParameter { .. }), "{error:?}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_a_serialization_error() {
        let deep = "[".repeat(100_000);
        let nested = format!("{{\"a\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        for bad in ["[]", "1", "null", "{", "{\"a\":}", "\u{1}", &deep, &nested] {
            assert!(matches!(Input::from_json(bad.as_bytes()), Err(AwsError::Serialization(_))));
        }
        assert!(Input::from_json(b" \n").is_ok());
        assert!(matches!(input(json!({"a": "1"})).integer("a", 0..=9), Err(AwsError::Serialization(_))));
        assert!(matches!(input(json!({"a": 1.5})).integer("a", 0..=9), Err(AwsError::Serialization(_))));
        assert!(matches!(input(json!({"a": 1})).required_base64("a"), Err(AwsError::Serialization(_))));
        assert!(matches!(input(json!({"a": "true"})).boolean("a"), Err(AwsError::Serialization(_))));
        assert_eq!(input(json!({"a": 5.0})).integer("a", 0..=9).unwrap(), Some(5));
        assert_eq!(input(json!({"a": null})).integer("a", 0..=9).unwrap(), None);
    }
}
