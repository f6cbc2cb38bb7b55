//! The scheduler that is the default and that is measured.

use std::sync::Arc;

use super::{
    builder::SchedulerBuilder,
    engine::{Engine, Plan, scheduler_from_engine},
};
use crate::{config_map::ConfigMap, store::Storer};

/// Fans out and claims in two loops at once: neither waits for the other while it has work.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use tidings::{ConcurrentScheduler, ConfigMap, Context, Event, Handler, MemoryStore, Scheduler};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handler = Handler::new("greet", |event: Arc<Event>, _: Context| async move {
///     println!("{}", event.name);
///     Ok::<_, tidings::HandlerError>(())
/// });
/// let config = ConfigMap::builder().handler(handler.on("*")).build()?;
/// let scheduler = ConcurrentScheduler::builder(Arc::new(MemoryStore::new()), config).build()?;
/// scheduler.start().await?;
/// scheduler.shutdown(Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a scheduler does nothing until it is started, and stops when it is dropped"]
pub struct ConcurrentScheduler(Engine);

impl ConcurrentScheduler {
    /// Begins a scheduler of these handlers on this store.
    pub fn builder(store: Arc<dyn Storer>, config: ConfigMap) -> SchedulerBuilder<Self> {
        SchedulerBuilder::new(store, config, Plan::Concurrent, Self)
    }
}

scheduler_from_engine!(ConcurrentScheduler);
