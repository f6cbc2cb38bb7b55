//! Looking at what there is to do.

use super::{arg::Arg, fan_out::names, link::Link, row::Row};
use crate::{
    clock::between,
    error::Result,
    store::{Look, Outlook},
};

/// How many columns of an answer are read here.
pub(super) const COLUMNS: usize = 7;

/// The arguments of a look.
pub(super) fn args(look: &Look) -> Vec<Arg<'_>> {
    vec![names(&look.handlers), Arg::from(look.leases)]
}

/// See [`Storer::look`](crate::store::Storer::look).
pub(super) async fn look(link: &mut Link<'_>, look: &Look) -> Result<Outlook> {
    let row = link.row(&link.shared.common.look, args(look)).await?;
    read(row)
}

/// Reads the answer.
pub(super) fn read(row: Option<Row>) -> Result<Outlook> {
    let row = row.ok_or_else(super::missing_row)?;
    let mut columns = row.reader("handler_requests");
    let now = columns.time("now")?;
    let mut outlook = Outlook {
        event_waits: columns.bool("event_waits")?,
        ..Outlook::default()
    };
    let next_event = columns.optional_due("due_at")?;
    outlook.request_waits = columns.bool("request_waits")?;
    outlook.suspect_waits = columns.bool("suspect_waits")?;
    let next_request = columns.optional_due("backoff_until")?;
    let next_expiry = columns.optional_due("lease_until")?;
    if !outlook.event_waits {
        outlook.next_event = next_event.map(|at| between(now, at));
    }
    if !outlook.request_waits {
        outlook.next_request = next_request.map(|at| between(now, at));
    }
    outlook.next_expiry = next_expiry.map(|at| between(now, at));
    Ok(outlook)
}
