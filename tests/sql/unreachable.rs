//! What a store says when it gets no connection: where it looked, why there is none, and what to do.

#[cfg(any(feature = "postgres", feature = "mysql"))]
macro_rules! unreachable_tests {
    ($store:ty, $options:ty, $kind:expr, $scheme:literal, $shared:expr) => {
        use std::time::Duration;

        use tidings::StoreError;

        use super::check_secrets;

        #[tokio::test]
        async fn urls_of_other_databases_are_refused_at_once_by_their_scheme() {
            let others = [
                ("http://a:secret@127.0.0.1/x", "http"),
                ("sqlite:x.db", "sqlite"),
                ("postgres:secret@127.0.0.1/x", "postgres"),
                ("postgresql://a:secret@127.0.0.1/x", "postgresql"),
                ("mysql://a:secret@127.0.0.1/x", "mysql"),
                ("mariadb:secret@127.0.0.1/x", "mariadb"),
                ("a_secret:secret@127.0.0.1/x", "no scheme"),
                ("//a:secret@127.0.0.1/x", "no scheme"),
                ("secret", "no scheme"),
                ("", "no scheme"),
            ];
            // PostgreSQL's has a longer name as well.
            let is_ours = |url: &str| {
                let scheme = url.split_once("://").map(|(scheme, _)| scheme);
                scheme.is_some_and(|scheme| scheme.starts_with($scheme))
            };
            for (url, named) in others.into_iter().filter(|(url, _)| !is_ours(url)) {
                let connect = <$store>::connect(url, <$options>::new());
                let error = tokio::time::timeout(Duration::from_secs(1), connect).await;
                let error = error.expect("refused at once").unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
                assert!(text.contains(named), "{text}");
                assert!(text.contains(&format!("write {}://", $scheme)), "{text}");
                check_secrets(&error);
            }
        }
    };
}

/// An error with its causes.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn check_secrets(error: &tidings::StoreError) {
    let text = format!("{error} {error:?} {}", chain(error));
    assert!(!text.contains("secret"), "{text}");
}

/// A port on which nobody listens.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[cfg(feature = "postgres")]
mod postgres {
    unreachable_tests!(
        tidings::PostgresStore,
        tidings::PostgresOptions,
        crate::server::Kind::Postgres,
        "postgres",
        crate::server::postgres_url()
    );
}

#[cfg(feature = "mysql")]
mod mysql {
    unreachable_tests!(
        tidings::MySqlStore,
        tidings::MySqlOptions,
        crate::server::Kind::MariaDb,
        "mysql",
        crate::server::mysql_url()
    );
}
