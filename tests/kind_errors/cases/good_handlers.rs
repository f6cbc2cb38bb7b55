//! What the others should have been: it compiles.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidings::{
    Context, DomainEvent, Entity, Event, Handler, HandlerResult, Payload, Raiser, Signals,
    store::Transaction,
};

#[derive(Serialize, Deserialize)]
struct Invoice {
    total: u64,
}

impl DomainEvent for Invoice {
    const NAME: &'static str = "invoice.made";

    fn entity(&self) -> Option<Entity> {
        None
    }
}

#[derive(Debug, thiserror::Error)]
#[error("declined")]
struct Declined;

async fn send(_: Invoice, _: Context) -> HandlerResult {
    Ok(())
}

async fn print(_: Payload<Vec<String>>, _: Context) -> HandlerResult {
    Ok(())
}

async fn charge(_: Arc<Event>, _: Context) -> Result<(), Declined> {
    Err(Declined)
}

async fn count(factor: u64, _: Arc<Event>, _: Context, count: &mut u64) -> HandlerResult {
    *count += factor;
    Ok(())
}

async fn raise(mut tx: Box<dyn Transaction>) -> HandlerResult {
    let raiser = Raiser::new(Signals::default());
    raiser
        .raise(&mut *tx, Event::of(&Invoice { total: 12 })?)
        .await?;
    Ok(())
}

fn main() {
    let _ = Handler::new("send", send);
    let _ = Handler::new("print", print);
    let _ = Handler::new("charge", charge);
    let _ = Handler::transactional_with_state("count", 2, count);
    let _ = Handler::new("closure", async move |_: Invoice, _: Context| {
        HandlerResult::Ok(())
    });
    let _ = Handler::transactional(
        "closure",
        async |_: Invoice, _: Context, count: &mut u64| {
            *count += 1;
            HandlerResult::Ok(())
        },
    );
    let _ = raise;
}
