//! Identifiers of the things that tidings stores. No module here knows what they identify.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chance;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that came from elsewhere, for example from a row.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

identifier! {
    /// Identifies an event: a UUIDv7, so that ids grow with time and indexes stay dense.
    ///
    /// ```
    /// use tidings::EventId;
    /// let earlier = EventId::new();
    /// let later = EventId::new();
    /// assert!(earlier < later);
    /// ```
    EventId
}

identifier! {
    /// Identifies a handler request; derived from its event and its handler, see
    /// [`HandlerRequestId::derive`].
    HandlerRequestId
}

identifier! {
    /// The same for all events of one flow. An event that is raised without one gets its own id.
    CorrelationId
}

identifier! {
    /// Identifies the running process (strictly: the executor) that holds a lease.
    LeaseOwner
}

impl EventId {
    /// The id before this one in the order of ids; none before the lowest.
    pub(crate) fn predecessor(self) -> Option<Self> {
        let before = self.0.as_u128().checked_sub(1)?;
        Some(Self(Uuid::from_u128(before)))
    }

    /// A new id, later than every id that this process has made before.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a default that differs at each call misleads"
    )]
    pub fn new() -> Self {
        Self(chance::uuid_v7())
    }
}

impl LeaseOwner {
    /// A new, random owner.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a default that differs at each call misleads"
    )]
    pub fn new() -> Self {
        Self(chance::uuid_v7())
    }
}

impl From<EventId> for CorrelationId {
    fn from(id: EventId) -> Self {
        Self(id.0)
    }
}

impl HandlerRequestId {
    /// The id of the request of `handler` for `event`: the same in every process, and in the same
    /// order as the events' ids.
    ///
    /// Deriving it costs no randomness, and a store's primary key then refuses a second request
    /// for the same pair. It is the event's id with its lowest 32 bits, which are random in a
    /// UUIDv7, combined by exclusive or with the [hash](HandlerHash) of the handler's name; the
    /// version is 8 (RFC 9562, section 5.8).
    #[must_use]
    pub fn derive(event: EventId, handler: &str) -> Self {
        Self::combine(event, HandlerHash::of(handler))
    }

    /// The lowest and the highest id that a request of an event can have, whatever its handler is
    /// called: with them an index of ids finds the requests of an event.
    #[cfg(feature = "_sql")]
    pub(crate) const fn range_of(event: EventId) -> (Self, Self) {
        const LOWEST_32: u128 = 0xffff_ffff;
        let any = Self::combine(event, HandlerHash(0)).0.as_u128();
        let lowest = Uuid::from_u128(any & !LOWEST_32);
        let highest = Uuid::from_u128(any | LOWEST_32);
        (Self(lowest), Self(highest))
    }

    /// As [`derive`](Self::derive), with the hash of the handler's name at hand.
    #[must_use]
    pub const fn combine(event: EventId, handler: HandlerHash) -> Self {
        const VERSION: u128 = 0xf000_0000_0000_0000_0000;
        const VERSION_8: u128 = 0x8000_0000_0000_0000_0000;
        let mixed = event.0.as_u128() ^ (handler.0 as u128);
        Self(Uuid::from_u128((mixed & !VERSION) | VERSION_8))
    }
}

/// The hash of a handler's name, for [`HandlerRequestId::combine`].
///
/// Two handlers of one store must not share it; a [`ConfigMap`](crate::ConfigMap) refuses to be
/// built with two that do. It is FNV-1a with 64 bits (Fowler, Noll,
/// Vo), then the finalizer of SplitMix64, of which the upper half is kept. Stored ids depend on it,
/// so it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandlerHash(u32);

impl HandlerHash {
    /// The hash of `handler`.
    #[must_use]
    pub fn of(handler: &str) -> Self {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let hash = handler.bytes().fold(OFFSET, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(PRIME)
        });
        Self((avalanche(hash) >> 32) as u32)
    }

    /// The hash so many steps on.
    #[cfg(feature = "_sql")]
    pub(crate) const fn plus(self, steps: u32) -> Self {
        Self(self.0.wrapping_add(steps))
    }

    /// The hash as databases keep it, which have no unsigned integers.
    #[cfg(feature = "_sql")]
    pub(crate) const fn signed(self) -> i32 {
        self.0.cast_signed()
    }

    /// The hash that a database kept.
    #[cfg(feature = "postgres")]
    pub(crate) const fn from_signed(hash: i32) -> Self {
        Self(hash.cast_unsigned())
    }
}

impl HandlerHash {
    /// Two different names among these that hash alike. Stores refuse to register such a pair.
    pub fn clash<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, &'a str)> {
        let mut hashes = BTreeMap::new();
        names.into_iter().find_map(|name| {
            let other = hashes.insert(Self::of(name), name)?;
            (other != name).then_some((name, other))
        })
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
const fn avalanche(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_stable_across_releases() {
        let event = EventId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7abc_8def_0123_4567_89ab));
        assert_eq!(
            HandlerRequestId::derive(event, "index_commits").to_string(),
            "01900000-0000-8abc-8def-012338691a13"
        );
    }

    #[test]
    fn request_ids_keep_the_order_of_their_events() {
        let events: Vec<_> = (0..10_000).map(|_| EventId::new()).collect();
        let ids: Vec<_> = events
            .iter()
            .map(|event| HandlerRequestId::derive(*event, "index_commits"))
            .collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn request_ids_of_one_event_differ_by_handler() {
        let event = EventId::new();
        let ids: std::collections::BTreeSet<_> = (0..2000)
            .map(|n| HandlerRequestId::derive(event, &format!("handler_{n}")))
            .collect();
        assert_eq!(ids.len(), 2000);
    }
}
