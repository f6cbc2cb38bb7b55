//! What a test does to a server and to processes until they are done.

use std::time::{Duration, Instant};

use crate::{
    database::number,
    program::pause,
    server::{Kind, Private},
};

/// How often a process is killed at first; on a slow machine one may need longer than it has then to get
/// beyond what others have done, so the interval grows with the kills.
const KILL_INTERVAL: Duration = Duration::from_secs(1);
/// After so many kills it is twice as long, after twice as many three times.
const KILLS_FOR_LONGER: u32 = 15;
/// As many as there are processes at first: none of them lives to the end.
const MIN_KILLS: u32 = 4;
/// Longer than it takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(600);

/// A server that is shut down and later killed when so much is done, and started again.
pub(crate) struct Trouble {
    server: Private,
    /// Statements that count what is done, and the counts that are awaited; the next one is last.
    restarts: Vec<(&'static str, usize)>,
    kills: u32,
}

impl Trouble {
    pub(crate) fn new(
        kind: Kind,
        first: (&'static str, usize),
        second: (&'static str, usize),
    ) -> Self {
        Self {
            server: Private::start(kind),
            restarts: vec![second, first],
            kills: 0,
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    /// Goes on until it is done, and calls `kill` with its number every second, or more rarely.
    pub(crate) fn make<P>(
        &mut self,
        processes: &mut P,
        mut is_done: impl FnMut(&mut P) -> bool,
        mut kill: impl FnMut(&mut P, usize),
    ) {
        let start = Instant::now();
        let mut killed_at = start;
        while !is_done(processes) {
            assert!(start.elapsed() < LIMIT, "it does not end");
            if killed_at.elapsed() >= KILL_INTERVAL * (1 + self.kills / KILLS_FOR_LONGER) {
                kill(processes, self.kills as usize);
                killed_at = Instant::now();
                self.kills += 1;
            }
            self.restart_if_due();
            pause();
        }
        assert!(
            self.restarts.is_empty(),
            "it was over before the server was restarted"
        );
        let kills = self.kills;
        assert!(kills >= MIN_KILLS, "it was over after {kills} kills");
    }

    fn restart_if_due(&mut self) {
        let Some((sql, least)) = self.restarts.last() else {
            return;
        };
        if number(self.url(), sql) < Some(*least) {
            return;
        }
        self.restarts.pop();
        if self.restarts.is_empty() {
            self.server.kill();
            self.server.start_again();
        } else {
            self.server.restart();
        }
    }
}
