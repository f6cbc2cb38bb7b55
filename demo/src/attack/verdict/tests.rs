//! Everything that a verdict is there to find, put into evidence in which it was not.

use tidings::{EventId, HandlerRequest, Priority, chrono::Utc};

use super::*;
use crate::attack::handlers::{BOOKS, LINGERS, NOTES};

const LIFE: Life = Life {
    worker: 0,
    number: 1,
};
const OTHER: Life = Life {
    worker: 1,
    number: 1,
};
/// Long after everything else.
const LATER: Micros = 60_000_000;

/// An order that was handled without any trouble.
struct Case {
    evidence: Evidence,
    order: EventId,
    next_run: u64,
}

impl Case {
    fn new() -> Self {
        // One that no handler fails for.
        let order = std::iter::repeat_with(EventId::new)
            .find(|id| Fate::of(id.as_uuid()).failures == 0)
            .unwrap();
        let follower = EventId::new();
        let mut case = Self {
            evidence: Evidence::default(),
            order,
            next_run: 0,
        };
        let evidence = &mut case.evidence;
        evidence
            .fates
            .insert(order.as_uuid(), orders::Fate::Committed);
        evidence.orders.insert(order.as_uuid());
        for (id, name, cause) in [
            (order, ORDERED, None),
            (follower, FOLLOWED, Some(order.as_uuid())),
        ] {
            evidence.events.push(StoredEvent {
                id: id.as_uuid(),
                name: name.to_owned(),
                cause,
            });
        }
        for handler in OF_ORDERS {
            case.complete(order, handler);
        }
        case.complete(follower, FOLLOWS);
        case
    }

    fn complete(&mut self, event: EventId, handler: &'static str) {
        let mut request = HandlerRequest::new(
            event,
            ORDERED.into(),
            handler.into(),
            Priority::default(),
            5,
            Utc::now(),
        );
        request.completed_at = Some(Utc::now());
        request.attempt = 1;
        self.evidence.requests.push(request);
        self.run(event, handler, LIFE, 1, 0..10, Some(How::Completed));
        if TRANSACTIONAL.contains(&handler) {
            self.write(event, handler);
        }
    }

    fn write(&mut self, event: EventId, handler: &str) {
        self.evidence.effects.push(Effect {
            event_id: event.as_uuid(),
            handler: handler.to_owned(),
            attempt: 1,
        });
    }

    fn run(
        &mut self,
        event: EventId,
        handler: &str,
        life: Life,
        attempt: u64,
        time: std::ops::Range<Micros>,
        how: Option<How>,
    ) {
        let run = self.next_run;
        self.next_run += 1;
        let request = tidings::HandlerRequestId::derive(event, handler);
        let began = What::Began {
            handler: handler.to_owned(),
            event: event.as_uuid(),
            request: request.as_uuid(),
            attempt,
        };
        let entry = |at, what| Entry {
            at,
            life,
            run,
            what,
        };
        self.evidence.entries.push(entry(time.start, began));
        if let Some(how) = how {
            let ended = entry(time.end, What::Ended { how });
            self.evidence.entries.push(ended);
        }
    }

    fn request(&mut self, handler: &str) -> &mut HandlerRequest {
        let mut requests = self.evidence.requests.iter_mut();
        requests
            .find(|request| &*request.handler == handler)
            .unwrap()
    }

    fn fault(&mut self, fault: Fault, target: Target, time: std::ops::Range<Micros>) {
        self.evidence.windows.push(Window {
            fault,
            target,
            from: time.start,
            until: time.end,
        });
    }

    fn verdict(&self) -> Verdict {
        Verdict::of(&self.evidence)
    }

    /// One thing is wrong, and it is told so.
    fn assert_broken(&self, told: &str) {
        let broken = self.verdict().broken;
        assert!(
            broken.iter().any(|broken| broken.contains(told)),
            "{broken:?}"
        );
    }
}

#[test]
fn what_went_well_holds() {
    let verdict = Case::new().verdict();
    assert_eq!(verdict.broken, [""; 0]);
    assert_eq!((verdict.orders, verdict.events), (1, 2));
    assert_eq!((verdict.requests, verdict.completed), (7, 7));
    assert_eq!((verdict.lost, verdict.duplicated_effects), (0, 0));
}

#[test]
fn an_order_without_its_event_and_an_event_without_its_order_are_found() {
    let mut case = Case::new();
    case.evidence.events.remove(0);
    case.assert_broken("an order without its event");
    let mut case = Case::new();
    case.evidence.orders.clear();
    case.assert_broken("is gone");
    case.assert_broken("an event without its order");
}

#[test]
fn what_was_rolled_back_and_is_there_is_found() {
    let mut case = Case::new();
    let order = case.order.as_uuid();
    case.evidence.fates.insert(order, orders::Fate::RolledBack);
    case.assert_broken("was rolled back, and is there");
}

#[test]
fn a_commit_whose_answer_was_lost_may_be_there_or_not() {
    let mut case = Case::new();
    let order = case.order.as_uuid();
    case.evidence.fates.insert(order, orders::Fate::Unknown);
    let absent = EventId::new().as_uuid();
    case.evidence.fates.insert(absent, orders::Fate::Unknown);
    let verdict = case.verdict();
    assert_eq!(verdict.broken, [""; 0]);
    assert_eq!(verdict.committed_in_doubt, 1);
}

#[test]
fn a_request_that_is_missing_open_dead_or_never_ran_is_lost() {
    let mut case = Case::new();
    case.evidence
        .requests
        .retain(|request| &*request.handler != NOTES);
    case.assert_broken("there is no request");
    let mut case = Case::new();
    case.request(NOTES).completed_at = None;
    case.assert_broken("is open");
    let mut case = Case::new();
    let request = case.request(NOTES);
    (request.completed_at, request.dead_at) = (None, Some(Utc::now()));
    case.assert_broken("is dead");
    let mut case = Case::new();
    case.evidence.entries.clear();
    case.assert_broken("no run of its attempt was");
    assert_eq!(case.verdict().lost, 7);
}

#[test]
fn an_error_that_no_handler_made_is_found() {
    let mut case = Case::new();
    case.request(NOTES).errors = 1;
    case.assert_broken("counts 1 errors");
}

#[test]
fn an_effect_that_is_there_twice_or_not_at_all_is_found() {
    let mut case = Case::new();
    case.write(case.order, BOOKS);
    case.assert_broken("has written 2 times");
    assert_eq!(case.verdict().duplicated_effects, 1);
    let mut case = Case::new();
    case.evidence.effects.clear();
    case.assert_broken("wrote for");
    assert_eq!(case.verdict().lost, 2);
    let mut case = Case::new();
    case.write(EventId::new(), BOOKS);
    case.assert_broken("without a request");
}

#[test]
fn what_a_handler_raised_is_found_if_it_is_there_twice_or_not_at_all() {
    let mut case = Case::new();
    let mut twice = case.evidence.events.last().unwrap().clone();
    twice.id = EventId::new().as_uuid();
    case.evidence.events.push(twice);
    case.assert_broken("is there 2 times");
    let mut case = Case::new();
    case.evidence.events.pop();
    case.assert_broken("is lost");
}

#[test]
fn a_second_run_is_found_unless_a_fault_between_explains_it() {
    let again = |window: Option<(Fault, Target, std::ops::Range<Micros>)>| {
        let mut case = Case::new();
        let (order, time) = (case.order, LATER..LATER + 10);
        case.run(order, NOTES, OTHER, 3, time, Some(How::Completed));
        if let Some((fault, target, time)) = window {
            case.fault(fault, target, time);
        }
        case
    };
    again(None).assert_broken("ran again");
    // On another process, or after all.
    again(Some((Fault::Kill, Target::Life(OTHER), 1..2))).assert_broken("ran again");
    again(Some((Fault::Cut, Target::Way(OTHER.worker), 1..2))).assert_broken("ran again");
    again(Some((Fault::Crash, Target::All, LATER + 1..LATER + 2))).assert_broken("ran again");
    for (fault, target) in [
        (Fault::Kill, Target::Life(LIFE)),
        (Fault::Cut, Target::Way(LIFE.worker)),
        (Fault::Crash, Target::All),
    ] {
        let verdict = again(Some((fault, target, 5..6))).verdict();
        assert_eq!(verdict.broken, [""; 0]);
        assert_eq!(verdict.run_again, [(fault.to_string(), 1)].into());
    }
}

#[test]
fn the_same_attempt_twice_is_found_even_beside_a_fault() {
    let mut case = Case::new();
    let (order, time) = (case.order, LATER..LATER + 10);
    case.run(order, NOTES, OTHER, 1, time, Some(How::Completed));
    case.fault(Fault::Kill, Target::Life(LIFE), 5..6);
    case.assert_broken("ran twice");
}

#[test]
fn runs_at_the_same_time_are_found_unless_a_process_could_not_know() {
    let overlapping = |fault| {
        let mut case = Case::new();
        let order = case.order;
        case.run(order, LINGERS, LIFE, 3, 100..900, Some(How::Completed));
        case.run(order, LINGERS, OTHER, 5, 500..600, Some(How::Completed));
        case.fault(fault, Target::Life(LIFE), 0..800);
        case
    };
    overlapping(Fault::Kill).assert_broken("twice at once");
    let verdict = overlapping(Fault::Freeze).verdict();
    assert_eq!(verdict.broken, [""; 0]);
    assert_eq!(verdict.overlapping.values().sum::<u64>(), 1);
}

#[test]
fn a_run_that_failed_as_it_is_meant_to_is_followed_by_another() {
    let mut case = Case::new();
    let order = case.order;
    case.run(order, FAILS, LIFE, 3, 20..30, Some(How::Failed));
    case.run(order, FAILS, LIFE, 4, 40..50, Some(How::Completed));
    case.fault(Fault::Kill, Target::Life(LIFE), 15..16);
    let verdict = case.verdict();
    assert_eq!(verdict.broken, [""; 0]);
    assert_eq!(verdict.failed_runs, 1);
}
