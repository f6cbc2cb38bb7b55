//! The stage of an attack: the server, the workers and their ways, the application, and what is known of them.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt as _;
use parking_lot::Mutex as SyncMutex;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tidings::{
    EventId, Raiser,
    sqlx::types::Uuid,
    store::{EventFilter, RequestFilter},
};
use tokio::{sync::Mutex, task::JoinHandle, time::Instant};

use super::{
    AttackOptions, Result, all_faults, clock,
    faults::{self, Fault, Target, Windows},
    handlers::NOTES,
    ledger::{self, What},
    orders::{Application, Fate},
    proxy::{Proxy, Traffic},
    questions::Questions,
    server::Server,
    team::{Terms, Worker},
    verdict::{Evidence, StoredEvent},
    worker::{PREFIX, connect},
};
use crate::{
    bench,
    place::{Place, System},
};

/// Orders that wait when the workers start: handling them shows how much they can ask of a server.
const BACKLOG: u32 = 3000;
/// How many connections the application has.
const RAISERS: u32 = 4;
/// One order in so many is rolled back.
const ROLLED_BACK: u32 = 8;
/// How long everything may take to come to its end: requests back off, and wait for leases.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Everything that is on the stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) terms: Terms,
    place: Place,
    pub(super) workers: Vec<Mutex<Worker>>,
    /// The ways of the workers, and behind them that of the application.
    pub(super) ways: Vec<Arc<Proxy>>,
    pub(super) questions: Questions,
    server: Option<Arc<Server>>,
    pub(super) windows: Windows,
    rate: u32,
    seed: u64,
    ends_at: SyncMutex<Option<Instant>>,
    fates: SyncMutex<HashMap<Uuid, Fate>>,
    is_closed: AtomicBool,
}

impl Stage {
    pub(super) async fn set(options: &AttackOptions, ledger: PathBuf, seed: u64) -> Result<Self> {
        let (server, place) = match (options.server, &options.store) {
            (Some(kind), _) => {
                let server = Server::start(kind, options.only.contains(&Fault::Clock))?;
                let place = server.place.clone();
                (Some(Arc::new(server)), place)
            }
            (None, Some(store)) => {
                let place = Place::of(store.target()?);
                (
                    None,
                    place.ok_or("what is in memory survives nothing; give a database")?,
                )
            }
            (None, None) => return Err("give --store or --server".into()),
        };
        if place.system == System::Sqlite {
            return Err(
                "a file has no server that could be attacked; give --server, or another --store"
                    .into(),
            );
        }
        bench::drop_tables(&place, PREFIX).await?;
        Application::connect(&place).await?.make_tables().await?;
        // Makes the library's tables.
        super::worker::migrate(&place).await?;
        let terms = Terms {
            ledger,
            lease: options.lease(),
            call_timeout: options.call_timeout(),
        };
        let (mut workers, mut ways) = (Vec::new(), Vec::new());
        for number in 0..options.workers.into() {
            let worker = Worker::new(number, &place, terms.clone(), seed).await?;
            ways.push(Arc::clone(&worker.proxy));
            workers.push(Mutex::new(worker));
        }
        let traffic = ways.iter().map(|way: &Arc<Proxy>| Arc::clone(&way.traffic));
        let questions = Questions::count(traffic.collect());
        ways.push(Arc::new(Proxy::before(&place).await?));
        Ok(Self {
            terms,
            place,
            workers,
            ways,
            questions,
            server,
            windows: Windows::default(),
            rate: options.orders,
            seed,
            ends_at: SyncMutex::new(None),
            fates: SyncMutex::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// What is attacked, for people.
    pub(super) fn summary(&self) -> String {
        let (workers, system) = (self.workers.len(), self.place.system);
        let own = if self.server.is_some() {
            " of its own"
        } else {
            ""
        };
        let clocks = match clock::library() {
            Some(_) => ", each with a clock of its own",
            None => "",
        };
        format!("{workers} workers{clocks}, on a server of {system:?}{own}")
    }

    /// Which faults can be done here, and which are asked for.
    pub(super) fn possible(&self, only: &[Fault]) -> Vec<Fault> {
        let server = self.server.as_ref();
        let is_possible = |fault: &Fault| match fault {
            Fault::Disk => server.is_some_and(|server| server.has_disk()),
            Fault::Clock => server.is_some_and(|server| server.has_clock()),
            fault => !fault.takes_private_server() || server.is_some(),
        };
        all_faults()
            .filter(|fault| only.is_empty() || only.contains(fault))
            .filter(is_possible)
            .collect()
    }

    /// The faults that were not done.
    pub(super) fn left_out(&self, only: &[Fault]) -> Vec<Fault> {
        let possible = self.possible(only);
        all_faults()
            .filter(|fault| !possible.contains(fault))
            .collect()
    }

    /// From now on the faults have so much time.
    pub(super) fn begin(&self, time: Duration) {
        *self.ends_at.lock() = Some(Instant::now() + time);
    }

    /// Rests; false when the time of the faults is over.
    pub(super) async fn rest(&self, time: Duration) -> bool {
        tokio::time::sleep(time).await;
        self.ends_at
            .lock()
            .is_none_or(|ends_at| Instant::now() < ends_at)
    }

    /// A connection past all ways.
    pub(super) async fn connect(&self) -> Result<Application> {
        Application::connect(&self.place).await
    }

    /// Does something to the server that takes a while.
    pub(super) async fn server(
        &self,
        act: impl FnOnce(&Server) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let server = self.server.clone().ok_or("the server is not one's own")?;
        tokio::task::spawn_blocking(move || act(&server)).await?
    }

    pub(super) const fn has_server(&self) -> bool {
        self.server.is_some()
    }

    /// What has gone through the ways of the workers.
    pub(super) fn traffic(&self) -> impl Iterator<Item = &Traffic> {
        let workers = self.workers.len();
        self.ways.iter().take(workers).map(|way| &*way.traffic)
    }

    /// Orders for the workers to begin with.
    pub(super) async fn fill(&self) -> Result<()> {
        let (_store, raiser) = connect(&self.place).await?;
        let mut application = self.connect().await?;
        for _ in 0..BACKLOG {
            self.order(&mut application, &raiser, true).await;
        }
        Ok(())
    }

    pub(super) async fn start_workers(&self) -> Result<()> {
        for worker in &self.workers {
            worker.lock().await.start()?;
        }
        Ok(())
    }

    pub(super) async fn stop_workers(&self) -> Result<()> {
        for worker in &self.workers {
            worker.lock().await.stop().await?;
        }
        Ok(())
    }

    /// Waits until the first orders are handled, and answers how often workers asked the server for
    /// something in the second in which they did so the most.
    pub(super) async fn drain(&self) -> Result<u64> {
        let (begun, from) = (Instant::now(), ledger::now());
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for worker in &self.workers {
                worker.lock().await.check()?;
            }
            if self.count_runs(NOTES)? >= BACKLOG as usize {
                return Ok(self.questions.busiest_second_since(from));
            }
            if begun.elapsed() > PATIENCE {
                return Err("the workers do not get their first orders done".into());
            }
        }
    }

    fn count_runs(&self, wanted: &str) -> Result<usize> {
        let entries = ledger::read(&self.terms.ledger)?;
        let is_run = |what: &What| matches!(what, What::Began { handler, .. } if handler == wanted);
        Ok(entries.iter().filter(|entry| is_run(&entry.what)).count())
    }

    /// Stores an order, and notes what became of it; false if the connection is of no use any more.
    async fn order(&self, application: &mut Application, raiser: &Raiser, commits: bool) -> bool {
        let id = EventId::new();
        let (fate, is_usable) = application.order(raiser, id, commits).await;
        self.fates.lock().insert(id.as_uuid(), fate);
        is_usable
    }

    /// The application, which orders until it is stopped.
    pub(super) fn start_application(self: &Arc<Self>) -> Vec<JoinHandle<Result<()>>> {
        let raisers = 0..RAISERS;
        raisers
            .map(|number| tokio::spawn(Arc::clone(self).orders(number)))
            .collect()
    }

    async fn orders(self: Arc<Self>, number: u32) -> Result<()> {
        let mut dice = StdRng::seed_from_u64(self.seed.wrapping_add(number.into()));
        let pause = Duration::from_secs(1) * RAISERS / self.rate;
        let (_store, raiser) = connect(&self.place).await?;
        let place = self.ways.last().ok_or("there is no way")?.place.clone();
        while !self.is_closed.load(Ordering::Relaxed) {
            // The database is away, perhaps.
            let Ok(mut application) = Application::connect(&place).await else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            while !self.is_closed.load(Ordering::Relaxed) {
                let commits = dice.random_range(0..ROLLED_BACK) > 0;
                let is_usable = self.order(&mut application, &raiser, commits).await;
                tokio::time::sleep(pause).await;
                if !is_usable {
                    break;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn stop_application(
        &self,
        application: Vec<JoinHandle<Result<()>>>,
    ) -> Result<()> {
        self.is_closed.store(true, Ordering::Relaxed);
        for raiser in application {
            raiser.await??;
        }
        Ok(())
    }

    /// What was put off, or leased, while the clock was ahead, would wait until it is that late: lets it be.
    pub(super) async fn catch_up(&self, faults: &[Fault]) -> Result<()> {
        if faults.contains(&Fault::Clock) {
            let (from, later) = (ledger::now(), faults::JUMP + 60);
            self.server(move |server| server.move_clock(later)).await?;
            self.windows.add(Fault::Clock, Target::All, from);
        }
        Ok(())
    }

    /// Waits until nothing is left to be done; false if that takes too long.
    pub(super) async fn drain_at_last(&self) -> Result<bool> {
        let (store, _) = connect(&self.place).await?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let mut session = store.session().await?;
            let events = session.events().count_unprocessed().await?;
            if events == 0 && session.handler_requests().count_unexecuted().await? == 0 {
                return Ok(true);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(false)
    }

    /// Everything that is known now.
    pub(super) async fn evidence(&self) -> Result<Evidence> {
        let (store, _) = connect(&self.place).await?;
        let mut application = self.connect().await?;
        let mut session = store.session().await?;
        let mut repository = session.events();
        let events = repository.stream(&EventFilter::default());
        let events: Vec<_> = events
            .map_ok(|stored| StoredEvent {
                id: stored.event.id.as_uuid(),
                name: stored.event.name.to_string(),
                cause: stored.event.causation_id.map(|id| id.as_uuid()),
            })
            .try_collect()
            .await?;
        drop(repository);
        let mut repository = session.handler_requests();
        let requests = repository.stream(&RequestFilter::default());
        let requests = requests.try_collect().await?;
        let fates = self.fates.lock().clone();
        Ok(Evidence {
            entries: ledger::read(&self.terms.ledger)?,
            windows: self.windows.all(),
            fates,
            orders: application.orders().await?.into_iter().collect(),
            events,
            requests,
            effects: application.effects().await?,
        })
    }
}
