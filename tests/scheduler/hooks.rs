//! Hooks compose, change the context, and veto.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tidings::{
    Context, Event, Handler, HandlerError, HandlerResult, ProcessContext, RequestState,
    faulty::{Fault, Operation},
    store::{EventFilter, Storer, WakeUps},
};

use crate::{
    process::Process,
    rig::{KINDS, Rig, config},
};

#[derive(Debug)]
struct Tenant(&'static str);

fn reads_tenant() -> Handler {
    Handler::new(
        "reads_tenant",
        |_: Arc<Event>, context: Context| async move {
            match context.extension::<Tenant>() {
                Some(tenant) if tenant.0 == "second" => Ok(()),
                other => Err(HandlerError::discard(format!("{other:?}"))),
            }
        },
    )
    .on("*")
}

#[tokio::test(start_paused = true)]
async fn before_execute_hooks_run_in_order_and_reach_the_handler() {
    for kind in KINDS {
        let rig = Rig::paused();
        let first = |context: Context| async move {
            context.insert_extension(Tenant("first"));
            ControlFlow::Continue(())
        };
        let second = |context: Context| async move {
            assert_eq!(
                context.extension::<Tenant>().map(|tenant| tenant.0),
                Some("first")
            );
            context.insert_extension(Tenant("second"));
            ControlFlow::Continue(())
        };
        let _scheduler = rig
            .scheduler(config([reads_tenant()]))
            .kind(kind)
            .before_execute(first)
            .before_execute(second)
            .start()
            .await;
        rig.raise("thing.happened").await;
        rig.until_only(RequestState::Completed).await;
    }
}

type Veto = fn() -> HandlerResult;

#[tokio::test(start_paused = true)]
async fn a_before_execute_veto_is_settled_as_the_handlers_result_without_an_execution() {
    let results: [(Veto, RequestState, u32); 4] = [
        (|| Ok(()), RequestState::Completed, 0),
        (
            || Err(HandlerError::cancel("not for us")),
            RequestState::Canceled,
            0,
        ),
        (
            || Err(HandlerError::discard("never")),
            RequestState::Dead,
            1,
        ),
        (
            || Err(HandlerError::snooze(Duration::from_secs(3600 * 1000))),
            RequestState::BackingOff,
            0,
        ),
    ];
    for kind in KINDS {
        for (result, state, errors) in results {
            let rig = Rig::paused();
            let veto = move |_: Context| async move { ControlFlow::Break(result()) };
            let _scheduler = rig
                .scheduler(config([reads_tenant()]))
                .kind(kind)
                .before_execute(veto)
                .start()
                .await;
            rig.raise("thing.happened").await;
            let request = rig.until_only(state).await;
            assert_eq!((request.errors, request.executions), (errors, 0), "{state}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_or_hangs_is_an_error_of_the_request() {
    let rig = Rig::paused();
    let handler = |name: &'static str| {
        Handler::new(name, |_: Arc<Event>, _: Context| async {
            Ok::<_, HandlerError>(())
        })
        .on("*")
        .max_errors(1)
        .timeout(Duration::from_secs(2))
    };
    let hook = |context: Context| async move {
        assert!(context.handler() != "panics", "in the hook");
        if context.handler() == "hangs" {
            std::future::pending::<()>().await;
        }
        ControlFlow::Continue(())
    };
    let _scheduler = rig
        .scheduler(config([
            handler("panics"),
            handler("hangs"),
            handler("good"),
        ]))
        .before_execute(hook)
        .start()
        .await;
    rig.raise("thing.happened").await;
    rig.until_all_ended().await;
    let error = |handler: &'static str| {
        let rig = rig.clone();
        async move {
            rig.requests_of(handler).await[0].last_errors[0]
                .message
                .clone()
        }
    };
    assert!(error("panics").await.contains("in the hook"));
    for handler in ["panics", "hangs"] {
        assert_eq!(
            rig.requests_of(handler).await[0].executions,
            0,
            "it did not run"
        );
    }
    assert!(error("hangs").await.contains("timed out after 2s"));
    assert_eq!(rig.count(RequestState::Completed).await, 1);
}

#[tokio::test(start_paused = true)]
async fn slow_before_process_hooks_of_two_processes_come_to_an_end() {
    for kind in KINDS {
        let rig = Rig::paused();
        let slow = |_: ProcessContext| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(())
        };
        let handler = Handler::new("good", |_: Arc<Event>, _: Context| async {
            Ok::<_, HandlerError>(())
        });
        let map = config([handler.on("*")]);
        rig.raise_many("thing.happened", 2000).await;
        let begun = tokio::time::Instant::now();
        let wanted = || rig.scheduler(map.clone()).kind(kind).before_process(slow);
        let _schedulers = [wanted().start().await, wanted().start().await];
        rig.until_completed(2000).await;
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_before_process_veto_backs_off_and_is_asked_again_without_a_maximum() {
    for kind in KINDS {
        let rig = Rig::paused();
        let asked = Arc::new(AtomicU32::new(0));
        let counts = Arc::clone(&asked);
        let veto = move |context: ProcessContext| {
            let n = counts.fetch_add(1, Ordering::SeqCst);
            async move {
                assert_eq!(context.errors, n);
                match n {
                    0..8 => Err(HandlerError::new(format!("veto {n}"))),
                    8 => panic!("a panic vetoes, too"),
                    _ => Ok(()),
                }
            }
        };
        let handler = Handler::new("good", |_: Arc<Event>, _: Context| async {
            Ok::<_, HandlerError>(())
        });
        let _scheduler = rig
            .scheduler(config([handler.on("*")]))
            .kind(kind)
            .before_process(veto)
            .start()
            .await;
        let id = rig.raise("thing.happened").await;
        rig.until_completed(1).await;
        assert_eq!(asked.load(Ordering::SeqCst), 10);
        let mut session = rig.store.session().await.unwrap();
        let stored = session.events().find(id).await.unwrap().unwrap();
        assert_eq!(stored.errors, 9);
        assert!(stored.processed_at.is_some());
        assert!(stored.last_error.unwrap().contains("panicked"));
    }
}

#[tokio::test(start_paused = true)]
async fn before_process_hooks_leave_things_for_later_ones() {
    let rig = Rig::paused();
    let first = |context: ProcessContext| async move {
        context.insert_extension(Tenant("first"));
        Ok(())
    };
    let second = |context: ProcessContext| async move {
        match context.extension::<Tenant>() {
            Some(tenant) if tenant.0 == "first" => Ok(()),
            other => Err(HandlerError::new(format!("{other:?}"))),
        }
    };
    let handler = Handler::new("good", |_: Arc<Event>, _: Context| async {
        Ok::<_, HandlerError>(())
    });
    let _scheduler = rig
        .scheduler(config([handler.on("*")]))
        .before_process(first)
        .before_process(second)
        .start()
        .await;
    rig.raise("thing.happened").await;
    rig.until_completed(1).await;
    let mut session = rig.store.session().await.unwrap();
    let all = session
        .events()
        .list(&Default::default(), &tidings::store::Page::first(2))
        .await
        .unwrap();
    assert_eq!(all[0].errors, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_before_execute_hook_raises_is_stored_with_either_kind_of_handler() {
    async fn transactional(
        _: Arc<Event>,
        _: Context,
        _: &mut tidings::MemoryConnection,
    ) -> HandlerResult {
        Ok(())
    }
    let ordinary = Handler::new("ordinary", |_: Arc<Event>, _: Context| async {
        Ok::<_, HandlerError>(())
    });
    let handlers = [
        ordinary.on("thing.*"),
        Handler::transactional("transactional", transactional).on("thing.*"),
    ];
    let rig = Rig::paused();
    let hook = |context: Context| async move {
        let handler = context.handler().to_owned();
        context.raise(Event::from_data(
            format!("hooked.{handler}"),
            tidings::EventData::null(),
        ));
        ControlFlow::Continue(())
    };
    let _scheduler = rig
        .scheduler(config(handlers))
        .before_execute(hook)
        .start()
        .await;
    rig.raise("thing.happened").await;
    rig.until_completed(2).await;
    let mut session = rig.store.session().await.unwrap();
    assert_eq!(
        session.events().count(&Default::default()).await.unwrap(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_before_execute_hook_raises_survives_conflicts_of_the_handlers_transaction() {
    async fn transactional(
        _: Arc<Event>,
        context: Context,
        _: &mut tidings::MemoryConnection,
    ) -> HandlerResult {
        let name = "handler.raised";
        context.raise(Event::from_data(name, tidings::EventData::null()));
        Ok(())
    }
    for lost in [Operation::Settle, Operation::Commit] {
        let process = Process::new(WakeUps::Complete);
        let handler = Handler::transactional("transactional", transactional).on("thing.*");
        let hook = |context: Context| async move {
            let name = "hook.raised";
            context.raise(Event::from_data(name, tidings::EventData::null()));
            ControlFlow::Continue(())
        };
        let _scheduler = process
            .rig
            .scheduler_on(Arc::new(process.clone()), config([handler]))
            .before_execute(hook)
            .start()
            .await;
        process.faults.inject(lost, Fault::Conflict, 2);
        process.rig.raise("thing.happened").await;
        process.rig.until_completed(1).await;
        let mut session = process.rig.store.session().await.unwrap();
        for (name, count) in [("hook.raised", 1), ("handler.raised", 1)] {
            let named = EventFilter::default().named([name]);
            let found = session.events().count(&named).await.unwrap();
            assert_eq!(found, count, "{name} after a conflict of {lost:?}");
        }
    }
}
