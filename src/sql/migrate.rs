//! Bringing the schema up to date, and refusing one that does not fit.

use std::{sync::atomic::Ordering, time::Duration};

use sqlx::{AssertSqlSafe, SqlSafeStr};
use tokio::time::Instant;

use super::{
    arg::args, connection::Needs, error::is_forbidden, link::Link, prefix::TablePrefix,
    shared::Shared, statement::Statement,
};
use crate::error::{Chain, Result, StoreError};

/// How long one migration may take: a large table may have to be rewritten.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(3600);
/// How often a process asks whether another one has migrated.
const TURN_POLL: Duration = Duration::from_millis(100);

/// A step of the schema. Its file says which tables it locks, and records itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Migration {
    /// Its number; they are applied in this order.
    pub(super) version: i64,
    /// Its text, with the default table prefix.
    pub(super) sql: &'static str,
}

impl Migration {
    /// The text for tables with another prefix.
    fn text(&self, prefix: &TablePrefix) -> String {
        let default = TablePrefix::default();
        self.sql.replace(default.as_str(), prefix.as_str())
    }
}

/// A version of the library: major, minor, patch.
type Version = (u64, u64, u64);

fn parse_version(text: &str) -> Option<Version> {
    let text = text.split(['-', '+']).next()?;
    let mut parts = text.split('.').map(str::parse);
    let version = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    parts.next().is_none().then_some(version)
}

/// What the bookkeeping table says.
pub(super) struct Applied {
    /// The latest migration; 0 if there is none.
    version: i64,
    /// Each migration, and the oldest version of the library that works with its schema.
    compatible_from: Vec<(i64, String)>,
}

impl Applied {
    /// Refuses a schema that this version of the library cannot use.
    fn check_library(&self) -> Result<()> {
        let library = env!("CARGO_PKG_VERSION");
        let ours = parse_version(library);
        for (migration, needed) in &self.compatible_from {
            let Some(version) = parse_version(needed) else {
                return Err(StoreError::Unreadable {
                    table: "migrations",
                    column: "compatible_from",
                    id: migration.to_string(),
                    source: Some(format!("{needed:?} is no version of the library").into()),
                });
            };
            if ours < Some(version) {
                return Err(StoreError::invalid(
                    format!("version {library} of the library"),
                    format!(
                        "is too old for the schema of the store, whose migration {migration} needs {needed} or later"
                    ),
                    "upgrade this program",
                ));
            }
        }
        Ok(())
    }
}

fn latest(migrations: &[Migration]) -> i64 {
    migrations
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default()
}

/// Checks that the schema is there and fits this version of the library.
pub(super) async fn check(shared: &std::sync::Arc<Shared>) -> Result<()> {
    let mut connection = shared.acquire_unchecked("check the schema").await?;
    let mut link = connection
        .open("check the schema", Needs::OneStatement)
        .await?;
    let mut answer = applied(&mut link).await;
    if matches!(&answer, Ok(applied) if applied.version == 0)
        && let Err(error) = shared.dialect.check_rights(&mut link).await
    {
        answer = Err(error);
    }
    let applied = link.close(answer).await?;
    applied.check_library()?;
    let needed = latest(shared.dialect.migrations());
    if applied.version < needed {
        let state = match applied.version {
            0 => "is missing".to_owned(),
            version => format!("is at migration {version}, and this version needs {needed}"),
        };
        return Err(StoreError::invalid(
            "the schema of the store",
            state,
            "run `migrate()` of the store, or apply its migrations, with the same table prefix",
        ));
    }
    shared.is_checked.store(true, Ordering::Release);
    Ok(())
}

/// Brings the schema up to date.
pub(super) async fn migrate(shared: &std::sync::Arc<Shared>) -> Result<()> {
    match check(shared).await {
        Ok(()) => return Ok(()),
        // Who may not even look could not tell what is missing.
        Err(error) if is_forbidden(&error) => return Err(error),
        Err(_) => {}
    }
    let mut connection = shared.acquire_unchecked("migrate").await?;
    let mut link = connection.open("migrate", Needs::Nothing).await?;
    let answer = shared.dialect.migrate(&mut link, shared).await;
    link.close(answer).await?;
    // The pool may have no more than this one.
    drop(connection);
    check(shared).await
}

/// What the bookkeeping table says; nothing if there is none.
pub(super) async fn applied(link: &mut Link<'_>) -> Result<Applied> {
    let statements = &link.shared.common;
    let mut applied = Applied {
        version: 0,
        compatible_from: Vec::new(),
    };
    if super::count(link, &statements.has_migrations, args![]).await? == 0 {
        return Ok(applied);
    }
    for row in link.rows(&statements.applied_migrations, args![]).await? {
        let mut columns = row.reader("migrations");
        let version = columns.int("version")?;
        applied.version = applied.version.max(version);
        let compatible_from = columns.text("compatible_from")?;
        applied.compatible_from.push((version, compatible_from));
    }
    Ok(applied)
}

/// Waits until no other process migrates: until a statement that tries to keep the others out says
/// that it has.
pub(super) async fn wait_for_turn(link: &mut Link<'_>, try_lock: &Statement) -> Result<()> {
    let deadline = Instant::now() + MIGRATION_TIMEOUT;
    while super::count(link, try_lock, args![]).await? == 0 {
        if Instant::now() >= deadline {
            return Err(StoreError::TimedOut {
                operation: "wait for another migration",
                limit: MIGRATION_TIMEOUT,
            });
        }
        tokio::time::sleep(TURN_POLL).await;
    }
    Ok(())
}

/// Applies what is missing. The caller keeps other processes out.
pub(super) async fn apply(link: &mut Link<'_>, shared: &Shared) -> Result<()> {
    let applied = applied(link).await?;
    applied.check_library()?;
    for migration in shared.dialect.migrations() {
        if migration.version > applied.version {
            tracing::info!(version = migration.version, "migrating the schema");
            let sql = AssertSqlSafe(migration.text(&shared.prefix)).into_sql_str();
            let answer = link.script(sql, MIGRATION_TIMEOUT).await;
            answer.map_err(|error| explain(migration.version, error))?;
        }
    }
    Ok(())
}

/// All databases say so of a table that is there.
fn explain(version: i64, error: StoreError) -> StoreError {
    let text = Chain(&error).to_string();
    if !text.contains("already exists") {
        return error;
    }
    StoreError::invalid(
        format!("migration {version} of the store's schema"),
        format!("is not recorded as applied, but what it makes is there ({text})"),
        "if its tables are those of the store, record it with the INSERT at the end of its file; else choose another \
         table prefix",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(compatible_from: &[&str]) -> Applied {
        Applied {
            version: 1,
            compatible_from: (1..)
                .zip(compatible_from.iter().map(|&text| text.to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_library_that_is_too_old_is_refused() {
        assert!(applied(&["0.0.9", "0.1.0"]).check_library().is_ok());
        for needed in ["99.0.0", "0.999.0"] {
            let error = applied(&["0.1.0", needed]).check_library().unwrap_err();
            let said = format!("migration 2 needs {needed} or later; upgrade this program");
            assert!(error.to_string().contains(&said), "{error}");
        }
    }

    #[test]
    fn a_version_that_is_none_is_unreadable() {
        let error = applied(&["0.1.0", "soon"]).check_library().unwrap_err();
        assert!(matches!(error, StoreError::Unreadable { .. }), "{error}");
        let text = Chain(&error).to_string();
        assert!(
            text.contains("migrations.compatible_from of row 2"),
            "{text}"
        );
        assert!(text.contains(r#""soon" is no version"#), "{text}");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse_version("0.10.0") > parse_version("0.9.12"));
        assert_eq!(parse_version("1.2.3-rc.1"), Some((1, 2, 3)));
        assert_eq!(parse_version("1.2"), None);
    }
}
