//! What is known of the queue of events: how crowded it is, and where it begins.
//!
//! An event leaves the queue by being deleted, and vacuum cleans up behind it, unless a transaction has been
//! open for long: then all that has been deleted since is still in the way of whoever looks from the
//! beginning, a million entries after some minutes. So when such a look turns out to be slow, the next
//! ones begin a while before the events that were found last, by the time in their ids. What lies before
//! that, as its transaction took long to commit, is found by the look of the safety net, which is
//! always from the beginning.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::{id::EventId, store::FannedOut};

/// A look from the beginning that takes the server longer than this, and [`EACH`] for what it finds, walks over what
/// was deleted: some ten thousands of entries.
const SLOW: Duration = Duration::from_millis(10);
/// So many looks in a row: one may be slow because it waits for a lock, or for the processor.
const SLOW_LOOKS: u32 = 3;
/// What finding one event, or the terms of one request, may take.
const EACH: Duration = Duration::from_micros(100);
/// One look of so many is [strict](Queue::is_strict). An event whose fan-out was broken off seems to be locked
/// until all transactions have ended that are older, and would wait for all others meanwhile.
const STRICT_EVERY: u32 = 16;
/// So much earlier than the events that were found last do looks begin: more than most transactions
/// take from raising to commit, and than clocks differ; at thousands of events a second still few entries.
const MARGIN: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Queue {
    is_crowded: AtomicBool,
    looks: AtomicU32,
    head: Mutex<Head>,
}

#[derive(Debug, Default)]
struct Head {
    /// No id lower than this, if looks from the beginning are slow.
    start: Option<Uuid>,
    /// The next look is from the beginning all the same.
    thorough: bool,
    /// How many looks from the beginning have been slow, one after the other.
    slow_looks: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            is_crowded: AtomicBool::new(true),
            looks: AtomicU32::new(0),
            head: Mutex::default(),
        }
    }
}

impl Queue {
    /// Whether there were many events lately, so that a statement for many is worth it.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed)
    }

    /// Whether a look takes the events strictly in their order, also those that somebody seems to have locked.
    pub(super) fn is_strict(&self) -> bool {
        self.looks
            .load(Ordering::Relaxed)
            .is_multiple_of(STRICT_EVERY)
    }

    /// The lowest id for a look at the queue; `None` from the beginning.
    pub(super) fn start(&self) -> Option<Uuid> {
        let head = self.head.lock();
        head.start.filter(|_| !head.thorough)
    }

    /// Takes into account what a fan-out from this start found, and how long it took on the server.
    pub(super) fn fanned_out(&self, start: Option<Uuid>, found: &FannedOut, took: Duration) {
        let events = found.processed.len();
        let is_crowded = events > 1 || found.next_due.is_some() || found.held_back;
        self.is_crowded.store(is_crowded, Ordering::Relaxed);
        // One that was held back has not looked for what is the first.
        if !found.held_back {
            self.looks.fetch_add(1, Ordering::Relaxed);
            let requests: usize = found.processed.iter().map(|event| event.requests).sum();
            let count = u32::try_from(events.max(requests)).unwrap_or(u32::MAX);
            let is_slow = took > SLOW + EACH.saturating_mul(count);
            let first = found.processed.iter().map(|event| event.id).min();
            self.head.lock().found(start, first, is_slow, now());
        }
    }

    /// A look from the beginning found this to be the first event, and took so long.
    pub(super) fn looked(&self, first: Option<Uuid>, took: Duration) {
        let mut head = self.head.lock();
        if took <= SLOW {
            head.start = None;
            head.slow_looks = 0;
        } else if let (Some(first), Some(start)) = (first, head.start) {
            head.thorough |= first < start;
        }
    }
}

impl Head {
    /// A fan-out from this start found this as the first event, at a time since 1970.
    fn found(&mut self, start: Option<Uuid>, first: Option<EventId>, is_slow: bool, now: Duration) {
        // Ids may be of the future, or no times at all.
        let place = || first.map_or(now, |first| time(first.as_uuid()).min(now));
        let place = || lowest(place().saturating_sub(MARGIN));
        if start.is_none() {
            self.thorough = false;
            self.slow_looks = if is_slow {
                self.slow_looks.saturating_add(1)
            } else {
                0
            };
            self.start = (self.slow_looks >= SLOW_LOOKS).then(place);
        } else if first.is_some() && start == self.start {
            // Never back: an event that has backed off is an old one.
            self.start = self.start.map(|start| start.max(place()));
        }
    }
}

fn now() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// The time in an id of version 7: milliseconds since 1970 in the first 48 bits.
fn time(id: Uuid) -> Duration {
    let millis = id.as_u128() >> 80;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// The lowest id of this time.
fn lowest(time: Duration) -> Uuid {
    Uuid::from_u128(time.as_millis() << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_800_000_000 + seconds)
    }

    /// Looks from the beginning were slow, the last one at this time, and found this.
    fn slow(first: EventId, now: Duration) -> Head {
        let mut head = Head::default();
        for _ in 0..SLOW_LOOKS {
            assert_eq!(head.start, None, "a few may be slow by chance");
            head.found(None, Some(first), true, now);
        }
        head
    }

    fn id(seconds: u64) -> EventId {
        EventId::from_uuid(Uuid::from_u128(
            lowest(at(seconds)).as_u128() | 1 << 76 | 42,
        ))
    }

    #[test]
    fn looks_are_from_the_beginning_until_one_is_slow() {
        let mut head = slow(id(100), at(101));
        assert_eq!(head.start, Some(lowest(at(96))));
        head.found(None, Some(id(100)), false, at(101));
        assert_eq!(head.start, None);
    }

    #[test]
    fn the_start_goes_on_with_what_is_found_and_never_back() {
        let mut head = slow(id(100), at(101));
        let start = head.start;
        head.found(start, Some(id(150)), false, at(151));
        assert_eq!(head.start, Some(lowest(at(146))));
        head.found(start, Some(id(20)), false, at(152));
        assert_eq!(head.start, Some(lowest(at(146))), "of a backoff");
        head.found(start, None, false, at(300));
        assert_eq!(
            head.start,
            Some(lowest(at(146))),
            "nobody knows where the next one is"
        );
    }

    #[test]
    fn an_id_of_the_future_or_of_no_time_hides_no_event_of_today() {
        let random = EventId::from_uuid(Uuid::from_u128(u128::MAX));
        for first in [id(9_999), random] {
            let mut head = slow(first, at(100));
            assert_eq!(head.start, Some(lowest(at(96))));
            head.found(head.start, Some(first), false, at(101));
            assert_eq!(head.start, Some(lowest(at(97))));
        }
    }

    #[test]
    fn what_lies_before_the_start_is_looked_for_once_it_was_seen() {
        let queue = Queue::default();
        queue.head.lock().start = Some(lowest(at(100)));
        queue.looked(Some(id(101).as_uuid()), Duration::from_secs(1));
        assert_eq!(queue.start(), Some(lowest(at(100))));
        queue.looked(Some(id(99).as_uuid()), Duration::from_secs(1));
        assert_eq!(queue.start(), None);
        let held_back = FannedOut {
            held_back: true,
            ..FannedOut::default()
        };
        queue.fanned_out(None, &held_back, Duration::from_secs(1));
        assert_eq!(queue.start(), None, "until one has looked");
        queue.head.lock().slow_looks = SLOW_LOOKS;
        queue.fanned_out(None, &FannedOut::default(), Duration::from_secs(1));
        assert!(queue.start().is_some(), "only once");
    }

    #[test]
    fn a_look_that_was_under_way_does_not_move_a_start_that_went_back() {
        let mut head = slow(id(100), at(101));
        let under_way = head.start;
        // A thorough look finds many events of long ago.
        head.found(None, Some(id(10)), true, at(102));
        assert_eq!(head.start, Some(lowest(at(6))));
        head.found(under_way, Some(id(101)), false, at(102));
        assert_eq!(head.start, Some(lowest(at(6))));
    }

    #[test]
    fn a_quick_look_ends_it() {
        let queue = Queue::default();
        queue.head.lock().start = Some(lowest(at(100)));
        queue.looked(None, Duration::from_millis(1));
        assert_eq!(queue.start(), None);
    }

    #[test]
    fn a_large_batch_is_no_slow_look() {
        let queue = Queue::default();
        let mut found = FannedOut::default();
        let (name, at) = ("e", chrono::Utc::now());
        for _ in 0..1000 {
            let correlation = crate::id::CorrelationId::from_uuid(Uuid::nil());
            let one = crate::store::ProcessedEvent::new(EventId::new(), name, correlation, at, 1);
            found.processed.push(one);
        }
        for (millis, is_slow) in [(100, false), (200, true)] {
            for _ in 0..SLOW_LOOKS {
                queue.fanned_out(None, &found, Duration::from_millis(millis));
            }
            assert_eq!(queue.start().is_some(), is_slow);
        }
    }
}
