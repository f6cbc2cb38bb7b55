//! The id of an imported event.
//!
//! CloudEvents says that `source` and `id` together identify an event, and that an event which is
//! sent again keeps both. So the id here is derived from them, and raising the event again answers
//! that it is raised already, in this import or in a later one.
//!
//! It is a UUID of version 8: 48 bits of milliseconds since 1970, as in version 7, then 74 bits of
//! a digest of `source` and `id`. The milliseconds are those of the event's `time` (zero without
//! one), so that imported events lie in the order in which they happened, and a store's indexes
//! grow at one end. That makes `time` a part of the identity: it is when the occurrence happened,
//! so an event that is sent again keeps it, too.

use chrono::{DateTime, Utc};
use tidings::EventId;
use uuid::Uuid;

/// The namespace of the digest; stored ids depend on it, so it never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x7a3c_1f52_96d4_4b0e_8f21_5d60_c2b7_e914);
/// The bits of the digest that are kept: not the milliseconds, the version and the variant.
const DIGEST: u128 = 0x0fff_3fff_ffff_ffff_ffff;
/// Version 8 in the variant of RFC 9562.
const VERSION_8: u128 = 0x8000_8000_0000_0000_0000;
/// The last millisecond that 48 bits can tell.
const MAX_MILLISECOND: i64 = (1 << 48) - 1;

/// The id of the event that `source` calls `id` and that happened at `time`.
pub(crate) fn derive(source: &str, id: &str, time: Option<DateTime<Utc>>) -> EventId {
    // The length keeps ("ab", "c") and ("a", "bc") apart.
    let named = format!("{}:{source}{id}", source.len());
    let digest = Uuid::new_v5(&NAMESPACE, named.as_bytes()).as_u128() & DIGEST;
    let millisecond = time.map_or(0, |time| time.timestamp_millis().clamp(0, MAX_MILLISECOND));
    let millisecond = u128::from(millisecond.unsigned_abs()) << 80;
    EventId::from_uuid(Uuid::from_u128(millisecond | VERSION_8 | digest))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn noon() -> DateTime<Utc> {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn ids_are_stable_across_releases() {
        let id = derive("https://example.org/orders", "4711", Some(noon()));
        assert_eq!(id.to_string(), "019c13ec-9e00-8ee4-8d2b-06caea409182");
    }

    #[test]
    fn the_border_between_source_and_id_counts() {
        assert_ne!(derive("ab", "c", None), derive("a", "bc", None));
        assert_ne!(derive("1:a", "b", None), derive("1", ":ab", None));
    }

    #[test]
    fn ids_lie_in_the_order_of_their_times() {
        let ids: Vec<_> = (0..1000)
            .map(|n| {
                derive(
                    "s",
                    &n.to_string(),
                    Some(noon() + TimeDelta::milliseconds(n)),
                )
            })
            .collect();
        assert!(ids.is_sorted());
        assert!(derive("s", "x", None) < ids[0]);
    }

    #[test]
    fn times_out_of_range_still_give_an_id() {
        let before = derive("s", "x", Some("1969-12-31T23:59:59Z".parse().unwrap()));
        assert_eq!(before, derive("s", "x", None));
        let after = derive("s", "x", Some(DateTime::<Utc>::MAX_UTC));
        assert_eq!(after.as_uuid().get_version_num(), 8);
    }

    proptest! {
        #[test]
        fn other_names_give_other_ids(a in ".{0,12}", b in ".{0,12}", c in ".{0,12}", d in ".{0,12}") {
            let same = (&a, &b) == (&c, &d);
            prop_assert_eq!(derive(&a, &b, None) == derive(&c, &d, None), same);
        }
    }
}
