//! Random operations on the in-memory store, with transactions, rollbacks and time, against a plain
//! model of it. The cases are the same in every run; a failing one is shrunk.
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
mod operation;
mod processing;

use proptest::{
    collection::vec,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{driver::Driver, operation::operation};

/// Enough that each bug which is put into the store on purpose is found, and some seconds at most.
const CASES: u32 = 400;
const MAX_OPERATIONS: usize = 60;

#[test]
fn the_store_does_what_the_model_does() {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let outcome = runner.run(&vec(operation(), 1..MAX_OPERATIONS), |operations| {
        runtime.block_on(async {
            let mut driver = Driver::new().await;
            for operation in operations {
                driver.run(operation).await;
            }
            driver.compare().await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
