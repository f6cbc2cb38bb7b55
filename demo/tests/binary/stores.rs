//! The demo on databases does what it does in memory, and several demos share the work.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Child,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Map, Value};

use crate::{
    database::{Fresh, Kind, number},
    expected::expected,
    program::{demo, drain, errors, file, finish, poll, run, stars, summary, text, webhooks},
    server::{self, Private},
    signals,
};

/// Longer than anything takes here.
const LIMIT: Duration = Duration::from_secs(60);

/// The numbers of a summary that are the same in every run.
pub(crate) fn lasting(mut numbers: Value) -> Map<String, Value> {
    let mut numbers = std::mem::take(numbers.as_object_mut().unwrap());
    numbers.remove("seconds");
    numbers.remove("executions");
    numbers
}

/// The arguments for draining a file into a store.
pub(crate) fn drain_into(url: &str, path: &std::path::Path) -> Vec<String> {
    let mut arguments = drain(path);
    arguments.extend(["--store".to_owned(), url.to_owned()]);
    arguments
}

fn check_webhooks(kind: Kind) {
    let mut expected = expected(&fs::read_to_string(webhooks()).unwrap());
    for scheduler in ["concurrent", "cooperative"] {
        let fresh = Fresh::new(kind);
        let mut arguments = drain_into(fresh.url(), &webhooks());
        arguments.extend(["--scheduler", scheduler].map(str::to_owned));
        // The second one finds everything done.
        for run_number in [1, 2] {
            let output = run(&arguments);
            assert_eq!(errors(&output), "");
            let mut numbers = summary(&output);
            numbers.as_object_mut().unwrap().remove("seconds");
            assert_eq!(
                numbers,
                Value::Object(expected.clone()),
                "{kind:?} {scheduler}, run {run_number}"
            );
        }
    }
    expected.remove("executions");
    check_several(kind, &expected);
}

/// Several demos raise the same file at once, and each counts what all have done.
fn check_several(kind: Kind, expected: &Map<String, Value>) {
    let fresh = Fresh::new(kind);
    let demos: Vec<Child> = (0..4)
        .map(|_| demo(drain_into(fresh.url(), &webhooks())).spawn().unwrap())
        .collect();
    for demo in demos {
        let output = finish(demo, LIMIT);
        assert_eq!(&lasting(summary(&output)), expected, "{kind:?}");
    }
}

#[test]
fn the_webhooks_give_the_same_numbers_on_sqlite() {
    check_webhooks(Kind::Sqlite);
}

#[test]
fn the_webhooks_give_the_same_numbers_on_postgres() {
    check_webhooks(Kind::Postgres);
}

#[test]
fn the_webhooks_give_the_same_numbers_on_mysql() {
    check_webhooks(Kind::MySql);
}

#[test]
fn an_unknown_url_is_refused_with_the_forms_and_without_its_secret() {
    for url in [
        "",
        "oracle://me:hush@host/db",
        "postgres:me:hush@host",
        "hush",
    ] {
        let output = run(["--no-telemetry", "--store", url]);
        assert_eq!(output.status.code(), Some(2), "{url}");
        let errors = errors(&output);
        for form in ["memory:", "sqlite:FILE", "postgres://USER", "mysql://USER"] {
            assert!(errors.contains(form), "{errors}");
        }
        assert!(!errors.contains("hush"), "{errors}");
    }
}

#[test]
fn a_url_in_the_wrong_place_is_not_repeated() {
    let url = "postgres://me:hush@127.0.0.1:1/db";
    for arguments in [
        &[url] as &[&str],
        &["--workers", url],
        &["--drain", "--input", url],
        &["--store", url, "--wait", "0"],
        &["--store", "postgres://me:hu/sh@127.0.0.1:1/db"],
        &["--store", "mysql://me:hush@127.0.0.1:1/db", "--wait", "0"],
    ] {
        let output = run(["--no-telemetry"].iter().chain(arguments));
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        let said = errors(&output) + &text(&output);
        assert!(!said.contains("hu"), "{said}");
    }
}

#[test]
fn the_environment_can_tell_the_store_and_help_does_not_show_it() {
    let fresh = Fresh::new(Kind::Sqlite);
    let mut command = demo(drain(&webhooks()));
    let output = finish(
        command.env("TIDINGS_STORE", fresh.url()).spawn().unwrap(),
        LIMIT,
    );
    assert_eq!(summary(&output)["events"], 329);
    assert!(fs::exists(fresh.url().strip_prefix("sqlite:").unwrap()).unwrap());
    let mut command = demo(["--help"]);
    let help = finish(
        command
            .env("TIDINGS_STORE", "postgres://me:hush@host/db")
            .spawn()
            .unwrap(),
        LIMIT,
    );
    let help = text(&help);
    assert!(
        help.contains("TIDINGS_STORE") && !help.contains("hush"),
        "{help}"
    );
}

/// A lease that is longer than the test: what a stopped demo had taken comes back at once.
#[test]
fn a_demo_that_is_stopped_hands_its_work_to_another() {
    let fresh = Fresh::new(Kind::Postgres);
    let (_directory, path) = file(stars(3000));
    let mut arguments = drain_into(fresh.url(), &path);
    arguments.extend(["--lease", "3600", "--workers", "2"].map(str::to_owned));
    let first = demo(&arguments).spawn().unwrap();
    let done = "SELECT count(*) FROM tidings_handler_requests WHERE completed_at IS NOT NULL";
    poll(LIMIT, || number(fresh.url(), done) >= Some(100));
    signals::send(&first, Signal::SIGTERM);
    let output = finish(first, LIMIT);
    assert_eq!(output.status.code(), Some(143), "{}", errors(&output));
    let left = errors(&output);
    assert!(
        left.contains("stopped before everything was handled"),
        "{left}"
    );
    let numbers = summary(&run(&arguments));
    assert_eq!(
        (
            &numbers["events"],
            &numbers["stars"],
            &numbers["executions"]
        ),
        (&3000.into(), &3000.into(), &3000.into())
    );
}

/// Of a process that is killed nobody hears but by its leases, which run out.
fn check_killed(kind: Kind) {
    const LEASE: u64 = 3;
    let fresh = Fresh::new(kind);
    let (_directory, path) = file(stars(3000));
    let mut arguments = drain_into(fresh.url(), &path);
    arguments.extend(["--workers", "1", "--lease"].map(str::to_owned));
    arguments.push(LEASE.to_string());
    let mut killed = demo(&arguments).spawn().unwrap();
    let requests =
        |condition| format!("SELECT count(*) FROM tidings_handler_requests WHERE {condition}");
    let done = requests("completed_at IS NOT NULL");
    poll(LIMIT, || number(fresh.url(), &done) >= Some(10));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let killed_at = Instant::now();
    let leased = number(fresh.url(), &requests("lease_until IS NOT NULL"));
    assert!(leased > Some(0), "it had taken some");
    let other = demo(&arguments).spawn().unwrap();
    let within = Duration::from_secs(LEASE + 5);
    let rescued = requests("rescues > 0");
    poll(within.saturating_sub(killed_at.elapsed()), || {
        number(fresh.url(), &rescued) >= leased
    });
    assert_eq!(summary(&finish(other, LIMIT))["stars"], 3000);
}

#[test]
fn what_a_killed_demo_had_taken_runs_elsewhere_within_the_lease_and_5_s_on_postgres() {
    check_killed(Kind::Postgres);
}

#[test]
fn what_a_killed_demo_had_taken_runs_elsewhere_within_the_lease_and_5_s_on_mysql() {
    check_killed(Kind::MySql);
}

#[test]
fn what_a_killed_demo_had_taken_runs_elsewhere_within_the_lease_and_5_s_on_sqlite() {
    check_killed(Kind::Sqlite);
}

/// Whoever starts both at once need not wait for the one before starting the other.
#[test]
fn a_demo_waits_for_a_database_that_is_not_there_yet_and_says_so() {
    let server = Private::start(server::Kind::Postgres);
    server.stop();
    let (_directory, path) = file(stars(3));
    let mut waiting = demo(drain_into(server.url(), &path)).spawn().unwrap();
    let mut said = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let line = said.next().unwrap().unwrap();
    assert!(
        line.contains("waiting up to 60 s for the store on PostgreSQL at 127.0.0.1:"),
        "{line}"
    );
    server.start_again();
    let rest = std::thread::spawn(move || said.map_while(Result::ok).collect::<Vec<_>>());
    assert_eq!(summary(&finish(waiting, LIMIT))["stars"], 3);
    rest.join().unwrap();
}

#[test]
fn a_drain_beside_a_demo_that_goes_on_raising_says_what_is_open() {
    let fresh = Fresh::new(Kind::Postgres);
    let live = demo(["--no-telemetry", "--store", fresh.url()])
        .spawn()
        .unwrap();
    // Something of it is always open from now on: what fails waits to be run again.
    let failed = "SELECT count(*) FROM tidings_handler_requests WHERE errors > 0";
    poll(LIMIT, || number(fresh.url(), failed) >= Some(1));
    let (_directory, path) = file(stars(3));
    let mut draining = demo(drain_into(fresh.url(), &path)).spawn().unwrap();
    let mut said = BufReader::new(draining.stderr.take().unwrap()).lines();
    let line = said.next().unwrap().unwrap();
    for part in ["not everything is handled yet", "unexecuted", "others"] {
        assert!(line.contains(part), "{line}");
    }
    for demo in [&live, &draining] {
        signals::send(demo, Signal::SIGTERM);
    }
    assert_eq!(finish(live, LIMIT).status.code(), Some(0));
    assert_eq!(finish(draining, LIMIT).status.code(), Some(143));
}

/// The counts of the live demo are those of the database, which another demo has filled.
#[test]
fn the_live_demo_shows_what_is_in_the_database() {
    for kind in [Kind::Sqlite, Kind::Postgres, Kind::MySql] {
        let fresh = Fresh::new(kind);
        run(drain_into(fresh.url(), &webhooks()));
        let last = signals::stop_live(
            &["--no-telemetry", "--store", fresh.url()],
            |line| line.contains(" activity 71, notifications 10,"),
            Signal::SIGTERM,
        );
        assert!(last.starts_with("Stopped: "), "{last}");
        let dead = signals::number(&last, " dead");
        assert!(dead >= 4, "{last}");
    }
}
