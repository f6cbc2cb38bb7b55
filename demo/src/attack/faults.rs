//! The faults, drawn by a seed, and when each was in force.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{
    Result, Stage,
    ledger::{Life, Micros, now},
};

/// The rest between two faults.
const REST: std::ops::Range<u64> = 200..1500;
/// How long a fault that ends is in force, but for those that have to outlast a lease.
const TIME: std::ops::Range<u64> = 100..2500;
/// How much later a slow way passes things on, in milliseconds.
const SLOW: std::ops::Range<u64> = 20..250;
/// How far the clock jumps at most, in seconds.
pub(super) const JUMP: i64 = 3600;

/// What can be done to workers, to their ways and to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(super) enum Fault {
    /// A worker is killed, and started again.
    Kill,
    /// A worker stands still for longer than a lease, and goes on.
    Freeze,
    /// A worker is stopped as a deployment does, and started again.
    Deploy,
    /// The connections of a worker are closed.
    Cut,
    /// Nothing comes through to a worker or from it for a while.
    Block,
    /// The same, and the connections of before stay dead.
    Forget,
    /// Everything is passed on late.
    Slow,
    /// The server ends all sessions, whatever they do.
    Terminate,
    /// The server is stopped as an administrator does, and started again.
    Restart,
    /// The server is killed, and started again.
    Crash,
    /// The clock of the server jumps, and jumps back. Only if it is asked for: a server whose clock is moved
    /// ends no transaction any more that waits for a client in vain, so what keeps clients away has to be
    /// left out.
    Clock,
    /// There is no room on the disk of the server.
    Disk,
}

impl Fault {
    /// Whether it is done to a worker's process, rather than to what lies behind it.
    const fn is_of_process(self) -> bool {
        matches!(self, Self::Kill | Self::Freeze | Self::Deploy)
    }

    /// Whether it takes a server that the attack has for itself.
    pub(super) const fn takes_private_server(self) -> bool {
        matches!(self, Self::Restart | Self::Crash | Self::Clock | Self::Disk)
    }

    /// Whether a run may begin while another of the same request still goes on: only where the other one
    /// cannot learn that its time is over, or the database was told that it is.
    pub(super) const fn lets_runs_overlap(self) -> bool {
        matches!(self, Self::Freeze | Self::Clock)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        f.write_str(name.as_ref().map_or("", |name| name.get_name()))
    }
}

/// On whom a fault was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// One process.
    Life(Life),
    /// The way of a worker, whichever of its lives it is.
    Way(usize),
    All,
}

impl Target {
    pub(super) fn is(self, life: Life) -> bool {
        match self {
            Self::Life(of) => of == life,
            Self::Way(worker) => worker == life.worker,
            Self::All => true,
        }
    }
}

/// A fault that was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) fault: Fault,
    pub(super) target: Target,
    pub(super) from: Micros,
    pub(super) until: Micros,
}

/// The faults so far.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<Vec<Window>>);

impl Windows {
    pub(super) fn add(&self, fault: Fault, target: Target, from: Micros) {
        let window = Window {
            fault,
            target,
            from,
            until: now(),
        };
        self.0.lock().push(window);
    }

    pub(super) fn all(&self) -> Vec<Window> {
        self.0.lock().clone()
    }
}

/// Does one fault after the other, until it is dropped; those of processes beside all others.
pub(super) async fn rage(stage: &Stage, faults: &[Fault], seed: u64) -> Result<()> {
    let (of_processes, others): (Vec<_>, Vec<_>) = faults
        .iter()
        .copied()
        .partition(|fault| fault.is_of_process());
    tokio::try_join!(
        rage_with(stage, &of_processes, StdRng::seed_from_u64(seed)),
        rage_with(stage, &others, StdRng::seed_from_u64(seed ^ u64::MAX)),
    )?;
    Ok(())
}

async fn rage_with(stage: &Stage, faults: &[Fault], mut dice: StdRng) -> Result<()> {
    loop {
        let rest = dice.random_range(REST);
        if !stage.rest(Duration::from_millis(rest)).await {
            return Ok(());
        }
        if let Some(&fault) = faults.choose(&mut dice) {
            inflict(stage, fault, &mut dice).await?;
        }
    }
}

async fn inflict(stage: &Stage, fault: Fault, dice: &mut StdRng) -> Result<()> {
    let number = dice.random_range(0..stage.workers.len());
    let time = Duration::from_millis(dice.random_range(TIME));
    let Some(worker) = stage.workers.get(number) else {
        return Ok(());
    };
    // One way in two is that of everybody.
    let is_everybodys = time.as_millis().is_multiple_of(2);
    let proxies = || {
        let ways = stage.ways.iter().enumerate();
        ways.filter(move |(at, _)| is_everybodys || *at == number)
            .map(|(_, way)| way)
    };
    let from = now();
    let mut target = Target::All;
    match fault {
        Fault::Kill => {
            let mut worker = worker.lock().await;
            target = Target::Life(worker.life);
            worker.kill()?;
            tokio::time::sleep(time / 4).await;
            worker.start()?;
        }
        Fault::Freeze => {
            let mut worker = worker.lock().await;
            target = Target::Life(worker.life);
            worker.freeze(true)?;
            tokio::time::sleep(stage.terms.lease + time).await;
            worker.freeze(false)?;
            // It learns only now what it has missed.
            tokio::time::sleep(stage.terms.lease / 2).await;
        }
        Fault::Deploy => {
            let mut worker = worker.lock().await;
            target = Target::Life(worker.life);
            worker.stop().await?;
            worker.start()?;
        }
        Fault::Cut => proxies().for_each(|way| way.cut()),
        Fault::Block | Fault::Forget => {
            proxies().for_each(|way| way.block(true));
            tokio::time::sleep(time).await;
            if fault == Fault::Forget {
                proxies().for_each(|way| way.forget());
            }
            proxies().for_each(|way| way.block(false));
        }
        Fault::Slow => {
            let delay = Duration::from_millis(dice.random_range(SLOW));
            proxies().for_each(|way| way.delay(delay));
            tokio::time::sleep(time).await;
            proxies().for_each(|way| way.delay(Duration::ZERO));
        }
        Fault::Terminate => {
            // The server may be unable to; then nobody has been ended.
            if let Ok(mut administrator) = stage.connect().await {
                drop(administrator.terminate_others().await);
            }
        }
        Fault::Restart | Fault::Crash => {
            stage
                .server(move |server| server.stop(fault == Fault::Crash))
                .await?;
            tokio::time::sleep(time).await;
            stage.server(|server| server.start_again()).await?;
        }
        Fault::Clock => {
            let jump = dice.random_range(-JUMP..=JUMP);
            stage.server(move |server| server.move_clock(jump)).await?;
            tokio::time::sleep(time).await;
            stage.server(|server| server.move_clock(0)).await?;
        }
        Fault::Disk => {
            stage.server(|server| server.fill_disk()).await?;
            tokio::time::sleep(time).await;
            stage.server(|server| server.free_disk()).await?;
        }
    }
    if matches!(
        fault,
        Fault::Cut | Fault::Block | Fault::Forget | Fault::Slow
    ) && !is_everybodys
    {
        target = Target::Way(number);
    }
    stage.windows.add(fault, target, from);
    Ok(())
}
