//! How often workers ask the server for something.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{
    ledger::{Micros, now},
    proxy::Traffic,
};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const SECOND: Micros = 1_000_000;

/// How often they had asked, and when.
type Counts = Arc<Mutex<Vec<(Micros, u64)>>>;

/// Counts questions until it is dropped.
#[derive(Debug)]
pub(super) struct Questions {
    counts: Counts,
    counting: JoinHandle<()>,
}

impl Drop for Questions {
    fn drop(&mut self) {
        self.counting.abort();
    }
}

impl Questions {
    pub(super) fn count(traffic: Vec<Arc<Traffic>>) -> Self {
        let counts = Counts::default();
        let counting = tokio::spawn({
            let counts = Arc::clone(&counts);
            async move {
                loop {
                    let count = traffic.iter().map(|traffic| traffic.sendings()).sum();
                    counts.lock().push((now(), count));
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        });
        Self { counts, counting }
    }

    /// How many there were in the busiest second since then.
    pub(super) fn busiest_second_since(&self, from: Micros) -> u64 {
        busiest_second(&self.counts.lock(), from)
    }
}

fn busiest_second(counts: &[(Micros, u64)], from: Micros) -> u64 {
    let begin = counts.partition_point(|(at, _)| *at < from);
    let counts = counts.get(begin..).unwrap_or_default();
    let in_second = |(first, (at, before)): (usize, &(Micros, u64))| {
        let later = counts.get(first..).unwrap_or_default();
        let end = later.partition_point(|(later, _)| *later <= at + SECOND);
        let last = later.get(end.saturating_sub(1));
        last.map_or(0, |(_, count)| count - before)
    };
    counts.iter().enumerate().map(in_second).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_may_begin_at_any_moment_and_not_before_it_counts() {
        let half = SECOND / 2;
        let counts = [
            (0, 0),
            (half, 100),
            (2 * half, 101),
            (3 * half, 141),
            (4 * half, 180),
        ];
        assert_eq!(busiest_second(&counts, 0), 101);
        assert_eq!(busiest_second(&counts, 1), 79);
        assert_eq!(busiest_second(&counts, 5 * half), 0);
        assert_eq!(busiest_second(&[], 0), 0);
    }
}
