//! Raising in something that is no connection: the store, or the box around a transaction.

use tidings::{Event, Raiser, Signals, store::Transaction};

async fn raise(mut tx: Box<dyn Transaction>, event: Event) {
    let raiser = Raiser::new(Signals::default());
    let _ = raiser.raise(&mut tx, event).await;
    //~ events cannot be raised in a `Box<dyn Transaction>`
    //~ pass the session, transaction or connection itself, for example `&mut *tx`
}

fn main() {
    let _ = raise;
}
