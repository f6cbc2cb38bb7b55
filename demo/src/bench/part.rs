//! A process that is a part of a measurement: it has one scheduler, and nothing else that could take time or
//! memory. It is told by lines on standard input when to start and when to stop, and tells in lines of JSON
//! what it has done.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{
    Args,
    builder::{StringValueParser, TypedValueParser},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, EventId, Handler, HandlerError, Scheduler as _,
};
use tokio::sync::mpsc;

use super::{
    Result,
    bare::EVENT,
    costs::peak_memory,
    library::{PREFIX, SHUTDOWN, open},
};
use crate::place::Place;
use crate::{failure::Failure, store::StoreUrl};

/// What runs it; nobody else needs to know.
const COMMAND: &str = "bench-part";
/// How often it looks whether there is something to tell.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How often it tells how far it is while it has never been done.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A part of a measurement that the bench starts itself
#[derive(Debug, Args)]
pub(crate) struct PartOptions {
    #[arg(long, env = "TIDINGS_STORE", hide_env_values = true,
        value_parser = StringValueParser::new().map(StoreUrl::from))]
    store: StoreUrl,
}

/// What a part tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub(super) enum Told {
    /// It is connected and waits to be started.
    Ready,
    /// It has executed so many requests, and goes on.
    Executed { count: u64 },
    /// So many requests are settled.
    Settled { count: u64 },
    /// It has executed so many requests, whose ids come to this sum, and had at most so many bytes.
    Ended {
        count: u64,
        sum: String,
        peak: Option<f64>,
    },
    /// It says no more.
    Gone,
}

/// What stands for a set of ids: no other set of as many random ones has it.
pub(super) fn fingerprint(ids: &[EventId]) -> u128 {
    let numbers = ids.iter().map(|id| id.as_uuid().as_u128());
    numbers.fold(0, u128::wrapping_add)
}

/// How many events were handled, and their fingerprint.
type Handled = Arc<Mutex<(u64, u128)>>;

/// Is the part.
pub(crate) async fn run(options: &PartOptions) -> Result<(), Failure> {
    let target = options.store.target()?;
    let missing = || Failure::Bench("a part needs a database".into());
    let place = Place::of(target).ok_or_else(missing)?;
    work(&place).await.map_err(Failure::Bench)
}

async fn work(place: &Place) -> Result<()> {
    let store = open(place, PREFIX).await?;
    let handled = Handled::default();
    let scheduler = ConcurrentScheduler::builder(store.storer(), config(&handled)?).build()?;
    drop(store.storer().session().await?);
    let mut orders = orders();
    say(&Told::Ready)?;
    orders.recv().await;
    scheduler.start().await?;
    let (mut settled, mut told, mut told_at) = (0, 0, Instant::now());
    loop {
        tokio::select! {
            _ = orders.recv() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let (count, _) = *handled.lock();
        let status = scheduler.status();
        if count > settled && status.executing == 0 && status.settling == 0 {
            say(&Told::Settled { count })?;
            (settled, told, told_at) = (count, count, Instant::now());
        } else if count > told && told_at.elapsed() >= TELL_EVERY {
            say(&Told::Executed { count })?;
            (told, told_at) = (count, Instant::now());
        }
    }
    scheduler.shutdown(SHUTDOWN).await;
    let peak = peak_memory();
    store.close().await;
    let (count, sum) = *handled.lock();
    let sum = format!("{sum:x}");
    say(&Told::Ended { count, sum, peak })
}

fn config(handled: &Handled) -> Result<ConfigMap> {
    let handled = Arc::clone(handled);
    let handle = move |event: Arc<Event>, _: Context| {
        let mut handled = handled.lock();
        handled.0 += 1;
        handled.1 = handled.1.wrapping_add(event.id.as_uuid().as_u128());
        async { Ok::<_, HandlerError>(()) }
    };
    let handler = Handler::new("handler-1", handle).on(EVENT);
    Ok(ConfigMap::builder().handler(handler).build()?)
}

fn say(told: &Told) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(told)?)?;
    Ok(out.flush()?)
}

/// The lines of standard input; it ends with the process that started this one.
fn orders() -> mpsc::UnboundedReceiver<()> {
    let (order, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() || order.send(()).is_err() {
                return;
            }
        }
    });
    orders
}

/// A part, as the process sees it that has started it. It is ended when this is dropped.
#[derive(Debug)]
pub(super) struct Part {
    child: Child,
    orders: ChildStdin,
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has ended, or will not be missed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Part {
    /// Starts one on a database, which tells what it does with this number.
    pub(super) fn spawn(
        place: &Place,
        number: usize,
        tell: mpsc::UnboundedSender<(usize, Told)>,
    ) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            // Not in the arguments, which everybody can see.
            .env("TIDINGS_STORE", &place.url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("a part has no standard input")?;
        let said = child.stdout.take().ok_or("a part has no standard output")?;
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines() {
                let told = line.ok().and_then(|line| serde_json::from_str(&line).ok());
                let Some(told) = told else { break };
                let is_last = matches!(told, Told::Ended { .. });
                if tell.send((number, told)).is_err() || is_last {
                    return;
                }
            }
            // If nobody listens, nobody misses it.
            drop(tell.send((number, Told::Gone)));
        });
        Ok(Self { child, orders })
    }

    /// Tells it to start, and the next time to stop.
    pub(super) fn order(&mut self) -> Result<()> {
        writeln!(self.orders)?;
        Ok(self.orders.flush()?)
    }

    /// Waits until it has ended, which it does by itself when it has been told to stop.
    pub(super) async fn wait(mut self) -> Result<()> {
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("a part of the bench failed: {status}").into()),
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_twice_instead_of_another_has_another_fingerprint() {
        let (one, other) = (EventId::new(), EventId::new());
        assert_eq!(fingerprint(&[one, other]), fingerprint(&[other, one]));
        assert_ne!(fingerprint(&[one, other]), fingerprint(&[one, one]));
    }

    #[test]
    fn what_a_part_tells_is_understood() {
        let ended = Told::Ended {
            count: 3,
            sum: "ff".to_owned(),
            peak: None,
        };
        let (executed, settled) = (Told::Executed { count: 1 }, Told::Settled { count: 2 });
        for told in [Told::Ready, executed, settled, ended] {
            let line = serde_json::to_string(&told).unwrap();
            assert_eq!(serde_json::from_str::<Told>(&line).unwrap(), told);
        }
    }
}
