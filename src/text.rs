//! Short texts with bounds: names, and error messages that are cut before they are stored.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// A name of an event, an entity or a handler, or a pattern: shared, so that copies cost nothing.
///
/// Names are compared bytewise. What a name may contain is checked where it enters (at raise, or
/// when a [`ConfigMap`](crate::ConfigMap) is built), not here, since a stored row must be readable
/// under a later, stricter rule as well.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes: what every database can index.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Why this can't be the name of a new thing; `None` when it can.
    ///
    /// A name is 1 to 255 bytes long, has no control characters (databases refuse some of them),
    /// no white space at its ends (some databases ignore it when they compare) and no `*`, which
    /// stands for patterns.
    #[must_use]
    pub fn defect(&self) -> Option<&'static str> {
        if self.0.is_empty() {
            Some("is empty")
        } else if self.0.len() > Self::MAX_LEN {
            Some("is longer than 255 bytes")
        } else if self.0.chars().any(char::is_control) {
            Some("contains a control character")
        } else if self.0.trim().len() != self.0.len() {
            Some("begins or ends with white space")
        } else if self.0.contains('*') {
            Some("contains a *, which only patterns may")
        } else {
            None
        }
    }

    /// Why not every database can store it.
    pub(crate) fn unstorable(&self) -> Option<&'static str> {
        if self.0.len() > Self::MAX_LEN {
            Some("is longer than 255 bytes")
        } else if self.0.contains('\0') {
            Some("contains a control character")
        } else {
            None
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<T: Into<Arc<str>>> From<T> for Name {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

/// Cuts a text to at most `max` bytes, on a character's border, and marks the cut with `…`.
pub(crate) fn cut(text: &str, max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= max {
        return text.to_owned();
    }
    let kept = text.floor_char_boundary(max.saturating_sub(MARK.len()));
    let mut short = String::with_capacity(kept + MARK.len());
    short.push_str(text.get(..kept).unwrap_or_default());
    short.push_str(MARK);
    short
}

/// A text in which U+2400, the symbol for NUL, stands for NUL, which PostgreSQL cannot store.
pub(crate) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{2400}")
}

/// A duration in the digits that a reader wants: tenths of seconds, or else whole milliseconds, or
/// else microseconds.
pub(crate) fn rounded(duration: Duration) -> Duration {
    let unit = if duration.as_secs() > 0 {
        100_000_000
    } else if duration >= Duration::from_millis(1) {
        1_000_000
    } else {
        1_000
    };
    let nanos = u64::from(duration.subsec_nanos());
    let rest = Duration::from_nanos((nanos + unit / 2) / unit * unit);
    Duration::from_secs(duration.as_secs()).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_on_a_character() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöüß", 7), "äö…");
        assert!(cut(&"x".repeat(10_000), 100).len() <= 100);
    }

    #[test]
    fn durations_are_shown_in_few_digits() {
        for (nanos, shown) in [
            (0, "0ns"),
            (1_600, "2µs"),
            (65_377_319, "65ms"),
            (999_600_000, "1s"),
            (1_000_998_418, "1s"),
            (7_000_000_000, "7s"),
            (420_214_805_978, "420.2s"),
            (419_999_999_999, "420s"),
        ] {
            assert_eq!(format!("{:?}", rounded(Duration::from_nanos(nanos))), shown);
        }
        assert_eq!(rounded(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn bad_names_are_told_apart() {
        for (name, defect) in [
            ("", Some("is empty")),
            ("order.placed", None),
            ("größe.geändert", None),
            (" order", Some("begins or ends with white space")),
            ("a\0b", Some("contains a control character")),
            ("order.*", Some("contains a *, which only patterns may")),
        ] {
            assert_eq!(Name::from(name).defect(), defect, "{name:?}");
        }
        assert_eq!(Name::from("x".repeat(255)).defect(), None);
        assert_eq!(
            Name::from("x".repeat(256)).defect(),
            Some("is longer than 255 bytes")
        );
    }
}
