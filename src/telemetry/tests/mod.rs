//! The telemetry as exporters see it, through the calls that processors, executors and schedulers
//! make.

mod collector;
mod cost;
mod metrics;
mod observed;
mod prefix;
mod spans;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

pub(crate) use self::collector::{Collector, SpanExt, Value};
use super::Telemetry;
use crate::{
    id::{EventId, HandlerRequestId},
    model::{Entity, Event, Priority},
    store::{ClaimedRequest, ProcessedEvent},
};

impl Collector {
    pub(crate) fn telemetry(&self) -> Telemetry {
        self.telemetry_with_prefix("")
    }

    pub(crate) fn telemetry_with_prefix(&self, prefix: &str) -> Telemetry {
        Telemetry::builder()
            .prefix(prefix)
            .meter_provider(self.meter_provider.clone())
            .tracer_provider(self.tracer_provider.clone())
            .build()
    }
}

/// When the events of these tests happened.
fn timestamp() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn event() -> Event {
    Event::new("order.placed", &())
        .unwrap()
        .with_entity(Entity::new("order", "4711"))
        .with_timestamp(timestamp())
        .with_correlation_id(EventId::new().into())
}

fn processed(event: &Event) -> ProcessedEvent {
    ProcessedEvent {
        id: event.id,
        name: event.name.clone(),
        entity: event.entity.clone(),
        correlation_id: event.correlation_id,
        timestamp: event.timestamp,
        requests: 1,
    }
}

fn request(event: Event) -> ClaimedRequest {
    ClaimedRequest {
        id: HandlerRequestId::derive(event.id, "ship"),
        event: Arc::new(event),
        handler: "ship".into(),
        priority: Priority::default(),
        attempt: 1,
        errors: 0,
        max_errors: 5,
        executions: 0,
        rescues: 0,
        batch: None,
    }
}

/// As with the global providers when no SDK is installed, whatever other tests install.
fn without_sdk() -> Telemetry {
    use opentelemetry::{metrics::NoopMeterProvider, trace::noop::NoopTracerProvider};
    Telemetry::builder()
        .meter_provider(NoopMeterProvider::new())
        .tracer_provider(NoopTracerProvider::new())
        .build()
}
