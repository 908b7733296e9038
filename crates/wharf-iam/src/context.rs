//! Condition keys and their values: what a request says about itself, its caller and its resource.

use std::borrow::Cow;

/// The condition keys of a request. Key names compare ignoring case.
///
/// A context may stand on another, whose keys it adds to or hides: the keys of the connection and the caller are
/// gathered once, those of each [`crate::decision::Need`] on top.
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    below: Option<&'a Context<'a>>,
    entries: Vec<(Cow<'a, str>, Values<'a>)>,
}

/// The value or values of a condition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values<'a> {
    /// A key of one value.
    One(Cow<'a, str>),
    /// A key that is a list by nature, such as `aws:TagKeys`, however many values it has now.
    Many(Cow<'a, [String]>),
}

impl<'a> Values<'a> {
    /// The value, if there is exactly one.
    pub fn only(&self) -> Option<&str> {
        match self {
            Self::One(value) => Some(value),
            Self::Many(values) => match &values[..] {
                [value] => Some(value),
                _ => None,
            },
        }
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            Self::One(value) => (Some(&**value), &[][..]),
            Self::Many(values) => (None, &values[..]),
        };
        one.into_iter().chain(many.iter().map(String::as_str))
    }
}

impl<'a> Context<'a> {
    /// A context without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// A context that has all keys of another, and may add to them or hide them.
    pub fn on(below: &'a Context<'a>) -> Self {
        Self { below: Some(below), entries: Vec::new() }
    }

    /// Sets a key of one value.
    pub fn set(&mut self, key: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.put(key.into(), Values::One(value.into()));
    }

    /// Sets a key that is a list by nature.
    pub fn set_list(&mut self, key: impl Into<Cow<'a, str>>, values: impl Into<Cow<'a, [String]>>) {
        self.put(key.into(), Values::Many(values.into()));
    }

    /// Sets the keys that a need brings. A key with one value is taken for one of a single value, unless it is known
    /// to be a list.
    pub fn set_all(&mut self, keys: &'a [(String, Vec<String>)]) {
        for (key, values) in keys {
            match &values[..] {
                [value] if !is_list(key) => self.set(key, value),
                values => self.set_list(key, values),
            }
        }
    }

    fn put(&mut self, key: Cow<'a, str>, values: Values<'a>) {
        match self.entries.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(&key)) {
            Some(entry) => entry.1 = values,
            None => self.entries.push((key, values)),
        }
    }

    /// The values of a key, if the request has it.
    pub fn get(&self, key: &str) -> Option<&Values<'a>> {
        let mut layer = self;
        loop {
            if let Some((_, values)) = layer.entries.iter().find(|(other, _)| other.eq_ignore_ascii_case(key))
            {
                return Some(values);
            }
            layer = layer.below?;
        }
    }

    /// The value of a key that is not a list.
    pub(crate) fn single(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Values::One(value) => Some(value),
            Values::Many(_) => None,
        }
    }
}

/// Whether a key is a list by nature (IAM user guide, "Multivalued context keys", as far as ECR has them).
fn is_list(key: &str) -> bool {
    [
        "aws:TagKeys",
        "aws:PrincipalOrgPaths",
        "aws:ResourceOrgPaths",
        "aws:CalledVia",
        "aws:PrincipalServiceNamesList",
    ]
    .iter()
    .any(|list| list.eq_ignore_ascii_case(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ignore_case_and_the_upper_layer_wins() {
        let mut below = Context::new();
        below.set("aws:username", "erin");
        below.set("AWS:UserName", "frank");
        below.set("aws:SourceIp", "192.0.2.1");
        let mut above = Context::on(&below);
        above.set("aws:sourceip", "192.0.2.2");
        let keys = [
            ("aws:tagkeys".to_owned(), vec!["a".to_owned()]),
            ("aws:RequestTag/a".to_owned(), vec!["b".to_owned()]),
        ];
        above.set_all(&keys);
        assert_eq!(above.single("aws:UserName"), Some("frank"));
        assert_eq!(above.single("aws:SourceIp"), Some("192.0.2.2"));
        assert_eq!(above.single("AWS:requesttag/A"), Some("b"));
        assert_eq!(above.single("aws:TagKeys"), None);
        assert_eq!(above.get("aws:TagKeys").and_then(Values::only), Some("a"));
        assert_eq!(above.get("aws:Referer"), None);
    }
}
