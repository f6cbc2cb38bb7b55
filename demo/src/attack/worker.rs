//! A worker: the process that is attacked. It has all handlers, and runs until it is told to stop.

use std::{io::Read as _, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use tidings::{
    ConcurrentScheduler, MySqlOptions, MySqlStore, PostgresOptions, PostgresStore, Raiser,
    Scheduler, Telemetry, store::Storer,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Result,
    handlers::{State, config},
    ledger::{Life, Writer},
};
use crate::{failure::Failure, place::Place, place::System, store::StoreUrl};

/// The name of the command that runs a worker.
pub(super) const COMMAND: &str = "attack-worker";
/// The prefix of the library's tables.
pub(super) const PREFIX: &str = "attack_";
/// Connections of a worker's store, without the one that listens.
pub(super) const CONNECTIONS: u32 = 8;
/// Connections of a worker's store for the calls of its scheduler.
pub(super) const SESSIONS: u32 = 4;
/// How long a shutdown may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);
/// How long a worker waits before it tries again to connect or to start.
const RETRY: Duration = Duration::from_millis(200);

/// Runs a worker of an attack.
#[derive(Debug, Args)]
pub(crate) struct WorkerOptions {
    #[arg(long, env = "TIDINGS_STORE", hide_env_values = true)]
    store: StoreUrl,
    #[arg(long)]
    worker: usize,
    #[arg(long)]
    life: u32,
    #[arg(long)]
    ledger: PathBuf,
    #[arg(long)]
    lease_millis: u64,
    #[arg(long)]
    call_millis: u64,
}

/// Works until SIGTERM, or until whoever started it has ended.
pub(crate) async fn run(options: &WorkerOptions) -> Result<(), Failure> {
    let Some(place) = Place::of(options.store.target()?) else {
        return Err(Failure::Attack("a worker needs a database".into()));
    };
    // A process that nobody directs any more would go on for ever, or stand still.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(|error| Failure::Attack(error.into()))?;
    std::thread::spawn(|| {
        drop(std::io::stdin().read(&mut [0]));
        std::process::exit(1);
    });
    work(options, &place).await.map_err(Failure::Attack)
}

async fn work(options: &WorkerOptions, place: &Place) -> Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let life = Life {
        worker: options.worker,
        number: options.life,
    };
    let lease = Duration::from_millis(options.lease_millis);
    let state = State {
        ledger: Arc::new(Writer::create(&options.ledger, life)?),
        long: lease * 3 / 2,
    };
    tokio::select! {
        scheduler = start(options, place, lease, &state) => {
            let scheduler = scheduler?;
            stop.recv().await;
            scheduler.shutdown(DEADLINE).await;
        }
        _ = stop.recv() => {}
    }
    Ok(())
}

/// Starts a scheduler, as soon as the database is there.
async fn start(
    options: &WorkerOptions,
    place: &Place,
    lease: Duration,
    state: &State,
) -> Result<ConcurrentScheduler> {
    loop {
        let (store, raiser) = match connect(place).await {
            Ok(connected) => connected,
            Err(error) if error.is_transient() => {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let scheduler = ConcurrentScheduler::builder(store, config(place.system, state)?)
            .lease(lease)
            .call_timeout(Duration::from_millis(options.call_millis))
            .raiser(raiser)
            .telemetry(Telemetry::disabled())
            .build()?;
        scheduler.start().await?;
        return Ok(scheduler);
    }
}

/// Makes the library's tables.
pub(super) async fn migrate(place: &Place) -> Result<()> {
    let url = &place.url;
    match place.system {
        System::Postgres => {
            let options = PostgresOptions::new().table_prefix(PREFIX);
            PostgresStore::connect(url, options)
                .await?
                .migrate()
                .await?;
        }
        System::MySql => {
            let options = MySqlOptions::new().table_prefix(PREFIX);
            MySqlStore::connect(url, options).await?.migrate().await?;
        }
        System::Sqlite => return Err("a file has no server that could be attacked".into()),
    }
    Ok(())
}

/// Opens the tables of the attack.
pub(super) async fn connect(place: &Place) -> tidings::Result<(Arc<dyn Storer>, Raiser)> {
    let url = &place.url;
    Ok(match place.system {
        System::Postgres | System::Sqlite => {
            let options = PostgresOptions::new()
                .table_prefix(PREFIX)
                .max_connections(CONNECTIONS)
                .session_connections(SESSIONS);
            let store = PostgresStore::connect(url, options).await?;
            let raiser = store.raiser();
            (Arc::new(store), raiser)
        }
        System::MySql => {
            let options = MySqlOptions::new()
                .table_prefix(PREFIX)
                .max_connections(CONNECTIONS)
                .session_connections(SESSIONS);
            let store = MySqlStore::connect(url, options).await?;
            let raiser = store.raiser();
            (Arc::new(store), raiser)
        }
    })
}
