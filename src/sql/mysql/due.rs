//! Which requests a claim takes. What is best among all handlers is found without locks; then the
//! best of each handler are locked, in the order of an index, and no others.

use super::statements::{SLOTS, Statements};
use crate::{
    error::Result,
    sql::{
        arg::Arg,
        limit,
        link::Link,
        records::{HANDLER_REQUESTS, LockedRequests},
        statement::Statement,
    },
    store::HandlerRoom,
    text::Name,
};

/// A request that could be claimed: of two the lesser is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: i64,
    id: uuid::Uuid,
    /// The place of its handler in what was asked.
    handler: usize,
    is_late: bool,
}

/// How many requests of a handler to take.
struct Share<'h> {
    handler: &'h Name,
    ready: usize,
    /// Of those whose backoff has passed.
    late: usize,
}

/// The best that are due, locked, within the rooms and the limit.
pub(super) async fn lock_due(
    link: &mut Link<'_>,
    statements: &Statements,
    handlers: &[HandlerRoom],
    count: usize,
) -> Result<LockedRequests> {
    let rooms: Vec<_> = handlers
        .iter()
        .map(|handler| (&handler.handler, handler.room.min(count)))
        .filter(|(_, room)| *room > 0)
        .collect();
    let asked: Vec<_> = rooms
        .iter()
        .map(|&(handler, room)| Share {
            handler,
            ready: room,
            late: room,
        })
        .collect();
    let candidates = candidates(link, &statements.best_of, 2, &asked).await?;
    let mut rows = Vec::new();
    for shares in shares(&rooms, candidates, count).chunks(SLOTS) {
        rows.extend(link.rows(&statements.lock_due, slots(shares, 2)).await?);
    }
    LockedRequests::read(&rows)
}

/// The best suspect that is due, locked. The best one of a handler may be locked by others, so all
/// handlers that have one are tried.
pub(super) async fn lock_suspect(
    link: &mut Link<'_>,
    statements: &Statements,
    handlers: &[HandlerRoom],
    count: usize,
) -> Result<LockedRequests> {
    let asked: Vec<_> = handlers
        .iter()
        .filter(|handler| handler.room > 0 && count > 0)
        .map(|handler| Share {
            handler: &handler.handler,
            ready: 1,
            late: 0,
        })
        .collect();
    for best in candidates(link, &statements.suspects_of, 1, &asked).await? {
        let Some(share) = asked.get(best.handler) else {
            continue;
        };
        let args = vec![Arg::from(share.handler.as_str()), Arg::from(limit(1))];
        let rows = link.rows(&statements.lock_suspect, args).await?;
        if !rows.is_empty() {
            return LockedRequests::read(&rows);
        }
    }
    Ok(LockedRequests::default())
}

/// Candidates of what is asked, the best one first.
async fn candidates(
    link: &mut Link<'_>,
    statement: &Statement,
    queues: usize,
    asked: &[Share<'_>],
) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for (chunk, shares) in asked.chunks(SLOTS).enumerate() {
        for row in link.rows(statement, slots(shares, queues)).await? {
            let mut columns = row.reader(HANDLER_REQUESTS);
            let slot: usize = columns.int("slot")?;
            candidates.push(Candidate {
                handler: chunk * SLOTS + slot,
                is_late: columns.bool("is_late")?,
                priority: columns.int("priority")?,
                id: columns.uuid("id")?,
            });
        }
    }
    candidates.sort_unstable();
    Ok(candidates)
}

/// How many of each handler and queue are among the best, within the rooms and the limit.
fn shares<'h>(
    rooms: &[(&'h Name, usize)],
    candidates: Vec<Candidate>,
    count: usize,
) -> Vec<Share<'h>> {
    let mut shares: Vec<_> = rooms
        .iter()
        .map(|&(handler, _)| Share {
            handler,
            ready: 0,
            late: 0,
        })
        .collect();
    let mut left = count;
    for candidate in candidates {
        let (Some(share), Some((_, room))) = (
            shares.get_mut(candidate.handler),
            rooms.get(candidate.handler),
        ) else {
            continue;
        };
        if left == 0 {
            break;
        }
        if share.ready + share.late < *room {
            left -= 1;
            if candidate.is_late {
                share.late += 1;
            } else {
                share.ready += 1;
            }
        }
    }
    shares.retain(|share| share.ready + share.late > 0);
    shares
}

/// The arguments of a statement with slots for so many queues of each handler.
fn slots<'h>(shares: &[Share<'h>], queues: usize) -> Vec<Arg<'h>> {
    shares
        .iter()
        .map(|share| (share.handler.as_str(), [share.ready, share.late]))
        .chain(std::iter::repeat(("", [0, 0])))
        .take(SLOTS)
        .flat_map(|(handler, limits)| {
            let limits = limits.into_iter().take(queues).map(limit);
            limits.flat_map(move |limit| [Arg::from(handler), Arg::from(limit)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_all_handlers_share_the_limit() {
        let (a, b): (Name, Name) = ("a".into(), "b".into());
        let rooms = [(&a, 3), (&b, 10)];
        let candidate = |priority, id, handler, is_late| Candidate {
            priority,
            id: uuid::Uuid::from_u128(id),
            handler,
            is_late,
        };
        let mut candidates = vec![
            candidate(1, 9, 0, true),
            candidate(5, 1, 0, false),
            candidate(5, 2, 1, false),
            candidate(5, 3, 0, false),
            candidate(5, 4, 0, false),
            candidate(5, 5, 1, true),
            candidate(6, 0, 1, false),
        ];
        candidates.sort_unstable();
        let shares = |count| {
            shares(&rooms, candidates.clone(), count)
                .iter()
                .map(|share| (share.handler.to_string(), share.ready, share.late))
                .collect::<Vec<_>>()
        };
        let share = |handler: &str, ready, late| (handler.to_owned(), ready, late);
        assert_eq!(shares(0), []);
        assert_eq!(shares(1), [share("a", 0, 1)]);
        assert_eq!(shares(3), [share("a", 1, 1), share("b", 1, 0)]);
        // The room of `a` is full, so what is worse of `b` comes.
        assert_eq!(shares(100), [share("a", 2, 1), share("b", 2, 1)]);
    }
}
