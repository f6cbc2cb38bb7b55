//! Finished spans as lines.

use std::{sync::Arc, time::SystemTime};

use chrono::{DateTime, Utc};
use opentelemetry::{
    KeyValue,
    trace::{SpanId, SpanKind, Status, TraceId},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use serde::Serialize;

use super::{
    attributes::{Attributes, member},
    json_lines::JsonLines,
};

/// Writes each span when it ends.
#[derive(Debug)]
pub(super) struct SpanLines(pub(super) Arc<JsonLines>);

impl SpanExporter for SpanLines {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        batch
            .iter()
            .for_each(|span| self.0.write(&SpanLine::of(span)));
        Ok(())
    }
}

#[derive(Serialize)]
struct SpanLine<'a> {
    name: &'a str,
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    kind: &'static str,
    started_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    seconds: f64,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    attributes: Attributes<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<LinkLine>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<EventLine<'a>>,
}

#[derive(Serialize)]
struct LinkLine {
    trace_id: String,
    span_id: String,
}

#[derive(Serialize)]
struct EventLine<'a> {
    name: &'a str,
    at: DateTime<Utc>,
    attributes: Attributes<'a>,
}

impl<'a> SpanLine<'a> {
    fn of(span: &'a SpanData) -> Self {
        let (status, error) = match &span.status {
            Status::Unset => ("unset", ""),
            Status::Ok => ("ok", ""),
            Status::Error { description } => ("error", description.as_ref()),
        };
        Self {
            name: &span.name,
            trace_id: trace_id(span.span_context.trace_id()),
            span_id: span_id(span.span_context.span_id()),
            parent_span_id: (span.parent_span_id != SpanId::INVALID)
                .then(|| span_id(span.parent_span_id)),
            kind: match span.span_kind {
                SpanKind::Client => "client",
                SpanKind::Server => "server",
                SpanKind::Producer => "producer",
                SpanKind::Consumer => "consumer",
                SpanKind::Internal => "internal",
            },
            started_at: span.start_time.into(),
            ended_at: span.end_time.into(),
            seconds: seconds_between(span.start_time, span.end_time),
            status,
            error,
            attributes: attributes(&span.attributes),
            links: span
                .links
                .iter()
                .map(|link| LinkLine {
                    trace_id: trace_id(link.span_context.trace_id()),
                    span_id: span_id(link.span_context.span_id()),
                })
                .collect(),
            events: span
                .events
                .iter()
                .map(|event| EventLine {
                    name: &event.name,
                    at: event.timestamp.into(),
                    attributes: attributes(&event.attributes),
                })
                .collect(),
        }
    }
}

fn attributes(pairs: &[KeyValue]) -> Attributes<'_> {
    pairs.iter().map(member).collect()
}

fn trace_id(id: TraceId) -> String {
    id.to_string()
}

fn span_id(id: SpanId) -> String {
    id.to_string()
}

/// Zero where the clock was set back meanwhile.
fn seconds_between(start: SystemTime, end: SystemTime) -> f64 {
    end.duration_since(start).unwrap_or_default().as_secs_f64()
}
