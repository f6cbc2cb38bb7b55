//! When to stop: on Ctrl-C or SIGTERM. A second signal ends the process at once.
//!
//! Some that stop others signal the process and then its whole group, so what comes right after the
//! first signal is taken as the same one.

use std::{
    io, process,
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// Signals that come so close after the first are the same: nobody presses Ctrl-C twice so fast.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Why the demo stops before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl StopCause {
    /// The exit code of a process that was broken off by it.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Tells when to stop. Clones hear the same.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Sender<Option<StopCause>>);

impl Stop {
    /// Listens for signals from now on, until the process ends.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let mut signals = Signals::listen()?;
        let stop = Self(watch::Sender::new(None));
        let sender = stop.clone();
        tokio::spawn(async move {
            sender.stop(signals.next().await);
            let first = Instant::now();
            loop {
                let cause = signals.next().await;
                if first.elapsed() > SAME_SIGNAL {
                    // Asked twice: whatever hangs must not hang any longer.
                    process::exit(cause.exit_code().into());
                }
            }
        });
        Ok(stop)
    }

    /// Asks to stop; the first cause stays.
    pub(crate) fn stop(&self, cause: StopCause) {
        self.0.send_if_modified(|current| {
            let is_first = current.is_none();
            current.get_or_insert(cause);
            is_first
        });
    }

    /// Waits until it is time to stop. Cancellation safe.
    pub(crate) async fn requested(&self) -> StopCause {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(cause) = *receiver.borrow_and_update() {
                return cause;
            }
            // The sender lives as long as `self`, so this cannot fail.
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> StopCause {
        tokio::select! {
            _ = self.interrupt.recv() => StopCause::Interrupt,
            _ = self.terminate.recv() => StopCause::Terminate,
        }
    }
}

#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    close: tokio::signal::windows::CtrlClose,
}

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: tokio::signal::windows::ctrl_c()?,
            close: tokio::signal::windows::ctrl_close()?,
        })
    }

    async fn next(&mut self) -> StopCause {
        tokio::select! {
            _ = self.interrupt.recv() => StopCause::Interrupt,
            _ = self.close.recv() => StopCause::Terminate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_before_the_wait_is_not_lost_and_the_first_cause_stays() {
        let stop = Stop(watch::Sender::new(None));
        stop.clone().stop(StopCause::Terminate);
        stop.stop(StopCause::Interrupt);
        assert_eq!(stop.requested().await, StopCause::Terminate);
    }
}
