//! Names of condition operators.

use std::cmp::Ordering;

/// A condition operator, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    pub(super) base: Base,
    pub(super) negated: bool,
    pub(super) quantifier: Option<Quantifier>,
    pub(super) if_exists: bool,
}

/// What is compared, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    String,
    StringIgnoreCase,
    StringLike,
    Numeric(Order),
    Date(Order),
    Bool,
    Binary,
    IpAddress,
    Arn,
    Null,
}

/// How many of a key's values must fulfil the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantifier {
    ForAllValues,
    ForAnyValue,
}

/// What the request's value must be to the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// Every operator in lower case: what it tests, and whether it is a negation.
const OPERATORS: &[(&str, Base, bool)] = &[
    ("stringequals", Base::String, false),
    ("stringnotequals", Base::String, true),
    ("stringequalsignorecase", Base::StringIgnoreCase, false),
    ("stringnotequalsignorecase", Base::StringIgnoreCase, true),
    ("stringlike", Base::StringLike, false),
    ("stringnotlike", Base::StringLike, true),
    ("numericequals", Base::Numeric(Order::Equal), false),
    ("numericnotequals", Base::Numeric(Order::Equal), true),
    ("numericlessthan", Base::Numeric(Order::Less), false),
    ("numericlessthanequals", Base::Numeric(Order::LessOrEqual), false),
    ("numericgreaterthan", Base::Numeric(Order::Greater), false),
    ("numericgreaterthanequals", Base::Numeric(Order::GreaterOrEqual), false),
    ("dateequals", Base::Date(Order::Equal), false),
    ("datenotequals", Base::Date(Order::Equal), true),
    ("datelessthan", Base::Date(Order::Less), false),
    ("datelessthanequals", Base::Date(Order::LessOrEqual), false),
    ("dategreaterthan", Base::Date(Order::Greater), false),
    ("dategreaterthanequals", Base::Date(Order::GreaterOrEqual), false),
    ("bool", Base::Bool, false),
    ("binaryequals", Base::Binary, false),
    ("ipaddress", Base::IpAddress, false),
    ("notipaddress", Base::IpAddress, true),
    ("arnequals", Base::Arn, false),
    ("arnlike", Base::Arn, false),
    ("arnnotequals", Base::Arn, true),
    ("arnnotlike", Base::Arn, true),
    ("null", Base::Null, false),
];

impl Operator {
    /// Reads an operator's name, ignoring case; `None` if there is no such operator.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let (quantifier, name) = match name.split_once(':') {
            None => (None, &*name),
            Some(("forallvalues", name)) => (Some(Quantifier::ForAllValues), name),
            Some(("foranyvalue", name)) => (Some(Quantifier::ForAnyValue), name),
            Some(_) => return None,
        };
        let (if_exists, name) = match name.strip_suffix("ifexists") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let (_, base, negated) = *OPERATORS.iter().find(|(known, ..)| *known == name)?;
        if base == Base::Null && (if_exists || quantifier.is_some()) {
            return None;
        }
        Some(Self { base, negated, quantifier, if_exists })
    }
}
