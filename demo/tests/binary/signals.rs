//! Stopping: in time, with exit code 0 and with all telemetry; and at once if it is asked twice.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::program::{demo, drain, errors, finish, stars, webhooks};

/// A stop takes no longer.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Lines of status in which what is waited for must come: half a minute.
pub(crate) const STATUS_LINES: usize = 6;

/// Sends a signal.
pub(crate) fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Runs the live demo until a line of its status shows what is waited for, stops it, and gives
/// back its last line.
pub(crate) fn stop_live(
    arguments: &[&str],
    until: impl Fn(&str) -> bool,
    signal: Signal,
) -> String {
    let mut child = demo(arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    // The first line is the greeting.
    let seen = lines
        .by_ref()
        .skip(1)
        .take(STATUS_LINES)
        .any(|line| until(&line));
    assert!(seen, "what is waited for did not come");
    let reading = thread::spawn(move || lines.last());
    send(&child, signal);
    let output = finish(child, STOP_LIMIT);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert_eq!(errors(&output), "");
    reading.join().unwrap().unwrap()
}

/// The number before a word of the last line.
pub(crate) fn number(line: &str, word: &str) -> u64 {
    let before = line.split(word).next().unwrap().trim_end();
    before
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("no number of {word} in {line:?}"))
}

/// All lines of a file, each a JSON object.
fn objects(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is cut"
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The last value of a metric, summed over its attributes.
fn metric(metrics: &[Value], name: &str) -> f64 {
    let of_name = metrics.iter().filter(|line| line["name"] == name);
    let last: BTreeMap<String, f64> = of_name
        .map(|line| {
            (
                line["attributes"].to_string(),
                line["value"].as_f64().unwrap(),
            )
        })
        .collect();
    last.values().sum()
}

/// Telemetry is complete when it agrees with the last status: every completed request has its span
/// and is counted.
fn check_telemetry(signal: Signal) {
    let directory = tempfile::tempdir().unwrap();
    // Until retries have run and requests are dead.
    let last = stop_live(
        &["--telemetry", directory.path().to_str().unwrap()],
        |line| number(line, " dead") >= 1,
        signal,
    );
    assert!(last.starts_with("Stopped: "), "{last}");
    let (completed, dead) = (number(&last, " completed"), number(&last, " dead"));
    assert!(completed >= 2 && dead >= 1, "{last}");

    let spans = objects(&directory.path().join("traces.jsonl"));
    let named = |name: &str| spans.iter().filter(|span| span["name"] == name).count() as u64;
    let handled = named("demo.confirm_order handler") + named("demo.publish_stock handler");
    assert_eq!(handled, completed, "{last}");
    assert!(named("demo.reach_warehouse handler") >= 3 * dead, "{last}");

    let metrics = objects(&directory.path().join("metrics.jsonl"));
    let count = |name| metric(&metrics, name);
    assert_eq!(count("demo.requests.executed.successes"), completed as f64);
    assert_eq!(
        count("demo.events.processed.successes"),
        processed(&spans) as f64
    );
    // Written after the scheduler's end, or it would not know of it.
    let stopped = |line: &&Value| line["attributes"]["events.scheduler.state"] == "stopped";
    assert_eq!(metrics.iter().rfind(stopped).unwrap()["value"], 1);
    assert!(
        metrics
            .iter()
            .any(|line| line["kind"] == "histogram" && line["buckets"].is_array())
    );
}

/// The events that were processed, by their spans.
fn processed(spans: &[Value]) -> usize {
    let is_event = |name: &str| name.starts_with("demo.process ") && name.ends_with(" event");
    spans
        .iter()
        .filter(|span| is_event(span["name"].as_str().unwrap()))
        .count()
}

#[test]
fn sigterm_stops_the_live_demo_in_time_and_loses_no_telemetry() {
    check_telemetry(Signal::SIGTERM);
}

#[test]
fn ctrl_c_stops_the_live_demo_in_time_and_loses_no_telemetry() {
    check_telemetry(Signal::SIGINT);
}

#[test]
fn the_live_demo_with_an_input_goes_on_after_it_and_stops_when_asked() {
    let last = stop_live(
        &[
            "--input",
            webhooks().to_str().unwrap(),
            "--no-telemetry",
            "--scheduler",
            "cooperative",
        ],
        |line| line.contains(" activity 71, notifications 10,"),
        Signal::SIGTERM,
    );
    assert!(
        last.contains("commits 2, stars 1, activity 71, notifications 10, untriaged issues 0"),
        "{last}"
    );
}

/// Some that stop a process signal it and then its whole group.
#[test]
fn the_same_signal_twice_in_a_row_is_one_wish() {
    let mut child = demo(["--no-telemetry"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("tidings demo"));
    // Stopped meanwhile, so that it finds both when it goes on.
    send(&child, Signal::SIGSTOP);
    send(&child, Signal::SIGINT);
    send(&child, Signal::SIGTERM);
    send(&child, Signal::SIGCONT);
    let reading = thread::spawn(move || lines.last());
    let output = finish(child, STOP_LIMIT);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(reading.join().unwrap().unwrap().starts_with("Stopped: "));
}

/// A demo that hangs: where its spans should go is a pipe that nobody reads.
#[test]
fn a_second_signal_ends_a_demo_that_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let input = named_pipe(&directory.path().join("input"));
    named_pipe(&directory.path().join("traces.jsonl"));
    let (input, telemetry) = (input.to_str().unwrap(), directory.path().to_str().unwrap());
    let child = demo([
        "--input",
        input,
        "--skip-bad-lines",
        "--telemetry",
        telemetry,
    ])
    .spawn()
    .unwrap();
    // The demo opens its input when it listens for signals, and its telemetry right after.
    let _input = OpenOptions::new().write(true).open(input).unwrap();
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (ended, end) = mpsc::channel();
    let waiting =
        thread::spawn(move || ended.send(finish(child, Duration::from_secs(60))).unwrap());
    assert_hangs(&end);
    kill(id, Signal::SIGINT).unwrap();
    assert_hangs(&end);
    kill(id, Signal::SIGINT).unwrap();
    let output = end.recv_timeout(STOP_LIMIT).unwrap();
    assert_eq!(output.status.code(), Some(130));
    waiting.join().unwrap();
}

fn assert_hangs(end: &mpsc::Receiver<Output>) {
    let ended = end.recv_timeout(Duration::from_millis(700));
    assert_eq!(ended.unwrap_err(), RecvTimeoutError::Timeout);
}

fn named_pipe(path: &Path) -> PathBuf {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path.to_owned()
}

/// A pipe that stays silent: the events never come.
#[test]
fn a_signal_while_the_input_is_awaited_ends_a_drain_with_the_code_of_a_broken_off_process() {
    let directory = tempfile::tempdir().unwrap();
    let input = named_pipe(&directory.path().join("input"));
    let child = demo(drain(&input)).spawn().unwrap();
    // The demo opens its input when it listens for signals.
    let silent = OpenOptions::new().write(true).open(input).unwrap();
    send(&child, Signal::SIGTERM);
    let output = finish(child, STOP_LIMIT);
    assert_eq!(output.status.code(), Some(143), "{}", errors(&output));
    assert!(
        errors(&output).contains("nothing was raised"),
        "{}",
        errors(&output)
    );
    assert!(output.stdout.is_empty());
    drop(silent);
}

/// Lines that come and are handled, but never end.
#[test]
fn a_signal_during_a_drain_tells_what_is_left_and_prints_no_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let telemetry = directory.path().to_str().unwrap();
    let arguments = [
        "--input",
        "-",
        "--drain",
        "--skip-bad-lines",
        "--telemetry",
        telemetry,
    ];
    let mut child = demo(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(format!("{}bad\n", stars(3)).as_bytes())
        .unwrap();
    // It complains about the bad line when it has come to it.
    let mut complaints = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(
        complaints
            .next()
            .unwrap()
            .contains("line 4 of standard input is skipped")
    );
    send(&child, Signal::SIGINT);
    let rest = thread::spawn(move || complaints.collect::<Vec<_>>());
    let output = finish(child, STOP_LIMIT);
    let complaints = rest.join().unwrap().join("\n");
    assert_eq!(output.status.code(), Some(130), "{complaints}");
    assert!(
        complaints.contains("stopped before everything was handled"),
        "{complaints}"
    );
    assert!(output.stdout.is_empty());
    assert!(
        !objects(&directory.path().join("metrics.jsonl")).is_empty(),
        "its telemetry was lost"
    );
    drop(stdin);
}
