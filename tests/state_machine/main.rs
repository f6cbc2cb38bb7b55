//! Random operations on the in-memory store, with transactions, rollbacks and time, against a plain
//! model of it. The cases are the same in every run; a failing one is shrunk.
//!
//! `STATE_MACHINE_SEED` gives other cases, `STATE_MACHINE_CASES` more or fewer. A failure names both.
#![cfg(feature = "test-util")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod administration;
mod comparison;
mod driver;
mod execution;
mod model;
mod one_request;
mod operation;
mod past_events;
mod processing;

use std::{fmt::Debug, str::FromStr};

use proptest::{
    collection::vec,
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{driver::Driver, operation::operation};

/// Enough that each bug which is put into the store on purpose is found, and some seconds at most.
const CASES: u32 = 400;
/// One request is quick, and its fourth rescue is rare.
const REQUEST_CASES: u32 = 5000;
const SEED: u64 = 0;
const MAX_OPERATIONS: usize = 60;

#[test]
fn the_store_does_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    check(CASES, operation(), |operations| {
        runtime.block_on(async {
            let mut driver = Driver::new().await;
            for operation in operations {
                driver.run(operation).await;
            }
            driver.compare().await;
        });
    });
}

#[test]
fn a_request_does_what_a_machine_of_plain_enums_does() {
    check(REQUEST_CASES, one_request::step(), |steps| {
        one_request::run(&steps)
    });
}

/// Runs random sequences; a failure names how to get them again.
fn check<S: Strategy>(cases: u32, step: S, run: impl Fn(Vec<S::Value>)) {
    let seed = setting("STATE_MACHINE_SEED").unwrap_or(SEED);
    let cases = setting("STATE_MACHINE_CASES").unwrap_or(cases);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng(seed));
    let outcome = runner.run(&vec(step, 1..MAX_OPERATIONS), |steps| {
        run(steps);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("STATE_MACHINE_SEED={seed} STATE_MACHINE_CASES={cases}: {error}");
    }
}

/// A number from the environment; one that is no number must not go unseen.
fn setting<T: FromStr>(name: &str) -> Option<T>
where
    T::Err: Debug,
{
    let text = std::env::var_os(name)?;
    Some(text.to_str().unwrap().parse().unwrap())
}

fn rng(seed: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}
