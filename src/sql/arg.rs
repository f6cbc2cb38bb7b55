//! The arguments of statements, and how each database takes them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A value that is bound to a placeholder. Arrays are arrays on PostgreSQL and JSON texts elsewhere;
/// instants are `timestamptz` on PostgreSQL and microseconds since 1970 elsewhere.
#[derive(Debug)]
pub(super) enum Arg<'a> {
    Bool(bool),
    Int(Option<i64>),
    Text(Option<&'a str>),
    Time(Option<DateTime<Utc>>),
    Uuid(Option<Uuid>),
    Bools(Vec<bool>),
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<&'a str>>),
    Times(Vec<Option<DateTime<Utc>>>),
    Uuids(Vec<Option<Uuid>>),
}

macro_rules! from {
    ($($type:ty => $arg:ident $(($map:expr))?;)*) => {
        $(impl<'a> From<$type> for Arg<'a> {
            fn from(value: $type) -> Self {
                Self::$arg($(($map))?(value))
            }
        }
        )*
    };
}

from! {
    bool => Bool (std::convert::identity);
    i64 => Int (Some);
    Option<i64> => Int (std::convert::identity);
    &'a str => Text (Some);
    &'a String => Text (|text: &'a String| Some(text.as_str()));
    Option<&'a str> => Text (std::convert::identity);
    DateTime<Utc> => Time (Some);
    Option<DateTime<Utc>> => Time (std::convert::identity);
    Uuid => Uuid (Some);
    Option<Uuid> => Uuid (std::convert::identity);
}

impl<'a> Arg<'a> {
    pub(super) fn bools(values: impl IntoIterator<Item = bool>) -> Self {
        Self::Bools(values.into_iter().collect())
    }

    pub(super) fn ints(values: impl IntoIterator<Item = i64>) -> Self {
        Self::Ints(values.into_iter().map(Some).collect())
    }

    pub(super) fn optional_ints(values: impl IntoIterator<Item = Option<i64>>) -> Self {
        Self::Ints(values.into_iter().collect())
    }

    pub(super) fn texts(values: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Texts(values.into_iter().map(Some).collect())
    }

    pub(super) fn optional_texts(values: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        Self::Texts(values.into_iter().collect())
    }

    pub(super) fn optional_times(values: impl IntoIterator<Item = Option<DateTime<Utc>>>) -> Self {
        Self::Times(values.into_iter().collect())
    }

    pub(super) fn times(values: impl IntoIterator<Item = DateTime<Utc>>) -> Self {
        Self::Times(values.into_iter().map(Some).collect())
    }

    pub(super) fn uuids(values: impl IntoIterator<Item = Uuid>) -> Self {
        Self::Uuids(values.into_iter().map(Some).collect())
    }

    pub(super) fn optional_uuids(values: impl IntoIterator<Item = Option<Uuid>>) -> Self {
        Self::Uuids(values.into_iter().collect())
    }

    /// An array as a JSON text, for databases without arrays: instants in microseconds, UUIDs in
    /// hexadecimal digits.
    #[cfg(any(feature = "mysql", feature = "_sqlite"))]
    pub(super) fn json(&self) -> Option<String> {
        use serde_json::Value;

        fn array<T>(values: &[T], value: impl Fn(&T) -> Value) -> Option<String> {
            Some(Value::Array(values.iter().map(value).collect()).to_string())
        }
        fn optional<T: Copy>(value: impl Fn(T) -> Value) -> impl Fn(&Option<T>) -> Value {
            move |inner| inner.map_or(Value::Null, &value)
        }
        match self {
            Self::Bools(values) => array(values, |value| Value::from(u8::from(*value))),
            Self::Ints(values) => array(values, optional(Value::from)),
            Self::Texts(values) => array(values, optional(Value::from)),
            Self::Times(values) => array(
                values,
                optional(|time: DateTime<Utc>| Value::from(time.timestamp_micros())),
            ),
            Self::Uuids(values) => array(
                values,
                optional(|id: Uuid| Value::from(id.simple().to_string())),
            ),
            _ => None,
        }
    }
}

/// Binds arguments to a query of PostgreSQL.
#[cfg(feature = "postgres")]
pub(super) fn bind_postgres<'q>(
    mut query: sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>,
    args: Vec<Arg<'q>>,
) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
    for arg in args {
        query = match arg {
            Arg::Bool(value) => query.bind(value),
            Arg::Int(value) => query.bind(value),
            Arg::Text(value) => query.bind(value),
            Arg::Time(value) => query.bind(value),
            Arg::Uuid(value) => query.bind(value),
            Arg::Bools(values) => query.bind(values),
            Arg::Ints(values) => query.bind(values),
            Arg::Texts(values) => query.bind(values),
            Arg::Times(values) => query.bind(values),
            Arg::Uuids(values) => query.bind(values),
        };
    }
    query
}

/// Binds arguments to a query of a database that has neither instants nor arrays.
#[cfg(any(feature = "mysql", feature = "_sqlite"))]
macro_rules! bind_plain {
    ($function:ident, $database:ty, $arguments:ty $(, $uuids:pat => $bytes:expr)?) => {
        pub(super) fn $function<'q>(
            mut query: sqlx::query::Query<'q, $database, $arguments>,
            args: Vec<Arg<'q>>,
        ) -> sqlx::query::Query<'q, $database, $arguments> {
            for arg in args {
                query = match arg {
                    Arg::Bool(value) => query.bind(i64::from(value)),
                    Arg::Int(value) => query.bind(value),
                    Arg::Text(value) => query.bind(value.map(str::to_owned)),
                    Arg::Time(value) => query.bind(value.map(|time| time.timestamp_micros())),
                    Arg::Uuid(value) => query.bind(value.map(|id| id.into_bytes().to_vec())),
                    $($uuids => query.bind($bytes),)?
                    array => query.bind(array.json()),
                };
            }
            query
        }
    };
}

#[cfg(feature = "mysql")]
bind_plain!(bind_mysql, sqlx::MySql, sqlx::mysql::MySqlArguments);
// SQLite before 3.41 cannot make bytes of hexadecimal digits, so it gets UUIDs one behind the other.
#[cfg(feature = "_sqlite")]
bind_plain!(
    bind_sqlite,
    sqlx::Sqlite,
    sqlx::sqlite::SqliteArguments,
    Arg::Uuids(ids) => concatenated(&ids)
);

/// UUIDs as bytes; the nil one stands for none, and only pads there.
#[cfg(feature = "_sqlite")]
fn concatenated(ids: &[Option<Uuid>]) -> Vec<u8> {
    ids.iter()
        .flat_map(|id| id.unwrap_or_default().into_bytes())
        .collect()
}

/// Makes the arguments of a statement.
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::sql::arg::Arg::from($value)),*]
    };
}

pub(super) use args;
