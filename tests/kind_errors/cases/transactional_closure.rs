//! A transactional handler that captures state.

use std::sync::Arc;

use tidings::{Context, Event, Handler, HandlerResult};

fn main() {
    let factor = 2;
    let _ = Handler::transactional(
        "count",
        async move |_: Arc<Event>, _: Context, count: &mut u64| {
            *count += factor;
            HandlerResult::Ok(())
        },
    );
    //~ because it captures state from its environment
    //~ TransactionalFn<'c, Arc<Event>, u64>`
}
