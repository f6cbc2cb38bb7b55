//! The scheduler that needs the fewest connections.

use std::sync::Arc;

use super::{
    builder::SchedulerBuilder,
    engine::{Engine, Plan, scheduler_from_engine},
};
use crate::{config_map::ConfigMap, store::Storer};

/// Alternates fan-out and claims in one loop, which never waits for handlers: it needs one
/// connection less than [`ConcurrentScheduler`](super::ConcurrentScheduler), and puts less load on
/// a small database.
#[derive(Debug)]
#[must_use = "a scheduler does nothing until it is started, and stops when it is dropped"]
pub struct CooperativeScheduler(Engine);

impl CooperativeScheduler {
    /// Begins a scheduler of these handlers on this store.
    pub fn builder(store: Arc<dyn Storer>, config: ConfigMap) -> SchedulerBuilder<Self> {
        SchedulerBuilder::new(store, config, Plan::Cooperative, Self)
    }
}

scheduler_from_engine!(CooperativeScheduler);
