//! Which events a handler wants: one name, all names below a prefix, or all.

use std::fmt;

use crate::text::Name;

/// An event name, a prefix pattern such as `com.github.issues.*`, or `*`.
///
/// `com.github.issues.*` stands for every name that begins with `com.github.issues.` and goes on,
/// over any number of further dots; it does not stand for `com.github.issues` itself.
///
/// ```
/// use tidings::EventPattern;
///
/// let issues = EventPattern::parse("com.github.issues.*")?;
/// assert!(issues.matches("com.github.issues.opened"));
/// assert!(!issues.matches("com.github.issues_comment.created"));
/// assert!(EventPattern::parse("com.*.opened").is_err());
/// # Ok::<(), tidings::PatternError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct EventPattern(Name);

impl EventPattern {
    /// Checks and takes a pattern.
    ///
    /// # Errors
    /// The text is neither a good name, nor one followed by `.*`, nor `*`.
    pub fn parse(text: impl Into<Name>) -> Result<Self, PatternError> {
        let text = text.into();
        let bad = |reason| {
            Err(PatternError {
                pattern: text.to_string(),
                reason,
            })
        };
        if text.len() > Name::MAX_LEN {
            return bad("is longer than 255 bytes");
        }
        if text == "*" {
            return Ok(Self(text));
        }
        match Name::from(text.strip_suffix(".*").unwrap_or(&text)).defect() {
            Some(defect) if defect.contains('*') => {
                bad("has a * elsewhere than alone or after the last dot")
            }
            Some(defect) => bad(defect),
            None => Ok(Self(text)),
        }
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pattern as a name, for stores.
    #[must_use]
    pub fn as_name(&self) -> &Name {
        &self.0
    }

    /// Whether events named `name` are meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
            None => &*self.0 == name,
        }
    }

    /// How exactly the pattern names its events; of two that match one event, the more specific
    /// one decides: a name before any prefix, a longer prefix before a shorter one, `*` last.
    #[must_use]
    pub fn specificity(&self) -> usize {
        match self.0.strip_suffix('*') {
            Some(prefix) => prefix.len(),
            None => usize::MAX,
        }
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A text that is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the event pattern {pattern:?} {reason}; use a name, a prefix such as com.github.issues.*, or *"
)]
pub struct PatternError {
    pattern: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_dot() {
        let pattern = EventPattern::parse("com.github.pull_request.*").unwrap();
        assert!(pattern.matches("com.github.pull_request.opened"));
        assert!(pattern.matches("com.github.pull_request.a.b"));
        assert!(!pattern.matches("com.github.pull_request_review.submitted"));
        assert!(!pattern.matches("com.github.pull_request"));
        assert!(!pattern.matches("com.github.pull_request."));
        assert!(EventPattern::parse("*").unwrap().matches("anything"));
    }

    #[test]
    fn stars_elsewhere_are_refused() {
        for bad in ["", ".*", "a*", "*.a", "a.*.b", "a.**", "**", " a", "a.* "] {
            assert!(EventPattern::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["a*", "*.a", "a*b", "a.*.b", "a.**"] {
            let told = EventPattern::parse(bad).unwrap_err().to_string();
            let expected = format!(
                "the event pattern {bad:?} has a * elsewhere than alone or after the last dot; use a \
                 name, a prefix such as com.github.issues.*, or *"
            );
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn the_more_specific_pattern_wins() {
        let specificity = |text: &str| EventPattern::parse(text).unwrap().specificity();
        assert!(specificity("a.b") > specificity("a.b.*"));
        assert!(specificity("a.b.*") > specificity("a.*"));
        assert!(specificity("a.*") > specificity("*"));
    }
}
