//! What is known of the queue of events: how crowded it is, and where it begins.
//!
//! An event leaves the queue by being deleted, and vacuum cleans up behind it, unless a transaction has been
//! open for long: then all that has been deleted since is still in the way of whoever looks from the
//! beginning, a million entries after some minutes. So when such a fan-out turns out to be slow, the next
//! ones begin a while before the events that were found last, by the time in their ids. What lies before
//! that, as its transaction took long to commit, is found by the look of the safety net: it is from the
//! beginning, and the fan-out that follows begins at what it found.
//!
//! After hours not even that look ends in time. Then most looks begin some minutes before the fan-outs do,
//! and what took longer to commit waits for one that does end. Fan-outs go on in any case.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::{error::StoreError, id::EventId, store::FannedOut};

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
/// So much earlier than the events that were found last do fan-outs begin: more than most transactions
/// take from raising to commit, and than clocks differ; at thousands of events a second still few entries.
const MARGIN: Duration = Duration::from_secs(4);
/// So much earlier than fan-outs do looks begin, if looks from the beginning time out.
const REACH: Duration = Duration::from_secs(600);
/// After a look from the beginning has timed out, the next two are not; twice as many after each in a row, but
/// no more: it takes as long until a queue that was cleaned up is known to be.
const MAX_SKIPPED: u32 = 64;

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
    /// The next fan-out begins here, before the start, as a look has seen that event.
    seen_before: Option<Uuid>,
    /// How many fan-outs from the beginning have been slow, one after the other.
    slow_looks: u32,
    /// So many looks are not from the beginning, and after how many the last one timed out.
    to_skip: u32,
    skipped: u32,
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

    /// The lowest id for a fan-out; `None` from the beginning.
    pub(super) fn start(&self) -> Option<Uuid> {
        let head = self.head.lock();
        head.seen_before.or(head.start)
    }

    /// The lowest id for a look of the safety net; `None` from the beginning.
    pub(super) fn lowest_for_look(&self) -> Option<Uuid> {
        let head = self.head.lock();
        let start = head.start.filter(|_| head.to_skip > 0)?;
        Some(lowest(time(start).saturating_sub(REACH)))
    }

    /// Takes into account what a fan-out from this start found, and how long it took on the server.
    pub(super) fn fanned_out(&self, start: Option<Uuid>, found: &FannedOut, took: Duration) {
        let events = found.processed.len();
        let is_crowded = events > 1 || found.held_back;
        self.is_crowded.store(is_crowded, Ordering::Relaxed);
        // One that was held back has not looked for what is the first.
        if !found.held_back {
            self.looks.fetch_add(1, Ordering::Relaxed);
            let requests: usize = found.processed.iter().map(|event| event.requests).sum();
            let count = u32::try_from(events.max(requests)).unwrap_or(u32::MAX);
            let is_slow = took > SLOW + EACH.saturating_mul(count);
            let ids = || found.processed.iter().map(|event| event.id);
            let found = ids().min().zip(ids().max());
            self.head.lock().found(start, found, is_slow, now());
        }
    }

    /// A fan-out from this start did not end in time.
    pub(super) fn timed_out(&self, start: Option<Uuid>) {
        let mut head = self.head.lock();
        match start {
            None => head.begin_late(now()),
            // Fan-outs have to go on, and the next look finds it again.
            Some(_) if start == head.seen_before => head.seen_before = None,
            Some(_) => {}
        }
    }

    /// A look found this to be the first event that is not lower than `lowest`, and took so long.
    pub(super) fn looked(&self, lowest: Option<Uuid>, first: Option<Uuid>, took: Duration) {
        let mut head = self.head.lock();
        if lowest.is_some() {
            head.to_skip = head.to_skip.saturating_sub(1);
        } else {
            (head.to_skip, head.skipped) = (0, 0);
            if took <= SLOW {
                *head = Head::default();
                return;
            }
        }
        if let (Some(first), Some(start)) = (first, head.start) {
            head.seen_before = Some(first).filter(|first| *first < start);
        }
    }

    /// A look from there did not end in time.
    pub(super) fn look_timed_out(&self, lowest: Option<Uuid>) {
        let mut head = self.head.lock();
        if lowest.is_none() {
            head.begin_late(now());
            head.skipped = (head.skipped * 2).clamp(2, MAX_SKIPPED);
            head.to_skip = head.skipped;
        }
    }
}

impl Head {
    /// A fan-out from this start found these as the first event and the last, at a time since 1970.
    fn found(
        &mut self,
        start: Option<Uuid>,
        found: Option<(EventId, EventId)>,
        is_slow: bool,
        now: Duration,
    ) {
        // Ids may be of the future, or no times at all.
        let place = || found.map_or(now, |(first, _)| time(first.as_uuid()).min(now));
        let place = || lowest(place().saturating_sub(MARGIN));
        if start.is_none() {
            self.slow_looks = if is_slow {
                self.slow_looks.saturating_add(1)
            } else {
                0
            };
            // One that was under way when it was set says nothing of it.
            if self.start.is_none() && self.slow_looks >= SLOW_LOOKS {
                self.start = Some(place());
            }
        } else if start == self.seen_before {
            // More may follow on the last one, before the others go on.
            let last = found.map(|(_, last)| last.as_uuid());
            self.seen_before = last.filter(|last| self.start.is_some_and(|start| *last < start));
        } else if found.is_some() && start == self.start {
            // Never back: an event that has backed off is an old one.
            self.start = self.start.map(|start| start.max(place()));
        }
    }

    /// Fan-outs from the beginning do not end in time.
    fn begin_late(&mut self, now: Duration) {
        let late = || lowest(now.saturating_sub(MARGIN));
        self.start.get_or_insert_with(late);
    }
}

/// Whether a statement did not end within this limit: one that waited for a lock has another.
pub(super) fn is_timed_out(error: &StoreError, statement: Duration) -> bool {
    matches!(error, StoreError::TimedOut { limit, .. } if *limit == statement)
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
        Duration::from_secs(1_700_000_000 + seconds)
    }

    /// Looks from the beginning were slow, the last one at this time, and found this.
    fn slow(first: EventId, now: Duration) -> Head {
        let mut head = Head::default();
        for _ in 0..SLOW_LOOKS {
            assert_eq!(head.start, None, "a few may be slow by chance");
            head.found(None, one(first), true, now);
        }
        head
    }

    fn one(event: EventId) -> Option<(EventId, EventId)> {
        Some((event, event))
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
        // One that was under way.
        head.found(None, one(id(100)), false, at(101));
        assert_eq!(head.start, Some(lowest(at(96))));
    }

    #[test]
    fn the_start_goes_on_with_what_is_found_and_never_back() {
        let mut head = slow(id(100), at(101));
        let start = head.start;
        head.found(start, one(id(150)), false, at(151));
        assert_eq!(head.start, Some(lowest(at(146))));
        head.found(start, one(id(20)), false, at(152));
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
            head.found(head.start, one(first), false, at(101));
            assert_eq!(head.start, Some(lowest(at(97))));
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A queue on which fan-outs begin at second 100.
    fn late() -> Queue {
        let queue = Queue::default();
        queue.head.lock().start = Some(lowest(at(100)));
        queue
    }

    fn fanned_out(ids: impl IntoIterator<Item = EventId>) -> FannedOut {
        let mut found = FannedOut::default();
        let (name, at) = ("e", chrono::Utc::now());
        for id in ids {
            let correlation = crate::id::CorrelationId::from_uuid(Uuid::nil());
            let one = crate::store::ProcessedEvent::new(id, name, correlation, at, 1);
            found.processed.push(one);
        }
        found
    }

    #[test]
    fn what_lies_before_the_start_is_fanned_out_to_its_end_once_it_was_seen() {
        let queue = late();
        let start = queue.start();
        queue.looked(None, Some(id(101).as_uuid()), SECOND);
        assert_eq!(queue.start(), start);
        let seen = Some(id(50).as_uuid());
        queue.looked(None, seen, SECOND);
        assert_eq!(queue.start(), seen);
        let held_back = FannedOut {
            held_back: true,
            ..FannedOut::default()
        };
        queue.fanned_out(seen, &held_back, SECOND);
        assert_eq!(queue.start(), seen, "until one has looked");
        queue.fanned_out(start, &fanned_out([id(100)]), SECOND);
        assert_eq!(queue.start(), seen, "one that was under way");
        queue.fanned_out(seen, &fanned_out([id(50), id(60)]), SECOND);
        assert_eq!(queue.start(), Some(id(60).as_uuid()), "a batch of many");
        queue.fanned_out(queue.start(), &fanned_out([id(70), id(101)]), SECOND);
        assert_eq!(queue.start(), start);
        queue.looked(None, seen, SECOND);
        queue.fanned_out(seen, &fanned_out([]), SECOND);
        assert_eq!(queue.start(), start, "somebody else had it");
    }

    #[test]
    fn fan_outs_go_on_after_those_from_the_beginning_did_not_end_in_time() {
        let queue = Queue::default();
        queue.timed_out(None);
        let start = queue.start();
        assert!(start.is_some_and(|start| time(start) < now()));
        queue.timed_out(None);
        assert_eq!(queue.start(), start, "another one of the time before");
        let seen = Some(id(50).as_uuid());
        queue.looked(None, seen, SECOND);
        assert_eq!(queue.start(), seen);
        queue.timed_out(start);
        assert_eq!(queue.start(), seen);
        queue.timed_out(seen);
        assert_eq!(queue.start(), start);
    }

    #[test]
    fn looks_that_do_not_end_in_time_begin_later_and_try_the_beginning_ever_more_rarely() {
        let queue = Queue::default();
        assert_eq!(queue.lowest_for_look(), None);
        let mut skipped = Vec::new();
        for _ in 0..8 {
            queue.look_timed_out(None);
            let begins = queue.lowest_for_look();
            assert!(begins.is_some() && begins < queue.start());
            // That this one is slow, too, is no news.
            queue.look_timed_out(begins);
            let mut count = 0;
            while let Some(begins) = queue.lowest_for_look() {
                queue.looked(Some(begins), None, Duration::ZERO);
                assert!(queue.start().is_some(), "the beginning was not seen");
                count += 1;
            }
            skipped.push(count);
        }
        assert_eq!(skipped, [2, 4, 8, 16, 32, 64, 64, 64]);
        queue.looked(None, None, SECOND);
        assert!(queue.start().is_some(), "slow, but in time");
        queue.look_timed_out(None);
        let mut looks = std::iter::from_fn(|| {
            let begins = queue.lowest_for_look()?;
            queue.looked(Some(begins), None, Duration::ZERO);
            Some(())
        });
        assert_eq!(looks.by_ref().count(), 2, "the first of a new row");
        queue.looked(None, None, Duration::ZERO);
        assert_eq!(queue.start(), None);
    }

    #[test]
    fn a_quick_look_ends_it() {
        let queue = late();
        queue.looked(None, None, Duration::from_millis(1));
        assert_eq!(queue.start(), None);
    }

    #[test]
    fn a_large_batch_is_no_slow_look() {
        let queue = Queue::default();
        let found = fanned_out((0..1000).map(|_| EventId::new()));
        for (millis, is_slow) in [(100, false), (200, true)] {
            for _ in 0..SLOW_LOOKS {
                queue.fanned_out(None, &found, Duration::from_millis(millis));
            }
            assert_eq!(queue.start().is_some(), is_slow);
        }
    }
}
