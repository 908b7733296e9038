//! Values that go into statements and come out of rows. Only four kinds exist: text, 64-bit integer, bytes, boolean.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::{error::MetaError, postgres};

/// One value, borrowed from a parameter or from a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// SQL `NULL`.
    Null,
    /// A 64-bit integer (SQLite keeps booleans so, too).
    Integer(i64),
    /// UTF-8 text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A boolean parameter.
    Bool(bool),
}

impl<'a> Value<'a> {
    pub(super) fn as_sqlite(self) -> ToSqlOutput<'a> {
        ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
            Value::Bool(flag) => ValueRef::Integer(i64::from(flag)),
        })
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Integer(_) => "an integer",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Bool(_) => "a boolean",
        }
    }
}

/// What can stand for a `$n` in a statement.
pub trait Param {
    /// The value to bind. Fails if it does not fit a column, such as a `u64` above `i64::MAX`.
    fn value(&self) -> Result<Value<'_>, MetaError>;
}

macro_rules! params {
    ($($type:ty, $this:ident => $value:expr;)*) => {$(
        impl Param for $type {
            fn value(&self) -> Result<Value<'_>, MetaError> {
                let $this = self;
                Ok($value)
            }
        }
    )*};
}

params! {
    i64, this => Value::Integer(*this);
    i32, this => Value::Integer(i64::from(*this));
    u32, this => Value::Integer(i64::from(*this));
    u16, this => Value::Integer(i64::from(*this));
    bool, this => Value::Bool(*this);
    str, this => Value::Text(this);
    String, this => Value::Text(this);
    [u8], this => Value::Bytes(this);
    Vec<u8>, this => Value::Bytes(this);
    Bytes, this => Value::Bytes(this);
    u64, this => Value::Integer(i64::try_from(*this).map_err(|_| out_of_range(this))?);
    usize, this => Value::Integer(i64::try_from(*this).map_err(|_| out_of_range(this))?);
}

fn out_of_range(number: &dyn std::fmt::Display) -> MetaError {
    MetaError::other(format!("{number} does not fit a 64-bit integer column"))
}

impl<const N: usize> Param for [u8; N] {
    fn value(&self) -> Result<Value<'_>, MetaError> {
        Ok(Value::Bytes(self))
    }
}

impl<T: Param> Param for Option<T> {
    fn value(&self) -> Result<Value<'_>, MetaError> {
        self.as_ref().map_or(Ok(Value::Null), Param::value)
    }
}

impl<T: Param + ?Sized> Param for &T {
    fn value(&self) -> Result<Value<'_>, MetaError> {
        (**self).value()
    }
}

impl<T: Param + ?Sized> Param for Box<T> {
    fn value(&self) -> Result<Value<'_>, MetaError> {
        (**self).value()
    }
}

impl<T: Param + ?Sized> Param for Arc<T> {
    fn value(&self) -> Result<Value<'_>, MetaError> {
        (**self).value()
    }
}

/// A row a statement returned, alive until the next one is fetched.
pub struct Row<'a> {
    inner: Inner<'a>,
}

enum Inner<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

impl<'a> Row<'a> {
    pub(super) fn of_sqlite(inner: &'a rusqlite::Row<'a>) -> Self {
        Row { inner: Inner::Sqlite(inner) }
    }

    pub(super) fn of_postgres(inner: &'a tokio_postgres::Row) -> Self {
        Row { inner: Inner::Postgres(inner) }
    }

    /// Reads a column (counted from zero). Fails with `MetaError::Column` if it is of another kind, `NULL` where
    /// `T` is no `Option`, or out of `T`'s range.
    pub fn get<T: FromColumn>(&self, index: usize) -> Result<T, MetaError> {
        T::from_column(self.value(index)?).map_err(|detail| MetaError::column(index, detail))
    }

    /// Borrows a text column, for parsing without a copy. Fails as `get` does.
    pub fn text(&self, index: usize) -> Result<&str, MetaError> {
        match self.value(index)? {
            Value::Text(text) => Ok(text),
            other => Err(MetaError::column(index, expected("text", other))),
        }
    }

    /// Borrows a bytes column, for parsing without a copy. Fails as `get` does.
    pub fn bytes(&self, index: usize) -> Result<&[u8], MetaError> {
        match self.value(index)? {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(MetaError::column(index, expected("bytes", other))),
        }
    }

    fn value(&self, index: usize) -> Result<Value<'_>, MetaError> {
        let row = match self.inner {
            Inner::Sqlite(row) => row,
            Inner::Postgres(row) => return postgres::column(row, index),
        };
        match row.get_ref(index) {
            Ok(ValueRef::Null) => Ok(Value::Null),
            Ok(ValueRef::Integer(number)) => Ok(Value::Integer(number)),
            Ok(ValueRef::Blob(bytes)) => Ok(Value::Bytes(bytes)),
            Ok(ValueRef::Text(text)) => std::str::from_utf8(text)
                .map(Value::Text)
                .map_err(|_| MetaError::column(index, "text that is not UTF-8")),
            Ok(ValueRef::Real(_)) => Err(MetaError::column(index, "a floating-point number")),
            Err(error) => Err(MetaError::column(index, error.to_string())),
        }
    }
}

/// What a column can be read as.
pub trait FromColumn: Sized {
    /// Converts the value, or says what was expected and found.
    fn from_column(value: Value<'_>) -> Result<Self, String>;
}

fn expected(wanted: &str, found: Value<'_>) -> String {
    format!("expected {wanted}, found {}", found.kind())
}

macro_rules! integer_columns {
    ($($type:ty),*) => {$(
        impl FromColumn for $type {
            fn from_column(value: Value<'_>) -> Result<Self, String> {
                match value {
                    Value::Integer(number) => <$type>::try_from(number)
                        .map_err(|_| format!("{number} is out of range for {}", stringify!($type))),
                    other => Err(expected("an integer", other)),
                }
            }
        }
    )*};
}

integer_columns!(i64, u64, i32, u32, u16, usize);

macro_rules! copied_columns {
    ($($variant:ident, $wanted:literal: $($type:ty),*;)*) => {$($(
        impl FromColumn for $type {
            fn from_column(value: Value<'_>) -> Result<Self, String> {
                match value {
                    Value::$variant(found) => Ok(found.to_owned().into()),
                    other => Err(expected($wanted, other)),
                }
            }
        }
    )*)*};
}

copied_columns! {
    Text, "text": String, Box<str>, Arc<str>;
    Bytes, "bytes": Vec<u8>, Box<[u8]>, Bytes;
}

impl<const N: usize> FromColumn for [u8; N] {
    fn from_column(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Bytes(bytes) => {
                bytes.try_into().map_err(|_| format!("expected {N} bytes, found {}", bytes.len()))
            }
            other => Err(expected("bytes", other)),
        }
    }
}

impl FromColumn for bool {
    fn from_column(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Bool(flag) => Ok(flag),
            Value::Integer(0) => Ok(false),
            Value::Integer(1) => Ok(true),
            other => Err(expected("a boolean", other)),
        }
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Null => Ok(None),
            value => T::from_column(value).map(Some),
        }
    }
}
