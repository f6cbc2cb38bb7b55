//! Everything at once on one store: many processes that raise, process, execute, renew, rescue,
//! prune, replay and rename, some of which are lost with what they hold.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidings::{
    Backoff, Event, EventId, EventPattern, HandlerRequestId, LeaseOwner, Outcome, Priority,
    Registration, StoreError,
    store::{
        Claim, ClaimedRequest, EventClaim, EventFailure, EventFilter, FanOut, HandlerRoom,
        LeaseOffer, Prune, Renewal, Replay, RescueLost, Selection, Settled, Settlement, Storer,
        StorerExt,
    },
};

/// How long all of them work.
const TIME: Duration = Duration::from_secs(3);
/// So short that some run out.
const LEASE: Duration = Duration::from_millis(150);
/// What has to happen once for each event.
const ONCE: [&str; 2] = ["one", "other"];
/// What is replayed and renamed, and so may run again.
const MOVING: [&str; 2] = ["moves", "moved"];

/// What one test knows of its store.
struct Stress {
    store: Arc<dyn Storer>,
    is_over: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    raised: HashSet<EventId>,
    claimed: HashMap<HandlerRequestId, HashSet<u64>>,
    completed: HashMap<(EventId, String), u32>,
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// The answer; none if somebody else was in the way, which every caller has to expect.
fn expected<T>(answer: Result<T, StoreError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.is_transient() => None,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

fn rooms() -> Vec<HandlerRoom> {
    let all = ONCE.into_iter().chain(MOVING);
    all.map(|name| HandlerRoom::new(name, 30)).collect()
}

impl Stress {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    async fn raise(self: Arc<Self>, seed: u64) {
        let mut dice = Dice(seed);
        while !self.is_over() {
            let mut events: Vec<_> = (0..=dice.roll(20))
                .map(|_| Event::new("test", &()).unwrap())
                .collect();
            // Raised before, perhaps.
            events.push(events[0].clone());
            let ids: Vec<_> = events.iter().map(|event| event.id).collect();
            let commits = dice.roll(4) > 0;
            let raised = async {
                let mut tx = self.store.begin().await?;
                tx.events().raise(&events).await?;
                if commits {
                    tx.commit().await
                } else {
                    tx.rollback().await
                }
            };
            if expected(raised.await).is_some() && commits {
                self.seen.lock().unwrap().raised.extend(ids);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn process(self: Arc<Self>, seed: u64) {
        let mut dice = Dice(seed);
        let owner = LeaseOwner::new();
        while !self.is_over() {
            match dice.roll(3) {
                0 => drop(expected(self.process_claimed(owner, &mut dice).await)),
                with_offer => {
                    let mut asked = FanOut::due(15);
                    if with_offer == 1 {
                        asked.offer = Some(LeaseOffer::new(owner, LEASE, 8, rooms()));
                    }
                    let answer = async {
                        let mut session = self.store.session().await?;
                        session.events().fan_out(&asked).await
                    };
                    if let Some(fanned_out) = expected(answer.await) {
                        self.run(owner, fanned_out.born_leased, &mut dice).await;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// As a process with hooks does.
    async fn process_claimed(&self, owner: LeaseOwner, dice: &mut Dice) -> Result<(), StoreError> {
        let mut session = self.store.session().await?;
        let claim = EventClaim::new(owner, LEASE, 10);
        let claimed = session.events().claim(&claim).await?;
        let mut kept = Vec::new();
        let mut failed = Vec::new();
        for one in claimed {
            match dice.roll(4) {
                0 => failed.push(EventFailure::new(
                    one.event.id,
                    one.attempt,
                    "no",
                    Duration::from_millis(5),
                )),
                // Lost.
                1 => {}
                _ => kept.push((one.event.id, one.attempt)),
            }
        }
        session.events().fail(&failed).await?;
        let asked = FanOut::new(Selection::Claimed(kept));
        session.events().fan_out(&asked).await?;
        Ok(())
    }

    async fn execute(self: Arc<Self>, seed: u64) {
        let mut dice = Dice(seed);
        let owner = LeaseOwner::new();
        while !self.is_over() {
            let claim = Claim::new(owner, LEASE, 25, rooms());
            let suspect = dice.roll(3) == 0;
            let answer = async {
                let mut session = self.store.session().await?;
                let mut requests = session.handler_requests();
                if suspect {
                    requests.claim_suspect(&claim).await
                } else {
                    requests.claim(&claim).await
                }
            };
            if let Some(batch) = expected(answer.await) {
                assert_eq!(batch.unreadable, []);
                self.run(owner, batch.requests, &mut dice).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends what was claimed in one way or another, or not at all.
    async fn run(&self, owner: LeaseOwner, claimed: Vec<ClaimedRequest>, dice: &mut Dice) {
        self.note(&claimed);
        let held: Vec<_> = claimed.iter().map(|one| (one.id, one.attempt)).collect();
        match dice.roll(10) {
            // The process is lost.
            0 => return,
            1 => {
                let handed_back = async {
                    let mut session = self.store.session().await?;
                    session.handler_requests().hand_back(owner, &held).await
                };
                drop(expected(handed_back.await));
                return;
            }
            // Some of the leases run out meanwhile, and some are renewed.
            2 => tokio::time::sleep(LEASE).await,
            3 => {
                let renewed = async {
                    let mut renewer = self.store.lease_renewer().await?;
                    tokio::time::sleep(LEASE / 2).await;
                    let renewal = Renewal::new(owner, LEASE, held);
                    renewer.renew(&renewal).await
                };
                drop(expected(renewed.await));
            }
            _ => {}
        }
        let backoff = Duration::from_millis(dice.roll(20));
        let mut settlements = Vec::new();
        for one in &claimed {
            let outcome = match dice.roll(8) {
                0 => Outcome::Failed {
                    error: "no".into(),
                    backoff,
                },
                1 => Outcome::Snoozed { duration: backoff },
                _ => Outcome::Completed,
            };
            settlements.push(Settlement::new(one.id, one.attempt, owner, outcome));
        }
        if dice.roll(3) == 0 {
            for (settlement, one) in settlements.iter().zip(&claimed) {
                self.settle_alone(settlement, one, dice.roll(3) > 0).await;
            }
        } else {
            self.settle(&settlements, &claimed).await;
        }
    }

    fn note(&self, claimed: &[ClaimedRequest]) {
        let mut seen = self.seen.lock().unwrap();
        for one in claimed {
            let is_new = seen.claimed.entry(one.id).or_default().insert(one.attempt);
            assert!(is_new, "claimed twice: {one:?}");
        }
    }

    async fn settle(&self, settlements: &[Settlement], claimed: &[ClaimedRequest]) {
        let answer = async {
            let mut session = self.store.session().await?;
            session.handler_requests().settle(settlements).await
        };
        let answers = expected(answer.await).unwrap_or_default();
        let mut seen = self.seen.lock().unwrap();
        for ((answer, settlement), one) in answers.iter().zip(settlements).zip(claimed) {
            if *answer == Settled::Applied && settlement.outcome == Outcome::Completed {
                seen.complete(one);
            }
        }
    }

    /// As a transactional handler does.
    async fn settle_alone(&self, settlement: &Settlement, one: &ClaimedRequest, commits: bool) {
        let settlements = std::slice::from_ref(settlement);
        let settled = async {
            let mut tx = self.store.begin().await?;
            let answers = tx.handler_requests().settle(settlements).await?;
            if commits && answers == [Settled::Applied] {
                tx.commit().await?;
                return Ok(true);
            }
            tx.rollback().await?;
            Ok(false)
        };
        if expected(settled.await) == Some(true) && settlement.outcome == Outcome::Completed {
            self.seen.lock().unwrap().complete(one);
        }
    }

    async fn rescue(self: Arc<Self>) {
        let rescue = RescueLost::new(20, Backoff::constant(Duration::from_millis(5)));
        while !self.is_over() {
            let answer = async {
                let mut session = self.store.session().await?;
                session.handler_requests().rescue(&rescue).await
            };
            drop(expected(answer.await));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn prune(self: Arc<Self>) {
        let at_once = Some(Duration::ZERO);
        let mut prune = Prune::new(40)
            .completed_for(at_once)
            .keep_events_for(Duration::ZERO);
        while !self.is_over() {
            let answer = async {
                let mut session = self.store.session().await?;
                session.events().prune(&prune).await
            };
            if let Some(pruned) = expected(answer.await) {
                prune.after = pruned.next;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn replay_and_rename(self: Arc<Self>) {
        let mut at = 0;
        while !self.is_over() {
            let [from, to] = [MOVING[at], MOVING[1 - at]];
            let replayed = async {
                let mut session = self.store.session().await?;
                let replay = Replay::new(EventFilter::default(), 30).to_handlers([from]);
                session.handler_requests().replay(&replay).await?;
                let names = (from.into(), to.into());
                drop(session);
                self.store.rename(&names.0, &names.1).await
            };
            if expected(replayed.await).is_some() {
                at = 1 - at;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Completes everything, and checks that nothing is missing.
    async fn finish(&self) {
        let owner = LeaseOwner::new();
        let lease = Duration::from_secs(60);
        let claim = Claim::new(owner, lease, 100, rooms());
        let rescue = RescueLost::new(100, Backoff::constant(Duration::from_millis(1)));
        loop {
            let mut session = self.store.session().await.unwrap();
            session.events().fan_out(&FanOut::due(100)).await.unwrap();
            let mut requests = session.handler_requests();
            requests.rescue(&rescue).await.unwrap();
            let mut claimed = requests.claim(&claim).await.unwrap().requests;
            claimed.extend(requests.claim_suspect(&claim).await.unwrap().requests);
            let unexecuted = requests.count_unexecuted().await.unwrap();
            drop(requests);
            let unprocessed = session.events().count_unprocessed().await.unwrap();
            // Each call gets the only connection of a small pool.
            drop(session);
            if unexecuted + unprocessed == 0 {
                break;
            }
            self.note(&claimed);
            let settle = |one: &ClaimedRequest| {
                Settlement::new(one.id, one.attempt, owner, Outcome::Completed)
            };
            let settlements: Vec<_> = claimed.iter().map(settle).collect();
            self.settle(&settlements, &claimed).await;
        }
        let seen = self.seen.lock().unwrap();
        assert!(seen.raised.len() > 100, "{} events", seen.raised.len());
        for event in &seen.raised {
            for handler in ONCE {
                let completed = seen.completed.get(&(*event, handler.to_owned()));
                assert_eq!(completed, Some(&1), "{handler} of {event}");
            }
        }
    }
}

impl Seen {
    fn complete(&mut self, one: &ClaimedRequest) {
        let key = (one.event.id, one.handler.to_string());
        *self.completed.entry(key).or_default() += 1;
    }
}

/// Everything at once on a store that is new.
pub(crate) async fn everything_at_once(store: Arc<dyn Storer>) {
    // Nobody dies of errors here.
    let registration = |handler: &str, priority| {
        let pattern = EventPattern::parse("*").unwrap();
        Registration::new(
            pattern,
            handler.into(),
            Priority::new(priority).unwrap(),
            100_000,
        )
    };
    let registrations = [
        registration(ONCE[0], 1),
        registration(ONCE[1], 50),
        registration(MOVING[0], 50),
    ];
    let mut session = store.session().await.unwrap();
    let register = session.registrations().register(&registrations).await;
    register.unwrap();
    drop(session);
    let stress = Arc::new(Stress {
        store,
        is_over: AtomicBool::new(false),
        seen: Mutex::default(),
    });
    let mut all = tokio::task::JoinSet::new();
    for seed in 1..=3 {
        all.spawn(stress.clone().raise(seed));
        all.spawn(stress.clone().execute(seed));
    }
    for seed in 11..=12 {
        all.spawn(stress.clone().process(seed));
        all.spawn(stress.clone().rescue());
        all.spawn(stress.clone().prune());
    }
    all.spawn(stress.clone().replay_and_rename());
    tokio::time::sleep(TIME).await;
    stress.is_over.store(true, Ordering::Relaxed);
    let ended = tokio::time::timeout(Duration::from_secs(20), all.join_all()).await;
    ended.expect("nobody hangs");
    let finished = tokio::time::timeout(Duration::from_secs(20), stress.finish()).await;
    finished.expect("nothing is stuck");
}

macro_rules! stress_test {
    ($store:ident, $fresh:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn each_request_is_completed_once_whatever_happens_beside_it() {
            let fresh = $fresh;
            super::everything_at_once(std::sync::Arc::new(fresh.$store.clone())).await;
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    stress_test!(store, crate::fresh::postgres::Postgres::new().await);
}

#[cfg(feature = "mysql")]
mod mysql {
    stress_test!(store, crate::fresh::mysql::MySql::new().await);
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite {
    stress_test!(store, crate::fresh::sqlite::Sqlite::new().await);
}
