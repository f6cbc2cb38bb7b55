//! Drives a store at random, as two processes would that follow no rules: they settle what they have
//! lost, give back what they have settled, cancel and reexecute whatever there is, at the same time,
//! and do not always hear what came of it. Only the store stands against that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tidings::{
    Backoff, EventPattern, LeaseOwner, Outcome, Priority, Registration,
    conformance::Target,
    faulty::{Fault, Faults, FaultyStorer, Operation},
    store::{
        Claim, FanOut, HandlerRoom, LeaseOffer, Page, Renewal, RequestFilter, RescueLost, Settled,
        Settlement, Storer,
    },
};

use super::{
    log::Log,
    plan::{BACKOFF, Claimed, Known, Plan, plan},
    recorder::Recorder,
    seeds::Chance,
};

const LEASE: Duration = Duration::from_secs(100);
/// Clocks of databases are read in microseconds, and cut.
const SLACK_MICROS: u64 = 1000;

/// One of the two, and what it was ever given.
struct Process {
    store: Arc<dyn Storer>,
    faults: Faults,
    owner: LeaseOwner,
    handlers: &'static [&'static str],
}

/// Makes this many steps; answers what was written down.
pub(super) async fn drive(target: &dyn Target, seed: u64, steps: usize) -> Log {
    run(target, seed, steps, true).await
}

/// Makes one step after the other, each of which is answered, so that there is one order of effects.
pub(super) async fn drive_calmly(target: &dyn Target, seed: u64, steps: usize) -> Log {
    run(target, seed, steps, false).await
}

async fn run(target: &dyn Target, seed: u64, steps: usize, wildly: bool) -> Log {
    let passed = Arc::new(AtomicU64::new(0));
    let log = log(&passed);
    let mut chance = Chance::new(seed);
    let processes = [
        Process::new(target, &log, 0, &["h"]),
        Process::new(target, &log, 1, &["h", "i"]),
    ];
    register(&*processes[0].store).await;
    let mut known = Known::new(seed % 2 == 1);
    for _ in 0..steps {
        log.read(|calls| known.update(calls));
        if chance.percent(15) {
            let time = Duration::from_secs(10 + chance.below(140) as u64);
            target.pass_time(time).await;
            let micros = u64::try_from(time.as_micros()).expect("minutes");
            passed.fetch_add(micros, Ordering::SeqCst);
        } else if wildly && chance.percent(25) {
            let plans = [0, 1].map(|_| plan(&mut chance, &known));
            let [first, second] = plans;
            tokio::join!(
                processes[0].perform(first, None),
                processes[1].perform(second, None)
            );
        } else {
            let process = &processes[chance.below(2)];
            let fault = (wildly && chance.percent(20)).then(|| {
                if chance.percent(70) {
                    Fault::LoseAnswer
                } else {
                    Fault::Fail
                }
            });
            let plan = plan(&mut chance, &known);
            process.perform(plan, fault).await;
        }
    }
    read_everything(&*processes[0].store).await;
    log
}

fn log(passed: &Arc<AtomicU64>) -> Log {
    let (passed, begin) = (Arc::clone(passed), Instant::now());
    Log::new(move || {
        let elapsed = u64::try_from(begin.elapsed().as_micros()).expect("a short test");
        passed.load(Ordering::SeqCst) + elapsed + SLACK_MICROS
    })
}

async fn register(store: &dyn Storer) {
    let registrations = [("*", "h", 2), ("b", "i", 3)].map(|(pattern, handler, max_errors)| {
        let pattern = EventPattern::parse(pattern).expect("a pattern");
        Registration::new(pattern, handler.into(), Priority::default(), max_errors)
    });
    let mut session = store.session().await.expect("a session");
    let registered = session.registrations().register(&registrations).await;
    registered.expect("registered");
}

/// Each request is read by its id, so that the model is asked about all that there are.
async fn read_everything(store: &dyn Storer) {
    let mut session = store.session().await.expect("a session");
    let (filter, page) = (RequestFilter::default(), Page::first(100_000));
    let mut requests = session.handler_requests();
    for request in requests.list(&filter, &page).await.expect("a list") {
        let found = requests.find(request.id).await.expect("an answer");
        assert!(found.is_some(), "what is listed is found");
    }
}

impl Process {
    fn new(
        target: &dyn Target,
        log: &Log,
        number: usize,
        handlers: &'static [&'static str],
    ) -> Self {
        let faulty = FaultyStorer::new(target.store());
        let faults = faulty.faults();
        Self {
            store: Arc::new(Recorder::new(Arc::new(faulty), log, number)),
            faults,
            owner: LeaseOwner::new(),
            handlers,
        }
    }

    fn rooms(&self, room: usize) -> Vec<HandlerRoom> {
        let handlers = self.handlers.iter();
        handlers.map(|name| HandlerRoom::new(*name, room)).collect()
    }

    /// What comes of it is in the log; an error of the store is an answer, too.
    async fn perform(&self, plan: Plan, fault: Option<Fault>) {
        if let Some((operation, fault)) = operation(&plan).zip(fault) {
            self.faults.inject(operation, fault, 1);
        }
        let _ = self.try_perform(plan).await;
        self.faults.heal_all();
    }

    async fn try_perform(&self, plan: Plan) -> tidings::Result<()> {
        if let Plan::Raise { event, commit } = plan {
            let mut tx = self.store.begin().await?;
            tx.events().raise(&[event]).await?;
            return if commit {
                tx.commit().await
            } else {
                tx.rollback().await
            };
        }
        let mut session = match &plan {
            Plan::Settle {
                claims,
                outcomes,
                transaction: true,
            } => {
                let settlements = settlements(claims, outcomes);
                let mut tx = self.store.begin().await?;
                let settled = tx.handler_requests().settle(&settlements).await?;
                let all = settled.iter().all(|settled| *settled == Settled::Applied);
                return if all {
                    tx.commit().await
                } else {
                    tx.rollback().await
                };
            }
            Plan::Renew { claims } => {
                let mut renewer = self.store.lease_renewer().await?;
                for (id, owner, attempt) in claims {
                    let renewal = Renewal::new(*owner, LEASE, vec![(*id, *attempt)]);
                    renewer.renew(&renewal).await?;
                }
                return Ok(());
            }
            _ => self.store.session().await?,
        };
        match plan {
            Plan::FanOut { offer } => {
                let mut fan_out = FanOut::due(2);
                fan_out.offer = offer.then(|| LeaseOffer::new(self.owner, LEASE, 2, self.rooms(2)));
                session.events().fan_out(&fan_out).await?;
            }
            Plan::Claim { limit, suspects } => {
                let mut requests = session.handler_requests();
                if suspects {
                    let claim = Claim::new(self.owner, LEASE, 1, self.rooms(1));
                    requests.claim_suspect(&claim).await?;
                } else {
                    let claim = Claim::new(self.owner, LEASE, limit, self.rooms(limit));
                    requests.claim(&claim).await?;
                }
            }
            Plan::Settle {
                claims, outcomes, ..
            } => {
                let settlements = settlements(&claims, &outcomes);
                session.handler_requests().settle(&settlements).await?;
            }
            Plan::HandBack {
                claim: (id, owner, attempt),
            } => {
                let mut requests = session.handler_requests();
                requests.hand_back(owner, &[(id, attempt)]).await?;
            }
            Plan::Rescue => {
                let rescue = RescueLost::new(10, Backoff::constant(BACKOFF));
                session.handler_requests().rescue(&rescue).await?;
            }
            Plan::Cancel(id) => session.handler_requests().cancel(id).await?,
            Plan::Reexecute(id) => session.handler_requests().reexecute(id).await?,
            Plan::RunNow(id) => session.handler_requests().run_now(id).await?,
            Plan::Find(id) => {
                session.handler_requests().find(id).await?;
            }
            Plan::Raise { .. } | Plan::Renew { .. } => {}
        }
        Ok(())
    }
}

/// What may lose its answer, as the effect is known if it has one.
fn operation(plan: &Plan) -> Option<Operation> {
    match plan {
        Plan::Raise { .. }
        | Plan::Settle {
            transaction: true, ..
        } => Some(Operation::Commit),
        Plan::Settle { .. } => Some(Operation::Settle),
        Plan::HandBack { .. } => Some(Operation::HandBack),
        Plan::Cancel(_) => Some(Operation::Cancel),
        Plan::Reexecute(_) => Some(Operation::Reexecute),
        Plan::RunNow(_) => Some(Operation::RunNow),
        _ => None,
    }
}

fn settlements(claims: &[Claimed], outcomes: &[Outcome]) -> Vec<Settlement> {
    let settlements = claims.iter().zip(outcomes);
    let settlements = settlements.map(|((id, owner, attempt), outcome)| {
        Settlement::new(*id, *attempt, *owner, outcome.clone())
    });
    settlements.collect()
}
