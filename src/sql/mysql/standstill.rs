//! How long the server keeps a transaction whose client does not say anything. Only MariaDB can be
//! told; for MySQL what it is told is a comment.

use std::time::Duration;

/// Lets the server end a transaction of a connection of handlers that says nothing for so long.
pub(super) fn bounded(limit: Duration) -> String {
    // The server counts in whole seconds; 0 would be no limit.
    let seconds = limit.as_secs().max(1);
    format!("SET autocommit = 0 /*M!100300 , SESSION idle_transaction_timeout = {seconds} */")
}

/// The transaction of a handler may wait for something else, as long as the server lets it.
pub(super) const UNBOUNDED: &str =
    "SET autocommit = 0 /*M!100300 , SESSION idle_transaction_timeout = DEFAULT */";
