//! A transactional handler that is no function at all.

use std::sync::Arc;

use tidings::{Event, Handler};

fn main() {
    let _ = Handler::transactional::<Arc<Event>, u64, _>("count", "count");
    //~ is not a transactional handler
    //~ not an `async fn(E, Context, &mut C) -> Result<(), X>`
    //~ it captures nothing; give it state with `Handler::transactional_with_state`
}
