//! How closely a loop polls for work that no signal tells of.

use std::time::Duration;

use tokio::time::Instant;

/// After events were written in a transaction whose commit is not seen, look so often: as fast as a
/// person or another service notices, and still only 200 cheap calls a second.
const CLOSE_PAUSE: Duration = Duration::from_millis(5);
/// The same with a listener: commits are heard of, and polls are only for one whose notification was
/// suppressed for another's that came before it. A few of them keep the bound of a second.
const HEARD_PAUSE: Duration = Duration::from_millis(250);
/// So long after the last such event: transactions that take longer are rare, and are found by the
/// growing pauses that follow.
const CLOSE_FOR: Duration = Duration::from_secs(1);
/// After work that was found by polling, look so soon for more: work that others make comes in
/// bursts.
const BURST_PAUSE: Duration = Duration::from_millis(25);

/// The polls of one loop; none most of the time, when [`lookout`](super::lookout) suffices.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Until when there may be a commit at any moment.
    closely_until: Option<Instant>,
    /// The pause before the next poll; grows with each that finds nothing.
    pause: Option<Duration>,
    next: Option<Instant>,
}

/// Why a loop made its call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Woken {
    /// A signal told of work, the scheduler has begun, or there was more.
    #[default]
    Told,
    /// A row became due.
    Due,
    /// A look found work that no signal told of.
    Found,
    /// The pace.
    Poll,
}

/// How commits of others are learned of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heed {
    /// How often idle processes look.
    pub(super) idle: Duration,
    /// Others' commits are heard of.
    pub(super) hears: bool,
}

impl Pace {
    /// When to poll, if at all.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Events were written whose commit is not seen.
    pub(super) fn uncommitted(&mut self, now: Instant, heed: Heed) {
        let pause = if heed.hears { HEARD_PAUSE } else { CLOSE_PAUSE };
        self.closely_until = Some(now + CLOSE_FOR);
        self.pause = Some(pause);
        // What is raised again and again must not put off the poll.
        let next = now + pause;
        self.next = Some(self.next.map_or(next, |earlier| earlier.min(next)));
    }

    /// A call ended at `now`; `found` tells whether there was work.
    pub(super) fn called(&mut self, now: Instant, woken: Woken, found: bool, heed: Heed) {
        if self.closely_until.is_some_and(|until| until < now) {
            self.closely_until = None;
        }
        let by_polling = matches!(woken, Woken::Found | Woken::Poll);
        if self.closely_until.is_none() {
            if found && by_polling && !heed.hears {
                self.pause = Some(BURST_PAUSE);
            } else if woken == Woken::Poll {
                self.pause = self.pause.map(|pause| pause * 2);
            }
        }
        // From then on looking is enough.
        self.pause = self.pause.filter(|pause| *pause < heed.idle);
        self.next = self.pause.map(|pause| now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const UNHEARD: Heed = Heed {
        idle: Duration::from_secs(1),
        hears: false,
    };
    const HEARD: Heed = Heed {
        idle: Duration::from_secs(5),
        hears: true,
    };

    /// The times of all polls, in milliseconds, that find work at those of `found`.
    fn polls(pace: &mut Pace, begun: Instant, heed: Heed, found: &[u128]) -> Vec<u128> {
        let mut polls = Vec::new();
        while let Some(at) = pace.next() {
            let passed = (at - begun).as_millis();
            polls.push(passed);
            pace.called(at, Woken::Poll, found.contains(&passed), heed);
        }
        polls
    }

    #[test]
    fn a_second_of_close_polls_is_followed_by_growing_pauses() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        pace.uncommitted(begun, UNHEARD);
        let polls = polls(&mut pace, begun, UNHEARD, &[]);
        let (close, growing) = polls.split_at(200);
        assert!(
            close.iter().copied().eq((1..=200).map(|n| n * 5)),
            "{close:?}"
        );
        assert_eq!(growing, [1005, 1015, 1035, 1075, 1155, 1315, 1635, 2275]);
    }

    #[test]
    fn a_listener_leaves_few_polls() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        pace.uncommitted(begun, HEARD);
        let polls = polls(&mut pace, begun, HEARD, &[]);
        assert_eq!(polls, [250, 500, 750, 1000, 1250, 1750, 2750, 4750, 8750]);
    }

    #[test]
    fn events_that_are_written_again_and_again_extend_the_second_and_put_off_no_poll() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        for n in 0..1000 {
            pace.uncommitted(begun + n * MILLISECOND, UNHEARD);
            assert_eq!(pace.next(), Some(begun + 5 * MILLISECOND));
        }
        let polls = polls(&mut pace, begun, UNHEARD, &[]);
        assert!(polls.contains(&1900) && polls.contains(&1905), "{polls:?}");
    }

    #[test]
    fn work_that_polls_find_brings_more_polls_only_where_it_is_not_heard_of() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        pace.called(begun, Woken::Found, true, UNHEARD);
        let polls = polls(&mut pace, begun, UNHEARD, &[25, 50]);
        assert_eq!(polls, [25, 50, 75, 125, 225, 425, 825, 1625]);
        pace.called(begun, Woken::Found, true, HEARD);
        assert_eq!(pace.next(), None);
        pace.called(begun, Woken::Told, true, UNHEARD);
        assert_eq!(pace.next(), None, "what is told of needs no polls");
    }
}
