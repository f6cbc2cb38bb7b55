//! What the database server counts: what it wrote, how many transactions it had, how long its
//! processors were busy.

use std::{fs, time::Duration};

use tidings::sqlx::{
    self, Connection as _, Executor as _, MySqlConnection, PgConnection, Row as _,
};

use super::process::{self, Family};
use crate::bench::Result;
use crate::place::{Place, System};

/// Counters of a server. What is unknown is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// Bytes of its log.
    pub(super) written: Option<f64>,
    pub(super) transactions: Option<f64>,
    pub(super) cpu: Option<Duration>,
}

/// A server, by a connection of its own.
#[derive(Debug)]
pub(super) enum Server {
    Postgres(PgConnection, Option<Family>),
    MySql(MySqlConnection, Option<Family>),
    /// It is a part of this process.
    Sqlite,
}

/// Whether an address is one of this machine, so that a process of the server can be looked for.
fn is_here(place: &Place) -> Result<bool> {
    let Some((host, _)) = place.address()? else {
        return Ok(true);
    };
    Ok(host == "localhost" || host.starts_with("127.") || host == "::1" || host == "[::1]")
}

impl Server {
    pub(super) async fn connect(place: &Place) -> Result<Self> {
        Ok(match place.system {
            System::Sqlite => Self::Sqlite,
            System::Postgres => {
                let mut connection = PgConnection::connect(&place.url).await?;
                let ours: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
                    .fetch_one(&mut connection)
                    .await?;
                let family = match is_here(place)? {
                    true => Family::of_child(u32::try_from(ours)?, "postgres"),
                    false => None,
                };
                Self::Postgres(connection, family)
            }
            System::MySql => {
                let mut connection = MySqlConnection::connect(&place.url).await?;
                let file: String = sqlx::query_scalar("SELECT @@pid_file")
                    .fetch_one(&mut connection)
                    .await?;
                let id = || fs::read_to_string(file).ok()?.trim().parse().ok();
                let family = match is_here(place)? {
                    true => id().and_then(|id| Family::of(id, &["mariadbd", "mysqld"])),
                    false => None,
                };
                // Where it may; the counter is off by default.
                let counted = "SET GLOBAL innodb_monitor_enable = 'trx_rw_commits'";
                drop(connection.execute(counted).await);
                Self::MySql(connection, family)
            }
        })
    }

    /// Whether it has no process of its own.
    pub(super) const fn is_this_process(&self) -> bool {
        matches!(self, Self::Sqlite)
    }

    /// Whether nobody else is connected to the database any more, so that everything is counted: a process
    /// of PostgreSQL tells what it counted at most once a second, after ten seconds at rest, or when it ends.
    pub(super) async fn is_quiet(&mut self) -> Result<bool> {
        const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid() AND backend_type IN ('client backend', 'parallel worker')";
        let Self::Postgres(connection, _) = self else {
            return Ok(true);
        };
        let others: i64 = sqlx::query_scalar(OTHERS).fetch_one(connection).await?;
        Ok(others == 0)
    }

    pub(super) async fn read(&mut self) -> Result<Reading> {
        Ok(match self {
            Self::Sqlite => Reading {
                written: process::bytes_written(),
                ..Reading::default()
            },
            Self::Postgres(connection, family) => {
                let row = sqlx::query(
                    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8, xact_commit::float8 \
                     FROM pg_stat_database WHERE datname = current_database()",
                )
                .fetch_one(connection)
                .await?;
                Reading {
                    written: Some(row.try_get(0)?),
                    transactions: Some(row.try_get(1)?),
                    cpu: family.and_then(Family::cpu_time),
                }
            }
            Self::MySql(connection, family) => Reading {
                written: number(
                    connection,
                    "SELECT CAST(variable_value AS DOUBLE) FROM information_schema.global_status \
                     WHERE variable_name = 'Innodb_os_log_written'",
                    "SELECT CAST(variable_value AS DOUBLE) FROM performance_schema.global_status \
                     WHERE variable_name = 'Innodb_os_log_written'",
                )
                .await,
                // Of those that wrote.
                transactions: number(
                    connection,
                    "SELECT CAST(`count` AS DOUBLE) FROM information_schema.innodb_metrics \
                     WHERE name = 'trx_rw_commits' AND enabled = 1",
                    "SELECT CAST(`count` AS DOUBLE) FROM information_schema.innodb_metrics \
                     WHERE name = 'trx_rw_commits' AND status = 'enabled'",
                )
                .await,
                cpu: family.and_then(Family::cpu_time),
            },
        })
    }
}

/// What MariaDB answers to the one, or MySQL to the other.
async fn number(
    connection: &mut MySqlConnection,
    mariadb: &'static str,
    mysql: &'static str,
) -> Option<f64> {
    for sql in [mariadb, mysql] {
        let answer = sqlx::query_scalar(sql).fetch_one(&mut *connection).await;
        if let Ok(number) = answer {
            return Some(number);
        }
    }
    None
}
