//! The local buffer: requests that this process has claimed and that wait for a worker.
//!
//! One lock guards it; every call is short and none waits. The buffer knows how many workers are
//! active, so that a worker which finds nothing and one which is told of new work can never miss
//! each other.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;

use super::{capacity::Capacity, held::Held};
use crate::{
    batch_size::BatchSize, handler::Context, id::HandlerRequestId, model::Priority, signal::Signal,
    store::HandlerRoom, text::Name,
};

/// What a worker is to run: a request, and the number of its handler in this process.
pub(super) struct Runnable {
    pub(super) held: Held,
    pub(super) handler: usize,
}

/// So many full calls may wait: while the workers empty one of them, the next ones are under way, and
/// each is as large as a call may be.
const CALLS: usize = 4;

/// Over so many looks for surplus requests may wait to be started.
const PATIENCE: usize = 3;

pub(super) struct LocalBuffer {
    inner: Mutex<Inner>,
    names: HashMap<Name, usize>,
    /// Raised when there is room again for a claim that was left out or had to leave a handler out.
    pub(super) room: Signal,
    /// Raised when there is room again for a fan-out that waits for it.
    pub(super) room_for_offers: Signal,
    /// Raised when the last active worker has gone, and when a handler run ends while no claims
    /// are made.
    pub(super) idle: Signal,
    max_workers: usize,
}

struct Inner {
    handlers: Vec<HandlerQueue>,
    /// The first request of each handler that has one and is not at its limit.
    heads: BTreeSet<(Priority, HandlerRequestId, usize)>,
    queued: usize,
    /// How many a call may bring, by the size of their events.
    size: BatchSize,
    reserved: usize,
    active_workers: usize,
    executing: usize,
    started: Started,
    /// A claim found no room: fan-out leaves it to claims next time.
    claims_wait: bool,
    /// A fan-out found no room that is not promised to others, and waits.
    offers_wait: bool,
}

struct HandlerQueue {
    name: Name,
    /// In the order (priority, id).
    queue: VecDeque<Runnable>,
    capacity: Capacity,
    running: usize,
    reserved: usize,
    /// The last claim had to leave it out: it is to be told when there is room.
    exhausted: bool,
    /// How many runs were begun since surplus was last looked for, and how many waited then.
    begun: usize,
    waited: usize,
}

/// How many runs workers have begun, or taken along, since there is a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started(u64);

/// Who is to be told of room. One is not told of the other's: it would make a call that finds nothing,
/// and take all room meanwhile.
#[derive(Clone, Copy, Default)]
#[must_use = "somebody waits for this"]
struct Wakes {
    claims: bool,
    offers: bool,
}

/// Room that was promised to a claim or a fan-out under way; given back when dropped.
#[must_use = "the room is given back when this is dropped"]
pub(super) struct Reservation<'a> {
    buffer: &'a LocalBuffer,
    handlers: Vec<(usize, usize)>,
    total: usize,
}

impl Reservation<'_> {
    /// At most this many altogether.
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// The largest room that one handler has.
    pub(super) fn largest(&self) -> usize {
        self.handlers
            .iter()
            .map(|&(_, room)| room)
            .max()
            .unwrap_or_default()
    }

    pub(super) fn rooms(&self) -> Vec<HandlerRoom> {
        let inner = self.buffer.inner.lock();
        self.handlers
            .iter()
            .filter_map(|&(handler, room)| {
                Some(HandlerRoom {
                    handler: inner.handlers.get(handler)?.name.clone(),
                    room,
                })
            })
            .collect()
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut inner = self.buffer.inner.lock();
        inner.reserved = inner.reserved.saturating_sub(self.total);
        for &(handler, room) in &self.handlers {
            if let Some(queue) = inner.handlers.get_mut(handler) {
                queue.reserved = queue.reserved.saturating_sub(room);
            }
        }
        let mut wakes = Wakes {
            claims: inner.claims_wait,
            offers: inner.take_offers_wait(),
        };
        for &(handler, _) in &self.handlers {
            let returned = inner.room_returned(handler);
            wakes.claims |= returned.claims;
            wakes.offers |= returned.offers;
        }
        drop(inner);
        self.buffer.tell(wakes);
    }
}

impl LocalBuffer {
    /// A buffer for these handlers, each with its concurrency limit.
    pub(super) fn new(handlers: Vec<(Name, usize)>, max_workers: usize, max_queued: usize) -> Self {
        let names = handlers
            .iter()
            .enumerate()
            .map(|(number, (name, _))| (name.clone(), number))
            .collect();
        let handlers = handlers
            .into_iter()
            .map(|(name, limit)| HandlerQueue {
                name,
                queue: VecDeque::new(),
                capacity: Capacity::new(limit),
                running: 0,
                reserved: 0,
                exhausted: false,
                begun: 0,
                waited: 0,
            })
            .collect();
        Self {
            inner: Mutex::new(Inner {
                handlers,
                heads: BTreeSet::new(),
                queued: 0,
                size: BatchSize::new(max_queued),
                reserved: 0,
                active_workers: 0,
                executing: 0,
                started: Started(0),
                claims_wait: false,
                offers_wait: false,
            }),
            names,
            room: Signal::new(),
            room_for_offers: Signal::new(),
            idle: Signal::new(),
            max_workers,
        }
    }

    /// Answers whether that woke somebody.
    fn tell(&self, wakes: Wakes) -> bool {
        if wakes.claims {
            self.room.raise();
        }
        if wakes.offers {
            self.room_for_offers.raise();
        }
        wakes.claims || wakes.offers
    }

    /// The number of a handler.
    pub(super) fn number(&self, handler: &Name) -> Option<usize> {
        self.names.get(handler).copied()
    }

    /// Room for a claim; `None` when there is none now, and then the signal `room` tells when
    /// there is.
    pub(super) fn reserve_for_claim(&self) -> Option<Reservation<'_>> {
        let mut inner = self.inner.lock();
        let reservation = self.reserve(&mut inner, true);
        inner.claims_wait = reservation.is_none() && !inner.handlers.is_empty();
        reservation
    }

    /// Room for requests that are born leased; `None` when there is none, or when claims wait for
    /// it.
    pub(super) fn reserve_for_offer(&self) -> Option<Reservation<'_>> {
        let mut inner = self.inner.lock();
        if inner.claims_wait {
            return None;
        }
        self.reserve(&mut inner, false)
    }

    fn reserve(&self, inner: &mut Inner, for_claim: bool) -> Option<Reservation<'_>> {
        let max_queued = inner.max_queued();
        let room = max_queued.saturating_sub(inner.queued + inner.reserved);
        let total = share(room, for_claim).min(inner.size.limit());
        // A nearly full buffer is left to empty first: a claim should be worth its round trip.
        if total == 0 || inner.queued > max_queued / 2 {
            return None;
        }
        let mut handlers = Vec::with_capacity(inner.handlers.len());
        for (number, queue) in inner.handlers.iter_mut().enumerate() {
            let room = share(queue.room(max_queued), for_claim).min(total);
            if for_claim {
                queue.exhausted = room == 0;
            }
            if room > 0 {
                queue.reserved += room;
                handlers.push((number, room));
            }
        }
        if handlers.is_empty() {
            return None;
        }
        inner.reserved += total;
        Some(Reservation {
            buffer: self,
            handlers,
            total,
        })
    }

    /// Takes requests in, and answers how many more workers are to be started for them; they count
    /// as active from now on.
    pub(super) fn push(&self, runnables: Vec<Runnable>) -> usize {
        if runnables.is_empty() {
            return 0;
        }
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let lens = runnables.iter().map(Runnable::len);
        let wakes = inner.brought(runnables.len(), lens.sum());
        for runnable in runnables {
            let Some(queue) = inner.handlers.get_mut(runnable.handler) else {
                continue;
            };
            let number = runnable.handler;
            let old_head = queue.head_key(number);
            queue.insert(runnable);
            inner.queued += 1;
            let new_head = queue.head_key(number);
            if old_head != new_head && !queue.is_full() {
                if let Some(key) = old_head {
                    inner.heads.remove(&key);
                }
                inner.heads.extend(new_head);
            }
        }
        // The active ones may be busy for long. One too many finds nothing, and ends.
        let idle = self.max_workers.saturating_sub(inner.active_workers);
        let wanted = inner.queued.min(idle);
        inner.active_workers += wanted;
        self.tell(wakes);
        wanted
    }

    /// A claim or a fan-out for this buffer took too long.
    pub(super) fn timed_out(&self) {
        self.inner.lock().size.timed_out();
    }

    /// The next request for a worker, in the order (priority, id) over the handlers that are not
    /// at their limits, and whether that woke somebody; `None` tells the worker to end, and counts
    /// it as gone.
    pub(super) fn next(&self) -> Option<(Runnable, bool)> {
        let mut inner = self.inner.lock();
        let Some(runnable) = inner.take_first() else {
            inner.active_workers = inner.active_workers.saturating_sub(1);
            let idle = inner.active_workers == 0;
            drop(inner);
            if idle {
                self.idle.raise();
            }
            return None;
        };
        inner.executing += 1;
        let wakes = inner.room_returned(runnable.handler);
        drop(inner);
        Some((runnable, self.tell(wakes)))
    }

    /// The next request of a handler, if it `may` be taken along: for a worker that has a slot of this
    /// handler, and runs the request in it as well. And whether that woke somebody.
    pub(super) fn next_of(
        &self,
        handler: usize,
        may: impl FnOnce(&Context) -> bool,
    ) -> Option<(Runnable, bool)> {
        let mut inner = self.inner.lock();
        let runnable = inner.take_first_of(handler, may)?;
        inner.executing += 1;
        let wakes = inner.room_returned(handler);
        drop(inner);
        Some((runnable, self.tell(wakes)))
    }

    /// So many runs ended of requests that were taken along; their slot is given back later.
    pub(super) fn finished_along(&self, count: usize) {
        let mut inner = self.inner.lock();
        inner.executing = inner.executing.saturating_sub(count);
    }

    /// A worker ended without having found nothing to do: it panicked, or its runtime ends. Answers
    /// whether another one is to be started in its place.
    pub(super) fn worker_lost(&self) -> bool {
        let mut inner = self.inner.lock();
        let replace = !inner.heads.is_empty();
        if !replace {
            inner.active_workers = inner.active_workers.saturating_sub(1);
        }
        drop(inner);
        self.idle.raise();
        replace
    }

    /// A run of a handler ended after `took`; `None` when the handler did not run. Answers whether
    /// that woke somebody.
    pub(super) fn finished(&self, handler: usize, took: Option<Duration>) -> bool {
        let mut inner = self.inner.lock();
        inner.executing = inner.executing.saturating_sub(1);
        if let Some(queue) = inner.handlers.get_mut(handler) {
            let was_full = queue.is_full();
            queue.running = queue.running.saturating_sub(1);
            if let Some(took) = took {
                queue.capacity.observe(took);
            }
            let head = if was_full {
                queue.head_key(handler)
            } else {
                None
            };
            inner.heads.extend(head);
        }
        let wakes = inner.room_returned(handler);
        drop(inner);
        self.tell(wakes)
    }

    /// Empties the buffer, to hand everything back.
    pub(super) fn drain(&self) -> Vec<Runnable> {
        let mut inner = self.inner.lock();
        let drained: Vec<_> = inner
            .handlers
            .iter_mut()
            .flat_map(|queue| queue.queue.drain(..))
            .collect();
        inner.heads.clear();
        inner.queued = 0;
        inner.claims_wait = false;
        inner.offers_wait = false;
        drop(inner);
        self.tell(Wakes {
            claims: true,
            offers: true,
        });
        drained
    }

    /// Takes out what does not start soon: of each handler of which more waited at the last call, `since` ago, than
    /// are begun in [`PATIENCE`] such times at the pace of this one, all that would not start in the next one.
    /// Runs that take long by exception change no pace.
    pub(super) fn take_surplus(&self, since: Duration) -> Vec<Runnable> {
        let mut inner = self.inner.lock();
        let mut surplus = Vec::new();
        for number in 0..inner.handlers.len() {
            surplus.append(&mut inner.take_surplus_of(number, since));
        }
        if !surplus.is_empty() {
            inner.queued -= surplus.len();
            let wakes = Wakes {
                claims: inner.claims_wait | inner.end_exhaustion(),
                offers: inner.take_offers_wait(),
            };
            drop(inner);
            self.tell(wakes);
        }
        surplus
    }

    /// Handlers that run, and requests that wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.executing, inner.queued)
    }

    /// Whether no worker is active.
    pub(super) fn is_idle(&self) -> bool {
        self.inner.lock().active_workers == 0
    }

    /// The handlers that a claim would get room for.
    pub(super) fn handlers_with_room(&self) -> Vec<Name> {
        let inner = self.inner.lock();
        let max_queued = inner.max_queued();
        if inner.queued > max_queued / 2 {
            return Vec::new();
        }
        let roomy = inner
            .handlers
            .iter()
            .filter(|queue| queue.room(max_queued) > 0);
        roomy.map(|queue| queue.name.clone()).collect()
    }

    /// More requests may wait to be claimed of these handlers, of whose room nothing is promised to the
    /// caller. Answers whether some of them has room for a claim; the signal `room` tells of the others.
    pub(super) fn filled(&self, handlers: &[usize]) -> bool {
        let mut inner = self.inner.lock();
        let max_queued = inner.max_queued();
        let mut any = false;
        for &handler in handlers {
            if let Some(queue) = inner.handlers.get_mut(handler) {
                let has_room = queue.capacity.is_worth_a_claim(queue.held(), max_queued);
                queue.exhausted |= !has_room;
                any |= has_room;
            }
        }
        any
    }

    /// Whether there would be room if calls under way brought nothing.
    pub(super) fn room_is_promised(&self) -> bool {
        let inner = self.inner.lock();
        let max_queued = inner.max_queued();
        let mut queues = inner.handlers.iter();
        let has_room = |queue: &HandlerQueue| {
            let held = queue.queue.len() + queue.running;
            queue.capacity.room(held, max_queued) > 0
        };
        inner.queued <= max_queued / 2 && queues.any(has_room)
    }

    pub(super) fn started(&self) -> Started {
        self.inner.lock().started
    }

    /// See [`Executor::room_is_near`](super::Executor::room_is_near). A buffer that has room, and lacks that of
    /// a handler which is full, is not near it.
    pub(super) fn room_is_near(&self, since: Started, took: Duration, within: Duration) -> bool {
        let inner = self.inner.lock();
        let missing = inner.queued.saturating_sub(inner.max_queued() / 2);
        let started = inner.started.0.saturating_sub(since.0);
        missing > 0
            && missing as u128 * took.as_micros() <= u128::from(started) * within.as_micros()
    }

    /// Whether requests that are born leased would find room worth a fan-out. If not, the signal
    /// `room_for_offers` tells when they may.
    pub(super) fn has_room_for_offers(&self) -> bool {
        let mut inner = self.inner.lock();
        let has_room = inner.has_room_for_offers();
        inner.offers_wait |= !has_room;
        has_room
    }
}

/// Claims may take all the room, fan-out half of it: neither keeps the other from working while
/// its call is under way.
const fn share(room: usize, for_claim: bool) -> usize {
    if for_claim { room } else { room.div_ceil(2) }
}

impl Inner {
    fn has_room_for_offers(&self) -> bool {
        let max_queued = self.max_queued();
        let is_crowded = self.queued > max_queued / 2 || self.queued + self.reserved >= max_queued;
        let mut queues = self.handlers.iter();
        !is_crowded
            && !self.claims_wait
            && (queues.len() == 0 || queues.any(|queue| queue.is_worth_a_fan_out(max_queued)))
    }

    /// Whether there is room for a fan-out that waits, which is told then.
    fn take_offers_wait(&mut self) -> bool {
        let is_to_be_told = self.offers_wait && self.has_room_for_offers();
        self.offers_wait &= !is_to_be_told;
        is_to_be_told
    }

    /// How many may wait at most.
    const fn max_queued(&self) -> usize {
        self.size.limit().saturating_mul(CALLS)
    }

    /// Requests came in, with so many bytes of data. Answers who has more room than before.
    fn brought(&mut self, count: usize, len: usize) -> Wakes {
        let before = self.size.limit();
        self.size.brought(count, len);
        if self.size.limit() <= before {
            return Wakes::default();
        }
        // What was over the half of the buffer may be below that of the larger one.
        Wakes {
            claims: self.claims_wait | self.end_exhaustion(),
            offers: self.take_offers_wait(),
        }
    }

    fn take_first(&mut self) -> Option<Runnable> {
        let (_, _, number) = self.heads.pop_first()?;
        let queue = self.handlers.get_mut(number)?;
        let runnable = queue.queue.pop_front()?;
        queue.running += 1;
        queue.begun += 1;
        self.queued -= 1;
        self.started.0 += 1;
        if !queue.is_full() {
            let head = queue.head_key(number);
            self.heads.extend(head);
        }
        Some(runnable)
    }

    fn take_first_of(
        &mut self,
        number: usize,
        may: impl FnOnce(&Context) -> bool,
    ) -> Option<Runnable> {
        let queue = self.handlers.get_mut(number)?;
        let first = queue.queue.front()?;
        if !may(&first.held.context) {
            return None;
        }
        // Not there if the handler is at its limit.
        let head = queue.head_key(number)?;
        let was_head = self.heads.remove(&head);
        let runnable = queue.queue.pop_front()?;
        queue.begun += 1;
        if was_head {
            self.heads.extend(queue.head_key(number));
        }
        self.queued -= 1;
        self.started.0 += 1;
        Some(runnable)
    }

    fn take_surplus_of(&mut self, number: usize, since: Duration) -> Vec<Runnable> {
        let Some(queue) = self.handlers.get_mut(number) else {
            return Vec::new();
        };
        let old_head = queue.head_key(number);
        let surplus = queue.take_surplus(since);
        let new_head = queue.head_key(number);
        if old_head != new_head
            && let Some(old_head) = old_head
            && self.heads.remove(&old_head)
        {
            self.heads.extend(new_head);
        }
        surplus
    }

    /// Who is to hear that there is room: claims, if the handler was exhausted when room was last reserved
    /// and is worth a claim again, or the buffer as a whole was; and a fan-out that waits.
    fn room_returned(&mut self, handler: usize) -> Wakes {
        let max_queued = self.max_queued();
        let half = max_queued / 2;
        if self.queued > half {
            return Wakes::default();
        }
        // The run that empties the buffer to the half tells whoever waited for that, also for a
        // handler whose room returned while the buffer was fuller.
        let is_half = self.queued == half;
        let queue = self.handlers.get_mut(handler);
        let (mut claims, is_worth_it) = queue.map_or((false, false), |queue| {
            (
                queue.end_exhaustion(max_queued),
                queue.is_worth_a_fan_out(max_queued),
            )
        });
        if is_half {
            claims |= self.claims_wait | self.end_exhaustion();
        }
        Wakes {
            claims,
            offers: (is_half || is_worth_it) && self.take_offers_wait(),
        }
    }

    /// Whether some handler that was exhausted is worth a claim again.
    fn end_exhaustion(&mut self) -> bool {
        let max_queued = self.max_queued();
        if self.queued > max_queued / 2 {
            return false;
        }
        self.handlers
            .iter_mut()
            .fold(false, |any, queue| any | queue.end_exhaustion(max_queued))
    }
}

impl HandlerQueue {
    fn held(&self) -> usize {
        self.queue.len() + self.running + self.reserved
    }

    /// How many more requests may be taken in.
    fn room(&self, max_queued: usize) -> usize {
        self.capacity.room(self.held(), max_queued)
    }

    /// Whether it was exhausted and is worth a claim again.
    fn end_exhaustion(&mut self, max_queued: usize) -> bool {
        let is_over = self.exhausted && self.capacity.is_worth_a_claim(self.held(), max_queued);
        self.exhausted &= !is_over;
        is_over
    }

    fn is_worth_a_fan_out(&self, max_queued: usize) -> bool {
        self.capacity.is_worth_a_fan_out(self.held(), max_queued)
    }

    fn take_surplus(&mut self, since: Duration) -> Vec<Runnable> {
        let begun = std::mem::take(&mut self.begun);
        let waited = std::mem::replace(&mut self.waited, self.queue.len());
        if waited <= begun.saturating_mul(PATIENCE) || self.queue.len() <= begun {
            return Vec::new();
        }
        self.capacity.observe_pace(begun, since);
        // What is under suspicion runs in this process, or in none.
        let is_suspect = |one: &Runnable| one.held.context.request().is_suspect();
        let behind = self.queue.split_off(begun);
        let (suspects, surplus): (Vec<_>, _) = behind.into_iter().partition(is_suspect);
        self.queue.extend(suspects);
        self.waited = self.queue.len();
        surplus
    }

    fn is_full(&self) -> bool {
        self.running >= self.capacity.limit()
    }

    fn head_key(&self, number: usize) -> Option<(Priority, HandlerRequestId, usize)> {
        self.queue.front().map(|first| {
            let (priority, id) = first.key();
            (priority, id, number)
        })
    }

    /// Inserts in order; claims come in order, so this is nearly always at the end.
    fn insert(&mut self, runnable: Runnable) {
        let key = runnable.key();
        if self.queue.back().is_none_or(|last| last.key() <= key) {
            self.queue.push_back(runnable);
        } else {
            let place = self.queue.partition_point(|queued| queued.key() <= key);
            self.queue.insert(place, runnable);
        }
    }
}

impl Runnable {
    /// The data of its event, in bytes.
    fn len(&self) -> usize {
        self.held.context.request().event.data.as_str().len()
    }

    fn key(&self) -> (Priority, HandlerRequestId) {
        let request = self.held.context.request();
        (request.priority, request.id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Event, store::ClaimedRequest, telemetry::Telemetry};

    /// A buffer for one handler that runs twice at once.
    fn buffer() -> LocalBuffer {
        let name = Name::from("h");
        LocalBuffer::new(vec![(name, 2)], 2, 1000)
    }

    /// Whether that raised the signal.
    fn tells(signal: &Signal, does: impl FnOnce()) -> bool {
        let seen = signal.seen();
        does();
        signal.seen() > seen
    }

    #[test]
    fn a_fan_out_that_let_a_claim_pass_hears_of_the_end_of_the_claim() {
        let buffer = buffer();
        let offered = buffer.reserve_for_offer().unwrap();
        let claimed = buffer.reserve_for_claim().unwrap();
        assert!(
            buffer.reserve_for_claim().is_none(),
            "there was room for two"
        );
        assert!(!buffer.has_room_for_offers());
        assert!(tells(&buffer.room, || drop((offered, claimed))));
        assert!(
            !buffer.has_room_for_offers(),
            "a claim waits, and goes first"
        );

        let claimed = buffer.reserve_for_claim().unwrap();
        assert!(tells(&buffer.room_for_offers, || drop(claimed)));
        assert!(buffer.has_room_for_offers());
    }

    #[test]
    fn a_claim_that_ends_tells_the_fan_out_that_waits_and_not_itself() {
        let buffer = buffer();
        let claimed = buffer.reserve_for_claim().unwrap();
        assert!(!buffer.has_room_for_offers(), "everything is promised");
        let of_room = || {
            assert!(tells(&buffer.room_for_offers, || drop(claimed)));
        };
        assert!(!tells(&buffer.room, of_room));
        assert!(buffer.has_room_for_offers());
        let claimed = buffer.reserve_for_claim().unwrap();
        let nobody = !tells(&buffer.room_for_offers, || drop(claimed));
        assert!(nobody, "nobody waits any more");
    }

    #[test]
    fn a_fan_out_that_found_all_slots_in_use_hears_of_the_end_of_a_run() {
        let buffer = buffer();
        buffer.inner.lock().handlers[0].running = 2;
        assert!(!buffer.has_room_for_offers());
        assert!(buffer.finished(0, None), "it woke somebody");
        assert!(buffer.has_room_for_offers());
    }

    #[test]
    fn fan_outs_do_not_follow_each_other_for_ever_smaller_rests_of_room() {
        let buffer = buffer();
        {
            let mut inner = buffer.inner.lock();
            // A quarter of a second in two slots: 50 wait.
            inner.handlers[0]
                .capacity
                .observe(Duration::from_millis(10));
            inner.handlers[0].running = 2;
            inner.handlers[0].reserved = 38;
        }
        assert!(!buffer.has_room_for_offers(), "room for 12 of 50");
        buffer.inner.lock().handlers[0].reserved = 37;
        assert!(buffer.has_room_for_offers());
    }

    #[test]
    fn a_batch_size_that_grows_past_the_half_mark_tells_of_a_handler_that_was_exhausted() {
        let buffer = buffer();
        {
            let mut inner = buffer.inner.lock();
            let half = inner.max_queued() / 2;
            inner.queued = half + 1;
            inner.handlers[0].exhausted = true;
            let full = inner.room_returned(0);
            assert!(!full.claims, "the buffer is too full for that");
            let size = inner.size.limit();
            let wakes = inner.brought(size, 0);
            assert!(inner.max_queued() / 2 > half, "it has grown");
            assert!(wakes.claims);
        }
    }

    #[test]
    fn room_that_a_call_under_way_may_give_back_is_told_from_none() {
        let buffer = buffer();
        let claimed = buffer.reserve_for_claim();
        assert!(buffer.reserve_for_offer().is_none());
        assert!(buffer.room_is_promised());
        drop(claimed);
        buffer.inner.lock().handlers[0].running = 2;
        assert!(!buffer.room_is_promised(), "all slots are in use");
    }

    #[test]
    fn what_does_not_start_soon_is_surplus_and_exceptions_are_not() {
        let buffer = buffer();
        let tick = Duration::from_secs(10);
        let begun = |count: usize| {
            for _ in 0..count {
                let mut inner = buffer.inner.lock();
                inner.take_first().unwrap();
                inner.handlers[0].running -= 1;
                let head = inner.handlers[0].head_key(0);
                inner.heads.extend(head);
            }
        };
        buffer.push((0..500).map(|_| runnable()).collect());
        assert!(buffer.take_surplus(tick).is_empty(), "they have just come");
        begun(170);
        let in_time = buffer.take_surplus(tick).is_empty();
        assert!(in_time, "three times as many are all");
        begun(70);
        assert_eq!(buffer.take_surplus(tick).len(), 330 - 70 - 70);
        assert_eq!(buffer.counts().1, 70);
        assert_eq!(buffer.take_surplus(tick).len(), 70, "it stands still");
        assert!(buffer.take_surplus(tick).is_empty());
        let room = buffer.reserve_for_claim().map(|room| room.largest());
        assert_eq!(room, Some(2), "no more are claimed instead than can run");
        assert!(buffer.next().is_none());
    }

    fn runnable() -> Runnable {
        let event = Arc::new(Event::new("e", &()).unwrap());
        let id = HandlerRequestId::derive(event.id, "h");
        Runnable {
            held: Held {
                context: Context::new(ClaimedRequest::new(id, event, "h", 1, 5)),
                round: Telemetry::default().execute_round().link(),
            },
            handler: 0,
        }
    }

    #[test]
    fn without_handlers_no_fan_out_waits_for_room() {
        let buffer = LocalBuffer::new(Vec::new(), 2, 1000);
        assert!(buffer.reserve_for_claim().is_none());
        assert!(buffer.has_room_for_offers());
    }
}
