//! The bench works on every system, so that it is there when it is needed: it checks itself that each event
//! was handled as often as it should be.

use serde_json::Value;

use crate::{
    database::{Fresh, Kind},
    program::{alone, errors, run},
};

/// The lines of figures of a short run of these workloads.
fn figures(kind: Kind, workloads: &str, more: &[&str]) -> Vec<Value> {
    let _alone = alone();
    let fresh = Fresh::new(kind);
    let line = [
        "bench",
        "--rounds",
        "1",
        "--thousands",
        "10",
        "--format",
        "json",
        "--only",
        workloads,
        "--store",
        fresh.url(),
    ];
    let output = run([&line, more].concat());
    assert!(output.status.success(), "{kind:?}: {}", errors(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn units<'f>(figures: &'f [Value], contender: &str) -> Vec<&'f str> {
    let of_contender = figures.iter().filter(|one| one["contender"] == contender);
    of_contender
        .map(|one| one["unit"].as_str().unwrap())
        .collect()
}

#[test]
fn on_postgresql_costs_are_counted_and_processes_share_the_work() {
    let figures = figures(Kind::Postgres, "claim,processes", &[]);
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
fn on_mysql_round_trips_are_counted() {
    let figures = figures(Kind::MySql, "claim", &[]);
    for contender in ["tidings", "R3c"] {
        let units = units(&figures, contender);
        assert!(units.contains(&"per_second"), "{figures:?}");
        assert!(units.contains(&"round_trips_per_request"), "{figures:?}");
    }
}

#[test]
fn on_sqlite_there_are_no_round_trips_and_nothing_is_made_up() {
    let directory = tempfile::tempdir().unwrap();
    let plots = directory.path().to_str().unwrap();
    let figures = figures(Kind::Sqlite, "claim", &["--plots", plots]);
    for contender in ["tidings", "R3c"] {
        let units = units(&figures, contender);
        assert!(units.contains(&"per_second"), "{figures:?}");
        assert!(!units.contains(&"round_trips_per_request"), "{figures:?}");
    }
}
