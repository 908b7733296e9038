//! Tag patterns: `*` stands for zero or more characters, everything else for itself, over the whole tag.

/// A compiled `tagPatternList` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    first: String,
    middle: Vec<String>,
    /// `None` without any `*`.
    last: Option<String>,
}

impl Glob {
    /// Any text is a pattern; how many `*` are allowed is the policy's matter.
    pub(crate) fn new(text: &str) -> Self {
        let mut parts = text.split('*').map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        let mut middle: Vec<String> = parts.collect();
        let last = middle.pop();
        middle.retain(|part| !part.is_empty());
        Self { first, middle, last }
    }

    /// Whether the whole of `tag` matches. Every part is searched once, so the cost is linear in the tag for a pattern
    /// of bounded length.
    pub fn matches(&self, tag: &str) -> bool {
        let Some(mut rest) = tag.strip_prefix(&*self.first) else { return false };
        let Some(last) = &self.last else { return rest.is_empty() };
        for part in &self.middle {
            match rest.find(&**part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(&**last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, in exponential time.
    fn matches_by_definition(pattern: &[u8], tag: &[u8]) -> bool {
        match pattern.split_first() {
            None => tag.is_empty(),
            Some((b'*', rest)) => (0..=tag.len()).any(|skip| matches_by_definition(rest, &tag[skip..])),
            Some((byte, rest)) => tag.first() == Some(byte) && matches_by_definition(rest, &tag[1..]),
        }
    }

    #[test]
    fn patterns_are_anchored() {
        for (pattern, tag, expected) in [
            ("prod", "prod", true),
            ("prod", "prod1", false),
            ("prod*", "prod", true),
            ("prod*", "xprod", false),
            ("*prod", "x-prod", true),
            ("*prod", "prod-x", false),
            ("*a*b*", "xxaxbx", true),
            ("ab*ba", "aba", false),
            ("**", "", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(tag), expected, "{pattern} {tag}");
        }
    }

    proptest! {
        #[test]
        fn matching_follows_the_definition(pattern in "[ab*]{0,7}", tag in "[ab]{0,8}") {
            prop_assert_eq!(
                Glob::new(&pattern).matches(&tag),
                matches_by_definition(pattern.as_bytes(), tag.as_bytes())
            );
        }
    }
}
