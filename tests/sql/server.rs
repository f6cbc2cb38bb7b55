//! The database servers of the tests: those that all share, and private ones that a test may stop
//! and kill.

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

// A test that is killed by its group must not take the guard of its servers along.
use std::os::unix::process::CommandExt;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server");

/// A database on the PostgreSQL server that all tests share, whose user may create databases.
pub(crate) fn postgres_url() -> String {
    shared_url("TIDINGS_TEST_POSTGRES_URL")
}

/// A database on the MySQL or MariaDB server that all tests share, whose user may create databases.
pub(crate) fn mysql_url() -> String {
    shared_url("TIDINGS_TEST_MYSQL_URL")
}

fn shared_url(variable: &str) -> String {
    match env::var(variable) {
        Ok(url) if !url.is_empty() => url,
        _ => panic!("{variable} is not set; run the tests with tests/run"),
    }
}

/// The programs that a private server can be of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Postgres,
    MariaDb,
    /// In front of the shared server of PostgreSQL.
    PgBouncer,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::PgBouncer => "pgbouncer",
        }
    }
}

/// A server that one test has for itself. It is gone when this is dropped, or when the process of
/// the test ends in any other way.
///
/// Every method blocks its thread until the server has done what is asked, for a second or two; so
/// an asynchronous test whose other tasks must go on meanwhile calls them in `spawn_blocking`.
#[derive(Debug)]
pub(crate) struct Private {
    kind: Kind,
    directory: PathBuf,
    url: String,
    /// Ends the server when its standard input ends, of which this process has the other end.
    guard: Child,
}

impl Private {
    pub(crate) fn start(kind: Kind) -> Self {
        let directory = fresh_directory();
        let guard = Command::new("bash")
            .args([SCRIPT, "guard"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        // Made before the server is, so that a start that fails is cleaned up as well.
        let mut private = Self {
            kind,
            directory,
            url: String::new(),
            guard,
        };
        private.url = private.command("start", &[]);
        private
    }

    /// The URL of a database whose user may create databases; the same for the server's whole life.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where the server has its data and its log.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends all connections and then the server, as an administrator would.
    pub(crate) fn stop(&self) {
        self.command("stop", &["fast"]);
    }

    /// Ends the server where it is, as a crash would; what it had not made durable is lost.
    pub(crate) fn kill(&self) {
        self.command("stop", &["immediate"]);
    }

    /// Starts it after a stop or a kill, on the same port and with its data.
    pub(crate) fn start_again(&self) {
        let url = self.command("start", &[]);
        assert_eq!(url, self.url, "a server keeps its port");
    }

    pub(crate) fn restart(&self) {
        self.stop();
        self.start_again();
    }

    fn command(&self, action: &str, options: &[&str]) -> String {
        let output = Command::new("bash")
            .args([SCRIPT, action, self.kind.name()])
            .arg(&self.directory)
            .args(options)
            .stdin(Stdio::null())
            .output()
            .expect("bash starts");
        let said = String::from_utf8_lossy(&output.stderr);
        let name = self.kind.name();
        assert!(output.status.success(), "cannot {action} {name}:\n{said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Closes the standard input first; what fails the guard says itself.
        let _ = self.guard.wait();
    }
}

fn fresh_directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short, since the path of a socket in it has hardly a hundred bytes.
        let name = format!("tidings-tests.{}.{number}", process::id());
        let directory = env::temp_dir().join(name);
        match fs::create_dir(&directory) {
            Ok(()) => return directory,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("cannot create {}: {error}", directory.display()),
        }
    }
}
