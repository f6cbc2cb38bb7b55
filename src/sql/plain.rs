//! Settlements that keep no text: most of all, and written without reading the requests first.

use std::collections::HashSet;

use super::{link::Link, micros, settle};
use crate::{
    error::Result,
    id::{HandlerRequestId, LeaseOwner},
    model::Outcome,
    store::{Settled, Settlement},
};

/// How many kinds of plain settlements are written by statements of their own. With more, which it
/// takes handlers that snooze for times of their own, rows are cheaper that say it each.
const MAX_KINDS: usize = 8;

/// What plain settlements have in common that one statement writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) attempt: u64,
    pub(super) owner: LeaseOwner,
    pub(super) executed: bool,
    /// For how many microseconds; it completes if for none.
    pub(super) snoozes_for: Option<i64>,
}

/// The plain ones among settlements, by their kinds, and the others.
#[derive(Debug, Default)]
pub(super) struct Sorted<'s> {
    pub(super) plain: Vec<(Kind, Vec<HandlerRequestId>)>,
    pub(super) others: Vec<&'s Settlement>,
}

/// Sorts settlements; answers nothing if that is of no use: there are too many kinds, or a request is
/// there twice, the second time of which is to find it settled.
pub(super) fn sort(settlements: &[Settlement]) -> Option<Sorted<'_>> {
    let mut seen = HashSet::with_capacity(settlements.len());
    let mut sorted = Sorted::default();
    for settlement in settlements {
        if !seen.insert(settlement.id) {
            return None;
        }
        let Some(kind) = kind(settlement) else {
            sorted.others.push(settlement);
            continue;
        };
        let kinds = sorted.plain.len();
        match sorted.plain.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, ids)) => ids.push(settlement.id),
            None if kinds < MAX_KINDS => sorted.plain.push((kind, vec![settlement.id])),
            None => return None,
        }
    }
    Some(sorted)
}

/// Of which kind a settlement is, if it is a plain one.
pub(super) fn kind(settlement: &Settlement) -> Option<Kind> {
    let snoozes_for = match settlement.outcome {
        Outcome::Completed => None,
        Outcome::Snoozed { duration } => Some(micros(duration)),
        _ => return None,
    };
    Some(Kind {
        attempt: settlement.attempt,
        owner: settlement.owner,
        executed: settlement.executed,
        snoozes_for,
    })
}

/// Writes what is left once all plain ones are settled: the others, and the events that all of them
/// raised. Answers for all.
pub(super) async fn finish(
    link: &mut Link<'_>,
    settlements: &[Settlement],
    others: &[&Settlement],
) -> Result<Vec<Settled>> {
    let mut of_others = settle::write(link, others).await?.into_iter();
    let answer = |settlement: &Settlement| match kind(settlement) {
        Some(_) => Some(Settled::Applied),
        None => of_others.next(),
    };
    let answers: Vec<_> = settlements.iter().map_while(answer).collect();
    settle::conclude(link, settlements, &answers).await?;
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::EventId;

    fn settlement(handler: &str, outcome: Outcome) -> Settlement {
        let id = HandlerRequestId::derive(EventId::from_uuid(uuid::Uuid::from_u128(7)), handler);
        let owner = LeaseOwner::from_uuid(uuid::Uuid::from_u128(8));
        Settlement::new(id, 1, owner, outcome)
    }

    #[test]
    fn what_keeps_a_text_is_not_plain_and_what_comes_twice_is_not_sorted() {
        let snoozed = Outcome::Snoozed {
            duration: Duration::from_micros(5),
        };
        let canceled = Outcome::Canceled {
            reason: "no".to_owned(),
        };
        let mut all = vec![
            settlement("a", Outcome::Completed),
            settlement("b", snoozed),
            settlement("c", canceled),
            settlement("d", Outcome::Completed),
        ];
        let sorted = sort(&all).unwrap();
        let kinds: Vec<_> = sorted
            .plain
            .iter()
            .map(|(kind, ids)| (kind.snoozes_for, ids.clone()))
            .collect();
        assert_eq!(
            kinds,
            [
                (None, vec![all[0].id, all[3].id]),
                (Some(5), vec![all[1].id])
            ]
        );
        assert_eq!(sorted.others, [&all[2]]);
        all.push(all[0].clone());
        assert!(sort(&all).is_none());
        all.pop();
        for number in 0..MAX_KINDS {
            let mut other = settlement(&number.to_string(), Outcome::Completed);
            other.attempt = 10 + u64::try_from(number).unwrap();
            all.push(other);
        }
        assert!(sort(&all).is_none());
    }
}
