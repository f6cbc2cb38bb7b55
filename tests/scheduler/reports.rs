//! Who hears of what: every panic and every final error, never a retryable one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidings::{
    Backoff, Context, ErrorReport, ErrorReporter, Event, Handler, HandlerError, ReportKind,
    RequestState,
};
use tokio::sync::Notify;

use crate::rig::{KINDS, Rig, config, soon};

#[derive(Clone, Default)]
struct Heard(Arc<(Mutex<Vec<ErrorReport>>, Notify)>);

#[async_trait]
impl ErrorReporter for Heard {
    async fn report(&self, report: ErrorReport) -> bool {
        self.0.0.lock().push(report);
        self.0.1.notify_one();
        true
    }
}

impl Heard {
    async fn wait_for(&self, count: usize) -> Vec<ErrorReport> {
        soon("so much is reported", async {
            while self.0.0.lock().len() < count {
                self.0.1.notified().await;
            }
        })
        .await;
        self.0.0.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn panics_and_final_errors_are_reported_and_retryable_ones_are_not() {
    for kind in KINDS {
        let rig = Rig::paused();
        let heard = Heard::default();
        let handler = |name: &'static str, fails: fn(u32) -> HandlerError| {
            Handler::new(name, move |_: Arc<Event>, context: Context| async move {
                Err::<(), _>(fails(context.errors()))
            })
            .on("*")
            .max_errors(3)
            .backoff(Backoff::constant(Duration::from_secs(1)))
        };
        let handlers = [
            handler("fails", |n| HandlerError::new(format!("error {n}"))),
            handler("discards", |_| HandlerError::discard("for good")),
            handler("cancels", |_| HandlerError::cancel("not wanted")),
            handler("panics", |n| panic!("panic {n}")),
        ];
        let scheduler = rig
            .scheduler(config(handlers))
            .kind(kind)
            .reporter(Arc::new(heard.clone()))
            .start()
            .await;
        rig.raise("thing.happened").await;
        rig.until_all_ended().await;
        scheduler.shutdown(Duration::from_secs(5)).await;
        let mut reports = heard.wait_for(5).await;
        reports.sort_by(|a, b| (&*a.handler, a.errors).cmp(&(&*b.handler, b.errors)));
        let facts: Vec<_> = reports
            .iter()
            .map(|r| (&*r.handler, r.kind, r.errors, r.is_final))
            .collect();
        assert_eq!(
            facts,
            [
                ("discards", ReportKind::Final, 1, true),
                ("fails", ReportKind::Final, 3, true),
                ("panics", ReportKind::Panic, 1, false),
                ("panics", ReportKind::Panic, 2, false),
                ("panics", ReportKind::Panic, 3, true),
            ]
        );
        assert_eq!(reports[1].message, "error 2");
        let panicked = &reports[2];
        assert!(panicked.message.contains("panic 0") && panicked.message.contains("reports.rs"));
        assert!(
            panicked
                .backtrace
                .as_ref()
                .is_some_and(|trace| trace.contains("scheduler::reports"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_reporter_that_panics_or_hangs_harms_nothing() {
    struct Bad;
    #[async_trait]
    impl ErrorReporter for Bad {
        async fn report(&self, report: ErrorReport) -> bool {
            assert!(report.message != "error 1", "the reporter panics");
            std::future::pending().await
        }
    }
    let rig = Rig::paused();
    let handler = Handler::new("fails", |event: Arc<Event>, _: Context| async move {
        let n = event.data.decode::<serde_json::Value>()?["n"].clone();
        Err::<(), _>(HandlerError::new(format!("error {n}")))
    });
    let scheduler = rig
        .scheduler(config([handler.on("*").max_errors(1)]))
        .reporter(Arc::new(Bad))
        .start()
        .await;
    rig.raise_many("thing.happened", 3000).await;
    rig.until("all are dead", |rig| async move {
        rig.count(RequestState::Dead).await == 3000
    })
    .await;
    let begun = tokio::time::Instant::now();
    scheduler.shutdown(Duration::from_secs(10)).await;
    assert!(begun.elapsed() <= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn reports_under_way_are_carried_out_before_a_shutdown_ends() {
    struct Slow(Heard);
    #[async_trait]
    impl ErrorReporter for Slow {
        async fn report(&self, report: ErrorReport) -> bool {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.report(report).await
        }
    }
    let rig = Rig::paused();
    let heard = Heard::default();
    let handler = Handler::new("fails", |_: Arc<Event>, _: Context| async {
        Err::<(), _>(HandlerError::new("no"))
    });
    let scheduler = rig
        .scheduler(config([handler.on("*").max_errors(1)]))
        .reporter(Arc::new(Slow(heard.clone())))
        .start()
        .await;
    rig.raise_many("thing.happened", 3).await;
    rig.until_all_ended().await;
    scheduler.shutdown(Duration::from_secs(60)).await;
    assert_eq!(heard.0.0.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_final_error_is_reported_also_when_the_answer_to_its_settlement_was_lost() {
    use tidings::faulty::{Fault, FaultyStorer, Operation};
    for kind in KINDS {
        let rig = Rig::paused();
        let heard = Heard::default();
        let store = Arc::new(FaultyStorer::new(Arc::new(rig.store.clone())));
        store
            .faults()
            .inject(Operation::Settle, Fault::LoseAnswer, 1);
        let handler = Handler::new("fails", |_: Arc<Event>, _: Context| async {
            Err::<(), _>(HandlerError::new("no"))
        });
        let _scheduler = rig
            .scheduler_on(store, config([handler.on("*").max_errors(1)]))
            .kind(kind)
            .reporter(Arc::new(heard.clone()))
            .start()
            .await;
        rig.raise("thing.happened").await;
        let reports = heard.wait_for(1).await;
        assert_eq!(
            (reports[0].kind, reports[0].is_final),
            (ReportKind::Final, true)
        );
    }
}
