//! The numbers of a drained file are right, whatever runs it.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use crate::{
    expected::expected,
    program::{
        DRAIN_STDIN, drain, event, file, run, run_with_stdin, star, stars, summary, text, webhooks,
    },
};

/// Drains a file, and checks every number against the expected ones.
fn check(file: &Path, expected: &Map<String, Value>, scheduler: &str, workers: u16) {
    let workers = workers.to_string();
    let more = ["--scheduler", scheduler, "--workers", &workers].map(str::to_owned);
    let mut numbers = summary(&run(drain(file).into_iter().chain(more)));
    let seconds = numbers.as_object_mut().unwrap().remove("seconds").unwrap();
    assert!(seconds.as_f64().unwrap() > 0.0, "{seconds}");
    assert_eq!(
        numbers,
        Value::Object(expected.clone()),
        "{scheduler} with {workers} workers"
    );
}

fn check_webhooks(scheduler: &str, workers: u16) {
    check(
        &webhooks(),
        &expected(&fs::read_to_string(webhooks()).unwrap()),
        scheduler,
        workers,
    );
}

#[test]
fn the_webhooks_with_the_concurrent_scheduler_at_any_number_of_workers() {
    [1, 2, 7, 64]
        .into_iter()
        .for_each(|workers| check_webhooks("concurrent", workers));
}

#[test]
fn the_webhooks_with_the_cooperative_scheduler_at_any_number_of_workers() {
    [1, 2, 7, 64]
        .into_iter()
        .for_each(|workers| check_webhooks("cooperative", workers));
}

/// The webhooks again and again with fresh ids, until there are 10,000.
fn repeated() -> String {
    let lines = fs::read_to_string(webhooks()).unwrap();
    let id = |line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string();
    let lines: Vec<_> = lines.lines().map(|line| (line, id(line))).collect();
    let mut all = String::with_capacity(110_000_000);
    for (number, (line, id)) in lines.iter().cycle().take(10_000).enumerate() {
        all.push_str(&line.replacen(id.as_str(), &format!("\"fresh-{number}\""), 1));
        all.push('\n');
    }
    all
}

#[test]
fn ten_thousand_events_with_both_schedulers() {
    let lines = repeated();
    assert_eq!(lines.lines().count(), 10_000);
    let (_directory, path) = file(&lines);
    let expected = expected(&lines);
    for (scheduler, workers) in [
        ("concurrent", 64),
        ("cooperative", 1),
        ("concurrent", 2),
        ("cooperative", 7),
    ] {
        check(&path, &expected, scheduler, workers);
    }
}

/// What a person counted in the file once, with other means than those of these tests.
#[test]
fn the_webhooks_give_the_numbers_that_are_known() {
    let mut numbers = summary(&run(drain(&webhooks())));
    numbers.as_object_mut().unwrap().remove("seconds");
    let known = json!({
        "events": 329, "events_without_handlers": 239, "handler_requests": 102,
        "completed": 98, "dead": 4, "canceled": 0, "executions": 113,
        "commits": 2, "stars": 1, "activity": 71, "notifications": 10, "untriaged_issues": 0,
    });
    assert_eq!(numbers, known);
}

#[test]
fn the_keys_come_in_their_order_and_there_are_no_others() {
    let output = text(&run(drain(&webhooks())));
    let line = output.lines().last().unwrap();
    let keys: Vec<_> = line.split('"').skip(1).step_by(2).collect();
    let ordered = [
        "events",
        "events_without_handlers",
        "handler_requests",
        "completed",
        "dead",
        "canceled",
        "executions",
        "commits",
        "stars",
        "activity",
        "notifications",
        "untriaged_issues",
        "seconds",
    ];
    assert_eq!(keys, ordered);
}

#[test]
fn retries_in_milliseconds_do_not_wait_for_the_next_poll() {
    let seconds = summary(&run(drain(&webhooks())))["seconds"]
        .as_f64()
        .unwrap();
    assert!(seconds < 3.0, "{seconds} s; the poll comes after 5");
}

#[test]
fn stars_that_are_taken_back_count_back() {
    let taken_back = event("back", "com.github.star.deleted", &json!({}));
    let lines = [
        taken_back.clone(),
        star("1"),
        event("again", "com.github.star.deleted", &json!({})),
    ]
    .join("\n");
    assert_eq!(
        summary(&run_with_stdin(DRAIN_STDIN, lines.as_bytes()))["stars"],
        -1
    );
}

#[test]
fn untriaged_issues_are_those_without_labels() {
    let opened =
        |id, issue: Value| event(id, "com.github.issues.opened", &json!({ "issue": issue }));
    let lines = [
        opened("none", json!({ "labels": [] })),
        opened("null", json!({ "labels": null })),
        opened("absent", json!({})),
        opened("one", json!({ "labels": [{ "name": "bug" }] })),
    ]
    .join("\n");
    assert_eq!(
        summary(&run_with_stdin(DRAIN_STDIN, lines.as_bytes()))["untriaged_issues"],
        3
    );
}

#[test]
fn data_that_a_handler_cannot_read_is_a_dead_request_and_harms_no_other() {
    let lines = [
        event("bad", "com.github.push", &json!({ "commits": "many" })),
        event(
            "good",
            "com.github.push",
            &json!({ "commits": [{}, {}, {}] }),
        ),
    ]
    .join("\n");
    let numbers = summary(&run_with_stdin(DRAIN_STDIN, lines.as_bytes()));
    assert_eq!(
        (&numbers["dead"], &numbers["completed"], &numbers["commits"]),
        (&json!(1), &json!(1), &json!(3))
    );
    assert_eq!(numbers["executions"], 1 + 5);
}

#[test]
fn a_line_that_is_there_twice_is_raised_once() {
    let lines = [star("same"), star("other"), star("same")].join("\n");
    let numbers = summary(&run_with_stdin(DRAIN_STDIN, lines.as_bytes()));
    assert_eq!(
        (&numbers["events"], &numbers["stars"]),
        (&json!(2), &json!(2))
    );
}

#[test]
fn a_line_that_is_there_again_much_later_is_raised_once() {
    let lines = [stars(1200), stars(1200)].concat();
    let numbers = summary(&run_with_stdin(DRAIN_STDIN, lines.as_bytes()));
    assert_eq!(
        (&numbers["events"], &numbers["stars"]),
        (&json!(1200), &json!(1200))
    );
}
