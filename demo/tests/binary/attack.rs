//! A short attack on each server. A long one is the same command with more seconds.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::program::{alone, demo, finish, run};

/// So long the faults go on; what is before and after takes as long again.
const SECONDS: &str = "12";
/// Longer than all of it takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

fn attack(kind: &str, seed: &str) {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("attack");
    let mut attack = demo(["attack", "--server", kind, "--seconds", SECONDS]);
    attack.args(["--seed", seed, "--report"]).arg(&report);
    let output = finish(attack.spawn().unwrap(), LIMIT);
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.ends_with("everything held\n"), "{said}");
    assert_hit_something(&report);
}

/// An attack that does nothing shows nothing.
fn assert_hit_something(report: &Path) {
    let text = std::fs::read_to_string(report.join("verdict.json")).unwrap();
    let verdict: Value = serde_json::from_str(&text).unwrap();
    let faults: u64 = verdict["faults"]
        .as_object()
        .unwrap()
        .values()
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert!(faults >= 5, "{text}");
    let again: Vec<_> = verdict["verdict"]["run_again"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert!(!again.is_empty(), "{text}");
    assert_eq!(verdict["outages"].as_array().unwrap().len(), 2, "{text}");
}

#[test]
fn an_attack_on_postgres_breaks_nothing() {
    let _alone = alone();
    attack("postgres", "11");
}

#[test]
fn an_attack_on_mariadb_breaks_nothing() {
    let _alone = alone();
    attack("mariadb", "12");
}

#[test]
fn an_attack_on_what_has_no_server_is_refused() {
    for store in ["memory:", "sqlite:attack.db"] {
        let output = run(["attack", "--store", store]);
        assert_eq!(output.status.code(), Some(1));
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(
            complained.contains("server") || complained.contains("database"),
            "{complained}"
        );
    }
}
