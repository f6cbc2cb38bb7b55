//! The workers of an attack: processes that are started, killed, frozen and stopped.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Result, clock,
    ledger::Life,
    proxy::Proxy,
    worker::{COMMAND, DEADLINE},
};
use crate::place::Place;

/// How long after its deadline a worker may still be there.
const GRACE: Duration = Duration::from_secs(5);
/// How far the clock of a worker is from that of the server at most, in seconds.
const CLOCK: std::ops::RangeInclusive<i64> = -86_400..=86_400;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How workers are started.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) ledger: PathBuf,
    pub(super) lease: Duration,
    pub(super) call_timeout: Duration,
}

/// A worker: at most one process at a time, and its way to the server.
#[derive(Debug)]
pub(super) struct Worker {
    terms: Terms,
    /// Draws how far the clock of each life is from that of the server.
    dice: StdRng,
    pub(super) proxy: Arc<Proxy>,
    pub(super) life: Life,
    child: Option<Child>,
}

impl Worker {
    pub(super) async fn new(number: usize, place: &Place, terms: Terms, seed: u64) -> Result<Self> {
        Ok(Self {
            terms,
            dice: StdRng::seed_from_u64(seed ^ number as u64),
            proxy: Arc::new(Proxy::before(place).await?),
            life: Life {
                worker: number,
                number: 0,
            },
            child: None,
        })
    }

    /// Starts its next life.
    pub(super) fn start(&mut self) -> Result<()> {
        self.life.number += 1;
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(library) = clock::library() {
            let seconds = self.dice.random_range(CLOCK);
            clock::set_ahead(&mut command, &library, seconds);
        }
        let child = command
            .arg(COMMAND)
            .args(["--worker", &self.life.worker.to_string()])
            .args(["--life", &self.life.number.to_string()])
            .arg("--ledger")
            .arg(&self.terms.ledger)
            .args(["--lease-millis", &self.terms.lease.as_millis().to_string()])
            .args([
                "--call-millis",
                &self.terms.call_timeout.as_millis().to_string(),
            ])
            // Not in the arguments, which everybody can see.
            .env("TIDINGS_STORE", &self.proxy.place.url)
            .stdin(Stdio::piped())
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// Fails if its process has ended by itself, which no fault may make it do.
    pub(super) fn check(&mut self) -> Result<()> {
        let status = match &mut self.child {
            Some(child) => child.try_wait()?,
            None => None,
        };
        match status {
            Some(status) => Err(format!("a worker ended by itself: {status}").into()),
            None => Ok(()),
        }
    }

    /// Ends it in the middle of whatever it does.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.check()?;
        self.send(Signal::SIGKILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Lets it stand still, or go on.
    pub(super) fn freeze(&mut self, freezes: bool) -> Result<()> {
        self.check()?;
        self.send(if freezes {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        })
    }

    /// Stops it as a deployment does; it fails if the process does not end in time, or not well.
    pub(super) async fn stop(&mut self) -> Result<()> {
        self.check()?;
        self.send(Signal::SIGTERM)?;
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let ended = tokio::time::timeout(DEADLINE + GRACE, ended(&mut child)).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(status) => Err(format!("a worker that was stopped ended with {:?}", status?).into()),
            Err(_) => {
                child.kill()?;
                child.wait()?;
                Err("a worker did not end within its deadline".into())
            }
        }
    }

    fn send(&self, signal: Signal) -> Result<()> {
        if let Some(child) = &self.child {
            kill(Pid::from_raw(child.id().cast_signed()), signal)?;
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It is not missed.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

async fn ended(child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
