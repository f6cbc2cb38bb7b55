//! Rows as they come back, read column by column.

#[cfg(feature = "postgres")]
use chrono::TimeDelta;
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
    /// Where the row's id is.
    id: usize,
    next: usize,
}

impl Row {
    /// Reads the row from its first column on, as one of `table`.
    pub(super) const fn reader(&self, table: &'static str) -> Reader<'_> {
        self.reader_at(table, 0)
    }

    /// Reads the row from the column `first` on, as one of `table`, whose id that column is.
    pub(super) const fn reader_at(&self, table: &'static str, first: usize) -> Reader<'_> {
        Reader {
            row: self,
            table,
            id: first,
            next: first,
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

    /// What the row is called: by its id, or by the name of the handler that is registered.
    fn row_id(&self) -> Option<String> {
        if self.table == super::records::REGISTRATIONS {
            return get!(self.row, self.id, Option<String>).ok().flatten();
        }
        let id = get!(self.row, self.id, Option<Uuid>).ok().flatten();
        id.map(|id| id.to_string())
    }

    /// That a column cannot be read; the row's id is its first column if that is one.
    pub(super) fn unreadable(
        &self,
        column: &'static str,
        source: impl Into<crate::error::Source>,
    ) -> StoreError {
        StoreError::Unreadable {
            table: self.table,
            column,
            id: self.row_id().unwrap_or_else(|| "unknown".to_owned()),
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

    /// A fence that can still be moved on: a row that has the greatest number there is can never be
    /// claimed again, and would take along all that are claimed with it.
    pub(super) fn attempt(&mut self) -> Result<u64> {
        let attempt: u64 = self.int("attempt")?;
        if attempt >= i64::MAX.unsigned_abs() {
            return Err(self.unreadable("attempt", "it is the greatest number there is"));
        }
        Ok(attempt)
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
            Row::Postgres(_) => self.optional_postgres_time(column),
            #[cfg(any(feature = "mysql", feature = "_sqlite"))]
            _ => self.optional_micros(column),
        }
    }

    /// PostgreSQL sends microseconds since 2000. They are added to that here, since the driver panics
    /// at what no calendar has: `infinity`, and years that chrono does not know.
    #[cfg(feature = "postgres")]
    fn optional_postgres_time(&mut self, column: &'static str) -> Result<Option<DateTime<Utc>>> {
        /// The beginning of the year 2000.
        const EPOCH: DateTime<Utc> = match DateTime::from_timestamp(946_684_800, 0) {
            Some(epoch) => epoch,
            None => DateTime::UNIX_EPOCH,
        };
        let Some(micros) = self.optional_int(column)? else {
            return Ok(None);
        };
        match EPOCH.checked_add_signed(TimeDelta::microseconds(micros)) {
            Some(time) => Ok(Some(time)),
            None => Err(self.unreadable(column, "it is no instant that a calendar has")),
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

    /// When something is due next, which is nobody's time in particular: what lies outside of any
    /// calendar is due as late or as early as can be, and fails no answer about other rows.
    pub(super) fn optional_due(&mut self, column: &'static str) -> Result<Option<DateTime<Utc>>> {
        let index = self.next;
        match self.optional_time(column) {
            Err(StoreError::Unreadable { .. }) => {
                self.next = index;
                let number = self.optional_int(column)?;
                Ok(number.map(|number| match number {
                    ..0 => DateTime::<Utc>::MIN_UTC,
                    _ => DateTime::<Utc>::MAX_UTC,
                }))
            }
            answer => answer,
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
