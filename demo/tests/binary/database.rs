//! Databases for tests: each test gets one that nobody else has.

use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;
use tidings::sqlx::{
    self, AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection, Row, SqliteConnection,
};

use crate::server::{mysql_url, postgres_url};

/// The databases that the demo knows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    MySql,
}

/// An empty database, which is gone when this is dropped.
pub(crate) struct Fresh {
    url: String,
    /// Where a file of SQLite is.
    _directory: Option<TempDir>,
    /// What removes it from which server.
    drop: Option<(String, String)>,
}

impl Fresh {
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                Self {
                    url: format!("sqlite:{}/demo.db", directory.path().display()),
                    _directory: Some(directory),
                    drop: None,
                }
            }
            Kind::Postgres => Self::on_server(postgres_url(), " WITH (FORCE)"),
            Kind::MySql => Self::on_server(mysql_url(), ""),
        }
    }

    fn on_server(server: String, by_force: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("demo_{}_{number}", std::process::id());
        // A process of the same number may have been killed.
        execute(&server, &format!("DROP DATABASE IF EXISTS {name}")).unwrap();
        execute(&server, &format!("CREATE DATABASE {name}")).unwrap();
        let (address, database) = server.rsplit_once('/').unwrap();
        let options = database.split_once('?').map_or("", |(_, options)| options);
        Self {
            url: format!("{address}/{name}?{options}"),
            _directory: None,
            drop: Some((server, format!("DROP DATABASE {name}{by_force}"))),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some((server, sql)) = &self.drop {
            // What stays behind harms nobody.
            drop(execute(server, sql));
        }
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Runs statements on a server.
pub(crate) fn execute(url: &str, sql: &str) -> sqlx::Result<()> {
    block_on(async {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        if url.starts_with("postgres") {
            PgConnection::connect(url).await?.execute(sql).await?;
        } else {
            MySqlConnection::connect(url).await?.execute(sql).await?;
        }
        Ok(())
    })
}

/// The one number that a statement answers; nothing while the server is away or has no tables yet.
pub(crate) fn number(url: &str, sql: &str) -> Option<usize> {
    let sql = AssertSqlSafe(sql);
    let number: sqlx::Result<i64> = block_on(async {
        if url.starts_with("postgres") {
            let mut connection = PgConnection::connect(url).await?;
            connection.fetch_one(sql).await?.try_get(0)
        } else if url.starts_with("sqlite") {
            let mut connection = SqliteConnection::connect(url).await?;
            connection.fetch_one(sql).await?.try_get(0)
        } else {
            let mut connection = MySqlConnection::connect(url).await?;
            connection.fetch_one(sql).await?.try_get(0)
        }
    });
    usize::try_from(number.ok()?).ok()
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
