//! Text patterns of policies: `*`, `?` and `${variables}`, compiled once and matched without allocation.

use crate::context::Context;

/// Which characters of a pattern mean something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Syntax {
    /// `*` is any run and `?` is one character.
    pub wildcards: bool,
    /// `${…}` stands for a value of the context (policy language 2012-10-17 only).
    pub variables: bool,
}

/// A compiled pattern. The commonest shapes have a variant of their own.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// `*`
    Any,
    /// No wildcard and no variable.
    Exact(Box<str>),
    /// Literal text and then `*`.
    Prefix(Box<str>),
    /// Everything else.
    Atoms(Box<[Atom]>),
}

/// A piece of a pattern.
#[derive(Debug)]
pub(crate) enum Atom {
    Literal(Box<str>),
    AnyRun,
    AnyOne,
    Variable { key: Box<str>, default: Option<Box<str>> },
}

/// How literal text compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Sensitive,
    /// ASCII letters compare ignoring case: actions, and the first five fields of a resource.
    Ignored,
}

/// What became of comparing a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matched {
    Yes,
    No,
    /// A variable has neither value nor default, so the pattern stands for no text at all.
    Unresolved,
}

impl Pattern {
    /// Compiles a pattern; any text is one.
    pub(crate) fn compile(text: &str, syntax: Syntax) -> Self {
        let mut atoms = atoms(text, syntax);
        match &mut atoms[..] {
            [] => Self::Exact("".into()),
            [Atom::AnyRun] => Self::Any,
            [Atom::Literal(text)] => Self::Exact(std::mem::take(text)),
            [Atom::Literal(text), Atom::AnyRun] => Self::Prefix(std::mem::take(text)),
            _ => Self::Atoms(atoms.into()),
        }
    }

    /// Compares text, resolving variables from the context.
    pub(crate) fn compare(&self, text: &str, case: Case, context: &Context<'_>) -> Matched {
        let matched = match self {
            Self::Any => true,
            Self::Exact(literal) => literal.len() == text.len() && starts_with(text, literal, case),
            Self::Prefix(literal) => starts_with(text, literal, case),
            Self::Atoms(atoms) => {
                if self.variables().any(|(key, default)| value(key, default, context).is_none()) {
                    return Matched::Unresolved;
                }
                run(atoms, text, case, context)
            }
        };
        if matched { Matched::Yes } else { Matched::No }
    }

    /// Whether the text is the pattern's own, letters compared ignoring case (Unicode); wildcards stand for themselves.
    pub(crate) fn equals_folded(&self, text: &str, context: &Context<'_>) -> Matched {
        let folded =
            |text: &str, other: &mut std::iter::Peekable<_>| fold(text).all(|c| other.next() == Some(c));
        let mut rest = text.chars().flat_map(char::to_lowercase).peekable();
        let equal = match self {
            Self::Any => folded("*", &mut rest),
            Self::Exact(literal) => folded(literal, &mut rest),
            Self::Prefix(literal) => folded(literal, &mut rest) && rest.next() == Some('*'),
            Self::Atoms(atoms) => {
                let mut equal = true;
                for atom in atoms {
                    let literal = match atom {
                        Atom::Literal(literal) => literal,
                        Atom::AnyRun => "*",
                        Atom::AnyOne => "?",
                        Atom::Variable { key, default } => match value(key, default.as_deref(), context) {
                            Some(value) => value,
                            None => return Matched::Unresolved,
                        },
                    };
                    equal = equal && folded(literal, &mut rest);
                }
                equal
            }
        };
        if equal && rest.next().is_none() { Matched::Yes } else { Matched::No }
    }

    /// The context keys that the pattern's variables name, with their defaults.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let atoms = match self {
            Self::Atoms(atoms) => &atoms[..],
            Self::Any | Self::Exact(_) | Self::Prefix(_) => &[],
        };
        atoms.iter().filter_map(|atom| match atom {
            Atom::Variable { key, default } => Some((&**key, default.as_deref())),
            Atom::Literal(_) | Atom::AnyRun | Atom::AnyOne => None,
        })
    }
}

fn fold(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

/// A key with several values is no text: only its default can stand for it.
fn value<'a>(key: &str, default: Option<&'a str>, context: &'a Context<'_>) -> Option<&'a str> {
    context.single(key).or(default)
}

fn starts_with(text: &str, literal: &str, case: Case) -> bool {
    let Some(head) = text.as_bytes().get(..literal.len()) else { return false };
    match case {
        Case::Sensitive => head == literal.as_bytes(),
        Case::Ignored => head.eq_ignore_ascii_case(literal.as_bytes()),
    }
}

/// Greedy matching that goes back to the last run only: at most pattern length times text length steps.
fn run(atoms: &[Atom], text: &str, case: Case, context: &Context<'_>) -> bool {
    let (mut atom, mut at) = (0, 0);
    let mut last_run: Option<(usize, usize)> = None;
    loop {
        #[cfg(test)]
        steps::count();
        let advanced = match atoms.get(atom) {
            None if at == text.len() => return true,
            None => None,
            Some(Atom::AnyRun) if atom + 1 == atoms.len() => return true,
            Some(Atom::AnyRun) => {
                last_run = Some((atom + 1, at));
                Some(0)
            }
            Some(Atom::AnyOne) => text[at..].chars().next().map(char::len_utf8),
            Some(Atom::Literal(literal)) => starts_with(&text[at..], literal, case).then_some(literal.len()),
            Some(Atom::Variable { key, default }) => value(key, default.as_deref(), context)
                .and_then(|value| starts_with(&text[at..], value, case).then_some(value.len())),
        };
        if let Some(length) = advanced {
            (atom, at) = (atom + 1, at + length);
            continue;
        }
        let Some((after, from)) = last_run else { return false };
        let Some(skipped) = text[from..].chars().next() else { return false };
        (atom, at) = (after, from + skipped.len_utf8());
        last_run = Some((after, at));
    }
}

fn atoms(text: &str, syntax: Syntax) -> Vec<Atom> {
    let mut atoms = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let special = match character {
            '*' if syntax.wildcards => Some((Atom::AnyRun, 1)),
            '?' if syntax.wildcards => Some((Atom::AnyOne, 1)),
            '$' if syntax.variables => match variable_end(rest) {
                Some(end) => match &rest[2..end - 1] {
                    escaped @ ("*" | "?" | "$") => {
                        literal.push_str(escaped);
                        rest = &rest[end..];
                        continue;
                    }
                    inside => Some((variable(inside), end)),
                },
                None => None,
            },
            _ => None,
        };
        let Some((atom, length)) = special else {
            literal.push(character);
            rest = &rest[character.len_utf8()..];
            continue;
        };
        if !literal.is_empty() {
            atoms.push(Atom::Literal(std::mem::take(&mut literal).into()));
        }
        // A run after a run is the same run.
        if !(matches!(atom, Atom::AnyRun) && matches!(atoms.last(), Some(Atom::AnyRun))) {
            atoms.push(atom);
        }
        rest = &rest[length..];
    }
    if !literal.is_empty() {
        atoms.push(Atom::Literal(literal.into()));
    }
    atoms
}

/// The length of the variable that the text starts with, `${` and `}` included. A brace inside a quoted default does
/// not end it; what is never closed is no variable.
fn variable_end(text: &str) -> Option<usize> {
    let inside = text.strip_prefix("${")?;
    let mut quoted = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            b'}' if !quoted => return Some(2 + at + 1),
            _ => {}
        }
    }
    // An odd quote: the first brace closes after all.
    inside.find('}').map(|at| 2 + at + 1)
}

/// `key` or `key, 'default'`.
fn variable(inside: &str) -> Atom {
    let (key, default) = match inside.split_once(',') {
        Some((key, rest)) => {
            (key, rest.trim().strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).map(Into::into))
        }
        None => (inside, None),
    };
    Atom::Variable { key: key.trim().into(), default }
}

/// Splits at the first `fields - 1` colons that are not inside `${…}`.
pub(crate) fn split_fields(text: &str, fields: usize) -> Vec<&str> {
    let mut parts = Vec::with_capacity(fields);
    let (mut start, mut at) = (0, 0);
    while parts.len() + 1 < fields && at < text.len() {
        match text.as_bytes()[at] {
            b'$' => at += variable_end(&text[at..]).unwrap_or(1),
            b':' => {
                parts.push(&text[start..at]);
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Counts the matcher's steps, since time says nothing on a shared machine.
#[cfg(test)]
pub(crate) mod steps {
    use std::cell::Cell;

    thread_local!(static STEPS: Cell<u64> = const { Cell::new(0) });

    pub(super) fn count() {
        STEPS.set(STEPS.get() + 1);
    }

    pub(crate) fn taken(work: impl FnOnce()) -> u64 {
        STEPS.set(0);
        work();
        STEPS.get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Syntax = Syntax { wildcards: true, variables: true };
    const OLD: Syntax = Syntax { wildcards: true, variables: false };
    const TEXT: Syntax = Syntax { wildcards: false, variables: true };

    fn compare(pattern: &str, text: &str, syntax: Syntax) -> Matched {
        let mut context = Context::new();
        context.set("aws:username", "erin");
        context.set("aws:PrincipalTag/star", "a*b");
        context.set("aws:PrincipalTag/empty", "");
        context.set_list("aws:TagKeys", vec!["one".into()]);
        Pattern::compile(pattern, syntax).compare(text, Case::Sensitive, &context)
    }

    #[test]
    fn wildcards_and_variables() {
        use Matched::{No, Unresolved, Yes};
        let table = [
            ("*", "", ALL, Yes),
            ("", "", ALL, Yes),
            ("", "a", ALL, No),
            ("?", "", ALL, No),
            ("?", "é", ALL, Yes),
            ("a*", "a", ALL, Yes),
            ("a**b*c", "axxbyyc", ALL, Yes),
            ("a*b?c", "abbbxc", ALL, Yes),
            ("*a*a*a*b", "aaaaaaaaaaaa", ALL, No),
            ("a?", "a", ALL, No),
            ("${aws:username}/*", "erin/x", ALL, Yes),
            ("${AWS:UserName}", "erin", ALL, Yes),
            ("${aws:username}", "erin", OLD, No),
            ("${aws:username}", "${aws:username}", OLD, Yes),
            ("*${*}*", "x${anything}y", OLD, Yes),
            ("*${*}*", "a*b", ALL, Yes),
            ("*${*}*", "ab", ALL, No),
            ("${?}${$}", "?$", TEXT, Yes),
            ("a*b", "a*b", TEXT, Yes),
            ("a*b", "axb", TEXT, No),
            // The value is literal.
            ("${aws:PrincipalTag/star}", "a*b", ALL, Yes),
            ("${aws:PrincipalTag/star}", "axb", ALL, No),
            ("x${aws:PrincipalTag/empty}y", "xy", ALL, Yes),
            ("x${aws:PrincipalTag/none}y", "xy", ALL, Unresolved),
            ("x${aws:PrincipalTag/none, 'd'}y", "xdy", ALL, Yes),
            ("x${aws:PrincipalTag/none,'d'}y", "xdy", ALL, Yes),
            ("x${aws:PrincipalTag/none, ''}y", "xy", ALL, Yes),
            ("x${aws:PrincipalTag/none, '*'}y", "xzy", ALL, No),
            ("x${aws:PrincipalTag/none, 'a}b'}y", "xa}by", ALL, Yes),
            ("${aws:username, 'd'}", "d", ALL, No),
            ("${aws:TagKeys}", "one", ALL, Unresolved),
            ("${aws:TagKeys, 'd'}", "d", ALL, Yes),
            ("${aws:username", "${aws:username", ALL, Yes),
        ];
        for (pattern, text, syntax, expected) in table {
            assert_eq!(compare(pattern, text, syntax), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn folding_is_unicodes() {
        let context = Context::new();
        let equal = |pattern, text| Pattern::compile(pattern, TEXT).equals_folded(text, &context);
        assert_eq!(equal("ÄbC", "äBc"), Matched::Yes);
        assert_eq!(equal("a", "ab"), Matched::No);
        assert_eq!(equal("ab", "a"), Matched::No);
        assert_eq!(equal("a*", "A*"), Matched::Yes);
        assert_eq!(equal("${x:y}", ""), Matched::Unresolved);
    }

    #[test]
    fn colons_inside_a_variable_do_not_split() {
        assert_eq!(
            split_fields("arn:aws:s3:::${aws:username}/a:b", 6),
            ["arn", "aws", "s3", "", "", "${aws:username}/a:b"]
        );
        assert_eq!(split_fields("arn:${a:b}:s3", 6), ["arn", "${a:b}", "s3"]);
        assert_eq!(split_fields("arn:${a:b", 6), ["arn", "${a", "b"]);
    }

    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some(('?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
            Some((c, rest)) => text.first() == Some(c) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_matcher(pattern in "[abé*?]{0,9}", text in "[abé]{0,12}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = naive(&chars(&pattern), &chars(&text));
            prop_assert_eq!(compare(&pattern, &text, ALL) == Matched::Yes, expected);
        }

        #[test]
        fn never_panics(pattern in ".{0,40}", text in ".{0,40}") {
            compare(&pattern, &text, ALL);
            split_fields(&pattern, 6);
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_size() {
        let text = "a".repeat(256);
        let context = Context::new();
        let steps = |repeats: usize| {
            let pattern = Pattern::compile(&format!("{}b", "*a".repeat(repeats)), ALL);
            steps::taken(|| assert_eq!(pattern.compare(&text, Case::Sensitive, &context), Matched::No))
        };
        let (small, large) = (steps(50), steps(100));
        assert!(small > 100, "{small}");
        assert!(large <= small * 5 / 2, "{small} {large}");
    }
}
