//! What is told of an attack, on standard output and in a file.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
};

use serde::Serialize;

use super::{
    Result, Stage,
    faults::Fault,
    outages::Outage,
    verdict::{Evidence, Verdict},
    worker::{CONNECTIONS, SESSIONS},
};

/// Beside its pools a store has a connection that listens and one that renews leases, and one more may be
/// opened while another is closed.
const BESIDE_POOLS: usize = 3;

/// How many things that are wrong are printed.
const TOLD: usize = 20;

/// What came of an attack.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    stage: String,
    /// How often each fault was done.
    faults: BTreeMap<String, u64>,
    /// What was not done.
    left_out: Vec<String>,
    /// The most connections that a worker had at once.
    connections: usize,
    /// How often workers asked the server for something in the busiest second of a full drain.
    busiest_second_of_drain: u64,
    outages: Vec<Outage>,
    pub(super) verdict: Verdict,
}

impl Report {
    pub(super) fn new(
        stage: &Stage,
        seed: u64,
        mut verdict: Verdict,
        evidence: &Evidence,
        busiest_second_of_drain: u64,
        outages: Vec<Outage>,
        left_out: &[Fault],
    ) -> Self {
        let mut faults = BTreeMap::new();
        for window in &evidence.windows {
            *faults.entry(window.fault.to_string()).or_default() += 1;
        }
        let connections = stage.traffic().map(|traffic| traffic.most_open()).max();
        let connections = connections.unwrap_or_default();
        if connections > (CONNECTIONS + SESSIONS) as usize + BESIDE_POOLS {
            verdict.break_with(format!("a worker had {connections} connections"));
        }
        for outage in &outages {
            if !outage.holds() {
                verdict.break_with(format!("it took too long to go on: {outage:?}"));
            }
            // They are measured on a machine that does other things, too.
            if outage.busiest_second > busiest_second_of_drain * 5 / 4 {
                verdict.break_with(format!(
                    "more was asked of the server than a drain does: {outage:?}"
                ));
            }
        }
        Self {
            seed,
            stage: stage.summary(),
            faults,
            left_out: left_out.iter().map(Fault::to_string).collect(),
            connections,
            busiest_second_of_drain,
            outages,
            verdict,
        }
    }

    /// Writes it beside the ledger.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(fs::write(directory.join("verdict.json"), text)?)
    }

    /// Prints it for people.
    pub(super) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let verdict = &self.verdict;
        writeln!(out, "seed {}: {}", self.seed, self.stage)?;
        writeln!(out, "faults: {}", list(&self.faults))?;
        if !self.left_out.is_empty() {
            writeln!(out, "left out: {}", self.left_out.join(", "))?;
        }
        writeln!(out)?;
        for (name, count) in [
            ("orders committed", verdict.orders),
            (
                "orders committed whose answer was lost",
                verdict.committed_in_doubt,
            ),
            ("orders rolled back", verdict.rolled_back),
            ("events", verdict.events),
            ("handler requests", verdict.requests),
            ("  completed", verdict.completed),
            ("  dead, as they are meant to", verdict.dead),
            ("runs of handlers", verdict.runs),
            ("  failed, as they are meant to", verdict.failed_runs),
            ("lost", verdict.lost),
            ("duplicated effects", verdict.duplicated_effects),
        ] {
            writeln!(out, "{name:40} {count:>8}")?;
        }
        writeln!(out, "ran again, by reason: {}", list(&verdict.run_again))?;
        writeln!(
            out,
            "transactions taken back, by reason: {}",
            list(&verdict.taken_back)
        )?;
        writeln!(
            out,
            "runs at the same time, by reason: {}",
            list(&verdict.overlapping)
        )?;
        let excused = verdict.excused_errors.iter();
        let excused = excused.map(|(why, count)| ((*why).to_owned(), *count));
        writeln!(
            out,
            "errors that handlers did not make: {}",
            list(&excused.collect())
        )?;
        writeln!(
            out,
            "connections of a worker, at most: {}",
            self.connections
        )?;
        let busiest = self.busiest_second_of_drain;
        writeln!(
            out,
            "questions to the server in the busiest second of a drain: {busiest}"
        )?;
        for outage in &self.outages {
            let Outage {
                what,
                until_first_handler_ms: waited,
                limit_ms: limit,
                busiest_second: busiest,
            } = outage;
            writeln!(
                out,
                "{what}: the first handler started after {waited} ms (at most {limit}), {busiest} questions in the busiest second"
            )?;
        }
        writeln!(out)?;
        for broken in verdict.broken.iter().take(TOLD) {
            writeln!(out, "BROKEN: {broken}")?;
        }
        if verdict.broken.len() > TOLD {
            writeln!(out, "and more, see verdict.json")?;
        }
        if verdict.holds() {
            writeln!(out, "everything held")?;
        }
        Ok(())
    }
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let counts = counts.iter().map(|(name, count)| format!("{count} {name}"));
    counts.collect::<Vec<_>>().join(", ")
}
