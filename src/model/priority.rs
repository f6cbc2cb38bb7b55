//! The order in which handler requests run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How urgent a handler request is: 0 to 100, lower runs first.
///
/// ```
/// use tidings::Priority;
/// assert!(Priority::new(10)? < Priority::default());
/// assert!(Priority::new(101).is_err());
/// # Ok::<(), tidings::PriorityError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i16", into = "i16")]
pub struct Priority(i16);

impl Priority {
    /// Runs before all others.
    pub const HIGHEST: Self = Self(0);
    /// Runs after all others.
    pub const LOWEST: Self = Self(100);

    /// A priority from 0 to 100.
    ///
    /// # Errors
    /// The number is out of range.
    pub const fn new(priority: i16) -> Result<Self, PriorityError> {
        if priority < Self::HIGHEST.0 || priority > Self::LOWEST.0 {
            return Err(PriorityError(priority));
        }
        Ok(Self(priority))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i16 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(50)
    }
}

impl fmt::Debug for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<i16> for Priority {
    type Error = PriorityError;

    fn try_from(priority: i16) -> Result<Self, PriorityError> {
        Self::new(priority)
    }
}

impl From<Priority> for i16 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// A priority that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("priority {0} is out of range; choose one from 0 (first) to 100 (last)")]
pub struct PriorityError(pub(crate) i16);
