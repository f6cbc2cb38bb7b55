//! Identifiers of the things that tidings stores. No module here knows what they identify.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
    /// A new id, later than every id that this process has made before.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a default that differs at each call misleads"
    )]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
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
        Self(Uuid::now_v7())
    }
}

impl From<EventId> for CorrelationId {
    fn from(id: EventId) -> Self {
        Self(id.0)
    }
}

impl HandlerRequestId {
    /// The id of the request of `handler` for `event`: the same in every process, and as close in
    /// order to the event's id as the id's first 48 bits (its millisecond) are.
    ///
    /// Deriving it costs no randomness, and a store's primary key then refuses a second request
    /// for the same pair. The lower 74 bits are those of the event's id, combined by exclusive or
    /// with 74 bits of a hash of the handler's name; the version is 8 (RFC 9562, section 5.8).
    #[must_use]
    pub fn derive(event: EventId, handler: &str) -> Self {
        Self::combine(event, HandlerHash::of(handler))
    }

    /// As [`derive`](Self::derive), with the hash of the handler's name at hand.
    #[must_use]
    pub fn combine(event: EventId, handler: HandlerHash) -> Self {
        const VERSION_AND_VARIANT: u128 = 0xf000_c000_0000_0000_0000;
        const VERSION_8: u128 = 0x8000_8000_0000_0000_0000;
        let mixed = event.0.as_u128() ^ handler.0;
        Self(Uuid::from_u128((mixed & !VERSION_AND_VARIANT) | VERSION_8))
    }
}

/// 80 bits of a hash of a handler's name, for [`HandlerRequestId::combine`].
///
/// It is FNV-1a with 128 bits (Fowler, Noll, Vo), followed by the finalizer of SplitMix64 on both
/// halves so that names which differ in their last letter differ in all bits. Stored ids depend
/// on it: it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerHash(u128);

impl HandlerHash {
    /// The hash of `handler`.
    #[must_use]
    pub fn of(handler: &str) -> Self {
        const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let hash = handler.bytes().fold(OFFSET, |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(PRIME)
        });
        #[expect(clippy::cast_possible_truncation, reason = "the halves are wanted")]
        let (high, low) = ((hash >> 64) as u64, hash as u64);
        let mixed =
            (u128::from(avalanche(high ^ low.rotate_left(32))) << 64) | u128::from(avalanche(low));
        Self(mixed & 0xffff_ffff_ffff_ffff_ffff)
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
            HandlerRequestId::derive(event, "index_commits").to_string(),
        );
        assert_eq!(
            HandlerRequestId::derive(event, "index_commits")
                .as_uuid()
                .get_version_num(),
            8
        );
    }

    #[test]
    fn request_ids_of_one_event_differ_by_handler_and_keep_its_millisecond() {
        let event = EventId::new();
        let ids: std::collections::BTreeSet<_> = (0..10_000)
            .map(|n| HandlerRequestId::derive(event, &format!("handler_{n}")))
            .collect();
        assert_eq!(ids.len(), 10_000);
        let millisecond = event.as_uuid().as_u128() >> 80;
        assert!(
            ids.iter()
                .all(|id| id.as_uuid().as_u128() >> 80 == millisecond)
        );
    }
}
