//! Static SQL, with the table prefix filled in once.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::prefix::TablePrefix;

/// A statement that is ready to be sent. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Statement(SqlStr);

impl Statement {
    /// Fills the placeholder `{p}` of a static text. This is the only place that asserts SQL safe:
    /// the text is a constant of this crate, and the prefix has been checked.
    pub(super) fn new(text: &'static str, prefix: &TablePrefix) -> Self {
        let text: Arc<str> = text.replace("{p}", prefix.as_str()).into();
        Self(AssertSqlSafe(text).into_sql_str())
    }

    pub(super) fn sql(&self) -> SqlStr {
        self.0.clone()
    }

    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Declares a set of statements: a struct of texts, which each database fills with its own SQL,
/// and a struct of the same fields with the prefix filled in.
macro_rules! statements {
    ($(#[$doc:meta])* $texts:ident => $statements:ident { $($(#[$field_doc:meta])* $name:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $texts {
            $($(#[$field_doc])* pub(super) $name: &'static str,)*
        }

        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $statements {
            $($(#[$field_doc])* pub(super) $name: $crate::sql::statement::Statement,)*
        }

        impl $texts {
            pub(super) fn fill(&self, prefix: &$crate::sql::prefix::TablePrefix) -> $statements {
                $statements {
                    $($name: $crate::sql::statement::Statement::new(self.$name, prefix),)*
                }
            }
        }

        impl $statements {
            /// Every statement with its name, for the test that prepares them all.
            #[cfg(test)]
            pub(super) fn all(&self) -> Vec<(&'static str, &$crate::sql::statement::Statement)> {
                vec![$((stringify!($name), &self.$name),)*]
            }
        }
    };
}

pub(super) use statements;
