//! An attack on the guarantees: workers under faults, a ledger outside of the database, and a verdict.

mod clock;
mod faults;
mod handlers;
mod ledger;
mod options;
mod orders;
mod outages;
mod proxy;
mod questions;
mod report;
mod server;
mod stage;
mod team;
mod verdict;
mod worker;

use std::{error::Error, fs, path::Path, sync::Arc};

use self::{
    faults::{Fault, rage},
    report::Report,
    stage::Stage,
    verdict::Verdict,
};
pub(crate) use self::{
    options::AttackOptions,
    worker::{WorkerOptions, run as run_worker},
};
use crate::failure::Failure;

/// Whatever went wrong beside what was attacked.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Attacks, and prints the verdict.
pub(crate) async fn run(options: &AttackOptions) -> Result<(), Failure> {
    let report = attack(options).await.map_err(Failure::Attack)?;
    report.print().map_err(Failure::Output)?;
    match report.verdict.holds() {
        true => Ok(()),
        false => Err(Failure::Broken(report.verdict.broken.len())),
    }
}

async fn attack(options: &AttackOptions) -> Result<Report> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let ledger = options.report.join("ledger");
    clear(&options.report)?;
    fs::create_dir_all(&ledger)?;
    let stage = Arc::new(Stage::set(options, ledger, seed).await?);
    tell(&format!("seed {seed}: {}", stage.summary()));
    if stage.possible(&options.only).is_empty() {
        return Err("nothing of what is asked for can be done here".into());
    }
    stage.fill().await?;
    stage.start_workers().await?;
    let drained = stage.drain().await?;
    let application = stage.start_application();
    tell("the faults begin");
    stage.begin(options.time());
    let faults = stage.possible(&options.only);
    rage(&stage, &faults, seed).await?;
    stage.catch_up(&faults).await?;
    tell("the faults have ended; outages follow that nothing else disturbs");
    let outages = outages::measure(&stage).await?;
    stage.stop_application(application).await?;
    tell("the application has ended; what is left is handled");
    let is_drained = stage.drain_at_last().await?;
    stage.stop_workers().await?;
    let evidence = stage.evidence().await?;
    let mut verdict = Verdict::of(&evidence);
    if !is_drained {
        verdict.break_with("not everything came to its end in time".to_owned());
    }
    let left_out = stage.left_out(&options.only);
    let report = Report::new(
        &stage, seed, verdict, &evidence, drained, outages, &left_out,
    );
    report.write(&options.report)?;
    Ok(report)
}

/// Makes room for a report, where there is nothing or another report.
fn clear(report: &Path) -> Result<()> {
    if !report.exists() {
        return Ok(());
    }
    let is_report = report.join("ledger").is_dir();
    if !is_report && fs::read_dir(report)?.next().is_some() {
        let report = report.display();
        return Err(format!("{report} is there and has no report; name another directory").into());
    }
    Ok(fs::remove_dir_all(report)?)
}

/// Says what it is at.
fn tell(what: &str) {
    use std::io::Write as _;
    // What nobody reads changes nothing.
    drop(writeln!(std::io::stderr(), "attack: {what}"));
}

/// All faults, as they are drawn when none are named.
fn all_faults() -> impl Iterator<Item = Fault> {
    use clap::ValueEnum as _;
    Fault::value_variants().iter().copied()
}
