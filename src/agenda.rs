//! When something is to be done next.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::signal::Signal;

/// One appointment, which anybody can bring forward and one task keeps.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    at: Mutex<Option<Instant>>,
    /// Raised whenever the appointment changes.
    changed: Signal,
}

impl Agenda {
    /// The time of the appointment, if there is one.
    pub(crate) fn at(&self) -> Option<Instant> {
        *self.at.lock()
    }

    /// Sets the appointment, unless there is an earlier one.
    pub(crate) fn bring_forward(&self, at: Instant) {
        let mut appointment = self.at.lock();
        if appointment.is_none_or(|earlier| at < earlier) {
            *appointment = Some(at);
            drop(appointment);
            self.changed.raise();
        }
    }

    /// Sets the appointment, whatever it was.
    pub(crate) fn set(&self, at: Instant) {
        *self.at.lock() = Some(at);
        self.changed.raise();
    }

    /// Whoever keeps the appointment begins: what is brought forward from now on is the next one.
    pub(crate) fn begin(&self) {
        *self.at.lock() = None;
    }

    /// Waits until the time has come. Cancellation safe.
    pub(crate) async fn due(&self) {
        loop {
            let changed = self.changed.seen();
            let changed = self.changed.changed_since(changed);
            match self.at() {
                None => changed.await,
                Some(at) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at) => return,
                    () = changed => {}
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_earliest_appointment_is_kept_also_when_it_is_made_last() {
        let (agenda, begun) = (Arc::new(Agenda::default()), Instant::now());
        let keeper = tokio::spawn({
            let agenda = Arc::clone(&agenda);
            async move { agenda.due().await }
        });
        tokio::task::yield_now().await;
        agenda.bring_forward(begun + 9 * SECOND);
        tokio::task::yield_now().await;
        agenda.bring_forward(begun + 3 * SECOND);
        agenda.bring_forward(begun + 6 * SECOND);
        keeper.await.unwrap();
        assert_eq!(begun.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn an_appointment_can_be_put_off() {
        let (agenda, begun) = (Agenda::default(), Instant::now());
        agenda.bring_forward(begun + SECOND);
        agenda.set(begun + 5 * SECOND);
        agenda.due().await;
        assert_eq!(begun.elapsed(), 5 * SECOND);
        agenda.begin();
        assert_eq!(agenda.at(), None);
    }
}
