//! CloudEvents 1.0 in their JSON format, and the events that they become here.
//!
//! | attribute | becomes |
//! | --- | --- |
//! | `type` | the event's name |
//! | `entityname`, `subject` | the entity, if both are there |
//! | `time` | the timestamp; the time of the import where there is none |
//! | `data` | the data, to the byte |
//! | `traceparent`, `tracestate` | the trace context, as headers of the same names |
//! | every other one | a header with `ce-` before its name |
//!
//! The event's id is derived, see [`identity`], so that a line which is imported twice is raised
//! once.

mod defect;
mod envelope;
pub(crate) mod identity;

use chrono::{DateTime, Utc};
use tidings::{Entity, Event, EventData, Raiser};

pub(crate) use self::defect::Defect;
use self::envelope::{Attribute, Envelope};

/// The most bytes of a line: room for data at its limit and for attributes at theirs, also when
/// they are written generously. What is longer is not even read into memory.
pub(crate) const MAX_LINE_LEN: usize = 2 * Raiser::DEFAULT_MAX_DATA_LEN;

/// Makes an event from a line.
pub(crate) fn parse(line: &[u8]) -> Result<Event, Defect> {
    let text = str::from_utf8(line).map_err(|error| Defect::NotUtf8 {
        byte: error.valid_up_to() + 1,
    })?;
    let Envelope {
        mut attributes,
        data,
    } = serde_json::from_str(text).map_err(|error| Defect::of(&error))?;
    let mut required = |name: &'static str| match attributes.remove(name) {
        Some(Attribute::Text(text)) if !text.is_empty() => Ok(text),
        Some(Attribute::Text(_)) => Err(Defect::Empty { attribute: name }),
        Some(_) => Err(Defect::NoText { attribute: name }),
        None => Err(Defect::Missing { attribute: name }),
    };
    let version = required("specversion")?;
    if version != "1.0" {
        return Err(Defect::Version { found: version });
    }
    let (id, source, name) = (required("id")?, required("source")?, required("type")?);
    let time = match attributes.remove("time") {
        Some(attribute) => Some(parse_time(attribute)?),
        None => None,
    };
    if attributes.contains_key("data_base64") {
        return Err(Defect::Binary);
    }

    let data = data.map_or_else(EventData::null, |data| EventData::from_stored(data.get()));
    let mut event = Event::from_data(name, data).with_id(identity::derive(&source, &id, time));
    if let Some(time) = time {
        event = event.with_timestamp(time);
    }
    event = match (
        attributes.remove("entityname"),
        attributes.remove("subject"),
    ) {
        (Some(Attribute::Text(name)), Some(Attribute::Text(id))) => {
            event.with_entity(Entity::new(name, id))
        }
        (name, id) => {
            attributes.extend(name.map(|name| ("entityname".to_owned(), name)));
            attributes.extend(id.map(|id| ("subject".to_owned(), id)));
            event
        }
    };
    event = event
        .with_header("ce-id", id)
        .with_header("ce-source", source);
    for (name, value) in attributes {
        let header = if is_trace_context(&name) {
            name
        } else {
            format!("ce-{name}")
        };
        event = event.with_header(header, value.to_string());
    }
    event
        .check(Raiser::DEFAULT_MAX_DATA_LEN)
        .map_err(|error| Defect::Refused {
            reason: error.to_string(),
        })?;
    Ok(event)
}

fn parse_time(attribute: Attribute) -> Result<DateTime<Utc>, Defect> {
    let text = attribute.to_string();
    match DateTime::parse_from_rfc3339(&text) {
        Ok(time) => Ok(time.to_utc()),
        Err(_) => Err(Defect::Time { found: text }),
    }
}

/// Whether an extension attribute is part of the W3C trace context, which keeps its name so that
/// spans of handlers link to the span that the event comes from.
fn is_trace_context(name: &str) -> bool {
    matches!(name, "traceparent" | "tracestate")
}

#[cfg(test)]
mod tests;
