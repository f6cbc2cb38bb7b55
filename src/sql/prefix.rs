//! The prefix of a store's tables: the only text that is ever put into SQL.

use std::fmt;

use crate::error::{Result, StoreError};

/// What the names of a store's tables begin with: `tidings_` unless another one is chosen.
///
/// Stores with different prefixes share nothing, so several can live in one database.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TablePrefix(String);

impl TablePrefix {
    /// The longest prefix, in bytes: with the longest name of an index it stays below the 63 bytes
    /// that PostgreSQL keeps of a name.
    const MAX_LEN: usize = 31;

    /// Checks a prefix: a small letter or underscore, then small letters, digits and underscores,
    /// so that it needs no quotes in any database.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let is_next = |byte: u8| is_first(byte) || byte.is_ascii_digit();
        let is_good = text.len() <= Self::MAX_LEN
            && text.bytes().next().is_some_and(is_first)
            && text.bytes().all(is_next);
        if is_good {
            return Ok(Self(text.to_owned()));
        }
        Err(StoreError::invalid(
            format!("the table prefix {text:?}"),
            "is not a short name in small letters",
            "begin with a-z or _ and go on with at most 30 of a-z, 0-9 and _",
        ))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TablePrefix {
    fn default() -> Self {
        Self("tidings_".to_owned())
    }
}

impl fmt::Debug for TablePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_be_sql_is_a_prefix() {
        for bad in [
            "",
            "1a",
            "A_",
            "a b",
            "a;",
            "a\"",
            "a-b",
            "ä",
            "a.b",
            &"a".repeat(32),
        ] {
            assert!(TablePrefix::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["_", "shop_", "a1_", &"a".repeat(31)] {
            assert_eq!(TablePrefix::parse(good).unwrap().as_str(), good);
        }
    }
}
