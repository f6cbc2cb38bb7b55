//! The history: what happened, in its order, by virtual time.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use tidings::{EventId, HandlerRequestId, RequestState, store::Settled};

/// A claim: the request and its attempt.
pub(crate) type Claimed = (HandlerRequestId, u64);

#[derive(Debug)]
#[expect(dead_code, reason = "read by `Debug`, as the text of a history")]
pub(crate) enum What {
    Sent(&'static str),
    /// A call took effect in the store.
    Took(Effect),
    Answered(&'static str, Result<(), &'static str>),
    /// The caller did not wait for the answer.
    GivenUp(&'static str),
    Started(Short, u64),
    /// A handler saw that its context was canceled.
    Canceled(Short, u64),
    Ended(Short, u64, &'static str),
    Process(&'static str),
    World(&'static str),
}

/// What a call changed.
#[derive(Debug)]
#[expect(dead_code, reason = "read by `Debug`, as the text of a history")]
pub(crate) enum Effect {
    Raised(Vec<EventId>),
    FannedOut(Vec<EventId>, Vec<(Short, u64)>),
    Claimed(Vec<(Short, u64)>),
    Settled(Vec<(Short, u64, &'static str, Settled)>),
    HandedBack(Vec<(Short, u64, Settled)>),
    Renewed(Vec<(Short, u64)>),
    Rescued(Vec<Short>),
    Became(Short, RequestState),
    Pruned(u64),
    Committed,
}

/// An id, shown by its event's number and what tells the handler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short(pub(crate) HandlerRequestId);

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.as_uuid().as_u128();
        write!(f, "r{}.{:04x}", bits >> 80, bits & 0xffff)
    }
}

pub(crate) fn shorts<'a>(claims: impl IntoIterator<Item = &'a Claimed>) -> Vec<(Short, u64)> {
    let short = |(id, attempt): &Claimed| (Short(*id), *attempt);
    claims.into_iter().map(short).collect()
}

struct Line {
    at: Duration,
    /// None for the world itself.
    process: Option<usize>,
    what: What,
}

/// All lines so far.
#[derive(Default)]
pub(crate) struct History(Vec<Line>);

impl History {
    pub(crate) fn push(&mut self, at: Duration, process: Option<usize>, what: What) {
        self.0.push(Line { at, process, what });
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The history as text; of a long one `most` lines, around `until`, which is when it went wrong.
    pub(crate) fn text(&self, most: usize, until: Option<Duration>) -> String {
        let end = until.map_or(self.0.len(), |until| {
            self.0.partition_point(|line| line.at <= until)
        });
        let begin = end.saturating_sub(most);
        let mut text = String::new();
        if begin > 0 {
            let _ = writeln!(text, "… {begin} lines before …");
        }
        for line in &self.0[begin..end] {
            let process = line
                .process
                .map_or("  ".to_owned(), |process| format!("p{process}"));
            let _ = writeln!(
                text,
                "{:>12.6} {process} {:?}",
                line.at.as_secs_f64(),
                line.what
            );
        }
        if end < self.0.len() {
            let _ = writeln!(text, "… {} lines after …", self.0.len() - end);
        }
        text
    }
}
