//! Connections that fail for good because of TLS, and those that only broke meanwhile.

use std::{error::Error, io};

use crate::error::StoreError;

/// Why no connection of this kind can be had before somebody changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This program was built without TLS.
    Missing,
    /// The server speaks no TLS.
    Unspoken,
    /// The two do not agree: mostly a certificate that nobody vouches for.
    Rejected,
}

impl Refusal {
    pub(super) fn error(self, server: String, error: &sqlx::Error) -> StoreError {
        match self {
            Self::Missing => StoreError::invalid(
                "the database URL",
                "asks for TLS, which this build has not",
                "switch on the feature `tls-rustls` or `tls-native-tls`",
            ),
            Self::Unspoken => StoreError::invalid(
                "the database URL",
                format!("asks for TLS, which the server at {server} does not speak"),
                "switch it on there, or ask for less after the ?",
            ),
            Self::Rejected => StoreError::invalid(
                format!("the TLS of the server at {server}"),
                match error {
                    sqlx::Error::Tls(source) => format!("is not accepted ({source})"),
                    error => format!("is not accepted ({error})"),
                },
                "correct its certificate, or name the authority that vouches for it after the ? of the URL",
            ),
        }
    }
}

/// Whether an error of connecting is one of TLS that lasts.
pub(super) fn refusal(error: &sqlx::Error) -> Option<Refusal> {
    match error {
        sqlx::Error::Tls(source) => {
            // The texts of sqlx, which has no types for them.
            let text = source.to_string();
            if text.contains("built without TLS") {
                return Some(Refusal::Missing);
            }
            if text.contains("server does not support TLS") {
                return Some(Refusal::Unspoken);
            }
            (!broke(&**source)).then_some(Refusal::Rejected)
        }
        // What rustls says of a certificate comes as if the network had said it.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => error
            .to_string()
            .starts_with("invalid peer certificate")
            .then_some(Refusal::Rejected),
        _ => None,
    }
}

/// Whether the connection broke in the middle of a handshake, of which native TLS makes an error of
/// TLS.
fn broke(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(|error| {
        let text = error.to_string().to_ascii_lowercase();
        error.is::<io::Error>() || text.contains("unexpected eof")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sql::error::Limits;

    fn tls(source: impl Into<Box<dyn Error + Send + Sync>>) -> sqlx::Error {
        sqlx::Error::Tls(source.into())
    }

    fn shown(error: sqlx::Error) -> StoreError {
        let limits = Limits {
            acquire: Duration::from_secs(1),
            statement: Duration::from_secs(1),
            lock: Duration::from_secs(1),
        };
        limits.connect_error("connect", "there:1".to_owned(), error.into())
    }

    #[test]
    fn what_tls_refuses_for_good_is_no_outage() {
        let not_verified = "certificate verify failed (self-signed certificate)";
        let of_rustls = io::Error::new(
            io::ErrorKind::InvalidData,
            "invalid peer certificate: UnknownIssuer",
        );
        for (error, said) in [
            (
                tls(
                    "TLS upgrade required by connect options but SQLx was built without TLS support enabled",
                ),
                "the database URL asks for TLS, which this build has not; switch on the feature \
                 `tls-rustls` or `tls-native-tls`",
            ),
            (
                tls("server does not support TLS"),
                "which the server at there:1 does not speak; switch it on there",
            ),
            (tls(not_verified), not_verified),
            (sqlx::Error::Io(of_rustls), "UnknownIssuer"),
        ] {
            let error = shown(error);
            assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
            assert!(!error.is_transient());
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_connection_that_breaks_in_a_handshake_is_an_outage() {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        for error in [
            sqlx::Error::Io(reset()),
            sqlx::Error::Io(io::ErrorKind::UnexpectedEof.into()),
            sqlx::Error::Io(io::Error::new(io::ErrorKind::InvalidData, "anything else")),
            tls(reset()),
            tls("error:0A000126:SSL routines::unexpected eof while reading"),
            tls("unexpected EOF"),
        ] {
            let error = shown(error);
            assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
            assert!(error.is_transient());
        }
    }
}
