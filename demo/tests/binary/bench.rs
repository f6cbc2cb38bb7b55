//! The bench works on every system, so that it is there when it is needed: it checks itself that each event
//! was handled as often as it should be. Each workload that is not long runs once, with few events.

use serde_json::Value;

use crate::{
    database::{Fresh, Kind, number},
    program::{alone, errors, run},
    server::mysql_url,
};

/// What takes minutes only runs when it is asked for; these are all others.
const SHORT: [&str; 10] = [
    "drain",
    "claim",
    "fan-out",
    "raise",
    "raise-batches",
    "latency",
    "end-to-end",
    "transactional",
    "failures",
    "processes",
];

/// The lines that a short run of all these workloads prints: the conditions, and the figures.
fn bench(kind: Kind, more: &[&str]) -> (Value, Vec<Value>) {
    let _alone = alone();
    let fresh = Fresh::new(kind);
    let line = [
        "bench",
        "--rounds",
        "1",
        "--thousands",
        "1",
        "--format",
        "json",
        "--store",
        fresh.url(),
    ];
    let output = run([&line, more].concat());
    assert!(output.status.success(), "{kind:?}: {}", errors(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.next().unwrap(), lines.collect())
}

/// Each of these workloads has figures of the library, and of something else beside it.
fn assert_complete(figures: &[Value]) {
    for workload in SHORT {
        let of_workload = figures.iter().filter(|one| one["workload"] == workload);
        let contenders: Vec<_> = of_workload.map(|one| &one["contender"]).collect();
        assert!(
            contenders.iter().any(|one| *one == "tidings"),
            "{workload}: {figures:?}"
        );
        assert!(
            contenders.iter().any(|one| *one != "tidings"),
            "{workload}: {figures:?}"
        );
    }
}

fn units<'f>(figures: &'f [Value], contender: &str) -> Vec<&'f str> {
    let of_contender = figures.iter().filter(|one| one["contender"] == contender);
    of_contender
        .map(|one| one["unit"].as_str().unwrap())
        .collect()
}

#[test]
fn on_postgresql_every_short_workload_works_and_costs_are_counted() {
    let (conditions, figures) = bench(Kind::Postgres, &[]);
    assert!(
        conditions["server"]
            .as_str()
            .unwrap()
            .starts_with("PostgreSQL "),
        "{conditions}"
    );
    assert_complete(&figures);
    for unit in [
        "per_second",
        "written_bytes_per_request",
        "transactions_per_request",
        "round_trips_per_request",
        "statements_per_request",
    ] {
        assert!(
            units(&figures, "tidings").contains(&unit),
            "{unit}: {figures:?}"
        );
    }
    assert!(units(&figures, "R3c").contains(&"transactions_per_request"));
    assert!(units(&figures, "tidings").contains(&"smallest_share_percent"));
}

#[test]
fn on_sqlite_every_short_workload_works_and_what_is_unknown_is_not_made_up() {
    let directory = tempfile::tempdir().unwrap();
    let plots = directory.path().to_str().unwrap();
    let (_, figures) = bench(Kind::Sqlite, &["--plots", plots]);
    assert_complete(&figures);
    for contender in ["tidings", "R3c"] {
        let units = units(&figures, contender);
        assert!(units.contains(&"per_second"), "{figures:?}");
        assert!(!units.contains(&"round_trips_per_request"), "{figures:?}");
    }
    assert!(directory.path().join("latency.svg").exists());
}

#[test]
fn on_mysql_round_trips_are_counted_and_a_log_that_is_not_there_needs_no_sync() {
    let (conditions, figures) = bench(Kind::MySql, &["--only", "claim"]);
    let settings = conditions["settings"].as_array().unwrap().iter();
    let syncs = settings.filter(|one| one["name"] == "sync_binlog").count();
    let logs = number(&mysql_url(), "SELECT IF(@@log_bin, 1, 0)");
    assert_eq!(Some(syncs), logs, "{conditions}");
    for contender in ["tidings", "R3c"] {
        let units = units(&figures, contender);
        assert!(units.contains(&"per_second"), "{figures:?}");
        assert!(units.contains(&"round_trips_per_request"), "{figures:?}");
    }
}

#[test]
fn floors_are_not_checked_where_commits_are_not_durable() {
    let fresh = Fresh::new(Kind::Postgres);
    let url = format!("{}&options[synchronous_commit]=off", fresh.url());
    let output = run(["bench", "--only", "claim", "--check", "--store", &url]);
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let errors = errors(&output);
    assert!(
        errors.contains("this one has synchronous_commit off"),
        "{errors}"
    );
}
