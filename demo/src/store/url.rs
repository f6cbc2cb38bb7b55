//! Which store a URL means, and how it is called where people read it: without its secrets.

use std::fmt;

use tidings::sqlx::{mysql::MySqlConnectOptions, postgres::PgConnectOptions};

/// The URL of a store, as it was given. It may hold a password, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreUrl(String);

/// What a URL means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Memory,
    Sqlite(&'a str),
    Postgres(&'a str),
    MySql(&'a str),
}

/// A URL that names no store. What was given is not repeated: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the URL of the store is none that the demo knows; give --store, or the environment variable TIDINGS_STORE, one of these forms:
  memory:
  sqlite:FILE
  postgres://USER:PASSWORD@HOST:PORT/DATABASE
  mysql://USER:PASSWORD@HOST:PORT/DATABASE (or mariadb://…)"
)]
pub(crate) struct BadUrl;

impl From<String> for StoreUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreUrl")
    }
}

impl StoreUrl {
    /// What the URL means. Whether it is well formed beyond its beginning, its store tells.
    pub(crate) fn target(&self) -> Result<Target<'_>, BadUrl> {
        let url = self.0.as_str();
        let begins = |scheme: &str| url.starts_with(scheme);
        match url {
            "memory:" => Ok(Target::Memory),
            "sqlite:" | "sqlite://" => Err(BadUrl),
            _ if begins("sqlite:") => Ok(Target::Sqlite(url)),
            _ if begins("postgres://") || begins("postgresql://") => Ok(Target::Postgres(url)),
            _ if begins("mysql://") || begins("mariadb://") => Ok(Target::MySql(url)),
            _ => Err(BadUrl),
        }
    }
}

/// Where it is, for people. Only what is known to be an address is shown, since a password that is
/// not well encoded can stand anywhere.
impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("in memory"),
            Self::Sqlite(url) => {
                let file = url.strip_prefix("sqlite:").unwrap_or_default();
                let file = file.strip_prefix("//").unwrap_or(file);
                let file = file.split_once('?').map_or(file, |(file, _)| file);
                write!(f, "on SQLite in {file}")
            }
            Self::Postgres(url) => match url.parse::<PgConnectOptions>() {
                Ok(options) => address(f, "PostgreSQL", options.get_host(), options.get_port()),
                Err(_) => f.write_str("on PostgreSQL"),
            },
            Self::MySql(url) => match url.parse::<MySqlConnectOptions>() {
                Ok(options) => address(f, "MySQL", options.get_host(), options.get_port()),
                Err(_) => f.write_str("on MySQL"),
            },
        }
    }
}

fn address(f: &mut fmt::Formatter<'_>, kind: &str, host: &str, port: u16) -> fmt::Result {
    write!(f, "on {kind} at {host}:{port}")
}

/// A text without what may be secret in its URLs: all that follows `://`, up to a blank,
/// a quote or a change of colour.
pub(crate) fn redact(text: &str) -> String {
    let mut parts = text.split("://");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |clean, part| {
        let end = part.find(|c: char| c.is_whitespace() || c.is_control() || "'\"`".contains(c));
        let rest = end.and_then(|end| part.get(end..)).unwrap_or_default();
        format!("{clean}://…{rest}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<String, BadUrl> {
        StoreUrl::from(url.to_owned())
            .target()
            .map(|target| target.to_string())
    }

    #[test]
    fn every_form_is_known_and_shown_without_what_is_secret() {
        for (url, shown) in [
            ("memory:", "in memory"),
            ("sqlite:a/b.db?mode=rwc", "on SQLite in a/b.db"),
            ("sqlite:///a/b.db", "on SQLite in /a/b.db"),
            (
                "postgres://me:secret@host:1/db?password=secret",
                "on PostgreSQL at host:1",
            ),
            (
                "postgresql://me:secr@et@host/db",
                "on PostgreSQL at host:5432",
            ),
            ("mysql://me:secret@host:2/db", "on MySQL at host:2"),
            ("mariadb://me:secret@host/db", "on MySQL at host:3306"),
        ] {
            assert_eq!(target(url).unwrap(), shown, "{url}");
        }
    }

    #[test]
    fn a_password_that_is_not_encoded_is_not_taken_for_an_address() {
        for url in [
            "postgres://me:sec/ret@host/db",
            "postgres://me:sec?ret@host/db",
            "postgres://me:sec#ret@host/db",
            "mysql://me:sec/ret@host/db",
        ] {
            let shown = target(url).unwrap();
            assert!(!shown.contains("sec") && !shown.contains("ret"), "{shown}");
        }
    }

    #[test]
    fn other_urls_are_refused_without_being_repeated() {
        for url in [
            "",
            "memory",
            "sqlite:",
            "postgres:secret",
            "oracle://me:secret@host/db",
            "host",
        ] {
            let error = target(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let url = StoreUrl::from("postgres://me:secret@host".to_owned());
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn texts_keep_everything_but_their_urls() {
        assert_eq!(
            redact("bad 'postgres://a:b@c/d' and x://y z, no more"),
            "bad 'postgres://…' and x://… z, no more"
        );
        assert_eq!(redact("nothing: here"), "nothing: here");
    }
}
