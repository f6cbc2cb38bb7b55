//! The committed handler requests, and the indexes that make claimable ones cheap to find.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{run_map::RunMap, slab::Slab};
use crate::{
    id::HandlerRequestId,
    model::{HandlerRequest, Priority},
    text::Name,
};

/// A row: its committed version, and where it stands in the indexes.
pub(super) struct RequestRow {
    pub(super) request: HandlerRequest,
    /// The key of its event.
    pub(super) event: usize,
    /// The next older request of the event.
    pub(super) next_of_event: Option<usize>,
    pub(super) locked: bool,
    /// The key of its handler's queue.
    queue: usize,
    place: Place,
}

/// In which of the indexes that claims read a row is.
#[derive(Clone, Copy)]
enum Place {
    /// In none: it has ended, or a transaction has locked it.
    Nowhere,
    Ready(Priority),
    Suspect(Priority),
    BackingOff(DateTime<Utc>),
    Leased(DateTime<Utc>),
}

/// What a row counts as. Whether a waiting one backs off is a matter of time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waiting,
    Executing,
    Completed,
    Canceled,
    Dead,
}

impl Standing {
    const fn of(request: &HandlerRequest) -> Self {
        if request.canceled_at.is_some() {
            Self::Canceled
        } else if request.completed_at.is_some() {
            Self::Completed
        } else if request.dead_at.is_some() {
            Self::Dead
        } else if request.lease.is_some() {
            Self::Executing
        } else {
            Self::Waiting
        }
    }

    const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Executing)
    }
}

/// Requests of one handler that are in nobody's hands.
pub(super) struct Queue {
    pub(super) handler: Name,
    /// How many requests have not ended, in whosever hands.
    pub(super) open: u64,
    /// Claimable in this order.
    pub(super) ready: RunMap<(Priority, HandlerRequestId)>,
    /// Under suspicion, claimable one by one in this order.
    pub(super) suspects: RunMap<(Priority, HandlerRequestId)>,
    backing_off: BTreeSet<(DateTime<Utc>, usize)>,
}

/// How many requests there are of a kind.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) waiting: u64,
    pub(super) executing: u64,
    pub(super) completed: u64,
    pub(super) canceled: u64,
    pub(super) dead: u64,
    /// Those of the waiting ones that back off and are not locked.
    pub(super) backing_off: u64,
}

/// All handler requests.
pub(super) struct RequestTable {
    pub(super) rows: Slab<RequestRow>,
    pub(super) by_id: RunMap<HandlerRequestId>,
    pub(super) open: RunMap<HandlerRequestId>,
    pub(super) dead: RunMap<HandlerRequestId>,
    pub(super) dead_by_event_name: BTreeMap<Name, u64>,
    pub(super) dead_by_handler: BTreeMap<Name, u64>,
    pub(super) leased: RunMap<(DateTime<Utc>, HandlerRequestId)>,
    pub(super) counts: Counts,
    queues: Vec<Queue>,
    queue_by_handler: HashMap<Name, usize>,
}

impl RequestTable {
    pub(super) fn new() -> Self {
        Self {
            rows: Slab::new(),
            by_id: RunMap::new(),
            open: RunMap::new(),
            dead: RunMap::new(),
            dead_by_event_name: BTreeMap::new(),
            dead_by_handler: BTreeMap::new(),
            leased: RunMap::new(),
            counts: Counts::default(),
            queues: Vec::new(),
            queue_by_handler: HashMap::new(),
        }
    }

    pub(super) fn find(&self, id: HandlerRequestId) -> Option<&RequestRow> {
        self.rows.get(self.by_id.get(&id)?)
    }

    /// The key of a handler's queue, which is made if there is none.
    pub(super) fn queue_key(&mut self, handler: &Name) -> usize {
        if let Some(key) = self.queue_by_handler.get(handler) {
            return *key;
        }
        let key = self.queues.len();
        self.queues.push(Queue {
            handler: handler.clone(),
            open: 0,
            ready: RunMap::new(),
            suspects: RunMap::new(),
            backing_off: BTreeSet::new(),
        });
        self.queue_by_handler.insert(handler.clone(), key);
        key
    }

    /// The queue of a handler that has or had requests.
    pub(super) fn queue(&self, handler: &Name) -> Option<&Queue> {
        self.queues.get(*self.queue_by_handler.get(handler)?)
    }

    /// Stores a request of the event `event`, whose newest one so far is `next_of_event`; `None`
    /// when its id exists.
    pub(super) fn insert(
        &mut self,
        request: HandlerRequest,
        event: usize,
        next_of_event: Option<usize>,
        now: DateTime<Utc>,
    ) -> Option<usize> {
        let queue = self.queue_key(&request.handler);
        self.insert_into(queue, request, event, next_of_event, now)
    }

    /// As [`insert`](Self::insert), with the key of the handler's queue at hand.
    pub(super) fn insert_into(
        &mut self,
        queue: usize,
        request: HandlerRequest,
        event: usize,
        next_of_event: Option<usize>,
        now: DateTime<Utc>,
    ) -> Option<usize> {
        if !self.by_id.insert(request.id, self.rows.next_key()) {
            return None;
        }
        let key = self.rows.insert(RequestRow {
            request,
            event,
            next_of_event,
            locked: false,
            queue,
            place: Place::Nowhere,
        });
        self.begin(key, false);
        self.enter(key, now);
        Some(key)
    }

    /// Changes a row and keeps the indexes right.
    pub(super) fn update<T>(
        &mut self,
        key: usize,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut RequestRow) -> T,
    ) -> Option<T> {
        self.leave(key);
        let row = self.rows.get_mut(key)?;
        let before = Standing::of(&row.request);
        let answer = change(row);
        let renamed = self
            .queues
            .get(row.queue)
            .is_none_or(|queue| queue.handler != row.request.handler);
        if renamed || before != Standing::of(&row.request) {
            self.end(key, before);
            self.begin(key, renamed);
        }
        self.enter(key, now);
        Some(answer)
    }

    /// Takes a row away; the links of its event's other requests are not mended, as these go with it.
    pub(super) fn remove(&mut self, id: HandlerRequestId) {
        let Some(key) = self.by_id.get(&id) else {
            return;
        };
        self.leave(key);
        let standing = self.rows.get(key).map(|row| Standing::of(&row.request));
        if let Some(standing) = standing {
            self.end(key, standing);
        }
        self.by_id.remove(&id);
        self.rows.remove(key);
    }

    /// Makes ready what has backed off long enough, for one handler.
    pub(super) fn promote(&mut self, handler: &Name, now: DateTime<Utc>) {
        if let Some(queue) = self.queue_by_handler.get(handler).copied() {
            self.promote_queue(queue, now);
        }
    }

    /// Makes ready what has backed off long enough.
    pub(super) fn promote_all(&mut self, now: DateTime<Utc>) {
        for queue in 0..self.queues.len() {
            self.promote_queue(queue, now);
        }
    }

    /// When the next request of the handler that backs off is due.
    pub(super) fn next_backoff(&self, handler: &Name) -> Option<DateTime<Utc>> {
        self.queue(handler)?
            .backing_off
            .first()
            .map(|(until, _)| *until)
    }

    fn promote_queue(&mut self, queue: usize, now: DateTime<Utc>) {
        while let Some((until, key)) = self
            .queues
            .get(queue)
            .and_then(|queue| queue.backing_off.first().copied())
        {
            if until > now {
                break;
            }
            self.leave(key);
            self.enter(key, now);
        }
    }

    /// Takes a row out of the indexes that claims read.
    fn leave(&mut self, key: usize) {
        let Some(row) = self.rows.get_mut(key) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(row.queue) else {
            return;
        };
        let id = row.request.id;
        match std::mem::replace(&mut row.place, Place::Nowhere) {
            Place::Nowhere => {}
            Place::Ready(priority) => queue.ready.remove(&(priority, id)),
            Place::Suspect(priority) => queue.suspects.remove(&(priority, id)),
            Place::BackingOff(until) => {
                queue.backing_off.remove(&(until, key));
                self.counts.backing_off -= 1;
            }
            Place::Leased(until) => self.leased.remove(&(until, id)),
        }
    }

    /// Puts a row into the index that claims, or rescues, are to find it in.
    fn enter(&mut self, key: usize, now: DateTime<Utc>) {
        let Some(row) = self.rows.get_mut(key) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(row.queue) else {
            return;
        };
        let request = &row.request;
        if row.locked || !request.is_open() {
            return;
        }
        row.place = match (request.lease, request.backoff_until) {
            (Some(lease), _) => Place::Leased(lease.until),
            (None, Some(until)) if until > now => Place::BackingOff(until),
            _ if request.is_suspect() => Place::Suspect(request.priority),
            _ => Place::Ready(request.priority),
        };
        match row.place {
            Place::Nowhere => {}
            Place::Ready(priority) => drop(queue.ready.insert((priority, request.id), key)),
            Place::Suspect(priority) => drop(queue.suspects.insert((priority, request.id), key)),
            Place::BackingOff(until) => {
                queue.backing_off.insert((until, key));
                self.counts.backing_off += 1;
            }
            Place::Leased(until) => drop(self.leased.insert((until, request.id), key)),
        }
    }

    /// Counts a row, and lists it as open or dead; first looks up the queue of one that goes by
    /// another handler's name.
    fn begin(&mut self, key: usize, renamed: bool) {
        if renamed && let Some(handler) = self.rows.get(key).map(|row| row.request.handler.clone())
        {
            let queue = self.queue_key(&handler);
            if let Some(row) = self.rows.get_mut(key) {
                row.queue = queue;
            }
        }
        let Some(row) = self.rows.get(key) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(row.queue) else {
            return;
        };
        let standing = Standing::of(&row.request);
        *self.counts.of(standing) += 1;
        if standing.is_open() {
            self.open.insert(row.request.id, key);
            queue.open += 1;
        } else if standing == Standing::Dead {
            self.dead.insert(row.request.id, key);
            *self
                .dead_by_event_name
                .entry(row.request.event_name.clone())
                .or_default() += 1;
            *self
                .dead_by_handler
                .entry(queue.handler.clone())
                .or_default() += 1;
        }
    }

    /// Undoes [`begin`](Self::begin) for a row that stood so.
    fn end(&mut self, key: usize, standing: Standing) {
        let Some(row) = self.rows.get(key) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(row.queue) else {
            return;
        };
        *self.counts.of(standing) -= 1;
        if standing.is_open() {
            self.open.remove(&row.request.id);
            queue.open -= 1;
        } else if standing == Standing::Dead {
            self.dead.remove(&row.request.id);
            decrement(&mut self.dead_by_event_name, &row.request.event_name);
            decrement(&mut self.dead_by_handler, &queue.handler);
        }
    }
}

impl Counts {
    const fn of(&mut self, standing: Standing) -> &mut u64 {
        match standing {
            Standing::Waiting => &mut self.waiting,
            Standing::Executing => &mut self.executing,
            Standing::Completed => &mut self.completed,
            Standing::Canceled => &mut self.canceled,
            Standing::Dead => &mut self.dead,
        }
    }
}

fn decrement(counts: &mut BTreeMap<Name, u64>, name: &Name) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        id::{EventId, LeaseOwner},
        model::Outcome,
    };

    /// Each index is as large as what claims, rescues and gauges are to find in it, so that rows
    /// which are elsewhere cost them nothing.
    #[test]
    fn a_row_is_in_the_indexes_of_its_state_alone() {
        let (now, owner) = (DateTime::<Utc>::UNIX_EPOCH, LeaseOwner::new());
        let wait = Duration::from_secs(1);
        let (mut table, name) = (RequestTable::new(), Name::from("h"));
        let request = HandlerRequest::new(
            EventId::new(),
            "a".into(),
            name.clone(),
            Priority::default(),
            1,
            now,
        );
        let key = table.insert(request, 0, None, now).unwrap();
        let sizes = |table: &RequestTable| {
            let queue = table.queue(&name).unwrap();
            [
                queue.ready.len(),
                queue.backing_off.len(),
                table.leased.len(),
                table.open.len(),
                table.dead.len(),
            ]
        };
        let change =
            |table: &mut RequestTable,
             change: fn(&mut HandlerRequest, DateTime<Utc>, LeaseOwner)| {
                table.update(key, now, |row| change(&mut row.request, now, owner));
            };
        assert_eq!(sizes(&table), [1, 0, 0, 1, 0], "pending");
        table.update(key, now, |row| row.locked = true);
        assert_eq!(sizes(&table), [0, 0, 0, 1, 0], "locked");
        table.update(key, now, |row| row.locked = false);
        change(&mut table, |request, now, owner| {
            request.claim(now, owner, Duration::ZERO).unwrap()
        });
        assert_eq!(sizes(&table), [0, 0, 1, 1, 0], "executing");
        change(&mut table, |request, now, owner| {
            let outcome = Outcome::Snoozed {
                duration: Duration::from_secs(1),
            };
            request.settle(now, owner, 1, &outcome, true).unwrap();
        });
        assert_eq!(sizes(&table), [0, 1, 0, 1, 0], "backing off");
        table.promote(&name, now + wait);
        assert_eq!(sizes(&table), [1, 0, 0, 1, 0], "backed off");
        change(&mut table, |request, now, _| request.dead_at = Some(now));
        assert_eq!(sizes(&table), [0, 0, 0, 0, 1], "dead");
        change(&mut table, |request, now, _| request.cancel(now).unwrap());
        assert_eq!(sizes(&table), [0, 0, 0, 0, 0], "canceled");
    }
}
