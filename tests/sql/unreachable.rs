//! What a store says when it gets no connection: where it looked, why there is none, and what to do.

#[cfg(any(feature = "postgres", feature = "mysql"))]
macro_rules! unreachable_tests {
    ($store:ty, $options:ty, $kind:expr, $scheme:literal, $shared:expr) => {
        use std::{sync::Arc, time::Duration};

        use tidings::{StoreError, store::Storer};

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
                error.to_string().contains("all 2 connections are in use"),
                "{error}"
            );
            assert!(error.is_transient() && !error.is_uncertain());
            let _one = store.begin().await.unwrap();
            let error = store.begin().await.map(drop).unwrap_err();
            assert!(
                error.to_string().contains("all 1 connections are in use"),
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
