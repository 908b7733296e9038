//! The `Condition` element: operators, keys and values, compiled.

mod arn;
mod date;
mod network;
mod number;
mod operator;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::context::Context;
use crate::pattern::{Case, Matched, Pattern, Syntax};

use arn::ArnPattern;
pub(crate) use arn::fields as arn_fields;
use network::Network;
use number::Number;
pub(crate) use operator::Operator;
use operator::{Base, Order, Quantifier};

/// One key under one operator.
#[derive(Debug)]
pub(crate) struct Condition {
    key: Box<str>,
    quantifier: Option<Quantifier>,
    if_exists: bool,
    negated: bool,
    test: Test,
}

/// The policy's values, read once for what the operator compares. `None` is a value that cannot be read so; it matches
/// nothing.
#[derive(Debug)]
enum Test {
    Text(Box<[Pattern]>),
    TextIgnoringCase(Box<[Pattern]>),
    Number(Order, Box<[Option<Number>]>),
    Date(Order, Box<[Option<i64>]>),
    Bool(Box<[Option<bool>]>),
    Binary(Box<[Option<Vec<u8>>]>),
    Network(Box<[Option<Network>]>),
    Arn(Box<[Option<ArnPattern>]>),
    Null(Box<[Option<bool>]>),
}

/// Either padding will do: what is compared are the bytes.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Condition {
    /// Compiles a key and its values; values that the operator cannot read match nothing.
    pub(crate) fn compile(operator: Operator, key: &str, values: &[String], variables: bool) -> Self {
        fn each<T>(values: &[String], read: impl Fn(&str) -> T) -> Box<[T]> {
            values.iter().map(|value| read(value)).collect()
        }
        let patterns =
            |wildcards| each(values, |value| Pattern::compile(value, Syntax { wildcards, variables }));
        let test = match operator.base {
            Base::String => Test::Text(patterns(false)),
            Base::StringIgnoreCase => Test::TextIgnoringCase(patterns(false)),
            Base::StringLike => Test::Text(patterns(true)),
            Base::Numeric(order) => Test::Number(order, each(values, Number::parse)),
            Base::Date(order) => Test::Date(order, each(values, date::parse)),
            Base::Bool => Test::Bool(each(values, boolean)),
            Base::Binary => Test::Binary(each(values, |value| BASE64.decode(value).ok())),
            Base::IpAddress => Test::Network(each(values, Network::parse)),
            Base::Arn => Test::Arn(each(values, |value| ArnPattern::compile(value, variables))),
            Base::Null => Test::Null(each(values, boolean)),
        };
        Self {
            key: key.into(),
            quantifier: operator.quantifier,
            if_exists: operator.if_exists,
            negated: operator.negated,
            test,
        }
    }

    /// Whether the request fulfils the condition.
    pub(crate) fn holds(&self, context: &Context<'_>) -> bool {
        let values = context.get(&self.key);
        if let Test::Null(wanted) = &self.test {
            return wanted.iter().any(|wanted| *wanted == Some(values.is_none()));
        }
        let Some(values) = values else {
            return self.if_exists
                || match self.quantifier {
                    Some(Quantifier::ForAllValues) => true,
                    Some(Quantifier::ForAnyValue) => false,
                    None => self.negated,
                };
        };
        match self.quantifier {
            Some(Quantifier::ForAllValues) => values.iter().all(|value| self.satisfied_by(value, context)),
            Some(Quantifier::ForAnyValue) => values.iter().any(|value| self.satisfied_by(value, context)),
            None => values.only().is_some_and(|value| self.satisfied_by(value, context)),
        }
    }

    /// Tests one value of the request. A value that is no number (date, address, ARN) fulfils neither an operator of
    /// that kind nor its negation.
    fn satisfied_by(&self, value: &str, context: &Context<'_>) -> bool {
        match &self.test {
            Test::Text(patterns) => {
                let matched = |p: &Pattern| p.compare(value, Case::Sensitive, context) == Matched::Yes;
                patterns.iter().any(matched) != self.negated
            }
            Test::TextIgnoringCase(patterns) => {
                let matched = |p: &Pattern| p.equals_folded(value, context) == Matched::Yes;
                patterns.iter().any(matched) != self.negated
            }
            Test::Number(order, wanted) => {
                self.typed(Number::parse(value), wanted, |a, b| order.holds(a.cmp(b)))
            }
            Test::Date(order, wanted) => self.typed(date::parse(value), wanted, |a, b| order.holds(a.cmp(b))),
            Test::Bool(wanted) => self.typed(boolean(value), wanted, PartialEq::eq),
            Test::Binary(wanted) => self.typed(BASE64.decode(value).ok(), wanted, PartialEq::eq),
            Test::Network(wanted) => self
                .typed(Network::parse_address(value), wanted, |address, network| network.contains(*address)),
            Test::Arn(wanted) => {
                let fields = arn::fields(value);
                self.typed(fields, wanted, |fields, pattern| pattern.matches(fields, context))
            }
            Test::Null(_) => false,
        }
    }

    fn typed<V, W>(&self, value: Option<V>, wanted: &[Option<W>], test: impl Fn(&V, &W) -> bool) -> bool {
        let Some(value) = value else { return false };
        if self.negated {
            wanted.iter().all(|wanted| wanted.as_ref().is_some_and(|wanted| !test(&value, wanted)))
        } else {
            wanted.iter().any(|wanted| wanted.as_ref().is_some_and(|wanted| test(&value, wanted)))
        }
    }

    /// The key, and those that the values name as variables.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let patterns: &[Pattern] = match &self.test {
            Test::Text(patterns) | Test::TextIgnoringCase(patterns) => patterns,
            _ => &[],
        };
        let arns: &[Option<ArnPattern>] = match &self.test {
            Test::Arn(arns) => arns,
            _ => &[],
        };
        std::iter::once(&*self.key)
            .chain(patterns.iter().flat_map(Pattern::variables).map(|(key, _)| key))
            .chain(arns.iter().flatten().flat_map(ArnPattern::variables))
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
