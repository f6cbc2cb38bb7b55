//! The rules as they are keep every guarantee, in every state of each scope.

use std::time::Instant;

use stateright::{Checker, Model};

use crate::{
    machine::{breakage::Rules, exploration::Exploration, scope::Scope, sight::Sight},
    scopes,
};

#[test]
fn zombies_and_late_settlements_change_nothing() {
    explore(
        scopes::zombies(),
        &[
            Sight::Zombie,
            Sight::ZombieOfItself,
            Sight::StaleArrival,
            Sight::UnknownClaim,
            Sight::DeadByErrors,
        ],
    );
}

#[test]
fn what_operators_do_holds_whatever_executes() {
    explore(
        scopes::operators(),
        &[
            Sight::CanceledWhileRunning,
            Sight::ReexecutedWhileRunning,
            Sight::StaleArrival,
        ],
    );
}

#[test]
fn every_answer_of_a_handler_is_settled_once() {
    explore(
        scopes::answers(),
        &[Sight::Zombie, Sight::StaleArrival, Sight::DeadByErrors],
    );
}

#[test]
fn a_transaction_takes_effect_once_wherever_it_is_cut_off() {
    explore(
        scopes::transactions(),
        &[
            Sight::LostCommitApplied,
            Sight::LostCommitUndone,
            Sight::LockedWhileLost,
            Sight::Zombie,
        ],
    );
}

#[test]
fn a_transaction_that_is_canceled_under_way_takes_no_effect() {
    explore(
        scopes::canceled_transactions(),
        &[Sight::CanceledWhileRunning, Sight::ReexecutedWhileRunning],
    );
}

#[test]
fn a_request_that_kills_its_processes_ends() {
    explore(scopes::crash_loop(), &[Sight::DeadByLostWorkers]);
}

#[test]
fn suspects_are_executed_one_at_a_time_and_end() {
    explore(scopes::suspects(), &[Sight::TwoSuspects]);
}

#[test]
fn a_renewed_lease_is_taken_by_nobody_whatever_clocks_show() {
    explore(scopes::renewals(), &[Sight::Zombie]);
}

#[test]
fn handlers_of_other_processes_get_what_they_registered_for() {
    explore(scopes::apart(), &[Sight::Overtaken]);
}

#[test]
fn events_are_processed_in_whatever_order_they_are_committed() {
    explore(scopes::commit_order(), &[Sight::CommittedOutOfOrder]);
}

#[test]
fn two_of_everything_come_to_an_end() {
    explore(scopes::two_of_everything(), &[Sight::CommittedOutOfOrder]);
}

/// Explores a scope to its end.
fn explore(scope: Scope, sights: &'static [Sight]) {
    let more = std::env::var("MODEL_MORE").map_or(0, |more| more.parse().expect("a number"));
    let scope = scope.with_more(more);
    let name = scope.name;
    let begin = Instant::now();
    let exploration = Exploration::new(scope, Rules::SOUND, sights);
    let checker = exploration.checker().spawn_bfs().join();
    checker.assert_properties();
    println!(
        "{name}: {} states, {} steps, at most {} deep, {:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begin.elapsed(),
    );
}
