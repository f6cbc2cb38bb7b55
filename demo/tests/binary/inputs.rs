//! Inputs of every form.

use std::fs;

use crate::program::{
    DRAIN_STDIN, drain, errors, file, run, run_with_stdin, star, stars, summary, webhooks,
};

/// How many events a text gives, as a file and on standard input.
fn events(text: impl AsRef<[u8]>) -> u64 {
    let (_directory, path) = file(&text);
    let from_file = summary(&run(drain(&path)))["events"].as_u64().unwrap();
    let from_stdin = summary(&run_with_stdin(DRAIN_STDIN, text.as_ref()))["events"]
        .as_u64()
        .unwrap();
    assert_eq!(from_file, from_stdin);
    from_file
}

#[test]
fn standard_input_gives_the_same_numbers_as_the_file() {
    let mut from_file = summary(&run(drain(&webhooks())));
    let mut from_stdin = summary(&run_with_stdin(DRAIN_STDIN, &fs::read(webhooks()).unwrap()));
    for numbers in [&mut from_file, &mut from_stdin] {
        numbers.as_object_mut().unwrap().remove("seconds");
    }
    assert_eq!(from_file, from_stdin);
}

#[test]
fn an_empty_file_is_no_mistake() {
    assert_eq!(events(""), 0);
    assert_eq!(events("\n\n"), 0);
}

#[test]
fn the_last_line_needs_no_end() {
    assert_eq!(events(stars(3).trim_end()), 3);
}

#[test]
fn lines_may_end_as_on_other_systems() {
    assert_eq!(events(stars(3).replace('\n', "\r\n")), 3);
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    assert_eq!(events(format!("\u{feff}{}", stars(3))), 3);
}

#[test]
fn blank_lines_are_no_mistake_and_count_as_lines() {
    assert_eq!(events(format!("\n{}\n \n{}\n", star("1"), star("2"))), 2);
    let output = run_with_stdin(DRAIN_STDIN, b"\n\n \nbad\n");
    assert!(
        errors(&output).contains("line 4 of standard input is bad"),
        "{}",
        errors(&output)
    );
}

#[test]
fn a_file_that_is_not_there_is_told_with_the_remedy() {
    let output = run(["--input", "/no/such/file.jsonl", "--drain"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = errors(&output);
    assert!(
        errors.contains("cannot open /no/such/file.jsonl; check the path"),
        "{errors}"
    );
    assert!(!errors.contains("Os {"), "a debug dump: {errors}");
}

#[test]
fn a_directory_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(drain(directory.path()));
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors(&output).contains("is a directory"),
        "{}",
        errors(&output)
    );
}

#[test]
fn an_option_that_would_do_nothing_is_refused() {
    for arguments in [
        &["--drain"] as &[&str],
        &["--format", "json"],
        &["--workers", "0"],
        &["--scheduler", "none"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(errors(&output).contains("--help"), "{}", errors(&output));
    }
}

/// A pipe with a name can be opened once only, and read once only.
#[cfg(unix)]
#[test]
fn a_pipe_with_a_name_is_read_as_standard_input_is() {
    use std::{io::Write as _, thread};

    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writing = thread::spawn({
        let pipe = pipe.clone();
        move || {
            fs::OpenOptions::new()
                .write(true)
                .open(pipe)
                .unwrap()
                .write_all(stars(700).as_bytes())
        }
    });
    assert_eq!(summary(&run(drain(&pipe)))["events"], 700);
    writing.join().unwrap().unwrap();
}

/// Events of a pipe that stays open are raised when they come, if bad lines need not be found first.
#[cfg(unix)]
#[test]
fn events_of_a_pipe_that_stays_open_are_raised_when_they_come() {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        process::Stdio,
        time::Duration,
    };

    use crate::program::{demo, finish};

    let arguments = ["--input", "-", "--skip-bad-lines", "--no-telemetry"];
    let mut child = demo(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(stars(3).as_bytes()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut statuses = lines
        .by_ref()
        .map(Result::unwrap)
        .take(crate::signals::STATUS_LINES);
    let seen = statuses.any(|line| line.contains(" stars 3,"));
    assert!(
        seen,
        "the stars were not counted before the pipe was closed"
    );
    crate::signals::send(&child, nix::sys::signal::Signal::SIGTERM);
    // The reader goes on, so that the last line finds somebody.
    let rest = std::thread::spawn(move || lines.map(Result::unwrap).collect::<Vec<_>>());
    let output = finish(child, Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(
        rest.join()
            .unwrap()
            .last()
            .unwrap()
            .starts_with("Stopped: ")
    );
    drop(stdin);
}

#[test]
fn the_same_id_of_two_sources_is_two_events() {
    let other = star("1").replace("/test", "/other");
    let numbers = summary(&run_with_stdin(
        DRAIN_STDIN,
        [star("1"), other].join("\n").as_bytes(),
    ));
    assert_eq!(numbers["events"], 2);
}
