//! Which requests a claim takes. What is best among all handlers is found without locks; then the
//! best of each handler are locked, in the order of an index, and no others.

use super::statements::{SLOTS, Statements};
use crate::{
    error::Result,
    sql::{
        arg::Arg,
        limit,
        link::Link,
        records::{HANDLER_REQUESTS, Requests},
        row::Row,
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

/// A statement for one handler and the same for as many as there are slots, and how many queues of
/// each it asks for.
struct Slotted<'s> {
    one: &'s Statement,
    many: &'s Statement,
    queues: usize,
}

impl Slotted<'_> {
    /// What the statement answers of some of the handlers, at most as many as there are slots.
    async fn rows(&self, link: &mut Link<'_>, shares: &[Share<'_>]) -> Result<Vec<Row>> {
        let (statement, slots) = match shares {
            [_] => (self.one, 1),
            _ => (self.many, SLOTS),
        };
        let args = shares
            .iter()
            .map(|share| (share.handler.as_str(), [share.ready, share.late]))
            .chain(std::iter::repeat(("", [0, 0])))
            .take(slots)
            .flat_map(|(handler, limits)| {
                let limits = limits.into_iter().take(self.queues).map(limit);
                limits.flat_map(move |limit| [Arg::from(handler), Arg::from(limit)])
            });
        link.rows(statement, args.collect()).await
    }
}

/// The best that are due, locked, within the rooms and the limit.
pub(super) async fn lock_due(
    link: &mut Link<'_>,
    statements: &Statements,
    handlers: &[HandlerRoom],
    count: usize,
) -> Result<Requests> {
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
    let best = Slotted {
        one: &statements.best_of_one,
        many: &statements.best_of,
        queues: 2,
    };
    let lock = Slotted {
        one: &statements.lock_due_one,
        many: &statements.lock_due,
        queues: 2,
    };
    let candidates = candidates(link, &best, &asked).await?;
    let mut rows = Vec::new();
    for shares in shares(&rooms, candidates, count).chunks(SLOTS) {
        rows.extend(lock.rows(link, shares).await?);
    }
    Requests::read(&rows)
}

/// The best suspect that is due, locked. The best one of a handler may be locked by others, so all
/// handlers that have one are tried.
pub(super) async fn lock_suspect(
    link: &mut Link<'_>,
    statements: &Statements,
    handlers: &[HandlerRoom],
    count: usize,
) -> Result<Requests> {
    let asked: Vec<_> = handlers
        .iter()
        .filter(|handler| handler.room > 0 && count > 0)
        .map(|handler| Share {
            handler: &handler.handler,
            ready: 1,
            late: 1,
        })
        .collect();
    let suspects = Slotted {
        one: &statements.suspects_of_one,
        many: &statements.suspects_of,
        queues: 2,
    };
    for best in candidates(link, &suspects, &asked).await? {
        let Some(share) = asked.get(best.handler) else {
            continue;
        };
        let limits = [usize::from(!best.is_late), usize::from(best.is_late)];
        let args = limits
            .into_iter()
            .flat_map(|count| [Arg::from(share.handler.as_str()), Arg::from(limit(count))]);
        let rows = link.rows(&statements.lock_suspects, args.collect()).await?;
        if !rows.is_empty() {
            return Requests::read(&rows);
        }
    }
    Ok(Requests::default())
}

/// Candidates of what is asked, the best one first.
async fn candidates(
    link: &mut Link<'_>,
    statement: &Slotted<'_>,
    asked: &[Share<'_>],
) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for (chunk, shares) in asked.chunks(SLOTS).enumerate() {
        for row in statement.rows(link, shares).await? {
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
