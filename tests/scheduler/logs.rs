//! What a program that sets no reporter finds in its log.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidings::{
    Backoff, Context, Event, Handler, HandlerError,
    faulty::{Fault, FaultyStorer, Operation},
};
use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{Layer, layer::SubscriberExt};

use crate::rig::{KINDS, Rig, config};

/// A line as it was logged: the message, then the fields.
#[derive(Clone, Debug)]
struct Line {
    level: Level,
    target: String,
    text: String,
}

/// The lines of the library that this thread logs, from INFO on.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

impl Log {
    fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::registry().with(log.clone());
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<Line> {
        self.0.lock().clone()
    }

    fn containing(&self, text: &str) -> Vec<Line> {
        let mut lines = self.lines();
        lines.retain(|line| line.text.contains(text));
        lines
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target().starts_with("tidings") {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().push(Line {
                level: *metadata.level(),
                target: metadata.target().to_owned(),
                text: text.0,
            });
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the mail cannot be sent")]
struct Unsent(#[source] std::io::Error);

#[tokio::test(start_paused = true)]
async fn every_error_that_counts_is_a_warning_and_the_last_one_an_error() {
    for kind in KINDS {
        let (log, _guard) = Log::begin();
        let rig = Rig::paused();
        let failing = |name: &'static str, fails: fn() -> HandlerError| {
            Handler::new(name, move |_: Arc<Event>, _: Context| async move {
                // Several polls are one execution.
                tokio::task::yield_now().await;
                Err::<(), _>(fails())
            })
            .on("*")
            .max_errors(3)
            .backoff(Backoff::constant(Duration::from_secs(7)))
        };
        let handlers = [
            failing("mails", || Unsent(std::io::Error::other("no route")).into()),
            failing("discards", || HandlerError::discard("for good")),
            failing("cancels", || HandlerError::cancel("not wanted")),
            failing("panics", || panic!("out of order")),
        ];
        let scheduler = rig.scheduler(config(handlers)).kind(kind).start().await;
        let event = rig.raise("thing.happened").await;
        rig.until_all_ended().await;
        scheduler.shutdown(Duration::from_secs(5)).await;

        let mut lines = log.lines();
        lines.retain(|line| line.target == "tidings::handler_errors");
        let of = |handler: &str| -> Vec<Line> {
            let handler = format!("handler={handler} ");
            let mut lines = lines.clone();
            lines.retain(|line| line.text.contains(&handler));
            lines
        };
        let levels = |handler| {
            of(handler)
                .iter()
                .map(|line| line.level)
                .collect::<Vec<_>>()
        };
        let thrice = [Level::WARN, Level::WARN, Level::ERROR];
        assert_eq!(levels("mails"), thrice, "{lines:#?}");
        assert_eq!(levels("panics"), thrice, "{lines:#?}");
        assert_eq!(levels("discards"), [Level::ERROR], "{lines:#?}");
        assert!(levels("cancels").is_empty(), "{lines:#?}");

        let mails = of("mails");
        let request = rig
            .requests()
            .await
            .into_iter()
            .find(|r| &*r.handler == "mails");
        for said in [
            format!("request={}", request.unwrap().id),
            format!("event={event}"),
            "event_name=thing.happened".to_owned(),
            "errors=1 max_errors=3".to_owned(),
            "again_in=7s".to_owned(),
            r#"error="the mail cannot be sent: no route""#.to_owned(),
        ] {
            assert!(mails[0].text.contains(&said), "{said} in {mails:#?}");
        }
        assert!(mails[2].text.contains("the request is dead"), "{mails:#?}");
        assert!(!mails[2].text.contains("again_in"), "{mails:#?}");
        // It was its first error, of three.
        let discards = of("discards");
        let said = "a handler discarded its request; it is dead";
        assert!(discards[0].text.starts_with(said), "{discards:#?}");
        assert!(!discards[0].text.contains("errors="), "{discards:#?}");
        // The backtrace is for reports and for the row.
        let panics = of("panics");
        assert!(panics[0].text.contains("out of order"), "{panics:#?}");
        assert!(!panics[0].text.contains("scheduler::logs"), "{panics:#?}");
        // Nobody was there to report to, and the data stays out of it.
        assert!(log.containing("reported").is_empty());
        assert!(log.containing(r#""n""#).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_tells_of_its_start_and_of_its_end() {
    let (log, _guard) = Log::begin();
    let rig = Rig::paused();
    let handler = Handler::new("idles", |_: Arc<Event>, _: Context| async {
        Ok::<_, HandlerError>(())
    });
    let config = config([handler.on("*")]);
    let scheduler = rig.scheduler(config.clone()).workers(3).start().await;
    let started = log.containing("the scheduler has started");
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].level, Level::INFO);
    assert!(
        started[0].text.contains("handlers=1 workers=3"),
        "{started:?}"
    );
    scheduler.shutdown(Duration::from_secs(5)).await;
    assert_eq!(log.containing("the scheduler has stopped").len(), 1);
    drop(scheduler);
    assert!(log.containing("was dropped").is_empty());

    drop(rig.scheduler(config).start().await);
    let dropped = log.containing("was dropped");
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0].level, Level::WARN);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_refused_does_not_claim_to_try_again() {
    let (log, _guard) = Log::begin();
    let rig = Rig::paused();
    let store = FaultyStorer::new(Arc::new(rig.store.clone()));
    store
        .faults()
        .inject_always(Operation::Register, Fault::Refuse);
    let scheduler = rig.scheduler_on(Arc::new(store), config([])).build();
    assert!(scheduler.start().await.is_err());
    assert_eq!(log.containing("the store refused a call").len(), 1);
    for outage in ["the store failed", "trying again"] {
        assert!(log.containing(outage).is_empty());
    }
}
