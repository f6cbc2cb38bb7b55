//! Attributes of spans and metrics as a JSON object.

use std::collections::BTreeMap;

use opentelemetry::{Array, KeyValue, Value};
use serde_json::json;

/// Attributes by name.
pub(super) type Attributes<'a> = BTreeMap<&'a str, serde_json::Value>;

/// A pair as a member of a JSON object.
pub(super) fn member(pair: &KeyValue) -> (&str, serde_json::Value) {
    let value = match &pair.value {
        Value::Bool(value) => json!(value),
        Value::I64(value) => json!(value),
        Value::F64(value) => json!(value),
        Value::Array(Array::Bool(values)) => json!(values),
        Value::Array(Array::I64(values)) => json!(values),
        Value::Array(Array::F64(values)) => json!(values),
        Value::Array(Array::String(values)) => {
            values.iter().map(|value| json!(value.as_str())).collect()
        }
        other => json!(other.as_str()),
    };
    (pair.key.as_str(), value)
}
