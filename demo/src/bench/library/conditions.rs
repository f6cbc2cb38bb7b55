//! The conditions under which figures were taken: those of a server that does not write through are not to be
//! compared with others.

use std::{fmt, thread};

use serde::Serialize;
use tidings::sqlx::{self, MySqlConnection, PgConnection, Row as _, SqliteConnection};

use super::{Library, Result};
use crate::place::System;

/// What was measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::bench) struct Conditions {
    /// The name of the server and its version.
    server: String,
    /// What says whether a commit outlives a loss of power.
    settings: Vec<Setting>,
    /// Of this machine, as far as this process may use them.
    cores: usize,
}

/// A setting as connections of the library have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Setting {
    name: &'static str,
    value: String,
    is_durable: bool,
}

impl Setting {
    fn new(name: &'static str, value: String, is_durable: impl FnOnce(&str) -> bool) -> Self {
        let is_durable = is_durable(&value);
        Self {
            name,
            value,
            is_durable,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value)
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, cores, .. } = self;
        let settings = texts(&self.settings);
        write!(f, "{server} with {settings}; {cores} cores here")
    }
}

fn texts<'s>(settings: impl IntoIterator<Item = &'s Setting>) -> String {
    let texts = settings.into_iter().map(Setting::to_string);
    texts.collect::<Vec<_>>().join(", ")
}

impl Library {
    /// Those that the library's own connections find.
    pub(in crate::bench) async fn conditions(&self) -> Result<Conditions> {
        let turn = self.turn().await?;
        let mut session = turn.storer().session().await?;
        let connection = session.connection();
        let foreign = "a connection is not of its own system";
        let (server, settings) = match self.place.system {
            System::Postgres => postgres(connection.downcast().ok_or(foreign)?).await?,
            System::Sqlite => sqlite(connection.downcast().ok_or(foreign)?).await?,
            System::MySql => mysql(connection.downcast().ok_or(foreign)?).await?,
        };
        drop(session);
        turn.end().await?;
        Ok(Conditions {
            server,
            settings,
            cores: thread::available_parallelism()?.get(),
        })
    }
}

impl Conditions {
    /// What keeps commits from being durable, in words for people.
    pub(in crate::bench) fn not_durable(&self) -> Option<String> {
        let bad: Vec<_> = self.settings.iter().filter(|one| !one.is_durable).collect();
        (!bad.is_empty()).then(|| texts(bad))
    }
}

/// The name and version of a server, and its settings.
type Found = (String, Vec<Setting>);

async fn postgres(connection: &mut PgConnection) -> sqlx::Result<Found> {
    let row = sqlx::query(
        "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')",
    );
    let row = row.fetch_one(connection).await?;
    let settings = vec![
        Setting::new("fsync", row.try_get(1)?, |value| value == "on"),
        Setting::new("synchronous_commit", row.try_get(2)?, |value| {
            value != "off"
        }),
    ];
    let version: String = row.try_get(0)?;
    Ok((format!("PostgreSQL {version}"), settings))
}

async fn sqlite(connection: &mut SqliteConnection) -> sqlx::Result<Found> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&mut *connection)
        .await?;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(connection)
        .await?;
    let value = match synchronous {
        0 => "off",
        1 => "normal",
        2 => "full",
        _ => "extra",
    };
    // With a write-ahead log, less keeps the file whole, but loses commits.
    let synchronous = Setting::new("synchronous", value.to_owned(), |_| synchronous >= 2);
    Ok((format!("SQLite {version}"), vec![synchronous]))
}

async fn mysql(connection: &mut MySqlConnection) -> sqlx::Result<Found> {
    let row = sqlx::query(
        // Without a log there is nothing to be synced. A cast would make a word of `log_bin`.
        "SELECT @@version, CAST(@@innodb_flush_log_at_trx_commit AS CHAR), \
             IF(@@log_bin, CAST(@@sync_binlog AS CHAR), NULL)",
    );
    let row = row.fetch_one(connection).await?;
    let (version, sync): (String, Option<String>) = (row.try_get(0)?, row.try_get(2)?);
    let mut settings = vec![Setting::new(
        "innodb_flush_log_at_trx_commit",
        row.try_get(1)?,
        // MariaDB syncs with 3, too.
        |value| matches!(value, "1" | "3"),
    )];
    settings.extend(sync.map(|sync| Setting::new("sync_binlog", sync, |value| value == "1")));
    let name = match version.contains("MariaDB") {
        true => "MariaDB",
        false => "MySQL",
    };
    Ok((format!("{name} {version}"), settings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::costs::Meter;
    use crate::place::Place;

    #[tokio::test]
    async fn the_library_is_durable_on_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of_file(directory.path());
        let meter = Meter::connect(&place).await.unwrap();
        let conditions = Library::new(place, meter).conditions().await.unwrap();
        let text = conditions.to_string();
        assert!(
            text.starts_with("SQLite 3.") && text.contains("synchronous full"),
            "{text}"
        );
        assert_eq!(conditions.not_durable(), None);
    }

    #[test]
    fn what_is_not_durable_is_named() {
        let setting =
            |name, value: &str| Setting::new(name, value.to_owned(), |value| value == "on");
        let conditions = Conditions {
            server: "PostgreSQL 15".to_owned(),
            settings: vec![setting("fsync", "on"), setting("synchronous_commit", "off")],
            cores: 2,
        };
        assert_eq!(
            conditions.not_durable(),
            Some("synchronous_commit off".to_owned())
        );
        assert_eq!(
            conditions.to_string(),
            "PostgreSQL 15 with fsync on, synchronous_commit off; 2 cores here"
        );
    }
}
