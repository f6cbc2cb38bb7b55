//! What work costs beside time: what is written, transactions, round trips, processor time, memory.

mod process;
mod server;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

pub(super) use self::process::peak_memory;
use self::server::{Reading, Server};
use super::{Result, proxy::Traffic};
use crate::place::Place;

/// How long it waits until nobody else is connected.
const QUIET_WITHIN: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Measures work on one database. Clones share the connection.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    server: Arc<Mutex<Server>>,
    /// What passes on the way to the server, where it is counted.
    traffic: Option<Arc<Traffic>>,
}

/// Work that has been measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) took: Duration,
    pub(super) costs: Costs,
}

/// What work has cost. What is unknown is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Costs {
    /// Bytes that the server has written to its log; with SQLite, bytes that this process has written.
    pub(super) written: Option<f64>,
    /// Transactions that were committed; with MySQL, those that have written.
    pub(super) transactions: Option<f64>,
    pub(super) trips: Option<f64>,
    pub(super) statements: Option<f64>,
    /// Seconds of processor time of this process.
    pub(super) cpu: Option<f64>,
    /// Seconds of processor time of all processes of the server.
    pub(super) server_cpu: Option<f64>,
    /// The most memory that this process had meanwhile, in bytes.
    pub(super) peak_memory: Option<f64>,
}

impl Meter {
    pub(super) async fn connect(place: &Place) -> Result<Self> {
        let server = Server::connect(place).await?;
        Ok(Self {
            server: Arc::new(Mutex::new(server)),
            traffic: None,
        })
    }

    /// The same, with a count of round trips and statements.
    pub(super) fn counting(&self, traffic: Arc<Traffic>) -> Self {
        Self {
            server: Arc::clone(&self.server),
            traffic: Some(traffic),
        }
    }

    /// Transactions are counted from here on. Whoever measures has closed all connections before, opens
    /// those of the work after, and then [starts](Watch::start).
    pub(super) async fn begin(&self) -> Result<Watch> {
        let transactions = self.transactions().await?;
        Ok(Watch {
            meter: self.clone(),
            transactions,
        })
    }

    /// So many so far; unknown while others are connected, whose processes may not have told theirs.
    async fn transactions(&self) -> Result<Option<f64>> {
        let mut server = self.server.lock().await;
        let give_up_at = Instant::now() + QUIET_WITHIN;
        while !server.is_quiet().await? {
            if Instant::now() > give_up_at {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(server.read().await?.transactions)
    }

    /// Round trips and statements so far.
    fn traffic(&self) -> (Option<f64>, Option<f64>) {
        let traffic = self.traffic.as_ref();
        let trips = traffic.map(|traffic| traffic.trips() as f64);
        (trips, traffic.map(|traffic| traffic.statements() as f64))
    }
}

/// A measurement that is prepared.
#[derive(Debug)]
#[must_use]
pub(super) struct Watch {
    meter: Meter,
    transactions: Option<f64>,
}

/// A measurement under way.
#[derive(Debug)]
#[must_use]
pub(super) struct Running {
    watch: Watch,
    before: Reading,
    traffic: (Option<f64>, Option<f64>),
    has_peak: bool,
    cpu: Option<Duration>,
    begun: Instant,
}

/// A measurement whose work is done.
#[derive(Debug)]
#[must_use]
pub(super) struct Stopped {
    watch: Watch,
    measured: Measured,
}

impl Watch {
    /// The work begins.
    pub(super) async fn start(self) -> Result<Running> {
        let before = self.meter.server.lock().await.read().await?;
        Ok(Running {
            traffic: self.meter.traffic(),
            has_peak: process::forget_peak_memory(),
            cpu: process::cpu_time(),
            begun: Instant::now(),
            watch: self,
            before,
        })
    }
}

impl Running {
    /// The work is done.
    pub(super) async fn stop(self) -> Result<Stopped> {
        let took = self.begun.elapsed();
        let cpu = process::cpu_time();
        let peak_memory = peak_memory().filter(|_| self.has_peak);
        let (trips, statements) = self.watch.meter.traffic();
        let after = self.watch.meter.server.lock().await.read().await?;
        let seconds = |after: Option<Duration>, before: Option<Duration>| {
            Some(after?.saturating_sub(before?).as_secs_f64())
        };
        let costs = Costs {
            written: difference(after.written, self.before.written),
            transactions: None,
            trips: difference(trips, self.traffic.0),
            statements: difference(statements, self.traffic.1),
            cpu: seconds(cpu, self.cpu),
            server_cpu: seconds(after.cpu, self.before.cpu),
            peak_memory,
        };
        Ok(Stopped {
            watch: self.watch,
            measured: Measured { took, costs },
        })
    }
}

impl Stopped {
    /// Other processes have done the work, so what this one used says nothing.
    pub(super) async fn forget_this_process(&mut self) {
        let costs = &mut self.measured.costs;
        (costs.cpu, costs.peak_memory) = (None, None);
        if self.watch.meter.server.lock().await.is_this_process() {
            costs.written = None;
        }
    }

    /// All connections of the work are closed.
    pub(super) async fn end(self) -> Result<Measured> {
        let transactions = self.watch.meter.transactions().await?;
        let mut measured = self.measured;
        measured.costs.transactions = difference(transactions, self.watch.transactions);
        Ok(measured)
    }
}

fn difference(after: Option<f64>, before: Option<f64>) -> Option<f64> {
    Some(after? - before?)
}
