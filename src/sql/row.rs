//! Rows as they come back, read column by column.

use chrono::{DateTime, Utc};
use sqlx::Row as _;
use uuid::Uuid;

use crate::error::{Result, StoreError};

/// A row of any of the databases.
pub(super) enum Row {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
    #[cfg(feature = "mysql")]
    MySql(sqlx::mysql::MySqlRow),
    #[cfg(feature = "_sqlite")]
    Sqlite(sqlx::sqlite::SqliteRow),
}

/// Decodes a column of any row. The types are not compared first: integers come in several widths,
/// and texts as bytes; a value that does not decode is an error all the same.
macro_rules! get {
    ($row:expr, $index:expr, $type:ty) => {
        match $row {
            #[cfg(feature = "postgres")]
            Row::Postgres(row) => row.try_get_unchecked::<$type, _>($index),
            #[cfg(feature = "mysql")]
            Row::MySql(row) => row.try_get_unchecked::<$type, _>($index),
            #[cfg(feature = "_sqlite")]
            Row::Sqlite(row) => row.try_get_unchecked::<$type, _>($index),
        }
    };
}

/// Reads the columns of a row in their order. Errors name the table, the column and the row.
pub(super) struct Reader<'r> {
    row: &'r Row,
    table: &'static str,
    next: usize,
}

impl Row {
    /// Reads the row from its first column on, as one of `table`.
    pub(super) const fn reader(&self, table: &'static str) -> Reader<'_> {
        Reader {
            row: self,
            table,
            next: 0,
        }
    }
}

impl Reader<'_> {
    fn index(&mut self) -> usize {
        let index = self.next;
        self.next += 1;
        index
    }

    /// Leaves out so many columns.
    pub(super) const fn skip(&mut self, columns: usize) {
        self.next += columns;
    }

    /// That a column cannot be read; the row's id is its first column if that is one.
    pub(super) fn unreadable(
        &self,
        column: &'static str,
        source: impl Into<crate::error::Source>,
    ) -> StoreError {
        let id = get!(self.row, 0, Option<Uuid>).ok().flatten();
        StoreError::Unreadable {
            table: self.table,
            column,
            id: id.map_or_else(|| "unknown".to_owned(), |id| id.to_string()),
            source: Some(source.into()),
        }
    }

    pub(super) fn optional_uuid(&mut self, column: &'static str) -> Result<Option<Uuid>> {
        let index = self.index();
        get!(self.row, index, Option<Uuid>).map_err(|error| self.unreadable(column, error))
    }

    pub(super) fn uuid(&mut self, column: &'static str) -> Result<Uuid> {
        let value = self.optional_uuid(column)?;
        self.needed(column, value)
    }

    pub(super) fn optional_text(&mut self, column: &'static str) -> Result<Option<String>> {
        let index = self.index();
        get!(self.row, index, Option<String>).map_err(|error| self.unreadable(column, error))
    }

    pub(super) fn text(&mut self, column: &'static str) -> Result<String> {
        let value = self.optional_text(column)?;
        self.needed(column, value)
    }

    pub(super) fn optional_int(&mut self, column: &'static str) -> Result<Option<i64>> {
        let index = self.index();
        get!(self.row, index, Option<i64>).map_err(|error| self.unreadable(column, error))
    }

    /// An integer that fits the field it is for.
    pub(super) fn int<T>(&mut self, column: &'static str) -> Result<T>
    where
        T: TryFrom<i64>,
        T::Error: std::error::Error + Send + Sync + 'static,
    {
        let value = self.optional_int(column)?;
        let value = self.needed(column, value)?;
        T::try_from(value).map_err(|error| self.unreadable(column, error))
    }

    pub(super) fn bool(&mut self, column: &'static str) -> Result<bool> {
        match self.row {
            #[cfg(feature = "postgres")]
            Row::Postgres(row) => {
                let index = self.index();
                row.try_get_unchecked::<bool, _>(index)
                    .map_err(|error| self.unreadable(column, error))
            }
            #[cfg(any(feature = "mysql", feature = "_sqlite"))]
            _ => Ok(self.int::<i64>(column)? != 0),
        }
    }

    pub(super) fn optional_time(&mut self, column: &'static str) -> Result<Option<DateTime<Utc>>> {
        match self.row {
            #[cfg(feature = "postgres")]
            Row::Postgres(row) => {
                let index = self.index();
                row.try_get_unchecked::<Option<DateTime<Utc>>, _>(index)
                    .map_err(|error| self.unreadable(column, error))
            }
            #[cfg(any(feature = "mysql", feature = "_sqlite"))]
            _ => self.optional_micros(column),
        }
    }

    #[cfg(any(feature = "mysql", feature = "_sqlite"))]
    fn optional_micros(&mut self, column: &'static str) -> Result<Option<DateTime<Utc>>> {
        let Some(micros) = self.optional_int(column)? else {
            return Ok(None);
        };
        match DateTime::from_timestamp_micros(micros) {
            Some(time) => Ok(Some(time)),
            None => Err(self.unreadable(column, "no instant has so many microseconds")),
        }
    }

    pub(super) fn time(&mut self, column: &'static str) -> Result<DateTime<Utc>> {
        let value = self.optional_time(column)?;
        self.needed(column, value)
    }

    /// What must not be NULL.
    pub(super) fn needed<T>(&self, column: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.unreadable(column, "it is NULL"))
    }
}
