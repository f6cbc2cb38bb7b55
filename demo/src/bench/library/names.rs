//! What a store of the library makes in a database.

/// Its tables on every system, without their prefix.
pub(super) const TABLES: [&str; 8] = [
    "events",
    "handler_requests",
    "unprocessed_events",
    "waiting_events",
    "unwanted_events",
    "registrations",
    "migrations",
    "leases",
];

/// Drops its functions, which only PostgreSQL has.
pub(super) fn drop_functions(prefix: &str) -> String {
    format!(
        "DROP FUNCTION IF EXISTS {prefix}active_registrations, {prefix}fan_out_one, {prefix}raise, {prefix}settle"
    )
}
