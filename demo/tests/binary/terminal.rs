//! On a terminal things update in place.

use std::{
    fs::File,
    io::Read as _,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    pty::{Winsize, openpty},
    sys::signal::Signal,
};

use crate::{
    program::{demo, drain, errors, finish, text, webhooks},
    signals::send,
};

/// The end of a new terminal that a program gets, and the one on which a person would see it.
fn terminal() -> (Stdio, File) {
    let size = Winsize {
        ws_row: 24,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let ends = openpty(&size, None).unwrap();
    (ends.slave.into(), File::from(ends.master))
}

/// Everything that a person would see until the program's end; tells when that has `awaited` in it.
fn read(
    mut screen: File,
    awaited: &'static str,
) -> (mpsc::Receiver<()>, thread::JoinHandle<String>) {
    let (tell, told) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut seen = String::new();
        let mut chunk = [0; 4096];
        // The end of a terminal is an error on Linux.
        while let Ok(count @ 1..) = screen.read(&mut chunk) {
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
            if seen.contains(awaited) {
                // Heard the first time; nobody listens after that.
                let _ = tell.send(());
            }
        }
        seen
    });
    (told, reading)
}

fn on_terminal(command: &mut Command) -> &mut Command {
    command.env("TERM", "xterm").env_remove("NO_COLOR")
}

#[test]
fn a_drain_shows_a_bar_on_the_terminal_and_the_numbers_alone_in_the_pipe() {
    let (stderr, screen) = terminal();
    let mut command = demo(drain(&webhooks()));
    let child = on_terminal(command.stderr(stderr)).spawn().unwrap();
    drop(command);
    let (_, seen) = read(screen, "raising");
    let output = finish(child, Duration::from_secs(60));
    let seen = seen.join().unwrap();
    assert!(
        seen.contains("raising") || seen.contains("handling"),
        "{seen:?}"
    );
    assert_eq!(text(&output).lines().count(), 1);
    assert!(text(&output).starts_with('{'), "{}", text(&output));
}

#[test]
fn the_live_status_updates_in_place_and_the_last_one_stays() {
    let (stdout, screen) = terminal();
    let mut command = demo(["--no-telemetry"]);
    let child = on_terminal(command.stdout(stdout)).spawn().unwrap();
    drop(command);
    let (shown, seen) = read(screen, "order 3 is placed");
    shown.recv_timeout(Duration::from_secs(30)).unwrap();
    send(&child, Signal::SIGINT);
    let output = finish(child, Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let seen = seen.join().unwrap();
    assert!(seen.contains("\u{1b}[2K"), "nothing was updated: {seen:?}");
    assert!(seen.contains("order 1 is placed"), "{seen:?}");
    let updates = seen.matches(" unprocessed · ").count();
    let lines = seen
        .lines()
        .filter(|line| line.contains("unprocessed"))
        .count();
    assert!(updates > lines, "{updates} updates on {lines} lines");
    assert!(
        seen.trim_end()
            .lines()
            .last()
            .unwrap()
            .contains("Stopped: "),
        "{seen:?}"
    );
}
