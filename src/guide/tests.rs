//! The guide says what the code does: its tables of transitions, and the names of tests and files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    id::{EventId, LeaseOwner},
    model::{HandlerRequest, Outcome, Priority, RequestState, SUSPECT_FROM_RESCUES},
};

const STATES: &str = include_str!("states.md");
const ARCHITECTURE: &str = include_str!("architecture.md");
const POSTGRESQL: &str = include_str!("postgresql.md");
const SQLITE: &str = include_str!("sqlite.md");
const MYSQL: &str = include_str!("mysql.md");
const PAGES: &[&str] = &[
    include_str!("introduction.md"),
    include_str!("handlers.md"),
    include_str!("raising.md"),
    STATES,
    include_str!("guarantees.md"),
    include_str!("attacks.md"),
    POSTGRESQL,
    SQLITE,
    MYSQL,
    include_str!("production.md"),
    include_str!("operating.md"),
    include_str!("performance.md"),
    include_str!("testing.md"),
    include_str!("telemetry.md"),
    include_str!("troubleshooting.md"),
    ARCHITECTURE,
];

const LEASE: Duration = Duration::from_secs(30);
const BACKOFF: Duration = Duration::from_secs(60);

/// The rows of the table whose header begins with these cells, without that header.
fn table(header: &[&str]) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = STATES
        .lines()
        .skip_while(|line| !cells(line).starts_with(&header.map_to_owned()))
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    assert!(rows.len() > 2, "the table {header:?} is not found any more");
    rows[2..].to_vec()
}

trait MapToOwned {
    fn map_to_owned(&self) -> Vec<String>;
}

impl MapToOwned for [&str] {
    fn map_to_owned(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner
        .split('|')
        .map(|cell| cell.trim().to_owned())
        .collect()
}

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

fn owner() -> LeaseOwner {
    LeaseOwner::from_uuid(uuid::Uuid::from_u128(7))
}

/// A request in a state, with room for two more errors; one that is under suspicion if asked.
fn request(state: RequestState, suspect: bool) -> HandlerRequest {
    let mut request = HandlerRequest::new(
        EventId::new(),
        "order.placed".into(),
        "confirm".into(),
        Priority::default(),
        5,
        now(),
    );
    request.errors = 2;
    request.attempt = 3;
    request.executions = 3;
    request.rescues = if suspect { SUSPECT_FROM_RESCUES } else { 0 };
    let settle = |request: &mut HandlerRequest, outcome| {
        request.claim(now(), owner(), LEASE).unwrap();
        let attempt = request.attempt;
        request
            .settle(now(), owner(), attempt, &outcome, true)
            .unwrap();
    };
    match state {
        RequestState::Pending => {}
        RequestState::BackingOff => request.backoff_until = Some(now() + BACKOFF),
        RequestState::Executing => request.claim(now(), owner(), LEASE).unwrap(),
        RequestState::Completed => settle(&mut request, Outcome::Completed),
        RequestState::Dead => settle(
            &mut request,
            Outcome::Discarded {
                reason: "never".to_owned(),
            },
        ),
        RequestState::Canceled => request.cancel(now()).unwrap(),
    }
    assert_eq!(request.state(now()), state);
    request
}

/// Carries out the operation of a row; answers whether it was accepted.
fn perform(operation: &str, request: &mut HandlerRequest) -> bool {
    let attempt = request.attempt;
    let expired = now() + LEASE;
    if operation.ends_with("last error") {
        request.max_errors = request.errors + 1;
    }
    let error = || Outcome::Failed {
        error: "no".to_owned(),
        backoff: BACKOFF,
    };
    let reason = "no".to_owned();
    let mut settle = |outcome, executed| {
        request
            .settle(now(), owner(), attempt, &outcome, executed)
            .is_ok()
    };
    match operation {
        "settle: `Ok`" | "settle of a suspect" => settle(Outcome::Completed, true),
        "settle of a veto" => settle(Outcome::Completed, false),
        "settle: error" | "settle: last error" => settle(error(), true),
        "settle: discard" => settle(Outcome::Discarded { reason }, true),
        "settle: snooze" => settle(Outcome::Snoozed { duration: BACKOFF }, true),
        "settle: cancel" => settle(Outcome::Canceled { reason }, true),
        "claim" | "claim of a suspect" => request.claim(now(), owner(), LEASE).is_ok(),
        "hand back" => request.hand_back(owner(), attempt).is_ok(),
        "renew" => request.renew(now(), owner(), attempt, LEASE).is_ok(),
        "rescue before the lease ran out" => request.rescue(now(), BACKOFF).is_ok(),
        "rescue" | "rescue of a suspect" | "rescue of a suspect: last error" => {
            request.rescue(expired, BACKOFF).is_ok()
        }
        "cancel" => request.cancel(now()).is_ok(),
        "reexecute" => request.reexecute(now()).is_ok(),
        "run now" => request.run_now(now()).is_ok(),
        other => panic!("the row {other:?} is not known to this test"),
    }
}

#[test]
fn the_table_of_states_is_what_the_transitions_do() {
    let order = [
        RequestState::Pending,
        RequestState::BackingOff,
        RequestState::Executing,
        RequestState::Dead,
        RequestState::Completed,
        RequestState::Canceled,
    ];
    let mut header = vec!["operation"];
    header.extend(order.map(RequestState::as_str));
    for row in table(&header) {
        let (operation, wanted) = row.split_first().unwrap();
        assert_eq!(wanted.len(), order.len(), "{operation}");
        for (from, wanted) in order.into_iter().zip(wanted) {
            let mut changed = request(from, operation.contains("suspect"));
            let before = changed.clone();
            let accepted = perform(operation, &mut changed);
            let to = if accepted {
                changed.state(now()).as_str()
            } else {
                changed.max_errors = before.max_errors;
                assert_eq!(changed, before, "{operation} was refused: {from}");
                "–"
            };
            assert_eq!(to, wanted, "{operation} of a request that is {from}");
        }
    }
}

#[test]
fn the_table_of_counts_is_what_the_transitions_do() {
    for row in table(&["operation", "who", "attempt", "errors"]) {
        let [operation, _, attempt, errors, executions, rescues] = row.as_slice() else {
            panic!("{row:?} has other columns");
        };
        // The first state that accepts it will do.
        let accepted = RequestState::ALL.into_iter().rev().find_map(|from| {
            let before = request(from, operation.contains("suspect"));
            let mut changed = before.clone();
            perform(operation, &mut changed).then_some((before, changed))
        });
        let (before, after) = accepted.unwrap();
        for (what, before, after, wanted) in [
            ("attempt", before.attempt, after.attempt, attempt),
            ("errors", before.errors.into(), after.errors.into(), errors),
            (
                "executions",
                before.executions.into(),
                after.executions.into(),
                executions,
            ),
            (
                "rescues",
                before.rescues.into(),
                after.rescues.into(),
                rescues,
            ),
        ] {
            let wanted = match wanted.as_str() {
                "" => before,
                "+1" => before + 1,
                "to 0" => 0,
                other => panic!("{operation}: {other:?} is not known to this test"),
            };
            assert_eq!(after, wanted, "{what} after {operation}");
        }
    }
}

/// What stands in backticks on all pages, outside of examples.
fn quoted() -> BTreeSet<String> {
    let mut quoted = BTreeSet::new();
    for page in PAGES {
        let prose: String = page
            .split("```")
            .step_by(2)
            .flat_map(|part| [part, "\n"])
            .collect();
        quoted.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    quoted
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|it| it.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false if path.extension().is_some_and(|it| it == "rs") => vec![path],
            false => Vec::new(),
        })
        .collect()
}

#[test]
fn the_architecture_has_every_module() {
    let root = include_str!("../lib.rs");
    let modules = root.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    let modules: Vec<_> = modules.collect();
    assert!(
        modules.len() > 10,
        "modules are not found any more: {modules:?}"
    );
    let floors: String = ARCHITECTURE
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    for module in modules {
        assert!(
            floors.contains(&format!("`{module}`")),
            "{module} has no floor"
        );
    }
}

const POSTGRES_SCHEMA: &str = include_str!("../../migrations/postgres/0001_create.sql");

/// Settings of servers, whose names could be those of tests.
const SETTINGS: &[&str] = &[
    "client_connection_check_interval",
    "idle_in_transaction_session_timeout",
    "innodb_lock_wait_timeout",
];

/// The names after these words in a migration, without the prefix.
fn created<'s>(migration: &'s str, what: &str) -> Vec<&'s str> {
    let create = format!("CREATE {what} ");
    let named = migration.lines().filter_map(|line| {
        let name = line.trim().strip_prefix(&create)?;
        name.trim_start_matches("IF NOT EXISTS ").split(' ').next()
    });
    named
        .map(|name| name.strip_prefix("tidings_").unwrap_or(name))
        .collect()
}

/// The names of the keys in a migration of MySQL.
fn keys(migration: &str) -> Vec<&str> {
    let named = migration
        .lines()
        .filter_map(|line| line.trim().strip_prefix("KEY ")?.split(' ').next());
    named.collect()
}

#[test]
fn every_table_and_index_has_its_reason() {
    let sqlite = include_str!("../../migrations/sqlite/0001_create.sql");
    let mysql = include_str!("../../migrations/mysql/0001_create.sql");
    let (tables, indexes) = (
        created(POSTGRES_SCHEMA, "TABLE"),
        created(POSTGRES_SCHEMA, "INDEX"),
    );
    assert!(
        tables.len() == 8 && indexes.len() == 7,
        "{tables:?} {indexes:?}"
    );
    for name in tables.iter().chain(&indexes) {
        assert!(POSTGRESQL.contains(&format!("| `{name}`")), "{name}");
    }
    // The other pages tell what differs.
    let is_elsewhere = |name: &&&str| !name.starts_with("leases");
    let there: Vec<_> = tables.iter().filter(is_elsewhere).copied().collect();
    assert_eq!(created(sqlite, "TABLE"), there);
    let mut there: Vec<_> = indexes.iter().filter(is_elsewhere).copied().collect();
    there.push("handler_requests_leased");
    assert_eq!(created(sqlite, "INDEX"), there);
    assert!(
        SQLITE.contains("| `handler_requests_leased` (") && SQLITE.contains("no table `leases`")
    );
    for name in created(sqlite, "TRIGGER") {
        assert!(SQLITE.contains(&format!("`{name}`")), "{name}");
    }
    for table in created(mysql, "TABLE") {
        let is_known = tables.contains(&table) || MYSQL.contains(&format!("| `{table}` |"));
        assert!(is_known, "{table}");
    }
    // That of waiting events is as everywhere.
    let keys = keys(mysql);
    assert_eq!(keys.len(), 3, "{keys:?}");
    for key in keys.into_iter().filter(|key| *key != "due") {
        assert!(MYSQL.contains(&format!("`{key}` (")), "{key}");
    }
}

/// Checks the defaults in the rows of options against what `Debug` shows.
#[cfg(feature = "_sql")]
fn assert_defaults(page: &str, options: &impl std::fmt::Debug) {
    let options = format!("{options:?}");
    let rows = page.lines().map(cells);
    let mut checked = 0;
    for row in rows.filter(|row| row.len() == 4) {
        let (Some(option), default) = (row[0].strip_prefix('`'), &row[1]) else {
            continue;
        };
        let option = option.trim_end_matches('`');
        let Some((_, value)) = options.split_once(&format!("{option}: ")) else {
            continue;
        };
        let value = value.split([',', ' ', '}']).next().unwrap();
        let written = match value {
            "true" => "yes".to_owned(),
            "false" => "no".to_owned(),
            "None" => "`tidings_`".to_owned(),
            seconds => seconds.replace('s', " s"),
        };
        assert_eq!(*default, written, "{option}");
        checked += 1;
    }
    assert!(checked >= 5, "options are not found any more: {checked}");
    for (option, count) in [("max_connections", 16), ("session_connections", 6)] {
        assert!(options.contains(&format!("{option}: {count}")), "{option}");
        assert!(
            page.contains(&format!("| up to {count} | `{option}` |")),
            "{option}"
        );
    }
}

#[cfg(feature = "postgres")]
#[test]
fn the_defaults_of_postgresql_are_those_of_the_code() {
    assert_defaults(POSTGRESQL, &crate::PostgresOptions::new());
}

#[cfg(feature = "mysql")]
#[test]
fn the_defaults_of_mysql_are_those_of_the_code() {
    assert_defaults(MYSQL, &crate::MySqlOptions::new());
}

#[cfg(feature = "_sqlite")]
#[test]
fn the_defaults_of_sqlite_are_those_of_the_code() {
    assert_defaults(SQLITE, &crate::SqliteOptions::new());
}

#[test]
fn tests_and_files_that_the_guide_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: Vec<_> = ["src", "tests"]
        .into_iter()
        .flat_map(|directory| rust_files(&root.join(directory)))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let indexes = created(POSTGRES_SCHEMA, "INDEX");
    let (mut tests, mut files) = (0, 0);
    for name in quoted() {
        let is_path = name.starts_with("src/") || name.starts_with("tests/");
        let is_test = name.matches('_').count() >= 3
            && !SETTINGS.contains(&name.as_str())
            && !indexes.contains(&name.as_str())
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if is_path {
            files += 1;
            assert!(root.join(&name).exists(), "{name} does not exist");
        } else if is_test {
            tests += 1;
            let heading = format!("fn {name}(");
            assert!(
                sources.iter().any(|source| source.contains(&heading)),
                "there is no test {name}"
            );
        }
    }
    assert!(
        tests > 30 && files > 5,
        "names are not found any more: {tests}, {files}"
    );
}
