//! Several processes that work off one database, each a child of this one.

use tidings::EventId;

use super::{Library, Result};
use crate::bench::{
    costs::Measured,
    part::{Part, Told, fingerprint},
    patience::{PATIENCE, patiently},
};

/// What several processes did together.
#[derive(Debug)]
pub(in crate::bench) struct Shared {
    pub(in crate::bench) measured: Measured,
    /// How many requests each has executed.
    pub(in crate::bench) shares: Vec<u64>,
    /// The most memory in bytes that one of them had, if it is known.
    pub(in crate::bench) peak_memory: Option<f64>,
}

impl Library {
    /// Raises so many events before, and has them drained by so many processes.
    pub(in crate::bench) async fn drain_by_processes(
        &self,
        events: u64,
        processes: usize,
    ) -> Result<Shared> {
        let mut turn = self.turn().await?;
        let raised = turn.fill(events).await?;
        let watch = turn.begin().await?;
        let mut parts = Parts::spawn(self, processes)?;
        parts.until_ready().await?;
        let running = watch.start().await?;
        parts.start()?;
        if let Err(error) = parts.until_settled(events).await {
            let text = match turn.check_stored(&raised, 1).await {
                Ok(()) => format!("{error}; all requests are completed"),
                Err(found) => format!("{error}; {found}"),
            };
            return Err(text.into());
        }
        let mut stopped = running.stop().await?;
        stopped.forget_this_process().await;
        let (sum, shares, peak_memory) = parts.end().await?;
        let measured = turn.end_measurement(stopped).await?;
        check(&raised, sum, &shares)?;
        turn.check_stored(&raised, 1).await?;
        turn.end().await?;
        Ok(Shared {
            measured,
            shares,
            peak_memory,
        })
    }
}

/// What all processes have executed is each event once: it has their fingerprint.
fn check(raised: &[EventId], sum: u128, shares: &[u64]) -> Result<()> {
    let executed: u64 = shares.iter().sum();
    if (executed, sum) == (raised.len() as u64, fingerprint(raised)) {
        return Ok(());
    }
    let raised = raised.len();
    Err(format!("processes have executed {executed} requests of {raised}, or not each once").into())
}

/// Processes at work.
struct Parts {
    parts: Vec<Part>,
    /// How many requests each has executed.
    shares: Vec<u64>,
    told: tokio::sync::mpsc::UnboundedReceiver<(usize, Told)>,
}

impl Parts {
    fn spawn(library: &Library, processes: usize) -> Result<Self> {
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        let spawn = |number| Part::spawn(&library.place, number, tell.clone());
        let parts: Result<Vec<_>> = (0..processes).map(spawn).collect();
        Ok(Self {
            parts: parts?,
            shares: vec![0; processes],
            told,
        })
    }

    /// What one of them tells next, which it does for as long as it has something to do.
    async fn next(&mut self) -> Result<(usize, Told)> {
        let (number, told) = match patiently(PATIENCE, self.told.recv(), || ()).await? {
            Some((_, Told::Gone)) | None => {
                return Err("a process of the bench has ended early".into());
            }
            Some(told) => told,
        };
        if let (
            Told::Executed { count } | Told::Settled { count } | Told::Ended { count, .. },
            Some(share),
        ) = (&told, self.shares.get_mut(number))
        {
            *share = *count;
        }
        Ok((number, told))
    }

    async fn until_ready(&mut self) -> Result<()> {
        for _ in 0..self.parts.len() {
            self.next().await?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        for part in &mut self.parts {
            part.order()?;
        }
        Ok(())
    }

    /// Until they have settled so many requests together.
    async fn until_settled(&mut self, requests: u64) -> Result<()> {
        let mut settled = vec![0; self.parts.len()];
        while settled.iter().sum::<u64>() < requests {
            let (number, told) = match self.next().await {
                Ok(told) => told,
                Err(error) => {
                    let executed: u64 = self.shares.iter().sum();
                    return Err(format!(
                        "{error}: of {requests} requests processes have executed {executed}"
                    )
                    .into());
                }
            };
            if let (Told::Settled { count }, Some(known)) = (told, settled.get_mut(number)) {
                *known = count;
            }
        }
        Ok(())
    }

    /// Stops them; answers the sum of what they have executed, how many each has, and the most memory of one.
    async fn end(mut self) -> Result<(u128, Vec<u64>, Option<f64>)> {
        for part in &mut self.parts {
            part.order()?;
        }
        let (mut all, mut peak_memory) = (0_u128, Some(0.0));
        let mut open = self.parts.len();
        while open > 0 {
            let (_, Told::Ended { sum, peak, .. }) = self.next().await? else {
                continue;
            };
            all = all.wrapping_add(u128::from_str_radix(&sum, 16)?);
            peak_memory = peak_memory
                .zip(peak)
                .map(|(one, other): (f64, f64)| one.max(other));
            open -= 1;
        }
        for part in self.parts {
            patiently(PATIENCE, part.wait(), || ()).await??;
        }
        Ok((all, self.shares, peak_memory))
    }
}
