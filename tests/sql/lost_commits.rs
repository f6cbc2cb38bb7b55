//! A commit whose answer does not come leaves everything or nothing, and raising again tells which.

/// The test, for a fresh store, the URL of its server, and its kind.
#[cfg(any(feature = "postgres", feature = "mysql"))]
macro_rules! lost_commit_tests {
    ($fresh:expr, $url:expr, $store:ty, $options:ty) => {
        use tidings::{
            Event,
            store::{Raised, Storer},
        };

        use crate::proxy::{Cut, Proxy};

        #[tokio::test]
        async fn a_commit_whose_answer_is_lost_leaves_everything_or_nothing() {
            let fresh = $fresh;
            let (proxy, through) = Proxy::of(&$url).await;
            let options = <$options>::new().table_prefix(&*fresh.prefix);
            let store = <$store>::connect(&through, options).await.unwrap();
            let mut session = fresh.store.session().await.unwrap();
            for (cut, answer) in [
                (Cut::Before, Raised::New),
                (Cut::After, Raised::AlreadyRaised),
            ] {
                let events = ["a", "b"].map(|name| Event::new(name, &()).unwrap());
                let mut tx = store.begin().await.unwrap();
                tx.events().raise(&events).await.unwrap();
                proxy.cut(b"COMMIT", cut);
                let error = tx.commit().await.unwrap_err();
                assert!(proxy.has_cut());
                assert!(error.is_uncertain() && error.is_transient(), "{error}");
                // Raising them again tells what became of them, and a new connection is had for it.
                let mut again = store.session().await.unwrap();
                let raised = again.events().raise(&events).await.unwrap();
                assert_eq!(raised, [answer, answer], "{cut:?}");
                for event in events {
                    assert!(session.events().find(event.id).await.unwrap().is_some());
                }
            }
            assert_eq!(session.events().count_unprocessed().await.unwrap(), 4);
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    use crate::{fresh::postgres::Postgres, server::postgres_url};

    lost_commit_tests!(
        Postgres::new().await,
        postgres_url(),
        tidings::PostgresStore,
        tidings::PostgresOptions
    );
}

#[cfg(feature = "mysql")]
mod mysql {
    use crate::{fresh::mysql::MySql, server::mysql_url};

    lost_commit_tests!(
        MySql::new().await,
        mysql_url(),
        tidings::MySqlStore,
        tidings::MySqlOptions
    );
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite {
    use std::task::Poll;

    use tidings::{
        Event,
        store::{Raised, Storer},
    };

    use crate::fresh::sqlite::Sqlite;

    /// There is no answer that could be lost in this process, but one that is not waited for.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_commit_that_is_given_up_leaves_everything_or_nothing() {
        const COMMITS: u32 = 60;
        let fresh = Sqlite::new().await;
        let mut session = fresh.store.session().await.unwrap();
        let mut given_up = 0;
        for step in 0..COMMITS {
            let events = ["a", "b"].map(|name| Event::new(name, &()).unwrap());
            let mut tx = fresh.store.begin().await.unwrap();
            tx.events().raise(&events).await.unwrap();
            let mut commit = Box::pin(tx.commit());
            let mut committed = futures_util::poll!(commit.as_mut());
            // From its first step to after its end.
            for _ in 0..step * 20 {
                tokio::task::yield_now().await;
            }
            if committed.is_pending() && step % 2 == 1 {
                committed = futures_util::poll!(commit.as_mut());
            }
            drop(commit);
            let raised = session.events().raise(&events).await.unwrap();
            assert_eq!(raised[0], raised[1]);
            match committed {
                Poll::Ready(committed) => {
                    committed.unwrap();
                    assert_eq!(raised[0], Raised::AlreadyRaised);
                }
                Poll::Pending => given_up += 1,
            }
        }
        assert!(given_up > 0);
        let unprocessed = session.events().count_unprocessed().await.unwrap();
        assert_eq!(unprocessed, u64::from(2 * COMMITS));
    }
}
