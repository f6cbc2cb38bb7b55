//! Processes that are killed or stand still, and a database that is restarted change no number.

use std::{
    fs::{self, File},
    path::Path,
    process::Child,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    expected::expected,
    program::{alone, demo, file, finish, summary, webhooks},
    server::Kind,
    signals::send,
    stores::{drain_into, lasting},
    trouble::Trouble,
};

const EVENTS: usize = 20_000;
/// Longer than a demo takes to its end when nothing disturbs it any more.
const LIMIT: Duration = Duration::from_secs(120);

/// The webhooks again and again with fresh ids. Of their data only what handlers read is left, which
/// is what the numbers come from: each demo that is started reads all of it again.
fn events() -> String {
    let webhooks = fs::read_to_string(webhooks()).unwrap();
    let small: Vec<Value> = webhooks
        .lines()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            let list = |value: &Value| Some(vec![json!({}); value.as_array()?.len()]);
            event["data"] = json!({
                "commits": list(&event["data"]["commits"]),
                "issue": { "labels": list(&event["data"]["issue"]["labels"]) },
            });
            event
        })
        .collect();
    let fresh = small.iter().cycle().take(EVENTS).enumerate();
    fresh
        .map(|(number, event)| {
            let mut event = event.clone();
            event["id"] = json!(format!("fresh-{number}"));
            format!("{event}\n")
        })
        .collect()
}

/// Four demos that raise and handle the same file on one database.
struct Demos<'a> {
    url: &'a str,
    path: &'a Path,
    /// Those that run, the oldest first.
    children: Vec<Child>,
    started: usize,
}

impl<'a> Demos<'a> {
    fn start(url: &'a str, path: &'a Path) -> Self {
        let mut demos = Self {
            url,
            path,
            children: Vec::new(),
            started: 0,
        };
        (0..4).for_each(|_| demos.start_one());
        demos
    }

    fn start_one(&mut self) {
        self.started += 1;
        let log = File::create(self.log(self.started)).unwrap();
        let mut arguments = drain_into(self.url, self.path);
        // Both schedulers share the work.
        let scheduler = ["concurrent", "cooperative"][self.started % 2];
        arguments.extend(["--lease", "1", "--scheduler", scheduler].map(str::to_owned));
        let child = demo(arguments).stderr(log).spawn().unwrap();
        self.children.push(child);
    }

    fn log(&self, number: usize) -> std::path::PathBuf {
        self.path.with_extension(format!("{number}.log"))
    }

    /// Kills the one that has lived longest, and starts another. Every fourth time one stands still
    /// until the next time but one: so it loses its leases in the middle of what it is about, and
    /// goes on with it when others have taken that over.
    fn replace_oldest(&mut self, number: usize) {
        let mut oldest = self.children.remove(0);
        oldest.kill().unwrap();
        oldest.wait().unwrap();
        self.start_one();
        // The last one is a number at which all go on: a process that is stopped for good may have
        // a lock that all others need.
        match number % 4 {
            0 => send(&self.children[2], Signal::SIGSTOP),
            2 => self.go_on(),
            _ => {}
        }
    }

    fn go_on(&mut self) {
        for child in &mut self.children {
            // One that is done is gone.
            if child.try_wait().unwrap().is_none() {
                send(child, Signal::SIGCONT);
            }
        }
    }

    fn is_one_done(&mut self) -> bool {
        self.children
            .iter_mut()
            .any(|child| child.try_wait().unwrap().is_some())
    }

    /// What each has counted, in the order in which they were started.
    fn finish(mut self) -> Vec<Value> {
        self.go_on();
        let first = self.started - self.children.len() + 1;
        let children = std::mem::take(&mut self.children);
        let summaries = children.into_iter().enumerate().map(|(number, child)| {
            let output = finish(child, LIMIT);
            let log = fs::read_to_string(self.log(first + number)).unwrap();
            assert_eq!(output.status.code(), Some(0), "{log}");
            summary(&output)
        });
        summaries.collect()
    }
}

impl Drop for Demos<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn check(kind: Kind) {
    let _alone = alone();
    let lines = events();
    let (_directory, path) = file(&lines);
    let mut expected = expected(&lines);
    expected.remove("executions");
    let completed = usize::try_from(expected["completed"].as_u64().unwrap()).unwrap();
    // Once while the events are raised, once while they are handled.
    let raised = ("SELECT count(*) FROM tidings_events", EVENTS / 5);
    let handled = (
        "SELECT count(*) FROM tidings_handler_requests WHERE completed_at IS NOT NULL",
        completed / 2,
    );
    let mut trouble = Trouble::new(kind, raised, handled);
    let url = trouble.url().to_owned();
    let mut demos = Demos::start(&url, &path);
    trouble.make(&mut demos, Demos::is_one_done, Demos::replace_oldest);
    for numbers in demos.finish() {
        assert_eq!(lasting(numbers), expected);
    }
}

#[test]
fn kills_and_restarts_of_mariadb_change_no_number() {
    check(Kind::MariaDb);
}

#[test]
fn kills_and_restarts_of_postgres_change_no_number() {
    check(Kind::Postgres);
}
