//! The tests: many histories, the same ones twice, and stores that are broken.

#![expect(
    clippy::print_stdout,
    reason = "what was counted, and a history that was asked for"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;

use crate::{
    broken::Breakage,
    run::{Outcome, run},
    verdict::Wrong,
};

/// How many histories are run if nobody says how many: as many as an unoptimized build does in seconds.
/// `.ci/run` has the library optimized for them, and says a hundred thousand.
const HISTORIES: u64 = 1_000;
/// So many lines are shown of a history that went wrong, up to where it did.
const SHOWN: usize = 150;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")),
    )
}

/// Handlers panic on purpose, and say so to nobody.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&"simulated") {
                before(info);
            }
        }));
    });
}

fn fail(seed: u64, outcome: &Outcome) -> ! {
    let verdicts: Vec<_> = outcome.verdicts.iter().map(ToString::to_string).collect();
    let until = outcome.verdicts.first().map(|verdict| verdict.at);
    panic!(
        "the history of seed {seed} is wrong:\n{}\n\n{}\n\nall of it:\nTIDINGS_SIMULATION_SEED={seed} cargo test -p tidings \
         --features test-util --test simulation -- --nocapture",
        outcome.history.text(SHOWN, until),
        verdicts.join("\n"),
    );
}

/// Runs histories on all processors; answers what was counted.
fn run_many(seeds: std::ops::Range<u64>) -> BTreeMap<String, u64> {
    let next = AtomicU64::new(seeds.start);
    let stats = Mutex::new(BTreeMap::new());
    let wrong = Mutex::new(None::<(u64, Outcome)>);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut counted = BTreeMap::<String, u64>::new();
                while wrong.lock().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = run(seed, Breakage::None);
                    for (what, count) in &outcome.stats {
                        *counted.entry((*what).to_owned()).or_default() += count;
                    }
                    for (why, count) in &outcome.again {
                        let why = format!("ordinary runs again after {why}");
                        *counted.entry(why).or_default() += count;
                    }
                    *counted.entry("lines".to_owned()).or_default() += outcome.history.len() as u64;
                    if !outcome.verdicts.is_empty() {
                        wrong.lock().get_or_insert((seed, outcome));
                    }
                }
                let mut stats = stats.lock();
                for (what, count) in counted {
                    *stats.entry(what).or_default() += count;
                }
            });
        }
    });
    if let Some((seed, outcome)) = wrong.into_inner() {
        fail(seed, &outcome);
    }
    stats.into_inner()
}

#[test]
fn no_history_breaks_a_guarantee() {
    hush();
    if let Some(seed) = number("TIDINGS_SIMULATION_SEED") {
        let outcome = run(seed, Breakage::None);
        println!("{}", outcome.history.text(usize::MAX, None));
        if !outcome.verdicts.is_empty() {
            fail(seed, &outcome);
        }
        return;
    }
    let from = number("TIDINGS_SIMULATION_FROM").unwrap_or(0);
    let histories = number("TIDINGS_SIMULATION_HISTORIES").unwrap_or(HISTORIES);
    let begun = Instant::now();
    let stats = run_many(from..from + histories);
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{histories} histories in {took:.1} s, {:.0} a second",
        histories as f64 / took
    );
    for (what, count) in stats {
        println!("{count:>12} {what}");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    hush();
    for seed in 0..300 {
        let [first, second] = [(); 2].map(|()| run(seed, Breakage::None).history);
        let [first, second] = [first, second].map(|history| history.text(usize::MAX, None));
        if first == second {
            continue;
        }
        let differs = first
            .lines()
            .zip(second.lines())
            .position(|(one, other)| one != other);
        let line = differs.unwrap_or_default();
        let around = |text: &str| {
            let lines = text.lines().skip(line.saturating_sub(20)).take(25);
            lines.collect::<Vec<_>>().join("\n")
        };
        panic!(
            "seed {seed} has two histories, which differ in line {line}:\n{}\n\n{}",
            around(&first),
            around(&second)
        );
    }
}

/// What draws the branch that it polls first gives one seed several histories.
#[test]
fn no_select_draws_its_order() {
    let mut open = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut found, mut unordered) = (0, Vec::new());
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for select in text.split("tokio::select! {").skip(1) {
            found += 1;
            let code = |line: &&str| !line.is_empty() && !line.starts_with("//");
            if select.lines().map(str::trim).find(code) != Some("biased;") {
                unordered.push(path.clone());
            }
        }
    }
    // One of them is a test's of the SQL stores.
    unordered.retain(|path| !path.ends_with("sql/warm_pool.rs"));
    assert!(found > 30, "selects are not found any more: {found}");
    assert!(unordered.is_empty(), "{unordered:?}");
}

/// A store that is broken in one way is found by one of these verdicts.
fn finds(breakage: Breakage, expected: &[Wrong]) {
    /// So many histories at most; most are found within a few.
    const MOST: u64 = 2_000;
    hush();
    for seed in 0..MOST {
        let outcome = run(seed, breakage);
        if let Some(verdict) = outcome.verdicts.first() {
            println!("{breakage:?}: seed {seed}, {verdict}");
            assert!(expected.contains(&verdict.wrong), "seed {seed}: {verdict}");
            return;
        }
    }
    panic!("{breakage:?} was not found in {MOST} histories");
}

#[test]
fn a_store_that_ignores_the_fence_is_found() {
    finds(Breakage::IgnoresTheFence, &[Wrong::StaleSettlement]);
}

#[test]
fn a_store_that_completes_without_storing_is_found() {
    // It rescues what has completed.
    finds(Breakage::CompletesWithoutStoring, &[Wrong::GivenTwice]);
}

#[test]
fn a_store_that_loses_events_is_found() {
    finds(Breakage::LosesEvents, &[Wrong::Lost]);
}

#[test]
fn a_store_that_gives_one_claim_to_two_is_found() {
    finds(Breakage::ClaimsTwice, &[Wrong::GivenTwice]);
}

#[test]
fn a_store_that_repeats_settlements_is_found() {
    finds(Breakage::RepeatsSettlements, &[Wrong::StaleSettlement]);
}

#[test]
fn a_store_that_claims_the_worst_first_is_found() {
    finds(Breakage::ClaimsTheWorst, &[Wrong::Reordered]);
}

#[test]
fn a_store_that_counts_errors_for_hand_backs_is_found() {
    finds(
        Breakage::CountsHandBacks,
        &[Wrong::RowDiffers, Wrong::Reordered],
    );
}

#[test]
fn a_store_that_forgets_renewals_is_found() {
    finds(
        Breakage::ForgetsRenewals,
        &[Wrong::Stolen, Wrong::GivenTwice],
    );
}

#[test]
fn a_store_that_rescues_nothing_is_found() {
    finds(Breakage::RescuesNothing, &[Wrong::Lost]);
}

#[test]
fn a_store_that_rescues_late_is_found() {
    finds(Breakage::RescuesLate, &[Wrong::LateRescue]);
}

#[test]
fn a_store_that_stores_before_the_commit_is_found() {
    finds(Breakage::StoresBeforeCommits, &[Wrong::RolledBackYetSeen]);
}

#[test]
fn a_store_that_refuses_settlements_is_found() {
    finds(Breakage::RefusesSettlements, &[Wrong::RefusedSettlement]);
}
