//! What must always hold: the guarantees, each with a name that a counterexample shows.

use stateright::Property;

use super::{exploration::Exploration, world::World};

macro_rules! laws {
    ($($(#[$doc:meta])* $law:ident = $name:literal,)*) => {
        /// A guarantee.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Law {
            $($(#[$doc])* $law,)*
        }

        impl Law {
            pub(crate) const ALL: &[Self] = &[$(Self::$law,)*];

            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$law => $name,)*
                }
            }

            /// That it is broken nowhere.
            pub(crate) fn property(self) -> Property<Exploration> {
                match self {
                    $(Self::$law => {
                        let holds: fn(&Exploration, &World) -> bool =
                            |exploration, world| !exploration.is_first_to_break(Self::$law, world);
                        Property::always($name, holds)
                    })*
                }
            }
        }
    };
}

laws! {
    /// Also: an outage or a crash at any point, by whomever, leaves nothing that can never be run.
    NeverLost = "what was committed comes to an end",
    RolledBackUnseen = "what was rolled back is never seen",
    Fence = "only the claim that a request is in changes it",
    AttemptGrows = "an attempt grows with each claim and each way to lose one, and never shrinks",
    CompletedOnce = "a request completes once at most until it is reexecuted",
    EffectivelyOnce = "writes of a transactional handler are there if and only if it completed",
    PendingOnly = "only what is pending is claimed",
    OneOwner = "nobody claims what another's lease still holds",
    MaxErrors = "errors reach their maximum in the dead only, and never pass it",
    RescueIsFree = "a rescue counts an error from the fourth on, and none before",
    CancelHolds = "a cancel holds until a reexecution",
    EndsHold = "an end holds until a reexecution or a cancel",
    OwnHandlers = "a process claims for handlers that it has",
    SuspectsAlone = "a process holds one suspect at a time",
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Laws(u16);

impl Laws {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn has(self, law: Law) -> bool {
        self.0 & (1 << law as u16) != 0
    }

    /// Notes that a law does not hold.
    pub(crate) fn require(&mut self, law: Law, holds: bool) {
        if !holds {
            self.0 |= 1 << law as u16;
        }
    }
}
