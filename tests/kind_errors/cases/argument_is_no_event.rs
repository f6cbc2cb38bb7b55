//! The argument is a type that nobody has made an event.

use tidings::{Context, Handler, HandlerResult};

struct Invoice {
    _total: u64,
}

async fn send(_: Invoice, _: Context) -> HandlerResult {
    Ok(())
}

fn main() {
    let _ = Handler::new("send", send);
    //~ `Invoice` cannot be made from an event
    //~ a handler's first argument is a `DomainEvent`, a `Payload<T>` or an `Arc<Event>`
    //~ implement `tidings::DomainEvent` for `Invoice`, or take `tidings::Payload<Invoice>`
}
