//! Raises the events of an input, batch by batch.

use std::fmt;

use tidings::{Event, store::Raised};

use crate::{
    failure::Failure,
    input::{InputError, Part, Reading},
    screen::Screen,
    session::Session,
};

/// How many bad lines are told one by one; the others are only counted.
const BAD_LINES_TOLD: u64 = 10;

/// What became of an input's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Imported {
    /// Events that were raised.
    pub(crate) raised: u64,
    /// Events that had been raised before.
    pub(crate) repeated: u64,
    /// Bad lines that were skipped.
    pub(crate) skipped: u64,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            raised,
            repeated,
            skipped,
        } = self;
        write!(f, "{raised} events raised")?;
        if *repeated > 0 {
            write!(f, ", {repeated} were raised before")?;
        }
        if *skipped > 0 {
            write!(f, ", {skipped} bad lines skipped")?;
        }
        Ok(())
    }
}

/// Raises everything, and tells `progress` how far it is.
pub(crate) async fn import(
    session: &Session,
    reading: Reading,
    screen: &Screen,
    progress: impl Fn(&Imported),
) -> Result<Imported, Failure> {
    let name = reading.name().to_owned();
    let skips = reading.skips_bad_lines();
    let mut parts = reading.start()?;
    let mut imported = Imported::default();
    loop {
        match parts.recv().await {
            Some(Ok(Part::Events(events))) => raise(session, events, &mut imported).await?,
            Some(Ok(Part::Skipped { number, defect })) => {
                imported.skipped += 1;
                if imported.skipped <= BAD_LINES_TOLD {
                    screen.complain(&format!("line {number} of {name} is skipped: {defect}"));
                }
            }
            Some(Ok(Part::End)) => {
                if skips {
                    screen.complain(&format!("bad lines skipped: {}", imported.skipped));
                }
                return Ok(imported);
            }
            Some(Err(error)) => return Err(error.into()),
            None => return Err(InputError::Ended { name }.into()),
        }
        progress(&imported);
    }
}

/// Raises a batch in a transaction, all or none of it. When the answer to a commit is lost it is
/// raised again, which changes nothing if it was there; its events are counted as repeated then.
async fn raise(
    session: &Session,
    events: Vec<Event>,
    imported: &mut Imported,
) -> Result<(), Failure> {
    let answers = session
        .patience
        .retry("raising events", async || {
            let mut transaction = session.store.begin().await?;
            let answers = session
                .raiser
                .raise_all(&mut *transaction, events.clone())
                .await?;
            transaction.commit().await?;
            Ok(answers)
        })
        .await?;
    session.raiser.wake();
    for answer in answers {
        match answer {
            Raised::New => imported.raised += 1,
            Raised::AlreadyRaised => imported.repeated += 1,
        }
    }
    Ok(())
}
