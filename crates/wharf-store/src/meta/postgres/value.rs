//! Our four kinds of values in PostgreSQL's binary form.

use std::{error::Error, fmt};

use bytes::BytesMut;
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

use crate::meta::{
    error::MetaError,
    value::{Param, Value},
};

/// A parameter on its way into a statement. It is sent in the kind that the prepared statement asks for.
pub(super) struct Bound<'a>(Value<'a>);

pub(super) fn bound<'a>(params: &'a [&dyn Param]) -> Result<Vec<Bound<'a>>, MetaError> {
    params.iter().map(|param| param.value().map(Bound)).collect()
}

/// The driver may log parameters: they are nobody's business.
impl fmt::Debug for Bound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.kind())
    }
}

type Failure = Box<dyn Error + Sync + Send>;

impl ToSql for Bound<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match (self.0, kind) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Integer(number), &Type::INT8) => number.to_sql(kind, out),
            (Value::Integer(number), &Type::INT4) => i32::try_from(number)?.to_sql(kind, out),
            (Value::Integer(number), &Type::INT2) => i16::try_from(number)?.to_sql(kind, out),
            (Value::Text(text), &(Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN)) => {
                text.to_sql(&Type::TEXT, out)
            }
            (Value::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(kind, out),
            (Value::Bool(flag), &Type::BOOL) => flag.to_sql(kind, out),
            (value, kind) => Err(format!("{} given where the statement takes {kind}", value.kind()).into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        match *kind {
            Type::INT8 => i64::from_sql(kind, raw).map(Value::Integer),
            Type::INT4 => i32::from_sql(kind, raw).map(|number| Value::Integer(number.into())),
            Type::INT2 => i16::from_sql(kind, raw).map(|number| Value::Integer(number.into())),
            Type::BYTEA => Ok(Value::Bytes(raw)),
            Type::BOOL => bool::from_sql(kind, raw).map(Value::Bool),
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN => {
                <&str>::from_sql(&Type::TEXT, raw).map(Value::Text)
            }
            ref other => Err(format!("a column of kind {other}").into()),
        }
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Value::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Borrows a column (counted from zero).
pub(in crate::meta) fn column(row: &Row, index: usize) -> Result<Value<'_>, MetaError> {
    row.try_get(index).map_err(|error| {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        MetaError::column(index, cause)
    })
}

/// A parameter that waits for its statement to be sent.
pub(super) enum Kept {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
    Bool(bool),
}

impl From<Value<'_>> for Kept {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Kept::Null,
            Value::Integer(number) => Kept::Integer(number),
            Value::Text(text) => Kept::Text(text.to_owned()),
            Value::Bytes(bytes) => Kept::Bytes(bytes.to_vec()),
            Value::Bool(flag) => Kept::Bool(flag),
        }
    }
}

impl Kept {
    pub fn bound(&self) -> Bound<'_> {
        Bound(match self {
            Kept::Null => Value::Null,
            Kept::Integer(number) => Value::Integer(*number),
            Kept::Text(text) => Value::Text(text),
            Kept::Bytes(bytes) => Value::Bytes(bytes),
            Kept::Bool(flag) => Value::Bool(*flag),
        })
    }
}
