//! How soon everything goes on after an outage that nothing else disturbs.

use std::time::Duration;

use serde::Serialize;

use super::{
    Result, Stage,
    faults::{Fault, Target},
    ledger::{self, Micros, What, now},
};

/// How long what came before may take to calm down.
const CALM: Duration = Duration::from_secs(8);
/// How long the server is away.
const AWAY: Duration = Duration::from_secs(4);
/// The first handler starts so long after an outage of refused connections at most.
const LIMIT: Duration = Duration::from_secs(2);
/// How long a handler is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Each reads all of the ledger, whose times are those that count.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// An outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Outage {
    pub(super) what: &'static str,
    /// From its end until the first handler started.
    pub(super) until_first_handler_ms: u64,
    pub(super) limit_ms: u64,
    /// How often workers asked the server for something in the busiest second of the outage and of the time
    /// after it.
    pub(super) busiest_second: u64,
}

impl Outage {
    pub(super) const fn holds(&self) -> bool {
        self.until_first_handler_ms <= self.limit_ms
    }
}

/// One after the other, while the application goes on.
pub(super) async fn measure(stage: &Stage) -> Result<Vec<Outage>> {
    let mut outages = Vec::new();
    if stage.has_server() {
        tokio::time::sleep(CALM).await;
        outages.push(refused(stage).await?);
    }
    // A server whose clock was moved would not end what waits for a client in vain.
    if !stage
        .windows
        .all()
        .iter()
        .any(|window| window.fault == Fault::Clock)
    {
        tokio::time::sleep(CALM).await;
        outages.push(dropped(stage).await?);
    }
    Ok(outages)
}

/// The server has crashed, so connections are refused.
async fn refused(stage: &Stage) -> Result<Outage> {
    let from = now();
    stage.server(|server| server.stop(true)).await?;
    tokio::time::sleep(AWAY).await;
    stage.server(|server| server.start_again()).await?;
    stage.windows.add(Fault::Crash, Target::All, from);
    seen(stage, "connections refused", from, LIMIT).await
}

/// Packets are dropped, for longer than a call may take; connections of before are dead ever after.
async fn dropped(stage: &Stage) -> Result<Outage> {
    let from = now();
    for way in &stage.ways {
        way.block(true);
    }
    tokio::time::sleep(stage.terms.call_timeout * 2).await;
    for way in &stage.ways {
        way.forget();
        way.block(false);
    }
    stage.windows.add(Fault::Forget, Target::All, from);
    let limit = stage.terms.call_timeout + LIMIT;
    seen(stage, "packets dropped", from, limit).await
}

/// What is seen of an outage that has begun, and has ended just now.
async fn seen(stage: &Stage, what: &'static str, begun: Micros, limit: Duration) -> Result<Outage> {
    let ended = now();
    let mut first = None;
    while first.is_none() && now() < ended + micros(PATIENCE) {
        tokio::time::sleep(LOOK_EVERY).await;
        first = first_begun(stage, ended)?;
    }
    // What others do who had to wait, too.
    tokio::time::sleep(LIMIT).await;
    let waited = first.map_or(micros(PATIENCE), |first| first - ended);
    Ok(Outage {
        what,
        until_first_handler_ms: waited / 1000,
        limit_ms: micros(limit) / 1000,
        busiest_second: stage.questions.busiest_second_since(begun),
    })
}

fn first_begun(stage: &Stage, since: Micros) -> Result<Option<Micros>> {
    let entries = ledger::read(&stage.terms.ledger)?;
    let begun = entries
        .iter()
        .filter(|entry| entry.at >= since && matches!(entry.what, What::Began { .. }));
    Ok(begun.map(|entry| entry.at).min())
}

fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}
