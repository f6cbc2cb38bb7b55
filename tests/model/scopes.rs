//! The scopes that are explored: each is small, and about one kind of trouble.

use crate::machine::scope::{Answer, Budget, HandlerScope, ProcessScope, Scope};

const NOTHING: Budget = Budget {
    crashes: 0,
    lost: 0,
    rescues: 0,
    cancels: 0,
    reexecutes: 0,
    snoozes: 0,
    hand_backs: 0,
    rollbacks: 0,
    run_nows: 0,
    retires: 0,
};

/// Leases that run out under processes that go on, answers that get lost, and settlements that arrive
/// late.
pub(crate) fn zombies() -> Scope {
    Scope::new("zombies")
        .handlers([HandlerScope::plain().answering(&[Answer::Error])])
        .budget(Budget {
            crashes: 1,
            lost: 1,
            rescues: 2,
            ..NOTHING
        })
}

/// Everything that an operator may do while everything else goes on.
pub(crate) fn operators() -> Scope {
    Scope::new("operators")
        .handlers([HandlerScope::plain().answering(&[Answer::Error])])
        .budget(Budget {
            lost: 1,
            rescues: 1,
            cancels: 1,
            reexecutes: 1,
            run_nows: 1,
            ..NOTHING
        })
}

/// All answers of a handler, and hand-backs.
pub(crate) fn answers() -> Scope {
    const ANSWERS: &[Answer] = &[
        Answer::Error,
        Answer::Discard,
        Answer::Snooze,
        Answer::Cancel,
    ];
    Scope::new("answers")
        .handlers([HandlerScope::plain().answering(ANSWERS)])
        .budget(Budget {
            lost: 1,
            rescues: 1,
            snoozes: 1,
            hand_backs: 1,
            ..NOTHING
        })
}

/// A transactional handler, whose process, transaction and answers get lost at every step.
pub(crate) fn transactions() -> Scope {
    Scope::new("transactions")
        .handlers([HandlerScope::transactional().answering(&[Answer::Error])])
        .budget(Budget {
            crashes: 1,
            lost: 1,
            rescues: 2,
            ..NOTHING
        })
}

/// One that is canceled, reexecuted and handed back in the middle of its transaction.
pub(crate) fn canceled_transactions() -> Scope {
    Scope::new("canceled transactions")
        .handlers([HandlerScope::transactional()])
        .budget(Budget {
            lost: 1,
            rescues: 1,
            cancels: 1,
            reexecutes: 1,
            hand_backs: 1,
            ..NOTHING
        })
}

/// A request that ends every process that executes it.
pub(crate) fn crash_loop() -> Scope {
    Scope::new("crash loop")
        .handlers([HandlerScope::killing()])
        .budget(Budget {
            lost: 1,
            rescues: 6,
            reexecutes: 1,
            ..NOTHING
        })
}

/// Two of them in one process.
pub(crate) fn suspects() -> Scope {
    Scope::new("suspects")
        .handlers([HandlerScope::killing(), HandlerScope::killing()])
        .processes([ProcessScope::with(0b11)])
        .budget(Budget {
            rescues: 9,
            ..NOTHING
        })
}

/// Leases that are renewed, and processes whose clocks are wrong.
pub(crate) fn renewals() -> Scope {
    Scope::new("renewals")
        .processes([ProcessScope::with(0b1), ProcessScope::with(0b1).ahead(2)])
        .lease(2)
        .budget(Budget {
            crashes: 1,
            rescues: 2,
            hand_backs: 1,
            ..NOTHING
        })
}

/// Processes with different handlers, one of which starts late; requests that are born leased.
pub(crate) fn apart() -> Scope {
    Scope::new("handlers apart")
        .handlers([HandlerScope::plain(), HandlerScope::plain()])
        .processes([ProcessScope::with(0b01), ProcessScope::with(0b11).late()])
        .offering()
        .budget(Budget {
            crashes: 1,
            lost: 1,
            rescues: 1,
            retires: 1,
            ..NOTHING
        })
}

/// Transactions that raise events and end in any order, or are rolled back.
pub(crate) fn commit_order() -> Scope {
    Scope::new("commit order")
        .events(2)
        .offering()
        .budget(Budget {
            crashes: 1,
            lost: 1,
            rescues: 1,
            rollbacks: 1,
            ..NOTHING
        })
}

/// Answers to settlements that get lost, and nothing else.
pub(crate) fn lost_answers() -> Scope {
    let budget = Budget { lost: 1, ..NOTHING };
    Scope::new("lost answers").budget(budget)
}

/// Answers to commits that get lost, and nothing else.
pub(crate) fn lost_commits() -> Scope {
    lost_answers().handlers([HandlerScope::transactional()])
}

/// Cancels, and nothing else.
pub(crate) fn canceled() -> Scope {
    let budget = Budget {
        cancels: 1,
        ..NOTHING
    };
    Scope::new("canceled").budget(budget)
}

/// Two events, two handlers and two processes that have one each, where little goes wrong.
pub(crate) fn two_of_everything() -> Scope {
    Scope::new("two of everything")
        .events(2)
        .handlers([HandlerScope::plain(), HandlerScope::transactional()])
        .processes([ProcessScope::with(0b01), ProcessScope::with(0b10)])
        .budget(Budget {
            rescues: 1,
            ..NOTHING
        })
}
