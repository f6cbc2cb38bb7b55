//! How large the world is that is explored, and how much may go wrong in it.

/// A set of handlers, one bit each.
pub(crate) type Handlers = u8;

/// What a handler may answer beside `Ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    Error,
    Discard,
    Snooze,
    Cancel,
}

#[derive(Clone, Debug)]
pub(crate) struct HandlerScope {
    /// It writes, and its request is settled, in one transaction.
    pub(crate) transactional: bool,
    /// It ends its process.
    pub(crate) kills: bool,
    pub(crate) answers: &'static [Answer],
}

#[derive(Clone, Debug)]
pub(crate) struct ProcessScope {
    pub(crate) handlers: Handlers,
    /// How many ticks its own clock is ahead of the database's.
    pub(crate) ahead: u64,
    /// It has not started yet, so that nothing knows of its handlers.
    pub(crate) starts_late: bool,
}

/// How often a thing may still happen. What is not here is bounded by the rules themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Processes that end without a word.
    pub(crate) crashes: u8,
    /// Answers that their caller never gets.
    pub(crate) lost: u8,
    /// Leases that are taken back.
    pub(crate) rescues: u8,
    pub(crate) cancels: u8,
    pub(crate) reexecutes: u8,
    pub(crate) snoozes: u8,
    pub(crate) hand_backs: u8,
    pub(crate) rollbacks: u8,
    pub(crate) run_nows: u8,
    pub(crate) retires: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    pub(crate) events: usize,
    pub(crate) handlers: Vec<HandlerScope>,
    pub(crate) processes: Vec<ProcessScope>,
    /// In ticks.
    pub(crate) lease: u64,
    /// In ticks.
    pub(crate) backoff: u64,
    pub(crate) max_errors: u32,
    /// Fan-outs offer to execute what they make.
    pub(crate) offers: bool,
    pub(crate) budget: Budget,
}

impl Scope {
    /// One event, one plain handler, and two equal processes.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            events: 1,
            handlers: vec![HandlerScope::plain()],
            processes: vec![ProcessScope::with(0b1); 2],
            lease: 1,
            backoff: 1,
            max_errors: 2,
            offers: false,
            budget: Budget::default(),
        }
    }

    pub(crate) fn handlers(mut self, handlers: impl Into<Vec<HandlerScope>>) -> Self {
        self.handlers = handlers.into();
        self
    }

    pub(crate) fn processes(mut self, processes: impl Into<Vec<ProcessScope>>) -> Self {
        self.processes = processes.into();
        self
    }

    pub(crate) fn events(mut self, events: usize) -> Self {
        self.events = events;
        self
    }

    pub(crate) fn lease(mut self, ticks: u64) -> Self {
        self.lease = ticks;
        self
    }

    pub(crate) fn offering(mut self) -> Self {
        self.offers = true;
        self
    }

    pub(crate) fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The same, where everything that may go wrong may go wrong so much more often.
    pub(crate) fn with_more(mut self, more: u8) -> Self {
        let Budget {
            crashes,
            lost,
            rescues,
            cancels,
            reexecutes,
            snoozes,
            hand_backs,
            rollbacks,
            run_nows,
            retires,
        } = &mut self.budget;
        let all = [
            crashes, lost, rescues, cancels, reexecutes, snoozes, hand_backs, rollbacks, run_nows,
            retires,
        ];
        for budget in all.into_iter().filter(|budget| **budget > 0) {
            *budget += more;
        }
        self
    }

    /// The number of a request, from its event and its handler.
    pub(crate) fn request(&self, event: usize, handler: usize) -> usize {
        event * self.handlers.len() + handler
    }

    pub(crate) fn event_of(&self, request: usize) -> usize {
        request / self.handlers.len()
    }

    pub(crate) fn handler_of(&self, request: usize) -> usize {
        request % self.handlers.len()
    }

    pub(crate) fn handler(&self, request: usize) -> &HandlerScope {
        &self.handlers[self.handler_of(request)]
    }

    pub(crate) fn has(&self, process: usize, request: usize) -> bool {
        is_in(self.processes[process].handlers, self.handler_of(request))
    }
}

impl HandlerScope {
    pub(crate) const fn plain() -> Self {
        Self {
            transactional: false,
            kills: false,
            answers: &[],
        }
    }

    pub(crate) const fn transactional() -> Self {
        Self {
            transactional: true,
            ..Self::plain()
        }
    }

    pub(crate) const fn killing() -> Self {
        Self {
            kills: true,
            ..Self::plain()
        }
    }

    pub(crate) const fn answering(mut self, answers: &'static [Answer]) -> Self {
        self.answers = answers;
        self
    }
}

impl ProcessScope {
    pub(crate) const fn with(handlers: Handlers) -> Self {
        Self {
            handlers,
            ahead: 0,
            starts_late: false,
        }
    }

    pub(crate) const fn ahead(mut self, ticks: u64) -> Self {
        self.ahead = ticks;
        self
    }

    pub(crate) const fn late(mut self) -> Self {
        self.starts_late = true;
        self
    }
}

pub(crate) const fn is_in(handlers: Handlers, handler: usize) -> bool {
    handlers & (1 << handler) != 0
}
