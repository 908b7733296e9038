//! ARN patterns of `ArnLike` and its relatives: six fields, each with its own wildcards.

use crate::context::Context;
use crate::pattern::{Case, Matched, Pattern, Syntax, split_fields};

/// Six field patterns.
#[derive(Debug)]
pub(crate) struct ArnPattern([Pattern; 6]);

impl ArnPattern {
    /// `None` if there are fewer than six fields.
    pub(super) fn compile(text: &str, variables: bool) -> Option<Self> {
        let syntax = Syntax { wildcards: true, variables };
        let fields: Vec<Pattern> =
            split_fields(text, 6).into_iter().map(|field| Pattern::compile(field, syntax)).collect();
        fields.try_into().ok().map(Self)
    }

    /// Every field must match. A variable without value makes the whole match nothing.
    pub(super) fn matches(&self, fields: &[&str; 6], context: &Context<'_>) -> bool {
        self.0
            .iter()
            .zip(fields)
            .all(|(pattern, field)| pattern.compare(field, Case::Sensitive, context) == Matched::Yes)
    }

    /// The context keys that variables name.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(Pattern::variables).map(|(key, _)| key)
    }
}

/// The six fields of a request's ARN; the sixth keeps its colons.
pub(crate) fn fields(arn: &str) -> Option<[&str; 6]> {
    let mut parts = arn.splitn(6, ':');
    let mut next = || parts.next();
    Some([next()?, next()?, next()?, next()?, next()?, next()?])
}
