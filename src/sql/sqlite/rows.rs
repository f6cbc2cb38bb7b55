//! Rows as arguments: a JSON text of what is no UUID, which `json_each` takes apart.

use serde::Serialize;

use crate::error::{Result, StoreError};

/// A value of a row.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Cell<'a> {
    Int(Option<i64>),
    Text(Option<&'a str>),
}

impl From<i64> for Cell<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Cell<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<Option<&'a str>> for Cell<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value)
    }
}

impl From<chrono::DateTime<chrono::Utc>> for Cell<'_> {
    fn from(value: chrono::DateTime<chrono::Utc>) -> Self {
        Self::Int(Some(value.timestamp_micros()))
    }
}

impl From<Option<chrono::DateTime<chrono::Utc>>> for Cell<'_> {
    fn from(value: Option<chrono::DateTime<chrono::Utc>>) -> Self {
        Self::Int(value.map(|time| time.timestamp_micros()))
    }
}

/// A row.
macro_rules! row {
    ($($value:expr),* $(,)?) => {
        [$($crate::sql::sqlite::rows::Cell::from($value)),*]
    };
}

pub(super) use row;

/// Rows as a JSON text.
pub(super) fn json<T: Serialize>(rows: impl Iterator<Item = T>) -> Result<String> {
    let rows: Vec<_> = rows.collect();
    serde_json::to_string(&rows).map_err(|error| StoreError::Backend {
        operation: "write rows as JSON",
        source: Box::new(error),
    })
}
