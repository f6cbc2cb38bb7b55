//! The URLs of databases, of which no error tells more than the scheme: they may hold a password.

use crate::error::{Result, StoreError};

/// Refuses a URL that does not begin with one of these schemes and what stands between it and the rest.
pub(super) fn check_scheme(
    url: &str,
    schemes: &[&str],
    separator: &str,
    database: &str,
    remedy: &'static str,
) -> Result<()> {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    // Anything else may be a user's name, or worse.
    let scheme = scheme.filter(|scheme| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    let Some(scheme) = scheme else {
        let reason = format!("has no scheme, so it is not one of {database}");
        return Err(StoreError::invalid("the database URL", reason, remedy));
    };
    if !schemes.iter().any(|ours| ours.eq_ignore_ascii_case(scheme)) {
        let reason = format!("begins with {scheme:?}, so it is not one of {database}");
        return Err(StoreError::invalid("the database URL", reason, remedy));
    }
    let rest = url.get(scheme.len()..).unwrap_or_default();
    if !rest.starts_with(separator) {
        let reason = format!("has no {separator:?} after {scheme:?}");
        return Err(StoreError::invalid("the database URL", reason, remedy));
    }
    Ok(())
}

/// A URL of the right scheme that cannot be read all the same. What to do about it depends on whether
/// it is one of the parameters after the `?`.
pub(super) fn unreadable(
    error: &sqlx::Error,
    remedy: &'static str,
    parameters: &'static str,
) -> StoreError {
    if let Some(reason) = parameter(error) {
        return StoreError::invalid("the database URL", reason, parameters);
    }
    let reason = match cause(error) {
        Some(cause) => format!("cannot be read: {cause}"),
        None => "cannot be read".to_owned(),
    };
    StoreError::invalid("the database URL", reason, remedy)
}

/// Which parameter after the `?` cannot be read, without what it is: a URL whose password has a `?`
/// shows it there.
fn parameter(error: &sqlx::Error) -> Option<&'static str> {
    /// What the errors of sqlx that quote a value have in common.
    const SAID: [(&str, &str); 5] = [
        ("for `ssl_mode`", "has an unknown `sslmode` after the ?"),
        ("for `mode`", "has an unknown `mode` after the ?"),
        ("for `cache`", "has an unknown `cache` after the ?"),
        ("for `immutable`", "has an unknown `immutable` after the ?"),
        (
            "unknown query parameter",
            "has an unknown parameter after the ?",
        ),
    ];
    let sqlx::Error::Configuration(source) = error else {
        return None;
    };
    if source.is::<std::num::ParseIntError>() {
        return Some("has a parameter after the ? that should be a number, and is none");
    }
    if source.is::<std::net::AddrParseError>() {
        return Some("has a `hostaddr` after the ? that is no address");
    }
    let text = source.to_string();
    let said = SAID.into_iter().find(|(said, _)| text.contains(said));
    said.map(|(_, reason)| reason)
}

/// Why it cannot be read, if that quotes nothing of the URL.
fn cause(error: &sqlx::Error) -> Option<&'static str> {
    /// What the parser of URLs says of those that people write. A password with a `/` or a `#` makes
    /// its beginning the port.
    const SAID: [&str; 5] = [
        "invalid port number",
        "empty host",
        "invalid IPv4 address",
        "invalid IPv6 address",
        "invalid domain character",
    ];
    let sqlx::Error::Configuration(source) = error else {
        return None;
    };
    if source.is::<std::str::Utf8Error>() {
        return Some("what is encoded with % is no UTF-8");
    }
    let text = source.to_string();
    SAID.into_iter().find(|said| *said == text)
}
