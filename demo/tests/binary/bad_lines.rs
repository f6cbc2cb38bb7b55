//! A bad line ends the demo before anything is raised, with its number and a reason.

use std::{
    fmt::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use crate::program::{
    DRAIN_STDIN, drain, errors, event, file, finish_with_stdin, run, run_with_stdin, star, stars,
    summary, text,
};

/// Every kind of bad line, and what its reason says.
fn bad_lines() -> Vec<(Vec<u8>, &'static str)> {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut event: Value = serde_json::from_str(&star("bad")).unwrap();
        change(&mut event);
        event.to_string().into_bytes()
    };
    vec![
        (b"not json".to_vec(), "it is not JSON"),
        (b"{\"specversion\":\"1.0\"".to_vec(), "it is not JSON"),
        (b"[]".to_vec(), "it is not a CloudEvent"),
        (b"{\"id\":\"\xff\xfe\"}".to_vec(), "it is not UTF-8"),
        (
            with(&|event| drop(event.as_object_mut().unwrap().remove("type"))),
            "it has no `type`",
        ),
        (
            with(&|event| drop(event.as_object_mut().unwrap().remove("specversion"))),
            "it has no `specversion`",
        ),
        (
            with(&|event| drop(event.as_object_mut().unwrap().remove("id"))),
            "it has no `id`",
        ),
        (
            with(&|event| drop(event.as_object_mut().unwrap().remove("source"))),
            "it has no `source`",
        ),
        (
            with(&|event| event["specversion"] = json!("0.3")),
            "its `specversion` is \"0.3\"",
        ),
        (
            with(&|event| event["time"] = json!("noon")),
            "its `time` is \"noon\"",
        ),
        (
            with(&|event| event["type"] = json!("")),
            "its `type` is empty",
        ),
        (
            with(&|event| event["type"] = json!("com.github.*")),
            "contains a *",
        ),
        (
            with(&|event| event["type"] = json!("n".repeat(256))),
            "longer than 255 bytes",
        ),
        (
            with(&|event| event["data"] = json!("x".repeat(1 << 20))),
            "more than the limit of 1048576",
        ),
        (
            with(&|event| event["data"] = json!("x".repeat(3 << 20))),
            "longer than 2097152 bytes",
        ),
    ]
}

/// Good lines with a bad one as number 601: beyond the first batch.
fn with_bad_line(bad: &[u8]) -> Vec<u8> {
    [stars(600).as_bytes(), bad, b"\n", star("last").as_bytes()].concat()
}

fn assert_refused(output: &Output, name: &str, reason: &str) {
    let errors = errors(output);
    assert_eq!(output.status.code(), Some(2), "{reason}: {errors}");
    assert!(
        errors.contains(&format!("line 601 of {name} is bad: ")),
        "{errors}"
    );
    assert!(errors.contains(reason), "{reason}: {errors}");
    assert!(errors.contains("Nothing was raised"), "{errors}");
    assert_eq!(
        text(output),
        "",
        "nothing was done, so there is nothing to sum up"
    );
}

#[test]
fn each_kind_of_bad_line_in_a_file_stops_with_its_number_and_reason() {
    for (bad, reason) in bad_lines() {
        let (_directory, path) = file(with_bad_line(&bad));
        assert_refused(&run(drain(&path)), path.to_str().unwrap(), reason);
    }
}

#[test]
fn each_kind_of_bad_line_on_standard_input_stops_with_its_number_and_reason() {
    for (bad, reason) in bad_lines() {
        assert_refused(
            &run_with_stdin(DRAIN_STDIN, &with_bad_line(&bad)),
            "standard input",
            reason,
        );
    }
}

/// The events of the good lines would leave spans behind if they were raised and handled.
#[test]
fn nothing_is_raised_before_a_bad_line_is_found() {
    let (directory, path) = file(with_bad_line(b"bad"));
    for input in [path.to_str().unwrap(), "-"] {
        let telemetry = directory.path().join("telemetry");
        let arguments = [
            "--input",
            input,
            "--drain",
            "--telemetry",
            telemetry.to_str().unwrap(),
        ];
        let output = run_with_stdin(arguments, &with_bad_line(b"bad"));
        assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
        assert!(!has_spans(&telemetry), "something was handled");
    }
    // The same without the bad line does leave spans, so that the check above can fail.
    let (directory, path) = file(stars(3));
    let telemetry = directory.path().join("telemetry");
    run([
        "--input",
        path.to_str().unwrap(),
        "--drain",
        "--telemetry",
        telemetry.to_str().unwrap(),
    ]);
    assert!(has_spans(&telemetry));
}

fn has_spans(telemetry: &Path) -> bool {
    std::fs::read_to_string(telemetry.join("traces.jsonl")).is_ok_and(|traces| !traces.is_empty())
}

#[test]
fn skipped_lines_are_told_with_number_and_reason_counted_and_the_others_raised() {
    let mut lines = Vec::new();
    let bad = bad_lines();
    for (index, (line, _)) in bad.iter().enumerate() {
        lines.extend_from_slice(star(&index.to_string()).as_bytes());
        lines.push(b'\n');
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    let (_directory, path) = file(&lines);
    for output in [
        run(drain(&path)
            .into_iter()
            .chain(["--skip-bad-lines".to_owned()])),
        run_with_stdin(DRAIN_STDIN.into_iter().chain(["--skip-bad-lines"]), &lines),
    ] {
        let numbers = summary(&output);
        assert_eq!(
            (&numbers["events"], &numbers["stars"]),
            (&json!(bad.len()), &json!(bad.len()))
        );
        let errors = errors(&output);
        assert!(
            errors.contains(&format!("bad lines skipped: {}", bad.len())),
            "{errors}"
        );
        assert!(
            errors.contains("line 2 of") && errors.contains("is skipped: it is not JSON"),
            "{errors}"
        );
    }
}

#[test]
fn a_flood_of_bad_lines_does_not_flood_standard_error() {
    let lines = (0..5000).fold(String::new(), |mut lines, number| {
        writeln!(lines, "bad line {number}").unwrap();
        lines
    });
    let output = run_with_stdin(
        DRAIN_STDIN.into_iter().chain(["--skip-bad-lines"]),
        lines.as_bytes(),
    );
    assert_eq!(summary(&output)["events"], 0);
    let errors = errors(&output);
    assert!(errors.contains("bad lines skipped: 5000"), "{errors}");
    assert!(errors.lines().count() < 20, "{errors}");
}

#[test]
fn skipping_says_zero_when_no_line_was_bad() {
    let output = run_with_stdin(
        DRAIN_STDIN.into_iter().chain(["--skip-bad-lines"]),
        stars(3).as_bytes(),
    );
    assert_eq!(summary(&output)["events"], 3);
    assert!(
        errors(&output).contains("bad lines skipped: 0"),
        "{}",
        errors(&output)
    );
}

#[test]
fn a_bad_line_stops_the_live_demo_as_well() {
    let (_directory, path) = file(with_bad_line(b"bad"));
    let output = run(["--input", path.to_str().unwrap(), "--no-telemetry"]);
    assert_refused(&output, path.to_str().unwrap(), "it is not JSON");
}

#[test]
fn an_event_at_the_limit_of_its_size_is_raised() {
    let data = json!("x".repeat((1 << 20) - 2));
    let output = run_with_stdin(DRAIN_STDIN, event("1", "large", &data).as_bytes());
    assert_eq!(summary(&output)["events"], 1);
}

/// A line of 256 MiB, with half of that as memory.
#[cfg(target_os = "linux")]
#[test]
fn a_line_that_never_seems_to_end_does_not_fill_the_memory() {
    let limited = r#"ulimit -d 131072; exec "$0" "$@""#;
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", limited, env!("CARGO_BIN_EXE_demo")])
        .args(DRAIN_STDIN);
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let line = [stars(1).as_bytes(), &vec![b'x'; 256 << 20]].concat();
    let output = finish_with_stdin(child, &line);
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
    assert!(
        errors(&output).contains("line 2 of standard input is bad: it is longer"),
        "{}",
        errors(&output)
    );
}
