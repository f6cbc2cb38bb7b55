//! What happens to the processes from outside, and what applications and operators do.

use std::time::Duration;

use chrono::TimeDelta;
use rand::RngExt;
use serde_json::json;
use tidings::{
    Event, HandlerRequestId, RequestState, Result,
    store::{Prune, Replay, Session, Storer},
};
use tokio::time::sleep;

use crate::{
    calls::Caller,
    gate::Mode,
    history::What,
    plan::{Action, EVENT_NAMES, How, Operation, Plan, Raise, pick},
    process::Running,
    state::LastEnd,
    storer::SimulatedStorer,
    verdict::Wrong,
    world::World,
};

/// Which incarnation of each process is the present one.
pub(crate) struct Processes {
    pub(crate) world: World,
    pub(crate) present: Vec<Running>,
}

impl Processes {
    pub(crate) fn start(world: &World, plan: &Plan) -> Self {
        let present = plan.processes.iter();
        Self {
            world: world.clone(),
            present: present.map(|of| Running::start(world, plan, of)).collect(),
        }
    }

    pub(crate) fn restart(&mut self, plan: &Plan, process: usize) {
        let is_over = {
            let state = self.world.lock();
            let known = &state.processes[self.present[process].number];
            known.gate.mode() == Mode::Crashed || known.stopped
        };
        if is_over {
            self.present[process] = Running::start(&self.world, plan, &plan.processes[process]);
        }
    }

    pub(crate) fn act(&mut self, plan: &Plan, action: Action) {
        let world = self.world.clone();
        match action {
            Action::Raise(raise) => self.raise(plan, raise),
            Action::Crash { process } => world.crash(self.present[process].number),
            Action::Restart { process } => self.restart(plan, process),
            Action::Freeze { process, lasting } => self.present[process].freeze(&world, lasting),
            Action::Shutdown { process, deadline } => {
                self.present[process].shut_down(&world, deadline);
            }
            Action::Pause { process, lasting } => self.present[process].pause(&world, lasting),
            Action::Outage { lasting } => {
                let mut state = world.lock();
                state.outages += 1;
                state.log(None, What::World("the store is away"));
                state.count("outages");
                drop(state);
                tokio::spawn(async move {
                    sleep(lasting).await;
                    let mut state = world.lock();
                    state.outages = state.outages.saturating_sub(1);
                    state.disturb_all(Duration::ZERO, "an outage");
                    state.log(None, What::World("the store is back"));
                });
            }
            Action::Operate(operation) => {
                tokio::spawn(async move {
                    // An operator is told of what fails, and there is nothing to check then.
                    if operate(&world, operation).await.is_err() {
                        world.lock().log(None, What::World("an operation failed"));
                    }
                });
            }
        }
    }

    /// An application raises events in its process.
    fn raise(&self, plan: &Plan, raise: Raise) {
        let running = &self.present[raise.process];
        let store = SimulatedStorer {
            caller: Caller {
                world: self.world.clone(),
                process: running.number,
            },
            signals: self.world.store.signals(),
            hears_all: plan.hears_all,
            concurrent_writers: plan.concurrent_writers,
        };
        let events: Vec<_> = {
            let mut state = self.world.lock();
            let ahead = TimeDelta::milliseconds(state.processes[running.number].clock_ahead);
            let timestamp = state.now + ahead;
            let draw = |_| {
                let name = pick(&mut state.rng, &EVENT_NAMES);
                let event = Event::new(name, &json!({})).expect("JSON");
                event.with_timestamp(timestamp)
            };
            (0..raise.events).map(draw).collect()
        };
        tokio::spawn(running.gate.wrap(Box::pin(async move {
            // Whether it was stored is what the store says, not what the application hears.
            drop(raise_in(&store, events, raise).await);
        })));
    }
}

async fn raise_in(store: &SimulatedStorer, events: Vec<Event>, raise: Raise) -> Result<()> {
    if raise.how == How::InSession {
        let mut session = store.session().await?;
        session.events().raise(&events).await?;
        return Ok(());
    }
    let mut transaction = store.begin().await?;
    transaction.events().raise(&events).await?;
    sleep(raise.commits_after).await;
    match raise.how {
        How::RollsBack => transaction.rollback().await,
        How::Drops => Ok(()),
        How::Commits | How::InSession => transaction.commit().await,
    }
}

async fn operate(world: &World, operation: Operation) -> Result<()> {
    let mut session = world.store.session().await?;
    match operation {
        Operation::Replay => return replay(world, &mut *session).await,
        Operation::Prune => {
            let mut prune = Prune::new(1000);
            prune.completed_for = Some(Duration::ZERO);
            prune.canceled_for = Some(Duration::ZERO);
            prune.dead_for = Some(Duration::ZERO);
            prune.keep_events_for = Duration::ZERO;
            return world.prune(&prune).await.map(drop);
        }
        _ => {}
    }
    let Some(id) = any_request(world, operation) else {
        return Ok(());
    };
    let mut requests = session.handler_requests();
    world.lock().count("operations");
    match operation {
        Operation::Cancel => cancel(world, &mut *requests, id).await,
        Operation::CancelAndReexecute => {
            cancel(world, &mut *requests, id).await;
            reexecute(world, &mut *requests, id).await;
        }
        Operation::Reexecute => reexecute(world, &mut *requests, id).await,
        _ => {
            let answer = requests.run_now(id).await.is_ok();
            let mut state = world.lock();
            let now = state.now;
            let last_end = state.requests.get(&id).map(|entry| entry.last_end);
            state.operated(id, "run now", |row| row.run_now(now), answer);
            if let (Some(entry), Some(last_end)) = (state.requests.get_mut(&id), last_end) {
                // It only comes sooner.
                entry.last_end = last_end;
            }
        }
    }
    world.wake(0, true);
    Ok(())
}

/// A request; one that has ended if that is what the operation is for.
fn any_request(world: &World, operation: Operation) -> Option<HandlerRequestId> {
    let mut state = world.lock();
    let now = state.now;
    let wanted = |state: RequestState| match operation {
        Operation::Reexecute => state.is_end(),
        Operation::RunNow => state == RequestState::BackingOff,
        _ => true,
    };
    let ids: Vec<_> = state
        .requests
        .iter()
        .filter(|(_, entry)| wanted(entry.row.state(now)))
        .map(|(id, _)| *id)
        .collect();
    if ids.is_empty() {
        return None;
    }
    let index = state.rng.random_range(0..ids.len());
    Some(ids[index])
}

type Requests<'r> = dyn tidings::store::HandlerRequestRepository + 'r;

async fn cancel(world: &World, requests: &mut Requests<'_>, id: HandlerRequestId) {
    let answer = requests.cancel(id).await;
    if matches!(&answer, Err(error) if error.is_transient()) {
        return;
    }
    let mut state = world.lock();
    let now = state.now;
    state.operated(id, "cancel", |row| row.cancel(now), answer.is_ok());
}

async fn reexecute(world: &World, requests: &mut Requests<'_>, id: HandlerRequestId) {
    let answer = requests.reexecute(id).await;
    if matches!(&answer, Err(error) if error.is_transient()) {
        return;
    }
    let mut state = world.lock();
    let now = state.now;
    state.operated(id, "reexecute", |row| row.reexecute(now), answer.is_ok());
}

async fn replay(world: &World, session: &mut dyn Session) -> Result<()> {
    let event = {
        let mut state = world.lock();
        let ids: Vec<_> = state.events.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let index = state.rng.random_range(0..ids.len());
        ids[index]
    };
    let replayed = session
        .handler_requests()
        .replay(&Replay::of(event))
        .await?;
    let mut state = world.lock();
    state.count("replays");
    let now = state.now;
    let Some((name, true)) = state
        .events
        .get(&event)
        .map(|entry| (entry.name.clone(), entry.processed))
    else {
        return Ok(());
    };
    let requests: Vec<_> = state
        .requests
        .iter()
        .filter(|(_, entry)| entry.row.event_id == event)
        .map(|(id, entry)| (*id, entry.row.state(now).is_end()))
        .collect();
    let existing: Vec<_> = requests.iter().map(|(id, _)| *id).collect();
    let mut reexecuted = 0;
    for (id, has_ended) in requests {
        if has_ended {
            reexecuted += 1;
            state.operated(id, "replay", |row| row.reexecute(now), true);
        }
    }
    let created = state.make_requests(event, &name, |id| !existing.contains(&id));
    for id in existing {
        if let Some(entry) = state.requests.get_mut(&id) {
            entry.last_end = LastEnd::Operator;
        }
    }
    if (replayed.reexecuted, replayed.created) != (reexecuted, created as u64) {
        let detail = format!("{replayed:?}, not {reexecuted} reexecuted and {created} created");
        state.object(Wrong::RowDiffers, detail);
    }
    drop(state);
    world.wake(0, true);
    Ok(())
}
