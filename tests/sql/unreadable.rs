//! Rows that cannot be read stay out of the way of the others, whichever of their columns somebody has
//! damaged.

/// The tests, for a fresh store, the largest time of the database, and one more than its largest.
macro_rules! unreadable_tests {
    ($fresh:expr, $no_time:literal) => {
        use std::{collections::HashSet, time::Duration};

        use futures_util::StreamExt as _;
        use tidings::{
            Backoff, Event, EventPattern, HandlerRequestId, LeaseOwner, Outcome, Priority,
            Registration,
            conformance::Target,
            store::{
                Claim, EventFilter, FanOut, HandlerRoom, Prune, Renewal, Replay, RescueLost,
                Settled, Settlement, Storer, StorerExt as _,
            },
        };

        const NO_TIME: &str = $no_time;

        /// Longer than what cannot be read is put off.
        const LONG: Duration = Duration::from_secs(3600);

        /// What somebody may write into columns of a pending request. None of it is a value that the
        /// library writes, and some of it is read all the same.
        const DAMAGES: [(&str, &str); 8] = [
            ("priority", "-1"),
            ("max_errors", "-1"),
            ("errors", "-1"),
            ("attempt", "-2"),
            ("executions", "-1"),
            ("rescues", "-1"),
            ("created_at", NO_TIME),
            ("last_errors", "'{\"not\": \"a list\"}'"),
        ];

        /// Two requests, of which the first one is claimed before the second one.
        async fn two_requests(store: &dyn Storer) -> [HandlerRequestId; 2] {
            let mut session = store.session().await.unwrap();
            let pattern = EventPattern::parse("*").unwrap();
            let handler = Registration::new(pattern, "h".into(), Priority::default(), 5);
            session.registrations().register(&[handler]).await.unwrap();
            let mut events: Vec<_> = (0..2).map(|_| Event::new("a", &()).unwrap()).collect();
            events.sort_unstable_by_key(|event| event.id);
            session.events().raise(&events).await.unwrap();
            session.events().fan_out(&FanOut::due(2)).await.unwrap();
            let mut ids = Vec::new();
            for event in events {
                let requests = session.handler_requests().of_event(event.id).await.unwrap();
                ids.extend(requests.into_iter().map(|request| request.id));
            }
            ids.try_into().unwrap()
        }

        fn claim(limit: usize, lease: Duration) -> Claim {
            Claim::new(
                LeaseOwner::new(),
                lease,
                limit,
                vec![HandlerRoom::new("h", limit)],
            )
        }

        /// The text of an id in a condition of every database.
        fn hex(id: HandlerRequestId) -> String {
            let hex = id.as_uuid().simple().to_string();
            if NO_TIME == "'infinity'" {
                format!("'{hex}'")
            } else {
                format!("x'{hex}'")
            }
        }

        #[tokio::test]
        async fn a_request_that_cannot_be_read_keeps_no_other_from_its_claim() {
            for (column, value) in DAMAGES {
                let fresh = $fresh;
                let [bad, good] = two_requests(&fresh.store).await;
                let spoil = format!(
                    "UPDATE {{p}}handler_requests SET {column} = {value} WHERE id = {}",
                    hex(bad)
                );
                fresh.run(&spoil).await;
                let mut session = fresh.store.session().await.unwrap();
                let mut requests = session.handler_requests();
                let mut claimed = Vec::new();
                for _ in 0..2 {
                    let batch = requests.claim(&claim(1, LONG)).await.unwrap();
                    claimed.extend(batch.requests.into_iter().map(|one| one.id));
                    if claimed.last() == Some(&good) {
                        break;
                    }
                    // Who waited behind it does not wait for the next look.
                    let soon = claimed.is_empty().then_some(Duration::ZERO);
                    assert!(batch.next_due == soon || claimed == [bad], "{column}");
                }
                assert_eq!(claimed.last(), Some(&good), "{column}");
            }
        }

        /// Nobody has it locked, so nobody is waited for.
        #[tokio::test]
        async fn a_request_that_has_lost_its_event_is_renamed() {
            let fresh = $fresh;
            let [lost, _] = two_requests(&fresh.store).await;
            let delete = format!(
                "DELETE FROM {{p}}events WHERE id = (SELECT event_id FROM {{p}}handler_requests WHERE id = {})",
                hex(lost)
            );
            fresh.run(&delete).await;
            let renamed = fresh.store.rename(&"h".into(), &"new".into()).await.unwrap();
            assert_eq!((renamed.requests, renamed.skipped), (2, 0));
        }

        #[tokio::test]
        async fn a_request_that_was_mended_is_claimed() {
            let fresh = $fresh;
            let [bad, _] = two_requests(&fresh.store).await;
            let set = |value| {
                format!(
                    "UPDATE {{p}}handler_requests SET priority = {value} WHERE id = {}",
                    hex(bad)
                )
            };
            fresh.run(&set("-1")).await;
            let mut session = fresh.store.session().await.unwrap();
            let claim = claim(1, LONG);
            session.handler_requests().claim(&claim).await.unwrap();
            fresh.run(&set("50")).await;
            fresh.pass_time(LONG + LONG).await;
            let rescue = RescueLost::new(9, Backoff::default());
            session.handler_requests().rescue(&rescue).await.unwrap();
            let batch = session.handler_requests().claim(&claim).await.unwrap();
            assert_eq!(batch.requests[0].id, bad);
        }

        #[tokio::test]
        async fn a_request_that_cannot_be_read_keeps_no_other_from_its_rescue() {
            let fresh = $fresh;
            let [bad, good] = two_requests(&fresh.store).await;
            let mut session = fresh.store.session().await.unwrap();
            let claim = claim(2, Duration::from_secs(60));
            session.handler_requests().claim(&claim).await.unwrap();
            fresh
                .run(&format!(
                    "UPDATE {{p}}handler_requests SET priority = -1 WHERE id = {}",
                    hex(bad)
                ))
                .await;
            fresh.pass_time(LONG).await;
            let rescue = RescueLost::new(1, Backoff::default());
            let mut rescued = Vec::new();
            for _ in 0..2 {
                let answer = session.handler_requests().rescue(&rescue).await.unwrap();
                rescued.extend(answer.requests.into_iter().map(|one| one.id));
            }
            assert_eq!(rescued, [good]);
        }

        #[tokio::test]
        async fn a_request_that_cannot_be_read_keeps_no_other_from_its_renewal_and_settlement() {
            let fresh = $fresh;
            let [bad, good] = two_requests(&fresh.store).await;
            let mut session = fresh.store.session().await.unwrap();
            let claim = claim(2, LONG);
            session.handler_requests().claim(&claim).await.unwrap();
            fresh
                .run(&format!(
                    "UPDATE {{p}}handler_requests SET priority = -1 WHERE id = {}",
                    hex(bad)
                ))
                .await;
            let held = vec![(bad, 1), (good, 1)];
            let renewal = Renewal::new(claim.owner, LONG, held.clone());
            let mut renewer = fresh.store.lease_renewer().await.unwrap();
            let lost = renewer.renew(&renewal).await.unwrap().lost;
            assert!(!lost.contains(&(good, 1)));
            let error = Outcome::Failed {
                error: "no".to_owned(),
                backoff: LONG,
            };
            let settlements: Vec<_> = held
                .into_iter()
                .map(|(id, attempt)| Settlement::new(id, attempt, claim.owner, error.clone()))
                .collect();
            let settled = session
                .handler_requests()
                .settle(&settlements)
                .await
                .unwrap();
            assert_eq!(settled[1], Settled::Applied);
        }

        #[tokio::test]
        async fn a_request_that_cannot_be_read_keeps_no_other_event_from_being_pruned_or_replayed()
        {
            let fresh = $fresh;
            let [bad, good] = two_requests(&fresh.store).await;
            let mut session = fresh.store.session().await.unwrap();
            let claim = claim(2, LONG);
            session.handler_requests().claim(&claim).await.unwrap();
            let settlements: Vec<_> = [bad, good]
                .into_iter()
                .map(|id| Settlement::new(id, 1, claim.owner, Outcome::Completed))
                .collect();
            session
                .handler_requests()
                .settle(&settlements)
                .await
                .unwrap();
            let spoil = "UPDATE {p}handler_requests SET priority = -1 WHERE id = ";
            fresh.run(&format!("{spoil} {}", hex(bad))).await;
            let replay = Replay::new(EventFilter::default(), 9);
            let replayed = session.handler_requests().replay(&replay).await.unwrap();
            assert_eq!((replayed.created, replayed.reexecuted), (0, 1));
            let mut requests = session.handler_requests();
            requests.cancel(good).await.unwrap();
            drop(requests);
            fresh.pass_time(LONG).await;
            let prune = Prune::new(9).canceled_for(Some(Duration::from_secs(1)));
            let pruned = session.events().prune(&prune).await.unwrap();
            assert_eq!(pruned.events, 1);
            // What says so names the row.
            let error = session.handler_requests().find(bad).await.unwrap_err();
            let told = error.to_string();
            assert!(told.contains("handler_requests.priority"), "{told}");
            assert!(told.contains(&bad.to_string()), "{told}");
        }

        #[tokio::test]
        async fn a_stream_goes_on_behind_an_event_that_cannot_be_read() {
            // More than two pages.
            const EVENTS: usize = 1100;
            let fresh = $fresh;
            let mut session = fresh.store.session().await.unwrap();
            let events: Vec<_> = (0..EVENTS).map(|_| Event::new("a", &()).unwrap()).collect();
            session.events().raise(&events).await.unwrap();
            let mut ids: Vec<_> = events.iter().map(|event| event.id.as_uuid()).collect();
            ids.sort_unstable();
            let bad = hex(HandlerRequestId::from_uuid(ids[499]));
            fresh
                .run(&format!(
                    "UPDATE {{p}}events SET headers = '[]' WHERE id = {bad}"
                ))
                .await;
            let filter = EventFilter::default();
            let mut repository = session.events();
            let read: Vec<_> = repository.stream(&filter).collect().await;
            let errors = read.iter().filter(|event| event.is_err()).count();
            assert_eq!((read.len(), errors), (EVENTS, 1));
            let read: HashSet<_> = read.into_iter().flatten().map(|one| one.event.id).collect();
            assert_eq!(read.len(), EVENTS - 1);
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    unreadable_tests!(crate::fresh::postgres::Postgres::new().await, "'infinity'");
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite {
    unreadable_tests!(
        crate::fresh::sqlite::Sqlite::new().await,
        "9223372036854775807"
    );
}

#[cfg(feature = "mysql")]
mod mysql {
    unreadable_tests!(
        crate::fresh::mysql::MySql::new().await,
        "9223372036854775807"
    );
}
