//! The conformance suite: what every store must do, as public async functions over
//! [`Storer`], one per case.
//!
//! Whoever writes a store makes it a [`Target`] and expands the suite in a test file with
//! [`conformance_tests!`](crate::conformance_tests), which makes one named test per case:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use tidings::{ManualClock, MemoryStore, conformance::Target, store::Storer};
//!
//! struct Memory { store: MemoryStore, clock: ManualClock }
//!
//! #[async_trait::async_trait]
//! impl Target for Memory {
//!     fn store(&self) -> Arc<dyn Storer> {
//!         Arc::new(self.store.clone())
//!     }
//!
//!     async fn pass_time(&self, time: Duration) {
//!         self.clock.advance(time);
//!     }
//! }
//!
//! async fn memory() -> Memory {
//!     let clock = ManualClock::default();
//!     Memory { store: MemoryStore::with_clock(clock.clone()), clock }
//! }
//!
//! tidings::conformance_tests!(memory().await);
//! # fn main() {}
//! ```
//!
//! The tests are named by module and case, run on a runtime with several threads, and need `tokio`
//! with its macros. A case that a store fails panics. What stores may differ in is in their
//! [`Capabilities`](crate::store::Capabilities); no case is left out for any store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a case fails by panicking, as tests do"
)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::store::Storer;

pub mod bad_input;
pub mod claims;
pub mod event_queries;
pub mod events;
pub mod fan_outs;
mod kit;
pub mod leases;
pub mod looks;
pub mod operations;
pub mod prunes;
pub mod queries;
pub mod registrations;
pub mod replays;
pub mod savepoints;
pub mod settlements;
pub mod signals;
pub mod transactions;

/// How long a case may take before its test fails, so that one that hangs is named.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A store under test, fresh and empty, with no other user.
#[async_trait]
pub trait Target: Send + Sync {
    /// The store; always the same one.
    fn store(&self) -> Arc<dyn Storer>;

    /// Lets at least this much time pass for the store: moves its clock on or, where that is the
    /// database's, moves every stored time back. Cases call it only while no transaction is open,
    /// and compare no time from before a call with one from after it.
    async fn pass_time(&self, time: Duration);
}

/// Makes a test of every case of the [conformance suite](crate::conformance). The argument is an
/// expression that makes a fresh [`Target`](crate::conformance::Target); it may await.
#[macro_export]
macro_rules! conformance_tests {
    ($target:expr) => {
        $crate::conformance::conformance_cases! { expand $target; }
    };
    (expand $target:expr; $($module:ident { $($case:ident)* })*) => {
        $(
            mod $module {
                #[allow(unused_imports, reason = "the target may need nothing from outside")]
                use super::*;

                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        let target = $target;
                        let case = $crate::conformance::$module::$case(&target);
                        let ended = ::tokio::time::timeout($crate::conformance::TIME_LIMIT, case).await;
                        assert!(ended.is_ok(), "the case does not end");
                    }
                )*
            }
        )*
    };
}

/// The list of all cases; calls [`conformance_tests!`](crate::conformance_tests).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    (expand $target:expr;) => {
        $crate::conformance::conformance_tests! { expand $target;
            bad_input {
                odd_texts_are_read_back_equal_or_refused_alike
                odd_json_is_read_back_equal_or_refused_alike
                data_is_refused_by_the_byte
                odd_times_are_read_back_equal_or_refused_alike
                odd_handlers_are_registered_or_refused_alike
                odd_errors_are_kept_alike
            }
            claims {
                requests_come_by_priority_then_id
                a_claimed_request_tells_what_an_executor_needs
                limit_and_room_bound_a_claim
                requests_of_unknown_handlers_are_left_alone
                only_pending_requests_are_claimed
                the_next_due_request_is_told
                suspects_that_wait_are_told
                rows_that_cannot_run_delay_no_other
                concurrent_claimers_never_get_the_same_request
                a_rolled_back_claim_never_happened
                claims_skip_locked_requests
                suspects_are_claimed_alone
                a_claim_of_suspects_takes_no_other
                a_transaction_claims_what_it_has_made
            }
            event_queries {
                events_are_found_by_whether_they_have_requests
                events_are_filtered
                events_are_paged
            }
            events {
                an_event_is_read_back_as_it_was_raised
                extremes_are_read_back
                nothing_is_found_in_an_empty_store
                raising_an_id_again_changes_nothing
                unprocessed_events_are_counted_and_the_oldest_is_found
                a_claimed_event_is_nobody_elses
                only_held_claims_are_fanned_out
                a_claim_that_ran_out_is_void_once_somebody_else_has_it
                events_of_a_lost_process_are_due_again
                a_failed_event_backs_off
                the_error_of_an_event_is_cut
                vetoed_and_claimed_events_delay_no_other
                concurrent_claimers_share_events
            }
            fan_outs {
                an_event_gets_one_request_for_each_handler
                the_most_specific_pattern_decides
                names_are_compared_bytewise
                an_event_that_nobody_wants_is_processed
                a_limit_leaves_the_rest_for_the_next
                concurrent_fan_outs_never_double
                requests_are_born_leased_to_who_offers
                room_and_limit_bound_what_is_born_leased
                nothing_is_born_leased_in_front_of_a_backlog
                many_events_wait_behind_a_backlog_and_few_do_not
                a_backlog_that_cannot_run_holds_nothing_up
                a_large_batch_is_one_call
            }
            leases {
                a_renewed_lease_lives_on
                a_renewal_counts_from_now
                an_old_and_a_new_claim_of_one_request_are_told_apart
                an_expired_lease_that_nobody_took_is_renewed
                lost_leases_are_told
                only_lost_requests_are_rescued
                a_limit_bounds_a_rescue
                the_next_expiry_is_told
                a_locked_lost_request_is_told
                a_locked_lease_is_skipped
                a_suspect_counts_errors_and_dies
                a_hand_back_costs_nothing
                a_hand_back_is_fenced
                a_hand_back_waits_for_no_lock
                concurrent_rescuers_take_each_request_once
            }
            looks {
                an_idle_store_is_told
                events_that_wait_are_told
                requests_that_wait_are_told
                suspects_that_wait_are_told_apart
                leases_are_told_if_asked
            }
            operations {
                open_and_dead_requests_can_be_canceled
                ended_requests_can_be_reexecuted
                a_backoff_can_be_cleared
                a_request_that_does_not_exist_is_refused
                a_canceled_execution_cannot_complete
                matching_dead_requests_are_reexecuted
            }
            prunes {
                an_event_goes_with_all_its_requests
                each_end_is_kept_for_its_own_time
                an_open_request_keeps_its_event
                a_dead_request_keeps_its_event
                events_are_kept_for_replays
                unwanted_events_go_as_completed_ones_do
                unprocessed_events_never_go
                what_runs_again_stays
                bounded_batches_go_on_where_the_last_one_ended
                all_batches_of_a_prune_add_up
                a_prune_without_a_limit_is_refused
                a_prune_skips_what_is_locked
                concurrent_prunes_delete_each_event_once
                a_rolled_back_prune_never_happened
                a_replay_after_a_prune_finds_nothing
                a_prune_and_a_replay_in_flight_obey_each_other
                an_id_that_is_gone_can_be_raised_anew
            }
            queries {
                requests_are_filtered
                only_the_last_error_is_searched
                requests_are_counted_by_state
                the_oldest_unexecuted_request_is_found
                the_dead_are_listed
                requests_are_paged
                streams_go_over_everything
                requests_of_an_event_come_by_handler
            }
            registrations {
                registering_inserts_and_updates
                names_that_hash_alike_are_refused
                fan_out_uses_the_union_of_all_processes
                new_terms_hold_for_new_requests
                a_retired_handler_gets_nothing_new
                absent_handlers_are_found
                a_rename_takes_open_and_dead_requests_along
                an_execution_survives_a_rename
                a_rename_moves_patterns
                registering_a_renamed_handler_changes_nothing
                a_rename_cancels_what_would_be_double
                renames_form_chains
                a_rename_can_be_undone
                a_rename_that_was_broken_off_goes_on
                a_batch_of_a_rename_has_a_bound
                a_rename_waits_for_no_lock
                a_rename_strands_nothing
                requests_follow_over_several_renames
                requests_are_not_given_to_another_handler
                several_can_rename_at_once
                an_unknown_handler_is_renamed_to_no_effect
                a_rename_counts_what_goes_by_the_new_name
                a_rename_onto_an_active_handler_merges_both
                a_rename_to_a_bad_name_is_refused
                registrations_are_rolled_back
            }
            replays {
                a_handler_that_came_later_gets_past_events
                missing_ended_and_open_requests_are_told_apart
                only_wanted_handlers_get_past_events
                one_event_is_replayed_alone
                unprocessed_events_are_left_alone
                a_range_bounds_what_is_replayed
                batches_go_on_where_the_last_one_ended
                a_replay_without_a_limit_is_refused
                a_replay_to_nobody_is_refused
                renamed_requests_are_not_doubled
                a_name_that_was_taken_over_gets_requests_of_its_own
                a_zombie_is_refused_after_a_replay
                concurrent_replays_make_each_request_once
                a_rolled_back_replay_never_happened
                a_replay_is_told
            }
            settlements {
                success_completes
                an_error_backs_off
                the_last_error_kills
                a_discarded_request_is_dead
                a_snoozed_request_waits_without_an_error
                a_handler_cancels_its_request
                a_veto_counts_no_execution
                an_endless_backoff_is_no_error
                kept_errors_are_bounded
                a_batch_answers_in_its_order
                the_fence_refuses_strangers_and_repetition
                a_failure_is_settled_once
                a_zombie_is_refused_after_a_rescue
                a_zombie_is_refused_after_a_hand_back
                a_zombie_is_refused_after_cancel_and_reexecute
                an_expired_lease_that_nobody_took_settles
                raised_events_are_stored_with_the_settlement
                raised_events_of_a_refused_settlement_are_not_stored
                a_raised_event_that_exists_is_no_error
                a_rolled_back_settlement_never_happened
                one_of_two_concurrent_settlements_is_refused
                a_settlement_waits_for_no_lock
                each_of_a_mixed_batch_has_its_own_fence
                a_mixed_batch_waits_for_no_lock
            }
            savepoints {
                a_savepoint_keeps_what_came_before_and_undoes_what_came_after
                a_rollback_undoes_what_savepoints_kept
                a_settlement_after_a_savepoint_is_undone
                without_a_savepoint_a_transaction_does_not_go_back
            }
            signals {
                raised_events_are_told_at_the_commit
                events_raised_with_a_settlement_are_told
                ready_requests_are_told
                settled_requests_are_told
                who_wakes_sees_the_work
            }
            transactions {
                what_is_not_committed_is_seen_inside_only
                a_transaction_sees_its_own_changes
                a_dropped_transaction_is_rolled_back
                the_closure_commits_or_rolls_back
                a_raiser_raises_in_the_callers_transaction
                a_raise_waits_for_one_in_flight
                a_second_writer_waits_and_reads_again
                a_row_found_for_update_is_locked
                locked_rows_can_be_skipped
                a_deadlock_is_a_conflict_for_one
                concurrent_transactions_lose_no_update
                a_rename_leaves_no_request_of_the_old_name
                a_rename_and_a_fan_out_in_flight_obey_each_other
                a_fan_out_does_not_wait_for_requests_that_are_renamed
                a_fan_out_goes_on_beside_a_rename_of_many_requests
            }
        }
    };
}

// The macros name each other by this module, where they belong.
#[doc(hidden)]
pub use {conformance_cases, conformance_tests};

#[cfg(test)]
mod tests {
    /// A case that is missing from the list would never run.
    #[test]
    fn every_case_is_in_the_list() {
        let list = include_str!("mod.rs");
        let modules = [
            ("bad_input", include_str!("bad_input.rs")),
            ("claims", include_str!("claims.rs")),
            ("event_queries", include_str!("event_queries.rs")),
            ("events", include_str!("events.rs")),
            ("fan_outs", include_str!("fan_outs.rs")),
            ("leases", include_str!("leases.rs")),
            ("looks", include_str!("looks.rs")),
            ("operations", include_str!("operations.rs")),
            ("prunes", include_str!("prunes.rs")),
            ("queries", include_str!("queries.rs")),
            ("registrations", include_str!("registrations.rs")),
            ("replays", include_str!("replays.rs")),
            ("savepoints", include_str!("savepoints.rs")),
            ("settlements", include_str!("settlements.rs")),
            ("signals", include_str!("signals.rs")),
            ("transactions", include_str!("transactions.rs")),
        ];
        for (module, source) in modules {
            let listed = list.split(&format!("            {module} {{")).nth(1);
            let listed = listed.and_then(|rest| rest.split('}').next()).unwrap();
            let listed: Vec<_> = listed.split_whitespace().collect();
            let cases = source.split("\npub async fn ").skip(1);
            let cases: Vec<_> = cases.filter_map(|case| case.split('(').next()).collect();
            assert_eq!(listed, cases, "{module}");
        }
    }
}
