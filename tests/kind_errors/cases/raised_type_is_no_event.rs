//! Raising a type that nobody has made an event.

use serde::{Deserialize, Serialize};
use tidings::{Event, Payload};

#[derive(Serialize, Deserialize)]
struct Invoice {
    total: u64,
}

fn main() {
    let _ = Event::of(&Invoice { total: 12 });
    //~ `Invoice` is not a type of event
    //~ implement `tidings::DomainEvent` for it
    let _ = Payload(1);
}
