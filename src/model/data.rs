//! The payload of an event: JSON, kept as the text that was given.

use std::fmt;

use serde::{Serialize, Serializer, de::DeserializeOwned, ser};
use serde_json::value::RawValue;

/// The data of an event: a JSON value as text.
///
/// The text is kept as it was given, to the byte, so numbers keep their digits and objects their
/// order. `Debug` shows its length only, so that payloads do not reach logs by accident. With
/// `serde_json` it serializes as the value that it is.
#[derive(Clone, PartialEq, Eq)]
pub struct EventData(String);

impl EventData {
    /// How deep arrays and objects may lie in each other: as deep as `serde_json` reads them, so that
    /// what is raised can be decoded. Databases have limits of their own, beyond this one.
    pub const MAX_DEPTH: usize = 127;

    /// Whether arrays and objects lie deeper in each other than [`MAX_DEPTH`](Self::MAX_DEPTH).
    pub(crate) fn is_too_deep(&self) -> bool {
        // Each level has two brackets, so most data need not be looked at.
        if self.0.len() <= 2 * Self::MAX_DEPTH {
            return false;
        }
        let (mut depth, mut is_in_text, mut is_escaped) = (0_usize, false, false);
        for byte in self.0.bytes() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = is_in_text,
                b'"' => is_in_text = !is_in_text,
                b'[' | b'{' if !is_in_text => {
                    depth += 1;
                    if depth > Self::MAX_DEPTH {
                        return true;
                    }
                }
                b']' | b'}' if !is_in_text => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        false
    }

    /// JSON `null`.
    #[must_use]
    pub fn null() -> Self {
        Self("null".to_owned())
    }

    /// The JSON of a value.
    ///
    /// # Errors
    /// The value does not serialize, for example a map whose keys are not text.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self)
    }

    /// Takes a text that is JSON already; it is checked, and kept as it is.
    ///
    /// # Errors
    /// The text is not one JSON value.
    pub fn from_json(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        serde_json::from_str::<serde::de::IgnoredAny>(&text)?;
        Ok(Self(text))
    }

    /// Takes a text that a store has kept and that was checked before.
    #[must_use]
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value as `T`.
    ///
    /// # Errors
    /// The data is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl Serialize for EventData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl fmt::Debug for EventData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_raised_is_not_too_deep_to_be_decoded() {
        for (depth, is_too_deep) in [(1, false), (127, false), (128, true), (100_000, true)] {
            let text = "[".repeat(depth) + &" ".repeat(300) + &"]".repeat(depth);
            let data = EventData::from_json(text).unwrap();
            assert_eq!(data.is_too_deep(), is_too_deep, "{depth}");
            let decoded = data.decode::<serde_json::Value>();
            assert_eq!(decoded.is_err(), is_too_deep, "{depth}");
        }
        // Brackets in texts, also behind escapes, are none.
        let text = format!(r#"["\"{}", "\\", "{}"]"#, "[".repeat(300), "{".repeat(300));
        assert!(!EventData::from_json(text).unwrap().is_too_deep());
    }

    #[test]
    fn it_serializes_as_the_value_that_was_given() {
        let text = r#"{"b":1.10,"a":[12345678901234567890123]}"#;
        let data = EventData::from_json(text).unwrap();
        assert_eq!(serde_json::to_string(&data).unwrap(), text);
    }
}
