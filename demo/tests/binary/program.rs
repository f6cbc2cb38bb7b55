//! Runs the binary, and never longer than it may take.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Longer than any run takes on a slow machine; one that hangs fails the test.
const LIMIT: Duration = Duration::from_secs(120);

/// The binary, with arguments.
pub(crate) fn demo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("TIDINGS_STORE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Lets one test that needs the whole machine run at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time between two looks at what no signal tells of.
#[expect(
    clippy::disallowed_methods,
    reason = "no runtime waits for this thread"
)]
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(50));
}

/// Waits until something is so; fails when that takes longer.
pub(crate) fn poll(limit: Duration, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "what is waited for did not come");
        pause();
    }
}

/// Runs it to its end.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    finish(demo(arguments).spawn().unwrap(), LIMIT)
}

/// Runs it to its end with a text as its standard input.
pub(crate) fn run_with_stdin<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    input: &[u8],
) -> Output {
    finish_with_stdin(
        demo(arguments).stdin(Stdio::piped()).spawn().unwrap(),
        input,
    )
}

/// Writes a text to its standard input and waits for its end.
pub(crate) fn finish_with_stdin(mut child: Child, input: &[u8]) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // The demo may end at a bad line, before it has read everything.
            drop(stdin.write_all(input));
        });
        finish(child, LIMIT)
    })
}

/// Waits for its end and takes its output; fails, and ends it, when that takes longer.
pub(crate) fn finish(child: Child, limit: Duration) -> Output {
    let id = child.id();
    let (ended, end) = mpsc::channel();
    let waiting = thread::spawn(move || ended.send(child.wait_with_output()));
    match end.recv_timeout(limit) {
        Ok(output) => {
            waiting.join().unwrap().unwrap();
            output.unwrap()
        }
        Err(_) => {
            let _ = Command::new("kill")
                .args(["-KILL", &id.to_string()])
                .status();
            panic!("the demo (process {id}) did not end within {limit:?}");
        }
    }
}

/// The numbers that `--format json` printed as its last line.
pub(crate) fn summary(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", errors(output));
    let text = text(output);
    serde_json::from_str(text.lines().last().unwrap())
        .unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

/// What it wrote to standard output.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it wrote to standard error.
pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The file of GitHub's webhooks.
pub(crate) fn webhooks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/github-webhooks.jsonl")
}

/// The arguments for draining a file, with the numbers as JSON.
pub(crate) fn drain(file: &Path) -> Vec<String> {
    [
        "--input",
        file.to_str().unwrap(),
        "--drain",
        "--format",
        "json",
    ]
    .map(str::to_owned)
    .into()
}

/// The arguments for draining standard input, with the numbers as JSON.
pub(crate) const DRAIN_STDIN: [&str; 5] = ["--input", "-", "--drain", "--format", "json"];

/// A good line: a star that was given.
pub(crate) fn star(id: &str) -> String {
    event(
        id,
        "com.github.star.created",
        &json!({ "action": "created" }),
    )
}

/// A good line.
pub(crate) fn event(id: &str, name: &str, data: &Value) -> String {
    json!({ "specversion": "1.0", "id": id, "source": "/test", "type": name, "data": data })
        .to_string()
}

/// So many good lines, each with its end.
pub(crate) fn stars(count: usize) -> String {
    (0..count).fold(String::new(), |mut lines, number| {
        writeln!(lines, "{}", star(&number.to_string())).unwrap();
        lines
    })
}

/// Writes a file into a directory of its own, which ends with the value.
pub(crate) fn file(content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    std::fs::write(&path, content).unwrap();
    (directory, path)
}
