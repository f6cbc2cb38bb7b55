//! Why a line is no event that can be raised.

use serde_json::error::Category;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Defect {
    #[error("it is longer than {limit} bytes; store large data elsewhere and refer to it")]
    TooLong { limit: usize },
    #[error("it is not UTF-8 at byte {byte}")]
    NotUtf8 { byte: usize },
    #[error("it is not JSON: {reason}")]
    NotJson { reason: String },
    #[error("it is not a CloudEvent: {reason}")]
    NotAnEvent { reason: String },
    #[error("it has no `{attribute}`, which every CloudEvent must have")]
    Missing { attribute: &'static str },
    #[error("its `{attribute}` is empty")]
    Empty { attribute: &'static str },
    #[error("its `{attribute}` is not a text")]
    NoText { attribute: &'static str },
    #[error("its `specversion` is {found:?}; only CloudEvents \"1.0\" can be read")]
    Version { found: String },
    #[error("its `time` is {found:?}, which is not a time such as 2026-01-31T12:00:00Z (RFC 3339)")]
    Time { found: String },
    #[error("it has `data_base64`; only JSON in `data` can be read")]
    Binary,
    #[error("{reason}")]
    Refused { reason: String },
}

impl Defect {
    /// Tells broken JSON from JSON of another shape; the line is known elsewhere, so only the
    /// column stays.
    pub(super) fn of(error: &serde_json::Error) -> Self {
        let full = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = full.strip_suffix(&place).unwrap_or(&full);
        let reason = format!("{message} (column {})", error.column());
        match error.classify() {
            Category::Data => Self::NotAnEvent { reason },
            Category::Io | Category::Syntax | Category::Eof => Self::NotJson { reason },
        }
    }
}
