//! Every column of every table, with every value in it that the database stores and the library never
//! writes: nobody panics, whoever asks is told which row it is, and its neighbours are handled.
//!
//! The columns are compared with those that the database has, so a new one is not forgotten.

/// In which tables and columns somebody writes what does not belong there.
const COLUMNS: [(&str, &str); 8] = [
    (
        "events",
        "id name entity_name entity_id data timestamp correlation_id causation_id headers version",
    ),
    ("unprocessed_events", "event_id"),
    (
        "waiting_events",
        "event_id attempt errors last_error owner due_at",
    ),
    ("unwanted_events", "event_id processed_at"),
    (
        "handler_requests",
        "id event_id handler priority max_errors errors attempt executions rescues queue created_at \
         backoff_until last_execution_at completed_at canceled_at dead_at owner lease_until last_errors",
    ),
    (
        "registrations",
        "handler pattern priority max_errors hash prefix specificity state renamed_to last_seen_at",
    ),
    // Only on PostgreSQL.
    ("leases", "id lease_until requests"),
    // Which migrations there are is looked at once by each process, and no row of it is in the way of
    // another one; there are no neighbours.
    ("migrations", ""),
];

/// The tests, for a fresh store, the values that are tried, and how the columns of a table are asked for.
macro_rules! damaged_tests {
    ($fresh:expr, $values:expr, $columns:expr) => {
        use std::{
            collections::BTreeSet, fmt::Debug, future::Future, panic::AssertUnwindSafe,
            time::Duration,
        };

        use futures_util::{FutureExt as _, StreamExt as _};
        use sqlx::Executor as _;
        use tidings::{
            Backoff, ErrorChain, Event, EventPattern, HandlerRequestId, LeaseOwner, Outcome,
            Priority, Registration, StoreError, sqlx,
            store::{
                Claim, ClaimedRequest, EventClaim, EventFilter, FanOut, HandlerRoom, LeaseOffer,
                LockMode, Look, Page, Prune, Renewal, Replay, RequestFilter, RescueLost, Session,
                Settlement, Storer,
            },
        };

        use super::COLUMNS;

        const MOMENT: Duration = Duration::from_millis(1);
        const LONG: Duration = Duration::from_secs(3600);

        /// How far the rows are when one of them is damaged.
        #[derive(Clone, Copy, Debug, PartialEq)]
        enum Stage {
            Raised,
            /// Claimed for hooks by somebody who is gone.
            Waiting,
            Ready,
            BackingOff,
            /// Claimed by somebody who is gone.
            Lost,
            Dead,
        }

        use Stage::*;

        fn stages(table: &str, column: &str) -> &'static [Stage] {
            match table {
                "events" => &[Raised, Ready],
                "unprocessed_events" => &[Raised],
                "waiting_events" => &[Waiting],
                "unwanted_events" => &[Raised],
                "handler_requests" => match column {
                    "attempt" | "queue" | "backoff_until" | "errors" => &[Ready, BackingOff, Lost],
                    "handler" | "last_errors" | "dead_at" | "completed_at" => &[Ready, Lost, Dead],
                    _ => &[Ready, Lost],
                },
                "leases" => &[Lost],
                "registrations" => &[Raised],
                _ => &[],
            }
        }

        /// What is damaged, and in whose way it is to be.
        struct Rows {
            bad: Event,
            good: Event,
        }

        impl Rows {
            fn bad_request(&self) -> HandlerRequestId {
                HandlerRequestId::derive(self.bad.id, "h")
            }

            fn good_request(&self) -> HandlerRequestId {
                HandlerRequestId::derive(self.good.id, "h")
            }
        }

        fn rooms(limit: usize) -> Vec<HandlerRoom> {
            vec![HandlerRoom::new("h", limit), HandlerRoom::new("new", limit)]
        }

        fn claim(limit: usize, lease: Duration) -> Claim {
            Claim::new(LeaseOwner::new(), lease, limit, rooms(limit))
        }

        /// Two events, of which the one that will be damaged comes first, and all that is made of them.
        async fn rows(fresh: &Fresh, stage: Stage) -> Rows {
            for (table, _) in COLUMNS {
                if table != "migrations" && !columns(fresh, table).await.is_empty() {
                    fresh.run(&format!("DELETE FROM {{p}}{table}")).await;
                }
            }
            let mut session = fresh.store.session().await.unwrap();
            let other = |pattern, handler: &str| {
                let pattern = EventPattern::parse(pattern).unwrap();
                Registration::new(pattern, handler.into(), Priority::default(), 1)
            };
            let handlers = [other("wanted", "h"), other("no.*", "other")];
            session.registrations().register(&handlers).await.unwrap();
            let event = |name: &str| Event::new(name, &()).unwrap();
            session.events().raise(&[event("unwanted")]).await.unwrap();
            session.events().fan_out(&FanOut::due(9)).await.unwrap();
            let mut events = [event("wanted"), event("wanted")];
            events.sort_unstable_by_key(|event| event.id);
            session.events().raise(&events).await.unwrap();
            let [bad, good] = events;
            let claim = claim(9, if stage == Lost { MOMENT } else { LONG });
            match stage {
                Raised => {}
                Waiting => {
                    let claim = EventClaim::new(LeaseOwner::new(), MOMENT, 9);
                    session.events().claim(&claim).await.unwrap();
                }
                _ => {
                    session.events().fan_out(&FanOut::due(9)).await.unwrap();
                }
            }
            if stage == Lost {
                // Not together, since what is leased together is in one note.
                for _ in 0..2 {
                    let one = self::claim(1, MOMENT);
                    session.handler_requests().claim(&one).await.unwrap();
                }
            }
            if matches!(stage, BackingOff | Dead) {
                let batch = session.handler_requests().claim(&claim).await.unwrap();
                let outcome = match stage {
                    BackingOff => Outcome::Snoozed { duration: MOMENT },
                    _ => Outcome::Discarded {
                        reason: "no".to_owned(),
                    },
                };
                let settlements = batch
                    .requests
                    .iter()
                    .map(|one| Settlement::new(one.id, one.attempt, claim.owner, outcome.clone()));
                let settlements: Vec<_> = settlements.collect();
                let mut requests = session.handler_requests();
                requests.settle(&settlements).await.unwrap();
            }
            Rows { bad, good }
        }

        /// Which row is damaged.
        fn place(table: &str, prefix: &str, rows: &Rows) -> String {
            let event = hex(rows.bad.id.as_uuid());
            match table {
                "events" => format!("id = {event}"),
                "unprocessed_events" | "waiting_events" => format!("event_id = {event}"),
                "unwanted_events" => "event_id IS NOT NULL".to_owned(),
                "handler_requests" => format!("id = {}", hex(rows.bad_request().as_uuid())),
                "leases" => format!("id = (SELECT min(id) FROM {prefix}leases)"),
                _ => "handler = 'other'".to_owned(),
            }
        }

        /// What an operation answers: something, or an error that says which row cannot be read.
        async fn told<T: Debug>(
            what: &str,
            operation: impl Future<Output = Result<T, StoreError>>,
        ) -> Result<Option<T>, String> {
            let operation = AssertUnwindSafe(operation).catch_unwind();
            match tokio::time::timeout(Duration::from_secs(20), operation).await {
                Err(_) => Err(format!("{what} does not end")),
                Ok(Err(_)) => Err(format!("{what} panics")),
                Ok(Ok(Ok(answer))) => Ok(Some(answer)),
                Ok(Ok(Err(StoreError::Unreadable { id, column, .. })))
                    if id != "unknown" || ["handler", "name"].contains(&column) =>
                {
                    Ok(None)
                }
                Ok(Ok(Err(StoreError::Refused { .. }))) => Ok(None),
                Ok(Ok(Err(error))) => Err(format!("{what}: {}", ErrorChain(&error))),
            }
        }

        /// Everything that reads.
        async fn look_at_all(fresh: &Fresh, rows: &Rows) -> Result<(), String> {
            let mut session = fresh.store.session().await.unwrap();
            let mut events = session.events();
            told("find an event", events.find(rows.bad.id)).await?;
            told(
                "lock an event",
                events.find_for_update(rows.bad.id, LockMode::Wait),
            )
            .await?;
            told("count events", events.count_unprocessed()).await?;
            told("the oldest event", events.oldest_unprocessed()).await?;
            let filter = EventFilter::default();
            told("list events", events.list(&filter, &Page::first(9))).await?;
            let streamed = async { Ok(events.stream(&filter).collect::<Vec<_>>().await) };
            for one in told("stream events", streamed).await?.into_iter().flatten() {
                told("stream events", async { one }).await?;
            }
            drop(events);
            let mut requests = session.handler_requests();
            told("find a request", requests.find(rows.bad_request())).await?;
            let find = requests.find_for_update(rows.bad_request(), LockMode::Wait);
            told("lock a request", find).await?;
            told("requests of an event", requests.of_event(rows.bad.id)).await?;
            told("count requests", requests.count_unexecuted()).await?;
            told("the oldest request", requests.oldest_unexecuted()).await?;
            told("count dead", requests.count_dead()).await?;
            told("dead event names", requests.dead_event_names()).await?;
            told("dead handler names", requests.dead_handler_names()).await?;
            let all = RequestFilter::default();
            told("dead", requests.dead(&all, &Page::first(9))).await?;
            let of_error = all.clone().error_contains("x");
            for filter in [all, of_error] {
                told("list requests", requests.list(&filter, &Page::first(9))).await?;
                told("count some", requests.count(&filter)).await?;
                let streamed = async { Ok(requests.stream(&filter).collect::<Vec<_>>().await) };
                for one in told("stream requests", streamed)
                    .await?
                    .into_iter()
                    .flatten()
                {
                    told("stream requests", async { one }).await?;
                }
            }
            drop(requests);
            let mut registrations = session.registrations();
            told("registrations", registrations.all()).await?;
            told("absent handlers", registrations.absent(MOMENT)).await?;
            told("touch", registrations.touch(&["h".into()])).await?;
            drop(registrations);
            drop(session);
            told("look", fresh.store.look(&Look::new(vec!["h".into()]))).await?;
            Ok(())
        }

        /// Settles at once, and one by one what fails together.
        async fn complete(
            session: &mut dyn Session,
            owner: LeaseOwner,
            claimed: Vec<ClaimedRequest>,
        ) -> Result<(), String> {
            let settlements: Vec<_> = claimed
                .iter()
                .map(|one| Settlement::new(one.id, one.attempt, owner, Outcome::Completed))
                .collect();
            let mut requests = session.handler_requests();
            told("settle", requests.settle(&settlements)).await?;
            Ok(())
        }

        /// What schedulers do, until the good one is completed.
        async fn work(fresh: &Fresh, rows: &Rows, is_offering: bool) -> Result<(), String> {
            const ROUNDS: usize = 8;
            let mut session = fresh.store.session().await.unwrap();
            for _ in 0..ROUNDS {
                let owner = LeaseOwner::new();
                let mut fan_out = FanOut::due(1);
                if is_offering {
                    fan_out.offer = Some(LeaseOffer::new(owner, LONG, 9, rooms(9)));
                }
                let made = told("fan out", session.events().fan_out(&fan_out)).await?;
                let mut claimed = made.map(|made| made.born_leased).unwrap_or_default();
                let rescue = RescueLost::new(1, Backoff::default());
                told("rescue", session.handler_requests().rescue(&rescue)).await?;
                let claim = Claim::new(owner, LONG, 1, rooms(1));
                let batch = told("claim", session.handler_requests().claim(&claim)).await?;
                claimed.extend(batch.into_iter().flat_map(|batch| batch.requests));
                let mut requests = session.handler_requests();
                let suspect = told("claim a suspect", requests.claim_suspect(&claim)).await?;
                claimed.extend(suspect.into_iter().flat_map(|batch| batch.requests));
                drop(requests);
                let held = claimed.iter().map(|one| (one.id, one.attempt)).collect();
                let renewal = Renewal::new(owner, LONG, held);
                let mut renewer = fresh.store.lease_renewer().await.unwrap();
                told("renew", renewer.renew(&renewal)).await?;
                complete(&mut *session, owner, claimed).await?;
                let good = session.handler_requests().find(rows.good_request()).await;
                let good = good.map_err(|error| ErrorChain(&error).to_string())?;
                if good.is_some_and(|good| good.completed_at.is_some()) {
                    return Ok(());
                }
                // Leases and backoffs of a moment end.
                tokio::time::sleep(2 * MOMENT).await;
            }
            Err("the neighbour waits".to_owned())
        }

        /// What operators do.
        async fn administrate(fresh: &Fresh, rows: &Rows) -> Result<(), String> {
            let mut session = fresh.store.session().await.unwrap();
            let mut requests = session.handler_requests();
            let bad = rows.bad_request();
            told("run now", requests.run_now(bad)).await?;
            told("cancel", requests.cancel(bad)).await?;
            told("reexecute", requests.reexecute(bad)).await?;
            let all = RequestFilter::default();
            told("reexecute dead", requests.reexecute_dead(&all, 9)).await?;
            let replay = Replay::new(EventFilter::default(), 9);
            told("replay", requests.replay(&replay)).await?;
            drop(requests);
            let prune = Prune::new(9)
                .completed_for(Some(LONG))
                .canceled_for(Some(LONG));
            told("prune", session.events().prune(&prune)).await?;
            let mut registrations = session.registrations();
            let pattern = EventPattern::parse("no.*").unwrap();
            let other = Registration::new(pattern, "other".into(), Priority::default(), 1);
            told("register", registrations.register(&[other])).await?;
            told("rename", registrations.rename(&"h".into(), &"new".into())).await?;
            told(
                "rename requests",
                registrations.rename_requests(&"h".into(), 9),
            )
            .await?;
            told("retire", registrations.retire(&"other".into())).await?;
            Ok(())
        }

        /// All that is done with one damage.
        async fn live_with(
            fresh: &Fresh,
            stage: Stage,
            rows: &Rows,
            is_offering: bool,
        ) -> Result<(), String> {
            look_at_all(fresh, rows).await?;
            if stage == Dead {
                let mut session = fresh.store.session().await.unwrap();
                let mut requests = session.handler_requests();
                requests
                    .reexecute(rows.good_request())
                    .await
                    .map_err(|error| error.to_string())?;
            }
            work(fresh, rows, is_offering).await?;
            administrate(fresh, rows).await
        }

        async fn columns(fresh: &Fresh, table: &str) -> BTreeSet<String> {
            let sql = ($columns)(&format!("{}{table}", fresh.prefix));
            let columns: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_all(&fresh.pool)
                .await
                .unwrap();
            columns.into_iter().collect()
        }

        #[tokio::test]
        async fn every_column_of_every_table_is_tried() {
            let fresh = $fresh;
            for (table, listed) in COLUMNS {
                let listed: BTreeSet<_> = listed.split_whitespace().map(str::to_owned).collect();
                let there = columns(&fresh, table).await;
                let is_known = there.is_empty() || table == "migrations";
                assert!(is_known || there == listed, "{table}: {there:?}");
            }
        }

        /// All columns of one table.
        async fn try_table(table: &'static str) {
            let columns = COLUMNS
                .iter()
                .find(|(listed, _)| *listed == table)
                .unwrap()
                .1;
            let failures: Vec<_> = futures_util::stream::iter(columns.split_whitespace())
                .map(|column| try_column(table, column))
                .buffer_unordered(2)
                .concat()
                .await;
            assert!(
                failures.is_empty(),
                "{}:\n{}",
                failures.len(),
                failures.join("\n")
            );
        }

        #[tokio::test]
        async fn a_damaged_event_is_named_and_keeps_no_neighbour_waiting() {
            try_table("events").await;
        }

        #[tokio::test]
        async fn a_damaged_place_of_an_event_is_named_and_keeps_no_neighbour_waiting() {
            try_table("unprocessed_events").await;
            try_table("unwanted_events").await;
        }

        #[tokio::test]
        async fn a_damaged_waiting_event_is_named_and_keeps_no_neighbour_waiting() {
            try_table("waiting_events").await;
        }

        #[tokio::test]
        async fn a_damaged_request_is_named_and_keeps_no_neighbour_waiting() {
            try_table("handler_requests").await;
        }

        #[tokio::test]
        async fn a_damaged_note_of_leases_keeps_no_neighbour_waiting() {
            try_table("leases").await;
        }

        #[tokio::test]
        async fn a_damaged_registration_is_named_and_keeps_no_neighbour_waiting() {
            try_table("registrations").await;
        }

        async fn try_column(table: &'static str, column: &'static str) -> Vec<String> {
            let mut failures = Vec::new();
            let fresh: Fresh = $fresh;
            if columns(&fresh, table).await.is_empty() {
                return failures;
            }
            for &stage in stages(table, column) {
                let mut rows = rows(&fresh, stage).await;
                for (number, value) in ($values).into_iter().enumerate() {
                    let place = place(table, &fresh.prefix, &rows);
                    let sql = format!(
                        "UPDATE {}{table} SET {column} = {value} WHERE {place}",
                        fresh.prefix
                    );
                    // What the database does not store is no damage.
                    let damage = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
                    match fresh.pool.execute(damage).await {
                        Ok(done) if done.rows_affected() > 0 => {}
                        Ok(_) => panic!("{table} has no row {place} ({stage:?})"),
                        Err(_) => continue,
                    }
                    if let Err(why) = live_with(&fresh, stage, &rows, number % 2 == 0).await {
                        let value: String = value.chars().take(30).collect();
                        failures.push(format!("{table}.{column} = {value} ({stage:?}): {why}"));
                    }
                    rows = self::rows(&fresh, stage).await;
                }
            }
            failures
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    use crate::fresh::postgres::Postgres as Fresh;

    fn hex(id: uuid::Uuid) -> String {
        format!("'{id}'")
    }

    damaged_tests!(
        crate::fresh::postgres::Postgres::new().await,
        [
            "NULL",
            "-1",
            "0",
            "9",
            "32767",
            "2147483647",
            "9223372036854775807",
            "-9223372036854775808",
            "''",
            "repeat('x', 2097152)",
            "E'\\uFFFF'",
            "'infinity'",
            "'-infinity'",
            "'294276-12-31'",
            "'4714-11-24 BC'",
            "'2001-01-01'",
            "'[]'",
            "'{}'",
            "'0'",
            "'[{\"message\": \"\\u0000\"}]'",
            "(repeat('[', 5000) || repeat(']', 5000))::json",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "'{00000000-0000-0000-0000-000000000000,NULL}'",
        ],
        |table: &str| format!(
            "SELECT column_name::text FROM information_schema.columns WHERE table_name = '{table}'"
        )
    );
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite {
    use crate::fresh::sqlite::Sqlite as Fresh;

    fn hex(id: uuid::Uuid) -> String {
        format!("x'{}'", id.simple())
    }

    damaged_tests!(
        crate::fresh::sqlite::Sqlite::new().await,
        [
            "NULL",
            "-1",
            "0",
            "9",
            "2147483648",
            "9223372036854775807",
            "-9223372036854775808",
            "''",
            "hex(zeroblob(1048576))",
            "CAST(x'ff' AS TEXT)",
            "CAST(x'610062' AS TEXT)",
            "'[]'",
            "'{}'",
            "'[{\"message\": \"\\u0000\"}]'",
            "replace(hex(zeroblob(2500)), '0', '[') || replace(hex(zeroblob(2500)), '0', ']')",
            "x''",
            "x'ff'",
            "zeroblob(16)",
            "x'ffffffffffffffffffffffffffffffff'",
        ],
        |table: &str| format!("SELECT name FROM pragma_table_info('{table}')")
    );
}

#[cfg(feature = "mysql")]
mod mysql {
    use crate::fresh::mysql::MySql as Fresh;

    fn hex(id: uuid::Uuid) -> String {
        format!("x'{}'", id.simple())
    }

    damaged_tests!(
        crate::fresh::mysql::MySql::new().await,
        [
            "NULL",
            "-1",
            "0",
            "9",
            "32767",
            "2147483648",
            "9223372036854775807",
            "-9223372036854775808",
            "''",
            "REPEAT('x', 2097152)",
            "x'ff'",
            "x'610062'",
            "'[]'",
            "'{}'",
            "'\"\\\\ud800\"'",
            "'[{\"message\": \"\\\\u0000\"}]'",
            "CONCAT(REPEAT('[', 5000), REPEAT(']', 5000))",
            "REPEAT(x'00', 16)",
            "REPEAT(x'ff', 16)",
        ],
        |table: &str| format!(
            "SELECT CAST(column_name AS CHAR) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '{table}'"
        )
    );
}
