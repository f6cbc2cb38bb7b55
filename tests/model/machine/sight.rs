//! What an exploration must come across, so that it is known not to hold only because nothing happened.

use stateright::Property;

use super::{
    exploration::Exploration,
    row::{Place, SUSPECT_FROM},
    world::{Execution, Request, Stage, World},
};

macro_rules! sights {
    ($($sight:ident = $name:literal => $seen:expr,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Sight {
            $($sight,)*
        }

        impl Sight {
            pub(crate) fn property(self) -> Property<Exploration> {
                match self {
                    $(Self::$sight => {
                        let seen: fn(&Exploration, &World) -> bool = |_, world| $seen(world);
                        Property::sometimes($name, seen)
                    })*
                }
            }
        }
    };
}

sights! {
    Zombie = "a process goes on with what another one executes by now" => |world: &World| {
        running(world).any(|it| {
            !world.is_current(&it.claimed) && row_of(world, it).row.place.is_executing()
        })
    },
    ZombieOfItself = "a process executes what it has lost and claimed again" => |world: &World| {
        world.processes.iter().any(|process| {
            let pairs = process.executions.windows(2);
            pairs.into_iter().any(|two| two[0].claimed.request == two[1].claimed.request)
        })
    },
    CanceledWhileRunning = "a request is canceled while its handler runs" => |world: &World| {
        running(world).any(|it| row_of(world, it).row.place == Place::Canceled)
    },
    ReexecutedWhileRunning = "a request is executed again while an execution of before goes on" => |world: &World| {
        running(world).any(|it| {
            let request = row_of(world, it);
            request.row.place.is_executing() && request.row.attempt >= it.claimed.attempt + 3
        })
    },
    StaleArrival = "a settlement arrives after its request was lost" => |world: &World| {
        world.under_way.iter().any(|it| !world.is_current(&it.claimed))
    },
    LostCommitApplied = "a commit whose answer was lost has taken effect" => |world: &World| {
        unknown(world).any(|it| row_of(world, it).row.place == Place::Completed)
    },
    LostCommitUndone = "a commit whose answer was lost has taken no effect" => |world: &World| {
        world.executions().any(|(_, _, it)| it.stage == Stage::Undone)
    },
    LockedWhileLost = "a lease runs out while a handler's transaction is being committed" => |world: &World| {
        requests(world).any(|it| it.is_locked && it.row.is_expired(super::world::NOW))
    },
    UnknownClaim = "a request is leased to a process that does not know" => |world: &World| {
        (0..world.requests.len()).any(|number| {
            let executes = world.requests[number].is_some_and(|it| it.row.place.is_executing());
            executes
                && world.processes.iter().all(|it| it.is_up && it.starts == 0)
                && world.executions().all(|(_, _, it)| !(it.claimed.request == number && world.is_current(&it.claimed)))
        })
    },
    DeadByErrors = "a request dies of its errors" => |world: &World| {
        requests(world).any(|it| it.row.place == Place::Dead && it.row.errors == it.row.max_errors && it.row.rescues < SUSPECT_FROM)
    },
    DeadByLostWorkers = "a request dies as it ends process after process" => |world: &World| {
        requests(world).any(|it| it.row.place == Place::Dead && it.row.rescues > SUSPECT_FROM)
    },
    TwoSuspects = "two requests are suspects" => |world: &World| {
        requests(world).filter(|it| it.row.is_suspect()).count() > 1
    },
    CommittedOutOfOrder = "an event is processed before an earlier one is committed" => |world: &World| {
        use super::world::EventRow::{Processed, Raised};
        matches!(world.events[..], [Raised, Processed { .. }])
    },
    Overtaken = "an event is processed by a process that knows fewer handlers" => |world: &World| {
        let all = world.processes.iter().any(|it| !it.is_up);
        all && requests(world).count() >= 2
    },
}

fn requests(world: &World) -> impl Iterator<Item = &Request> {
    world.requests.iter().flatten()
}

fn row_of<'a>(world: &'a World, execution: &Execution) -> &'a Request {
    world.requests[execution.claimed.request]
        .as_ref()
        .expect("it was made")
}

fn running(world: &World) -> impl Iterator<Item = &Execution> {
    let executions = world.executions().map(|(_, _, it)| it);
    executions.filter(|it| matches!(it.stage, Stage::Running | Stage::Sent(_)))
}

fn unknown(world: &World) -> impl Iterator<Item = &Execution> {
    let executions = world.executions().map(|(_, _, it)| it);
    executions.filter(|it| it.stage == Stage::Unknown)
}
