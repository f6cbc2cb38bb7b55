//! How soon events start whose commit is heard of, is not seen, or is somebody else's.

use std::{sync::Arc, time::Duration};

use tidings::{
    Backoff, Context, Event, Handler, HandlerError, LeaseOwner, Outcome, ProcessContext,
    RequestState, SUSPECT_FROM_RESCUES, Scheduler,
    faulty::{Fault, Operation},
    store::{
        Claim, ClaimedRequest, EventClaim, EventFailure, HandlerRoom, RescueLost, Settled,
        Settlement, Storer, WakeUps,
    },
};
use tokio::time::Instant;

use crate::{
    process::Process,
    rig::{KINDS, Kind, config, soon},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Writes an event in a transaction of the application's, which commits after `open`; answers how
/// long after the commit it is handled.
async fn commits_after(process: &Process, open: Duration) -> Duration {
    let before = process.handled.lock().len();
    let mut transaction = process.rig.store.begin().await.unwrap();
    let event = Event::new("thing.happened", &()).unwrap();
    transaction.events().raise(&[event]).await.unwrap();
    process.signals.uncommitted.raise();
    tokio::time::sleep(open).await;
    transaction.commit().await.unwrap();
    let committed = Instant::now();
    process.until_handled(before + 1).await;
    process.handled.lock()[before] - committed
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_not_seen_is_found_within_milliseconds_for_a_second() {
    for kind in KINDS {
        let process = Process::new(WakeUps::InProcess);
        let _scheduler = process.start(kind).await;
        for open in [0, 1, 17, 400, 990] {
            tokio::time::sleep(90 * SECOND).await;
            let took = commits_after(&process, open * MILLISECOND).await;
            assert!(took <= 6 * MILLISECOND, "{kind:?} {open} ms: {took:?}");
        }
        for (open, most) in [(1100, 320), (2000, 1000), (60_000, 1000)] {
            tokio::time::sleep(90 * SECOND).await;
            let took = commits_after(&process, open * MILLISECOND).await;
            assert!(took <= most * MILLISECOND, "{kind:?} {open} ms: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_listener_a_commit_that_is_not_heard_of_is_found_within_a_second() {
    for kind in KINDS {
        // The line is good, and the notification suppressed: nothing comes over it.
        let process = Process::new(WakeUps::Listener);
        let _scheduler = process.start(kind).await;
        process.go_deaf();
        for open in [0, 240, 500, 999] {
            tokio::time::sleep(90 * SECOND).await;
            let took = commits_after(&process, open * MILLISECOND).await;
            assert!(took <= SECOND, "{kind:?} {open} ms: {took:?}");
        }
        tokio::time::sleep(90 * SECOND).await;
        process.signals.uncommitted.raise();
        let calls = process.calls_in(10 * SECOND).await;
        assert!(calls["EventRepository::fan_out"] <= 10, "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn close_polls_are_one_call_each_and_end() {
    for kind in KINDS {
        for hooked in [false, true] {
            let process = Process::new(WakeUps::InProcess);
            let wanted = process
                .rig
                .scheduler_on(Arc::new(process.clone()), config([process.handler()]));
            let wanted = match hooked {
                true => wanted.before_process(|_: ProcessContext| async { Ok(()) }),
                false => wanted,
            };
            let _scheduler = wanted.kind(kind).start().await;
            tokio::time::sleep(90 * SECOND).await;
            process.signals.uncommitted.raise();
            let calls = process.calls_in(SECOND).await;
            let total: u64 = calls.values().sum();
            assert!((195..=202).contains(&total), "{kind:?} {hooked}: {calls:?}");
            // Raised again and again, and still one each 5 ms.
            let begun = Instant::now();
            let before = process.calls();
            while begun.elapsed() < SECOND {
                process.signals.uncommitted.raise();
                tokio::time::sleep(MILLISECOND).await;
            }
            let total = process.calls().values().sum::<u64>() - before.values().sum::<u64>();
            assert!((160..=202).contains(&total), "{kind:?} {hooked}: {total}");
            tokio::time::sleep(3 * SECOND).await;
            let calls = process.calls_in(60 * SECOND).await;
            assert!(
                calls.values().sum::<u64>() <= 60,
                "{kind:?} {hooked}: {calls:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn under_load_polls_add_no_calls_that_have_no_work() {
    for kind in KINDS {
        let process = Process::new(WakeUps::InProcess);
        let _scheduler = process.start(kind).await;
        let before = process.faults.calls(Operation::FanOut);
        let mut session = process.rig.store.session().await.unwrap();
        for _ in 0..2000 {
            let event = Event::new("thing.happened", &()).unwrap();
            session.events().raise(&[event]).await.unwrap();
            process.signals.uncommitted.raise();
            tokio::time::sleep(MILLISECOND).await;
        }
        let calls = process.faults.calls(Operation::FanOut) - before;
        let most = 2000 / 5 + 10;
        assert!(calls <= most, "{kind:?}: {calls} for 2000 events in 2 s");
        process.until_handled(2000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_another_process_is_found_by_the_next_poll() {
    for kind in KINDS {
        for (wake_ups, most) in [(WakeUps::Complete, 5), (WakeUps::InProcess, 1)] {
            let mut process = Process::new(wake_ups);
            process.signals.raised = tidings::Signal::new();
            let _scheduler = process.start(kind).await;
            for pause in [60_000, 61_234, 64_999] {
                tokio::time::sleep(pause * MILLISECOND).await;
                let took = process.takes_to_handle().await;
                assert!(took <= most * SECOND, "{kind:?} {wake_ups:?}: {took:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_another_process_made_is_found_by_the_next_poll() {
    for kind in KINDS {
        let mut process = Process::new(WakeUps::InProcess);
        process.signals.ready = tidings::Signal::new();
        let _scheduler = process.start(kind).await;
        tokio::time::sleep(90 * SECOND).await;
        let mut transaction = process.rig.store.begin().await.unwrap();
        let event = Event::new("thing.happened", &()).unwrap();
        transaction.events().raise(&[event]).await.unwrap();
        let fan_out = tidings::store::FanOut::due(1);
        transaction.events().fan_out(&fan_out).await.unwrap();
        transaction.commit().await.unwrap();
        let begun = Instant::now();
        process.until_handled(1).await;
        assert!(begun.elapsed() <= SECOND, "{kind:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_events_of_others_is_polled_for_more_closely() {
    for kind in KINDS {
        let process = Process::new(WakeUps::InProcess);
        let _scheduler = process.start(kind).await;
        tokio::time::sleep(90 * SECOND).await;
        process.takes_to_handle().await;
        for _ in 0..100 {
            let took = process.takes_to_handle().await;
            assert!(took <= 26 * MILLISECOND, "{kind:?}: {took:?}");
        }
        tokio::time::sleep(4 * SECOND).await;
        let calls = process.calls_in(60 * SECOND).await;
        assert!(calls.values().sum::<u64>() <= 60, "{kind:?}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn looks_that_fail_take_the_safety_net_from_nobody() {
    for kind in KINDS {
        for (fault, most) in [(Fault::Refuse, 1), (Fault::Block, 22)] {
            let process = Process::new(WakeUps::InProcess);
            let _scheduler = process.start(kind).await;
            process.faults.inject_always(Operation::Look, fault);
            tokio::time::sleep(90 * SECOND).await;
            let took = process.takes_to_handle().await;
            assert!(took <= most * SECOND, "{kind:?} {fault:?}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_look_that_hung_leaves_the_safety_net_where_it_was() {
    for kind in KINDS {
        let process = Process::new(WakeUps::InProcess);
        let _scheduler = process.start(kind).await;
        process.faults.inject(Operation::Look, Fault::Block, 1);
        process.faults.until_blocked(Operation::Look, 1).await;
        // Until its time limit, and the calls that were made instead.
        tokio::time::sleep(11 * SECOND).await;
        let took = process.takes_to_handle().await;
        assert!(took <= SECOND, "{kind:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_and_vetoed_events_are_picked_up_when_due_without_polls() {
    let begun = Instant::now();
    for kind in KINDS {
        let process = Process::new(WakeUps::Complete);
        let fails = Handler::new("fails", |_: Arc<Event>, context: Context| async move {
            match context.errors() {
                0 => Err(HandlerError::new("once")),
                _ => Ok(()),
            }
        });
        let backoff = Backoff::constant(Duration::from_secs(100));
        let map = config([fails.on("*").backoff(backoff)]);
        let veto = |context: ProcessContext| async move {
            match context.errors {
                0 => Err(HandlerError::new("not yet")),
                _ => Ok(()),
            }
        };
        let wanted = |process: &Process| {
            let wanted = process
                .rig
                .scheduler_on(Arc::new(process.clone()), map.clone());
            let wanted = wanted.poll_interval(3600 * SECOND).before_process(veto);
            wanted.kind(kind)
        };
        let scheduler = wanted(&process).start().await;
        process.rig.raise("thing.happened").await;
        let request = process.rig.until_only(RequestState::BackingOff).await;
        let vetoed_for = begun.elapsed();
        assert!(vetoed_for >= SECOND / 2, "{kind:?}: {vetoed_for:?}");
        // The one that takes over has to be told.
        scheduler.shutdown(SECOND).await;
        let _next = wanted(&process).start().await;
        let due = request.backoff_until.unwrap();
        let request = process.rig.until_only(RequestState::Completed).await;
        let late = request.completed_at.unwrap() - due;
        assert!(late.num_milliseconds() <= 10, "{kind:?}: {late}");
        assert!(process.faults.calls(Operation::Claim) <= 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_that_hangs_keeps_the_lookout_from_no_request() {
    let mut process = Process::new(WakeUps::InProcess);
    process.signals.ready = tidings::Signal::new();
    let _scheduler = process.start(Kind::Concurrent).await;
    tokio::time::sleep(90 * SECOND).await;
    process
        .faults
        .inject_always(Operation::FanOut, Fault::Block);
    process.signals.raised.raise();
    let blocked = process.faults.until_blocked(Operation::FanOut, 1);
    soon("it hangs", blocked).await;
    let mut transaction = process.rig.store.begin().await.unwrap();
    let event = Event::new("thing.happened", &()).unwrap();
    transaction.events().raise(&[event]).await.unwrap();
    let fan_out = tidings::store::FanOut::due(1);
    transaction.events().fan_out(&fan_out).await.unwrap();
    transaction.commit().await.unwrap();
    let begun = Instant::now();
    process.until_handled(1).await;
    assert!(begun.elapsed() <= SECOND, "{:?}", begun.elapsed());
}

/// Another process that holds the only request, under suspicion if asked.
struct Stranger {
    process: Process,
    owner: LeaseOwner,
    held: ClaimedRequest,
}

impl Stranger {
    /// The request is in its hands before the scheduler starts.
    async fn holds(kind: Kind, suspect: bool) -> (Self, Box<dyn Scheduler>) {
        let mut process = Process::new(WakeUps::InProcess);
        process.signals.ready = tidings::Signal::new();
        // Registers the handler.
        process.start(kind).await.shutdown(SECOND).await;
        process.rig.raise("thing.happened").await;
        let owner = LeaseOwner::new();
        let mut session = process.rig.store.session().await.unwrap();
        let fan_out = tidings::store::FanOut::due(1);
        session.events().fan_out(&fan_out).await.unwrap();
        let room = || vec![HandlerRoom::new("handles", 1)];
        let mut requests = session.handler_requests();
        if suspect {
            for _ in 0..SUSPECT_FROM_RESCUES {
                let claim = Claim::new(owner, SECOND, 1, room());
                assert_eq!(requests.claim(&claim).await.unwrap().requests.len(), 1);
                tokio::time::sleep(2 * SECOND).await;
                let rescue = RescueLost::new(1, Backoff::constant(Duration::ZERO));
                requests.rescue(&rescue).await.unwrap();
            }
        }
        let claim = Claim::new(owner, 3600 * SECOND, 1, room());
        let claimed = match suspect {
            true => requests.claim_suspect(&claim).await,
            false => requests.claim(&claim).await,
        };
        let held = claimed.unwrap().requests.remove(0);
        drop(requests);
        drop(session);
        let stranger = Self {
            process,
            owner,
            held,
        };
        let scheduler = stranger.process.start(kind).await;
        tokio::time::sleep(90 * SECOND).await;
        (stranger, scheduler)
    }

    async fn hands_back(&self) {
        let mut session = self.process.rig.store.session().await.unwrap();
        let claims = [(self.held.id, self.held.attempt)];
        let mut requests = session.handler_requests();
        requests.hand_back(self.owner, &claims).await.unwrap();
    }

    /// How long after `begun` the request is handled.
    async fn handled_after(&self, begun: Instant) -> Duration {
        self.process.until_handled(1).await;
        self.process.handled.lock()[0] - begun
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_process_hands_back_is_found_by_the_next_poll_also_under_suspicion() {
    for kind in KINDS {
        for suspect in [false, true] {
            let (stranger, _scheduler) = Stranger::holds(kind, suspect).await;
            let begun = Instant::now();
            stranger.hands_back().await;
            let took = stranger.handled_after(begun).await;
            assert!(took <= SECOND, "{kind:?} {suspect}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_waits_is_claimed_with_the_first_claim() {
    for kind in KINDS {
        let (stranger, scheduler) = Stranger::holds(kind, true).await;
        scheduler.shutdown(SECOND).await;
        stranger.hands_back().await;
        let wanted = stranger.process.rig.scheduler_on(
            Arc::new(stranger.process.clone()),
            config([stranger.process.handler()]),
        );
        stranger
            .process
            .faults
            .inject_always(Operation::Look, Fault::Block);
        let begun = Instant::now();
        let wanted = wanted.kind(kind).poll_interval(3600 * SECOND);
        let _scheduler = wanted.start().await;
        let took = stranger.handled_after(begun).await;
        assert!(took <= SECOND / 10, "{kind:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_backs_off_by_another_process_starts_when_it_is_due() {
    const BACKOFF: Duration = Duration::from_millis(100_300);
    for kind in KINDS {
        let (stranger, _scheduler) = Stranger::holds(kind, false).await;
        let (process, held) = (&stranger.process, &stranger.held);
        let error = "not now".to_owned();
        let outcome = Outcome::Failed {
            error,
            backoff: BACKOFF,
        };
        let settlement = Settlement::new(held.id, held.attempt, stranger.owner, outcome);
        let mut session = process.rig.store.session().await.unwrap();
        let begun = Instant::now();
        let settled = session.handler_requests().settle(&[settlement]).await;
        assert_eq!(settled.unwrap(), [Settled::Applied]);
        let late = stranger.handled_after(begun).await - BACKOFF;
        assert!(late <= SECOND / 100, "{kind:?}: {late:?}");

        // And an event.
        let event = Event::new("thing.happened", &()).unwrap();
        let mut transaction = process.rig.store.begin().await.unwrap();
        let mut events = transaction.events();
        events.raise(&[event]).await.unwrap();
        let claim = EventClaim::new(stranger.owner, 3600 * SECOND, 1);
        let claimed = events.claim(&claim).await.unwrap().remove(0);
        let failure = EventFailure::new(claimed.event.id, claimed.attempt, "no", BACKOFF);
        events.fail(&[failure]).await.unwrap();
        drop(events);
        let begun = Instant::now();
        transaction.commit().await.unwrap();
        process.until_handled(2).await;
        let late = process.handled.lock()[1] - begun - BACKOFF;
        assert!(late <= SECOND / 100, "{kind:?}: {late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_loops_work_does_not_look_besides() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Complete);
        let fails = Handler::new("fails", |_: Arc<Event>, _: Context| async {
            Err::<(), _>(HandlerError::new("always"))
        });
        let fails = fails.backoff(Backoff::constant(SECOND)).max_errors(10_000);
        let _scheduler = process.start_with(kind, config([fails.on("*")])).await;
        for second in 0..120 {
            if second == 60 {
                process.looks.lock().clear();
            }
            process.rig.raise("thing.happened").await;
            tokio::time::sleep(SECOND).await;
        }
        let looks = process.looks.lock().len();
        assert_eq!(looks, 0, "{kind:?}");
    }
}
