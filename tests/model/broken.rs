//! Each rule that is broken on purpose breaks a guarantee, and the checker finds the shortest way there.
//! A test fails when the checker finds nothing, when another guarantee breaks earlier, or when the way
//! is not the shortest one any more.

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    machine::{
        breakage::{Breakage, Rules},
        exploration::Exploration,
        law::Law,
        scope::Scope,
    },
    scopes,
};

macro_rules! broken {
    ($($test:ident: $breakage:ident in $scope:ident breaks $law:ident after $steps:literal,)*) => {
        $(
            #[test]
            fn $test() {
                find(Breakage::$breakage, scopes::$scope(), Law::$law, $steps);
            }
        )*

        /// So that none is forgotten.
        #[test]
        fn every_breakage_is_looked_for() {
            let looked_for = [$(Breakage::$breakage),*];
            for breakage in Breakage::ALL {
                assert!(looked_for.contains(breakage), "{breakage:?}");
            }
        }
    };
}

broken! {
    a_settlement_without_a_fence_settles_anothers_execution:
        NoFence in zombies breaks Fence after 9,
    a_settlement_by_id_undoes_a_cancel:
        SettleById in canceled breaks CancelHolds after 7,
    a_lost_answer_that_is_taken_for_a_failure_leaves_two_outcomes_under_way:
        LostAnswerTakenForFailure in lost_answers breaks Fence after 8,
    a_lost_commit_that_is_taken_for_a_failure_undoes_what_was_committed:
        LostAnswerTakenForFailure in lost_commits breaks EndsHold after 9,
    a_process_whose_clock_is_ahead_takes_what_another_holds:
        ProcessClock in renewals breaks OneOwner after 6,
    a_rescue_that_keeps_the_attempt_leaves_the_fence_where_it_was:
        RescueKeepsTheAttempt in zombies breaks AttemptGrows after 6,
    a_hand_back_that_keeps_the_attempt_leaves_the_fence_where_it_was:
        HandBackKeepsTheAttempt in answers breaks AttemptGrows after 5,
    a_reexecution_that_resets_the_attempt_opens_the_fence_to_the_past:
        ReexecuteResetsTheAttempt in operators breaks AttemptGrows after 5,
    a_rescue_that_ignores_renewals_takes_what_a_process_holds:
        RescueIgnoresRenewals in renewals breaks OneOwner after 9,
    a_renewal_without_a_fence_keeps_anothers_lease:
        RenewalWithoutFence in renewals breaks Fence after 10,
    a_rescue_that_counts_an_error_makes_requests_pay_for_deployments:
        RescueAlwaysCounts in zombies breaks RescueIsFree after 6,
    a_request_that_kills_its_processes_must_pay_for_it_in_the_end:
        RescueNeverCounts in crash_loop breaks NeverLost after 1,
    suspects_that_are_claimed_together_take_each_other_along:
        SuspectsTogether in suspects breaks SuspectsAlone after 17,
    a_settlement_outside_the_transaction_leaves_writes_without_it:
        SettledOutsideTheTransaction in transactions breaks EffectivelyOnce after 6,
    an_event_that_is_marked_before_its_requests_are_made_loses_them:
        ProcessedBeforeItsRequests in apart breaks NeverLost after 4,
    a_fan_out_by_own_handlers_misses_those_of_other_processes:
        FanOutByOwnHandlers in apart breaks NeverLost after 1,
    a_position_by_sequence_skips_what_is_committed_late:
        PositionBySequence in commit_order breaks NeverLost after 4,
    an_uncommitted_read_shows_what_is_rolled_back:
        UncommittedRead in commit_order breaks RolledBackUnseen after 2,
    a_fan_out_that_replaces_requests_runs_them_again:
        FanOutReplaces in apart breaks AttemptGrows after 8,
    a_claim_of_any_handler_takes_what_the_process_cannot_run:
        ClaimOfAnyHandler in apart breaks OwnHandlers after 5,
    a_claim_that_does_not_look_for_ends_runs_what_was_canceled:
        ClaimTakesTheCanceled in operators breaks CancelHolds after 5,
    a_cancel_that_spares_what_executes_does_not_hold:
        CancelSparesTheExecuting in operators breaks CancelHolds after 5,
    one_error_more_than_the_maximum_is_too_many:
        OneErrorMore in zombies breaks MaxErrors after 10,
}

/// How much is shown of what goes round in a circle.
const LINES: usize = 30;

/// Explores until a guarantee is broken: it must be this one, after so many steps.
fn find(breakage: Breakage, scope: Scope, law: Law, steps: usize) {
    let exploration = Exploration::new(scope, Rules(Some(breakage)), &[]);
    let checker = exploration.checker();
    let checker = checker
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut found = checker.discoveries();
    println!("{breakage:?} breaks, first of all:");
    for (name, path) in &found {
        println!("  {name}");
        for (_, step) in path.clone().into_vec() {
            if let Some(step) = step {
                println!("    {step:?}");
            }
        }
    }
    let path = found.remove(law.name());
    let path = path.expect("a guarantee is broken, and it is this one");
    let mut states = path.into_states();
    let last = states.pop().expect("a path has a state");
    let model = checker.model();
    assert!(!model.keeps(law, &last));
    if law == Law::NeverLost {
        println!("  and even if nothing goes wrong from there on, it goes on like this:");
        for step in model.continuation(&last).iter().take(LINES) {
            println!("    {step:?}");
        }
    }
    for state in &states {
        let kept = Law::ALL.iter().all(|law| model.keeps(*law, state));
        assert!(kept, "something was broken before");
    }
    assert_eq!(states.len(), steps, "the shortest way has another length");
}
