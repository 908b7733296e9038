//! Where statements stand in the text of a policy, which simulations answer.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A place in a text, both counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first character.
    pub start: Position,
    /// The one after its last.
    pub end: Position,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    #[serde(borrow)]
    statement: &'a RawValue,
}

/// Where a statement of a policy stands; `None` if the policy is none, or has fewer.
pub(super) fn of_statement(policy: &str, index: usize) -> Option<Span> {
    let document: Document<'_> = serde_json::from_str(policy).ok()?;
    let all = document.statement.get();
    let statement = match all.starts_with('[') {
        true => *serde_json::from_str::<Vec<&RawValue>>(all).ok()?.get(index)?,
        false if index == 0 => document.statement,
        false => return None,
    };
    // Raw values borrow from the text, so their addresses tell where they stand in it.
    let start = (statement.get().as_ptr() as usize).checked_sub(policy.as_ptr() as usize)?;
    let place = |offset: usize| position(policy.get(..offset)?);
    Some(Span { start: place(start)?, end: place(start + statement.get().len())? })
}

/// The place after a text.
fn position(before: &str) -> Option<Position> {
    let last = before.rsplit('\n').next()?;
    Some(Position { line: before.matches('\n').count() + 1, column: last.chars().count() + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(policy: &str, index: usize) -> Option<[usize; 4]> {
        of_statement(policy, index)
            .map(|span| [span.start.line, span.start.column, span.end.line, span.end.column])
    }

    #[test]
    fn statements_are_found_in_lists_and_alone() {
        let one = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow"}}"#;
        assert_eq!(places(one, 0), Some([1, 37, 1, 55]));
        assert_eq!(places(one, 1), None);
        let two = "{\n \"Id\": \"é\", \"Statement\": [\n  {\"Sid\":\"a\"},\n  {\"Sid\":\n\"é\"} ] }";
        assert_eq!(places(two, 0), Some([3, 3, 3, 14]));
        assert_eq!(places(two, 1), Some([4, 3, 5, 5]));
        assert_eq!(places(two, 2), None);
        assert_eq!(places("{", 0), None);
    }
}
