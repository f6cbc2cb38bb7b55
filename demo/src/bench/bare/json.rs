//! Lists of arguments as JSON, for systems that have no arrays.

use std::fmt::Write as _;

use chrono::Utc;
use uuid::Uuid;

use super::{DATA, EVENT, Made};

/// What is made of each, as an array.
fn array<T>(all: &[T], size: usize, mut write: impl FnMut(&mut String, &T)) -> String {
    let mut text = String::with_capacity(all.len() * size + 2);
    text.push('[');
    for (at, one) in all.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write(&mut text, one);
    }
    text.push(']');
    text
}

/// Writes to a text, which cannot fail.
macro_rules! put {
    ($text:expr, $($arg:tt)*) => {
        _ = write!($text, $($arg)*)
    };
}

pub(super) fn numbers(all: &[i64]) -> String {
    array(all, 8, |text, number| put!(text, "{number}"))
}

/// UUIDs in hexadecimal digits, without dashes.
pub(super) fn uuids(all: &[Uuid]) -> String {
    array(all, 35, |text, id| put!(text, "\"{}\"", id.simple()))
}

/// Requests as arrays of the event and the handler.
pub(super) fn made(all: &[Made]) -> String {
    array(all, 42, |text, one| {
        put!(text, "[\"{}\",{}]", one.event.simple(), one.handler);
    })
}

/// Events as arrays of the id, the name, the data and the time.
pub(super) fn events(ids: &[Uuid]) -> String {
    let now = Utc::now().timestamp_micros();
    let data = serde_json::Value::from(DATA).to_string();
    array(ids, data.len() + 100, |text, id| {
        put!(text, "[\"{}\",\"{EVENT}\",{data},{now}]", id.simple());
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn lists_are_json_and_data_arrives_as_it_was() {
        let id = Uuid::from_u128(255);
        let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let hex = "000000000000000000000000000000ff";
        assert_eq!(parse(numbers(&[1, -2])), json!([1, -2]));
        assert_eq!(parse(numbers(&[])), json!([]));
        assert_eq!(parse(uuids(&[id])), json!([hex]));
        let one = Made {
            event: id,
            handler: 7,
        };
        assert_eq!(parse(made(&[one])), json!([[hex, 7]]));
        assert_eq!(parse(events(&[id]))[0][2], json!(DATA));
    }
}
