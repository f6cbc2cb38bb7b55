//! Ways to break the rules on purpose. Each is a bug that well-known systems had, or one that a
//! guarantee exists to keep out; a checker that does not find it would prove nothing.

macro_rules! breakages {
    ($($(#[$doc:meta])* $breakage:ident,)*) => {
        /// A rule that is broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Breakage {
            $($(#[$doc])* $breakage,)*
        }

        impl Breakage {
            pub(crate) const ALL: &[Self] = &[$(Self::$breakage,)*];
        }
    };
}

breakages! {
    /// A settlement asks only whether the request is executing, not for whom.
    NoFence,
    /// A settlement asks for nothing but the id.
    SettleById,
    /// A process that gets no answer to its settlement takes it for a failure, and writes an error
    /// without reading; the attempt, which it believes to hold, is all that it names.
    LostAnswerTakenForFailure,
    /// Leases are compared with the clock of the process that rescues.
    ProcessClock,
    /// A rescue does not increment the attempt.
    RescueKeepsTheAttempt,
    /// A hand-back does not increment the attempt.
    HandBackKeepsTheAttempt,
    /// A reexecution begins to count attempts anew.
    ReexecuteResetsTheAttempt,
    /// A rescue looks at when the claim was made, not at when it was renewed.
    RescueIgnoresRenewals,
    /// A renewal does not ask who has the lease.
    RenewalWithoutFence,
    /// Every rescue counts an error: a deployment costs the requests that it interrupts one each.
    RescueAlwaysCounts,
    /// No rescue counts an error: a request may kill its processes for ever.
    RescueNeverCounts,
    /// Suspects are claimed as if they were none.
    SuspectsTogether,
    /// The writes of a transactional handler are committed before its settlement.
    SettledOutsideTheTransaction,
    /// An event is marked as processed, and its requests are made after that.
    ProcessedBeforeItsRequests,
    /// A fan-out makes requests of the handlers that its process has.
    FanOutByOwnHandlers,
    /// A fan-out goes on after the last id that it saw.
    PositionBySequence,
    /// A fan-out does not wait for the commit of the transaction that raises the event.
    UncommittedRead,
    /// A fan-out that was read before another one's commit replaces what that one made.
    FanOutReplaces,
    /// A claim does not ask for handlers.
    ClaimOfAnyHandler,
    /// A claim does not look whether the request was canceled.
    ClaimTakesTheCanceled,
    /// A cancel leaves a request that executes as it is.
    CancelSparesTheExecuting,
    /// The last error does not make a request dead, but the one after it.
    OneErrorMore,
}

/// The rules as they are, or with one of them broken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules(pub(crate) Option<Breakage>);

impl Rules {
    pub(crate) const SOUND: Self = Self(None);

    pub(crate) fn are_broken_by(self, breakage: Breakage) -> bool {
        self.0 == Some(breakage)
    }
}
