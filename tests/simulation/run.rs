//! One history, from its seed to its verdicts.

use std::{collections::BTreeMap, time::Duration};

use tidings::{
    EventId, SeededThread,
    store::{EventFilter, Page, RequestFilter, Storer},
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    actions::Processes,
    broken::Breakage,
    gate::Mode,
    history::{History, What},
    plan::{Plan, ProcessPlan, ms},
    process::{Running, config},
    verdict::{Verdict, Wrong},
    world::World,
};

pub(crate) struct Outcome {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) history: History,
    pub(crate) stats: BTreeMap<&'static str, u64>,
    pub(crate) again: BTreeMap<&'static str, u64>,
}

/// Runs the history of a seed on this thread.
pub(crate) fn run(seed: u64, breakage: Breakage) -> Outcome {
    let _seeded = SeededThread::new(seed);
    let plan = Plan::draw(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let world = runtime.block_on(live(seed, &plan, breakage));
    drop(runtime);
    let mut state = world.lock();
    Outcome {
        verdicts: std::mem::take(&mut state.verdicts),
        history: std::mem::take(&mut state.history),
        stats: std::mem::take(&mut state.stats),
        again: std::mem::take(&mut state.again),
    }
}

async fn live(seed: u64, plan: &Plan, breakage: Breakage) -> World {
    let world = World::new(seed, plan, breakage);
    register_all(&world, plan).await;
    let begin = Instant::now();
    let mut processes = Processes::start(&world, plan);
    for (at, action) in &plan.timeline {
        sleep_until(begin + *at).await;
        processes.act(plan, *action);
    }
    sleep_until(begin + plan.active).await;
    heal(&world, plan, &mut processes).await;
    if world.lock().verdicts.is_empty() {
        check_end(&world).await;
    }
    world
}

/// Registers what any process has, so that it is known which requests an event should get.
async fn register_all(world: &World, plan: &Plan) {
    let all: Vec<_> = (0..plan.handlers.len()).collect();
    let config = config(plan, &all, world, 0);
    let mut session = world.store.session().await.expect("a session");
    let mut registrations = session.registrations();
    let registered = registrations.register(config.registrations()).await;
    registered.expect("registrations");
}

/// Everything heals, and a process comes that has all handlers; answers when nothing is left to do, or
/// could have been for long.
async fn heal(world: &World, plan: &Plan, processes: &mut Processes) {
    world.heal();
    for process in 0..processes.present.len() {
        processes.present[process].thaw(world);
        processes.restart(plan, process);
    }
    let savior = ProcessPlan {
        cooperative: plan.processes[0].cooperative,
        workers: 8,
        batch_size: 1000,
        handlers: (0..plan.handlers.len()).collect(),
        clock_ahead: 0,
        hooks: false,
        keeps: None,
    };
    let savior = Running::start(world, plan, &savior);
    // What goes wrong last has gone wrong by then: calls that are under way, and transactions.
    let rest = plan.lease * 2;
    let healed_at = Instant::now();
    let bound = rest + plan.lease * 30 + Duration::from_secs(180);
    let mut done_since = None;
    while healed_at.elapsed() < bound && world.lock().verdicts.is_empty() {
        sleep(plan.lease / 4).await;
        if !world.is_done() {
            done_since = None;
        } else if healed_at.elapsed() >= rest {
            let since = *done_since.get_or_insert_with(Instant::now);
            // What is late must not change what has ended.
            if since.elapsed() >= plan.lease {
                break;
            }
        }
    }
    // Then everybody ends, and what nobody is there for must not begin.
    for process in processes.present.iter().chain([&savior]) {
        if process.gate.mode() == Mode::Runs {
            process.shut_down(world, ms(500));
        }
    }
    sleep(ms(1_000)).await;
}

/// Compares what the store holds at the end with what it should.
async fn check_end(world: &World) {
    let mut session = world.store.session().await.expect("a session");
    let page = Page::first(10_000);
    let rows = session
        .handler_requests()
        .list(&RequestFilter::default(), &page)
        .await
        .expect("a list");
    let page = Page::<EventId>::first(10_000);
    let events = session
        .events()
        .list(&EventFilter::default(), &page)
        .await
        .expect("a list");
    let mut state = world.lock();
    state.log(None, What::World("ends"));
    let now = state.now;
    let (mut missing, mut unended) = (Vec::new(), Vec::new());
    for (id, event) in &state.events {
        if !events.iter().any(|stored| stored.event.id == *id) {
            missing.push(format!("event {id} is gone"));
        } else if !event.processed {
            unended.push(format!("event {id} was not fanned out"));
        }
    }
    for entry in state.requests.values() {
        let at_last = entry.row.state(now);
        if !at_last.is_end() {
            unended.push(format!("{} is {at_last}", entry.row.id));
        }
    }
    let mut differs = Vec::new();
    for row in &rows {
        match state.requests.get(&row.id) {
            Some(entry) if entry.row == *row => {}
            Some(entry) => differs.push(format!("{row:?} should be {:?}", entry.row)),
            None => differs.push(format!("{row:?} should not be")),
        }
    }
    if rows.len() < state.requests.len() {
        missing.push(format!(
            "{} of {} requests",
            rows.len(),
            state.requests.len()
        ));
    }
    let mut unknown = Vec::new();
    for stored in &events {
        if !state.events.contains_key(&stored.event.id) {
            unknown.push(format!("event {} ({})", stored.event.id, stored.event.name));
        }
    }
    for (wrong, details) in [
        (Wrong::RolledBackYetSeen, unknown),
        (Wrong::Lost, missing),
        (Wrong::RowDiffers, differs),
        (Wrong::Lost, unended),
    ] {
        for detail in details {
            state.object(wrong, detail);
        }
    }
}
