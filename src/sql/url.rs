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

/// A URL of the right scheme that cannot be read all the same.
pub(super) fn unreadable(remedy: &'static str) -> StoreError {
    StoreError::invalid("the database URL", "cannot be read", remedy)
}
