//! A shop that is open day and night: a domain event and an application event a second.

use std::{convert::Infallible, time::Duration};

use tidings::{Result, store::StorerExt};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    payloads::{OrderPlaced, StockCounted},
    session::Session,
};

/// How often an order is placed and the stock is counted.
const INTERVAL: Duration = Duration::from_secs(1);
/// The pieces in stock at the beginning; each order takes one, and an empty stock is filled.
const PIECES: u64 = 500;

/// Raises events until it is dropped. One that cannot be raised is logged, and the next one tried.
pub(super) async fn raise_for_ever(session: &Session) -> Infallible {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for order in 1_u64.. {
        ticks.tick().await;
        if let Err(error) = raise(session, order).await {
            tracing::warn!(order, %error, "an order and its stock could not be raised");
        }
    }
    std::future::pending().await
}

/// Raises both events in one transaction, as a service does together with its own changes.
async fn raise(session: &Session, order: u64) -> Result<()> {
    let raiser = session.raiser.clone();
    let placed = OrderPlaced {
        order,
        total_cents: 990 + order * 317 % 9000,
    };
    let counted = StockCounted {
        pieces: PIECES - order % PIECES,
    };
    session
        .store
        .transaction(|tx| {
            Box::pin(async move {
                raiser.raise_typed(tx, &placed).await?;
                raiser.raise_typed(tx, &counted).await?;
                Ok(())
            })
        })
        .await?;
    session.raiser.wake();
    session.happenings.tell(format!("order {order} is placed"));
    Ok(())
}
