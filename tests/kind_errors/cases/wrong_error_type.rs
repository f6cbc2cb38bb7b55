//! A handler whose error type is no error.

use std::sync::Arc;

use tidings::{Context, Event, Handler};

struct Declined;

async fn charge(_: Arc<Event>, _: Context) -> Result<(), Declined> {
    Err(Declined)
}

fn main() {
    let _ = Handler::new("charge", charge);
    //~ `Declined` cannot be the error of a handler
    //~ return a `tidings::HandlerResult`, or an error type that implements `std::error::Error`
}
