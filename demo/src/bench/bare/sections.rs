//! The statements of the references: files of SQL in named sections.

use std::collections::HashMap;

use tidings::sqlx::{self, AssertSqlSafe, SqlSafeStr as _, SqlStr};

/// What begins a section.
const MARK: &str = "-- section: ";

/// The sections of one file or of several, a later one in place of an earlier one.
#[derive(Clone, Debug, Default)]
pub(super) struct Sections(HashMap<&'static str, SqlStr>);

impl Sections {
    /// The sections of the files.
    pub(super) fn of(files: &[&'static str]) -> Self {
        let mut sections = HashMap::new();
        for file in files {
            for section in file.split(MARK).skip(1) {
                let (name, sql) = section.split_once('\n').unwrap_or((section, ""));
                // Files of this project.
                let sql = AssertSqlSafe(sql.trim()).into_sql_str();
                sections.insert(name.trim(), sql);
            }
        }
        Self(sections)
    }

    /// A section, if there is one of this name.
    pub(super) fn find(&self, name: &str) -> Option<SqlStr> {
        self.0.get(name).cloned()
    }

    /// A section.
    pub(super) fn get(&self, name: &str) -> sqlx::Result<SqlStr> {
        let missing = || sqlx::Error::Protocol(format!("a reference has no section {name:?}"));
        self.find(name).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_is_not_there_is_an_error_and_nothing_that_costs_nothing() {
        let sections =
            Sections::of(&["-- section: claim\nSELECT 1;\n\n-- section: claim\nSELECT 2;"]);
        assert_eq!(sections.get("claim").unwrap().as_str(), "SELECT 2;");
        let error = sections.get("settle").unwrap_err();
        assert!(error.to_string().contains("\"settle\""), "{error}");
    }
}
