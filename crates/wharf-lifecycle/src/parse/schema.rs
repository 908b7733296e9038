//! The JSON schema of a policy: types, required and allowed members, bounds. The texts are those of the validator that
//! ECR's error messages show.

use serde_json::{Map, Value};

/// A document of the wrong shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A value of another type.
    #[error("instance type ({found}) does not match any allowed primitive type (allowed: [\"{allowed}\"])")]
    Type {
        /// What it is.
        found: &'static str,
        /// What it should be.
        allowed: &'static str,
    },
    /// Members that must be there.
    #[error("object has missing required properties ({})", quoted(.0))]
    Missing(Vec<String>),
    /// Members that must not be there.
    #[error("object instance has properties which are not allowed by the schema: ({})", quoted(.0))]
    Unknown(Vec<String>),
    /// A text that is not one of a few.
    #[error("instance value ({found}) not found in enum (possible values: {})", quoted(.allowed))]
    Enum {
        /// The value as JSON.
        found: String,
        /// The few.
        allowed: Vec<String>,
    },
    /// A number below 1.
    #[error("numeric instance is lower than the required minimum (minimum: 1, found: {0})")]
    Minimum(String),
    /// A list that is too short.
    #[error("array is too short: must have at least {least} elements but instance has {found} elements")]
    TooShort {
        /// Fewest elements.
        least: usize,
        /// Its elements.
        found: usize,
    },
    /// A list that is too long.
    #[error("array is too long: must have at most {most} elements but instance has {found} elements")]
    TooLong {
        /// Most elements.
        most: usize,
        /// Its elements.
        found: usize,
    },
    /// A list that says the same twice.
    #[error("array must not contain duplicate elements")]
    Duplicates,
    /// An empty text.
    #[error("string \"\" is too short (length: 0, required minimum: 1)")]
    Empty,
}

fn quoted(names: &[String]) -> String {
    Value::from(names.to_vec()).to_string()
}

fn wrong_type(value: &Value, allowed: &'static str) -> SchemaError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    SchemaError::Type { found, allowed }
}

/// The members of an object that has those it must have and no others.
pub(super) struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    /// `required` in alphabetical order.
    pub(super) fn of(value: &'a Value, allowed: &[&str], required: &[&str]) -> Result<Self, SchemaError> {
        let members = value.as_object().ok_or_else(|| wrong_type(value, "object"))?;
        let mut unknown: Vec<String> =
            members.keys().filter(|name| !allowed.contains(&name.as_str())).cloned().collect();
        if !unknown.is_empty() {
            unknown.sort_unstable();
            return Err(SchemaError::Unknown(unknown));
        }
        let absent = required.iter().filter(|name| !members.contains_key(**name));
        let missing: Vec<String> = absent.map(|name| (*name).to_owned()).collect();
        if missing.is_empty() { Ok(Self(members)) } else { Err(SchemaError::Missing(missing)) }
    }

    /// A member that may be absent.
    pub(super) fn find(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    /// A required member.
    pub(super) fn get(&self, name: &str) -> &'a Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }
}

/// An integer from 1.
pub(super) fn count(value: &Value) -> Result<u64, SchemaError> {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(count), _) if count >= 1 => Ok(count),
            (None, Some(float)) if float.fract() == 0.0 && (1.0..9e15).contains(&float) => Ok(float as u64),
            (None, Some(float)) if float.fract() != 0.0 => Err(wrong_type(value, "integer")),
            (None, Some(float)) if float >= 1.0 => Ok(u64::MAX),
            _ => Err(SchemaError::Minimum(number.to_string())),
        },
        other => Err(wrong_type(other, "integer")),
    }
}

/// A text.
pub(super) fn text(value: &Value) -> Result<&str, SchemaError> {
    value.as_str().ok_or_else(|| wrong_type(value, "string"))
}

/// A truth value.
pub(super) fn truth(value: &Value) -> Result<bool, SchemaError> {
    value.as_bool().ok_or_else(|| wrong_type(value, "boolean"))
}

/// One of a few texts, as the one of `allowed` (in alphabetical order) that it is.
pub(super) fn one_of<'s>(value: &Value, allowed: &[&'s str]) -> Result<&'s str, SchemaError> {
    let found = text(value)?;
    allowed.iter().find(|name| **name == found).copied().ok_or_else(|| SchemaError::Enum {
        found: value.to_string(),
        allowed: allowed.iter().map(|name| (*name).to_owned()).collect(),
    })
}

/// A list with a bounded number of elements.
pub(super) fn list(value: &Value, least: usize, most: usize) -> Result<&[Value], SchemaError> {
    let list = value.as_array().ok_or_else(|| wrong_type(value, "array"))?;
    match list.len() {
        found if found < least => Err(SchemaError::TooShort { least, found }),
        found if found > most => Err(SchemaError::TooLong { most, found }),
        _ => Ok(list),
    }
}

/// A list of different texts, none empty.
pub(super) fn texts(value: &Value) -> Result<Vec<String>, SchemaError> {
    let list = list(value, 1, usize::MAX)?;
    let mut texts = Vec::with_capacity(list.len());
    for element in list {
        let text = text(element)?;
        if text.is_empty() {
            return Err(SchemaError::Empty);
        }
        if texts.iter().any(|earlier| earlier == text) {
            return Err(SchemaError::Duplicates);
        }
        texts.push(text.to_owned());
    }
    Ok(texts)
}
