//! What goes where, also when nobody reads it.

use std::{process::Stdio, time::Duration};

use crate::program::{demo, drain, errors, finish, run, text, webhooks};

#[test]
fn a_pipe_gets_no_progress_bar_and_no_colour() {
    let output = run(drain(&webhooks()));
    assert_eq!(errors(&output), "");
    assert_eq!(text(&output).lines().count(), 1);
    assert!(!text(&output).contains('\u{1b}'));
}

#[test]
fn the_summary_for_people_has_every_number_with_its_name() {
    let output = run(["--input", webhooks().to_str().unwrap(), "--drain"]);
    let text = text(&output);
    for row in [
        "events            329",
        "without handlers  239",
        "dead              4",
        "activity          71",
    ] {
        assert!(text.lines().any(|line| line == row), "{row:?} in {text}");
    }
    assert_eq!(errors(&output), "");
}

#[test]
fn logs_go_to_standard_error_and_leave_the_numbers_alone() {
    let mut command = demo(drain(&webhooks()));
    let output = finish(
        command
            .env("RUST_LOG", "tidings=debug,warn")
            .spawn()
            .unwrap(),
        Duration::from_secs(60),
    );
    assert!(
        errors(&output).contains(" WARN ") || errors(&output).contains("DEBUG"),
        "{}",
        errors(&output)
    );
    assert_eq!(text(&output).lines().count(), 1, "{}", text(&output));
}

#[test]
fn a_filter_for_logs_that_makes_no_sense_is_told() {
    let mut command = demo(drain(&webhooks()));
    let output = finish(
        command.env("RUST_LOG", "tidings=loud").spawn().unwrap(),
        Duration::from_secs(60),
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors(&output).contains("RUST_LOG is no filter"),
        "{}",
        errors(&output)
    );
}

#[test]
fn a_summary_that_nobody_reads_is_no_failure() {
    let mut child = demo(drain(&webhooks())).spawn().unwrap();
    drop(child.stdout.take());
    let output = finish(child, Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert_eq!(errors(&output), "");
}

#[test]
fn a_status_that_nobody_reads_ends_the_live_demo() {
    let mut child = demo(["--no-telemetry"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = finish(child, Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert_eq!(errors(&output), "");
}

#[test]
fn an_error_that_nobody_reads_keeps_its_exit_code() {
    let mut child = demo(["--input", "/no/such/file", "--drain"])
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(
        finish(child, Duration::from_secs(60)).status.code(),
        Some(2)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_summary_is_a_failure() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let child = demo(drain(&webhooks()))
        .stdout(Stdio::from(full))
        .spawn()
        .unwrap();
    let output = finish(child, Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("standard output cannot be written to"),
        "{}",
        errors(&output)
    );
}

#[test]
fn telemetry_that_cannot_be_written_is_told_with_the_remedy() {
    let output = run(["--telemetry", "/dev/null/here"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("--no-telemetry"),
        "{}",
        errors(&output)
    );
}

/// Two demos that are started in one directory must not write into each other's files.
#[test]
fn each_of_two_demos_has_telemetry_of_its_own() {
    use std::io::{BufRead as _, BufReader};

    let directory = tempfile::tempdir().unwrap();
    let demos = ["target/telemetry.", "target/telemetry-2."].map(|expected| {
        let mut child = demo::<&str>([])
            .current_dir(directory.path())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let greeting = lines.next().unwrap().unwrap();
        assert!(
            greeting.contains(&format!("metrics and traces in {expected}")),
            "{greeting}"
        );
        child
    });
    let taken = directory.path().join("target/telemetry");
    let output = run(["--telemetry", taken.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("another demo writes its telemetry to"),
        "{}",
        errors(&output)
    );
    for child in demos {
        // Nobody reads its output any more, so it ends.
        assert_eq!(
            finish(child, Duration::from_secs(60)).status.code(),
            Some(0)
        );
    }
    assert!(taken.join("traces.jsonl").exists());
    assert!(
        directory
            .path()
            .join("target/telemetry-2/metrics.jsonl")
            .exists()
    );
}

/// Whoever drains a file wants its numbers, and no files.
#[test]
fn a_drain_writes_telemetry_only_where_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let child = demo(drain(&webhooks()))
        .current_dir(directory.path())
        .spawn()
        .unwrap();
    assert_eq!(
        finish(child, Duration::from_secs(60)).status.code(),
        Some(0)
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
