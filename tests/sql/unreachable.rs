//! What a store says when it gets no connection: where it looked, why there is none, and what to do.

#[cfg(any(feature = "postgres", feature = "mysql"))]
macro_rules! unreachable_tests {
    ($store:ty, $options:ty, $kind:expr, $scheme:literal, $tls:literal, $shared:expr) => {
        use std::{sync::Arc, time::Duration};

        use tidings::{StoreError, sqlx, store::Storer};

        use super::{chain, check_secrets, free_port};
        use crate::server::Private;

        #[tokio::test]
        async fn a_server_that_refuses_connections_is_named_with_the_cause() {
            let port = free_port();
            let url = format!("{}://root:secret@127.0.0.1:{port}/test", $scheme);
            let options = <$options>::new().acquire_timeout(Duration::from_millis(300));
            let error = <$store>::connect(&url, options).await.unwrap_err();
            assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
            assert!(
                error.to_string().contains(&format!("127.0.0.1:{port}")),
                "{error}"
            );
            assert!(chain(&error).contains("refused"), "{}", chain(&error));
            assert!(error.is_transient() && !error.is_uncertain());
            check_secrets(&error);
        }

        #[tokio::test]
        async fn a_server_that_is_just_starting_is_waited_for() {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let place = listener.local_addr().unwrap();
            drop(listener);
            let shared = $shared;
            let (proxy, through) = crate::proxy::Proxy::of(&shared).await;
            let url = through.replace(&proxy.address.to_string(), &place.to_string());
            let connecting =
                tokio::spawn(async move { <$store>::connect(&url, <$options>::new()).await });
            tokio::time::sleep(Duration::from_millis(250)).await;
            assert!(!connecting.is_finished());
            let listener = tokio::net::TcpListener::bind(place).await.unwrap();
            let upstream = proxy.address;
            tokio::spawn(async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    let mut server = tokio::net::TcpStream::connect(upstream).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
            connecting.await.unwrap().unwrap();
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn while_a_server_is_down_sessions_and_transactions_say_so() {
            let server = Arc::new(Private::start($kind));
            let options = <$options>::new().acquire_timeout(Duration::from_secs(2));
            let store = <$store>::connect(server.url(), options).await.unwrap();
            store.migrate().await.unwrap();
            // Idle connections, which are lost with the server.
            drop(store.session().await.unwrap());
            let private = Arc::clone(&server);
            let stop = tokio::task::spawn_blocking(move || private.stop());
            stop.await.unwrap();
            tokio::time::sleep(Duration::from_millis(1100)).await;
            for _ in 0..2 {
                let errors = [
                    store.session().await.map(drop).unwrap_err(),
                    store.begin().await.map(drop).unwrap_err(),
                    store.lease_renewer().await.map(drop).unwrap_err(),
                ];
                for error in errors {
                    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
                    assert!(chain(&error).contains("refused"), "{}", chain(&error));
                }
            }
            let private = Arc::clone(&server);
            let start = tokio::task::spawn_blocking(move || private.start_again());
            start.await.unwrap();
            drop(store.session().await.unwrap());
        }

        #[tokio::test]
        async fn a_full_pool_is_not_taken_for_a_server_that_is_down() {
            let options = <$options>::new()
                .max_connections(1)
                .session_connections(2)
                .acquire_timeout(Duration::from_secs(2))
                // The same as other limits, which must not matter.
                .lock_timeout(Duration::from_secs(2))
                .statement_timeout(Duration::from_secs(2))
                .table_prefix(crate::fresh::prefix());
            let store = <$store>::connect(&$shared, options).await.unwrap();
            store.migrate().await.unwrap();
            let _both = [
                store.session().await.unwrap(),
                store.session().await.unwrap(),
            ];
            let error = store.session().await.map(drop).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("all connections (2) are still in use after "),
                "{error}"
            );
            assert!(error.is_transient() && !error.is_uncertain());
            let _one = store.begin().await.unwrap();
            let error = store.begin().await.map(drop).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("all connections (1) are still in use after "),
                "{error}"
            );
        }

        #[tokio::test]
        async fn an_unknown_database_or_user_names_the_remedy() {
            let shared = $shared;
            let (place, _) = shared.split_once('?').unwrap_or((&shared, ""));
            let (place, _) = place.rsplit_once('/').unwrap();
            let nowhere = format!("{place}/nowhere_at_all");
            let (_, host) = place.rsplit_once('@').unwrap();
            let nobody = format!("{}://nobody_at_all:secret@{host}/test", $scheme);
            for (url, remedy) in [
                (nowhere, "create it"),
                (nobody, "correct user and password"),
            ] {
                let error = <$store>::connect(&url, <$options>::new())
                    .await
                    .unwrap_err();
                assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
                let text = error.to_string();
                assert!(text.contains(remedy) && text.contains(host), "{text}");
                // Of the server's source.
                assert!(!text.contains("at line"), "{text}");
                assert!(!text.contains("error returned from"), "{text}");
                check_secrets(&error);
            }
        }

        #[tokio::test]
        async fn tls_that_cannot_be_had_is_no_outage() {
            let port = server_without_tls().await;
            let url = format!("{}://a:secret@127.0.0.1:{port}/x?{}", $scheme, $tls);
            let connecting = <$store>::connect(&url, <$options>::new()).await;
            let store = <$store>::new(sqlx::Pool::connect_lazy(&url).unwrap());
            for error in [
                connecting.unwrap_err(),
                store.session().await.map(drop).unwrap_err(),
                store.lease_renewer().await.map(drop).unwrap_err(),
            ] {
                assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
                assert!(!error.is_transient());
                let said = if super::TLS {
                    format!("asks for TLS, which the server at 127.0.0.1:{port} does not speak")
                } else {
                    "switch on the feature `tls-rustls` or `tls-native-tls`".to_owned()
                };
                assert!(error.to_string().contains(&said), "{error}");
                check_secrets(&error);
            }
        }

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

        #[tokio::test]
        async fn a_url_that_cannot_be_read_is_told_with_the_reason() {
            for (rest, reason) in [
                ("a:secret@127.0.0.1:many/x", "invalid port number"),
                ("a:secret/1@127.0.0.1/x", "invalid port number"),
                ("a:secret%ff@127.0.0.1/x", "no UTF-8"),
                (
                    "a@127.0.0.1/x?ssl-mode=secret",
                    "has an unknown `sslmode` after the ?; let `ssl",
                ),
                (
                    "a@127.0.0.1/x?statement-cache-capacity=secret",
                    "after the ? that should be a number, and is none; let `ssl",
                ),
            ] {
                let url = format!("{}://{rest}", $scheme);
                let error = <$store>::connect(&url, <$options>::new())
                    .await
                    .unwrap_err();
                assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
                assert!(error.to_string().contains(reason), "{error}");
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

/// Whether this build has TLS.
#[cfg(any(feature = "postgres", feature = "mysql"))]
const TLS: bool = cfg!(any(feature = "tls-rustls", feature = "tls-native-tls"));

/// The port of a server that reads so much of each connection, says so much, and waits until the
/// other side says something, which ends it.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn answering(reads: usize, says: Vec<u8>) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let says = says.clone();
            tokio::spawn(async move {
                let mut read = vec![0; reads];
                if client.read_exact(&mut read).await.is_ok() {
                    client.write_all(&says).await.unwrap();
                    let _ = client.read(&mut [0; 1024]).await;
                }
            });
        }
    });
    port
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
        "sslmode=require",
        crate::server::postgres_url()
    );

    /// Answers what every connection asks first, whether there is TLS.
    async fn answer_tls(answer: &'static [u8]) -> u16 {
        super::answering(8, answer.to_vec()).await
    }

    async fn server_without_tls() -> u16 {
        answer_tls(b"N").await
    }

    #[tokio::test]
    async fn a_server_that_goes_away_in_a_tls_handshake_is_an_outage() {
        let port = answer_tls(b"S").await;
        let url = format!("postgres://a@127.0.0.1:{port}/x?sslmode=require");
        let options = tidings::PostgresOptions::new();
        let connecting = tidings::PostgresStore::connect(&url, options).await;
        let error = connecting.unwrap_err();
        assert_eq!(error.is_transient(), super::TLS, "{error:?}");
        let is_outage = matches!(error, StoreError::Unreachable { .. });
        assert_eq!(is_outage, super::TLS, "{error:?}");
    }

    #[tokio::test]
    async fn what_the_server_says_is_shown_once_and_without_a_line_of_its_source() {
        let pool = sqlx::PgPool::connect(&crate::server::postgres_url()).await;
        let error = sqlx::query("SELECT * FROM nowhere_at_all")
            .execute(&pool.unwrap())
            .await
            .unwrap_err();
        let own = r#"error returned from database: relation "nowhere_at_all" does not exist [SQLSTATE 42P01]"#;
        assert_eq!(tidings::ErrorChain(&error).to_string(), own);
        let source = Box::new(error);
        let error = StoreError::Backend {
            operation: "look",
            source,
        };
        let text = tidings::ErrorChain(&error).to_string();
        assert_eq!(text, format!("{error}: {own}"));
        // It can still be asked for.
        let source = std::error::Error::source(&error).unwrap();
        let source = source.downcast_ref::<sqlx::Error>().unwrap();
        assert!(source.as_database_error().is_some());
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    unreachable_tests!(
        tidings::MySqlStore,
        tidings::MySqlOptions,
        crate::server::Kind::MariaDb,
        "mysql",
        "ssl-mode=REQUIRED",
        crate::server::mysql_url()
    );

    /// Greets as a server does that can protocol 4.1 and plugins, and no TLS.
    async fn server_without_tls() -> u16 {
        let mut greeting = b"\x0a8.0.0\0\x01\0\0\0abcdefgh\0".to_vec();
        greeting.extend(b"\x00\x82\x2d\x02\x00\x08\x00\x15");
        greeting.extend([0; 10]);
        greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
        let length = u8::try_from(greeting.len()).unwrap();
        let mut packet = vec![length, 0, 0, 0];
        packet.extend(greeting);
        super::answering(0, packet).await
    }

    #[tokio::test]
    async fn a_url_without_a_database_is_refused() {
        for url in [
            "mysql://a:secret@127.0.0.1",
            "mariadb://a:secret@127.0.0.1:1/",
        ] {
            let options = tidings::MySqlOptions::new();
            let error = tidings::MySqlStore::connect(url, options)
                .await
                .unwrap_err();
            let text = error.to_string();
            assert!(text.contains("names no database; append /NAME"), "{text}");
            check_secrets(&error);
        }
    }
}
