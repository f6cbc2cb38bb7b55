//! Reads events in batches of bounded size, for whoever raises them.

use std::{fmt, io::BufReader, thread};

use tidings::Event;
use tokio::sync::mpsc;

use super::{
    InputError,
    lines::{Line, Lines},
    source::Source,
};
use crate::cloud_events::{self, Defect, MAX_LINE_LEN};

/// The most events of a batch: enough that a round trip for each batch does not count.
const BATCH_EVENTS: usize = 500;
/// A batch ends when its data has so many bytes, so that memory stays small however large they are.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Batches that wait to be raised: one, while the next is read.
const BATCHES_AHEAD: usize = 1;

/// What to do with a bad line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnBadLine {
    /// End with an error.
    Stop,
    /// Skip it, and tell.
    Skip,
}

/// A part of what was read.
#[derive(Debug)]
pub(crate) enum Part {
    /// Events, in the order of their lines.
    Events(Vec<Event>),
    /// A bad line was skipped.
    Skipped {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        defect: Defect,
    },
    /// All has been read.
    End,
}

/// Where the parts go.
type Parts = mpsc::Sender<Result<Part, InputError>>;

/// An input that is ready to be read.
pub(crate) struct Reading {
    name: String,
    lines: Lines<BufReader<Box<dyn Source>>>,
    events: Option<u64>,
    on_bad_line: OnBadLine,
    eager: bool,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("name", &self.name)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl Reading {
    pub(super) fn new(
        name: String,
        reader: BufReader<Box<dyn Source>>,
        events: Option<u64>,
        on_bad_line: OnBadLine,
    ) -> Self {
        Self {
            name,
            lines: Lines::new(reader, MAX_LINE_LEN),
            events,
            on_bad_line,
            eager: false,
        }
    }

    /// Whether to give events away before a read that may wait for long.
    pub(super) fn eager(mut self, eager: bool) -> Self {
        self.eager = eager;
        self
    }

    /// The input's name in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether bad lines are skipped.
    pub(crate) fn skips_bad_lines(&self) -> bool {
        self.on_bad_line == OnBadLine::Skip
    }

    /// How many events there are, if that is known beforehand.
    pub(crate) const fn events(&self) -> Option<u64> {
        self.events
    }

    /// Begins to read, on a thread of its own. Without a [`Part::End`] or an error, something went
    /// wrong.
    pub(crate) fn start(self) -> Result<mpsc::Receiver<Result<Part, InputError>>, InputError> {
        let (parts, received) = mpsc::channel(BATCHES_AHEAD);
        let name = self.name.clone();
        thread::Builder::new()
            .name("read-input".to_owned())
            .spawn(move || self.run(&parts))
            .map_err(|source| InputError::Read { name, source })?;
        Ok(received)
    }

    fn run(mut self, parts: &Parts) {
        let ended = self.read(parts).transpose();
        // Nobody listens any more when the demo was stopped meanwhile.
        if let Some(ended) = ended {
            drop(parts.blocking_send(ended));
        }
    }

    /// Reads all; `None` when nobody listens any more.
    fn read(&mut self, parts: &Parts) -> Result<Option<Part>, InputError> {
        let mut batch = Batch::default();
        loop {
            let may_wait = self.eager && self.lines.reader().buffer().is_empty();
            if (batch.is_full() || may_wait) && !batch.send(parts) {
                return Ok(None);
            }
            let name = &self.name;
            let unreadable = |source| InputError::Read {
                name: name.clone(),
                source,
            };
            let Some((number, line)) = self.lines.next().map_err(unreadable)? else {
                return Ok(batch.send(parts).then_some(Part::End));
            };
            match (parse(line), self.on_bad_line) {
                (Ok(event), _) => batch.push(event),
                (Err(defect), OnBadLine::Skip) => {
                    if parts
                        .blocking_send(Ok(Part::Skipped { number, defect }))
                        .is_err()
                    {
                        return Ok(None);
                    }
                }
                (Err(defect), OnBadLine::Stop) => {
                    return Err(InputError::Changed {
                        name: name.clone(),
                        number,
                        defect,
                    });
                }
            }
        }
    }
}

fn parse(line: Line<'_>) -> Result<Event, Defect> {
    match line {
        Line::Whole(line) => cloud_events::parse(line),
        Line::TooLong => Err(Defect::TooLong {
            limit: MAX_LINE_LEN,
        }),
    }
}

/// Events that are raised together.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, event: Event) {
        self.bytes += event.data.as_str().len();
        self.events.push(event);
    }

    fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES
    }

    /// Sends the events, if there are any; answers whether somebody listens.
    fn send(&mut self, parts: &Parts) -> bool {
        self.bytes = 0;
        let events = std::mem::take(&mut self.events);
        events.is_empty() || parts.blocking_send(Ok(Part::Events(events))).is_ok()
    }
}
