//! Handlers of the demo's own events.

use std::time::Duration;

use tidings::{Backoff, Context, Handler, HandlerError, HandlerResult};

use crate::{
    happenings::Happenings,
    payloads::{OrderPlaced, StockCounted},
};

/// How long the warehouse is left alone after its first error.
const WAREHOUSE_BACKOFF: Duration = Duration::from_secs(1);
/// How long it is left alone at most.
const WAREHOUSE_BACKOFF_MAX: Duration = Duration::from_secs(4);
/// How often the warehouse is tried.
const WAREHOUSE_MAX_ERRORS: u32 = 3;

/// The handlers of the demo's own events.
pub(super) fn handlers(happenings: &Happenings) -> Vec<Handler> {
    let happenings = || happenings.clone();
    vec![
        Handler::with_state("confirm_order", happenings(), confirm_order).priority(10),
        Handler::with_state("publish_stock", happenings(), publish_stock),
        Handler::with_state("reach_warehouse", happenings(), reach_warehouse)
            .max_errors(WAREHOUSE_MAX_ERRORS)
            .backoff(Backoff::exponential(
                WAREHOUSE_BACKOFF,
                WAREHOUSE_BACKOFF_MAX,
            )),
    ]
}

async fn confirm_order(happenings: Happenings, event: OrderPlaced, _: Context) -> HandlerResult {
    let (whole, cents) = (event.total_cents / 100, event.total_cents % 100);
    happenings.tell(format!(
        "confirm_order: order {} over {whole}.{cents:02} is confirmed",
        event.order
    ));
    Ok(())
}

async fn publish_stock(happenings: Happenings, event: StockCounted, _: Context) -> HandlerResult {
    happenings.tell(format!(
        "publish_stock: {} pieces are in stock",
        event.pieces
    ));
    Ok(())
}

/// Always fails, so that retries and dead requests show.
async fn reach_warehouse(
    happenings: Happenings,
    event: OrderPlaced,
    context: Context,
) -> HandlerResult {
    let (error, last) = (context.errors() + 1, context.max_errors());
    if error < last {
        happenings.tell(format!(
            "reach_warehouse: no answer about order {}, error {error} of {last}",
            event.order
        ));
    }
    Err(HandlerError::new(format!(
        "the warehouse does not answer about order {}",
        event.order
    )))
}
