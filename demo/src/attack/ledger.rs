//! The ledger: what happened, written outside of the database by those to whom it happened.
//!
//! A file for each life of a worker, a line for each entry. A line is written with one call, so a process that
//! is killed leaves whole lines, and at most one that is cut off.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tidings::uuid::Uuid;

/// Microseconds of a clock that all processes of the machine share, and that nobody sets.
pub(super) type Micros = u64;

/// What time it is.
pub(super) fn now() -> Micros {
    // There is no system without this clock.
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return 0;
    };
    let micros = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000;
    micros.unsigned_abs()
}

/// Which process it was: the worker, and which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Life {
    pub(super) worker: usize,
    pub(super) number: u32,
}

/// A run of a handler began, or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) at: Micros,
    pub(super) life: Life,
    /// Which run of this life.
    pub(super) run: u64,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub(super) enum What {
    Began {
        handler: String,
        event: Uuid,
        request: Uuid,
        attempt: u64,
    },
    Ended {
        how: How,
    },
}

/// How a run ended, as the handler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum How {
    Completed,
    /// With the error that it is there for.
    Failed,
    /// Its context was canceled, or it was dropped in the middle.
    BrokenOff,
    /// The database refused its write.
    Refused,
}

/// What one life of a worker writes.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    life: Life,
    runs: AtomicU64,
}

impl Writer {
    pub(super) fn create(directory: &Path, life: Life) -> io::Result<Self> {
        let name = format!("worker-{}-{}.jsonl", life.worker, life.number);
        let mut options = OpenOptions::new();
        let file = options
            .create_new(true)
            .append(true)
            .open(directory.join(name))?;
        Ok(Self {
            file,
            life,
            runs: AtomicU64::new(0),
        })
    }

    /// Writes that a run has begun, and answers its number.
    pub(super) fn began(&self, what: What) -> io::Result<u64> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        self.write(run, what)?;
        Ok(run)
    }

    pub(super) fn write(&self, run: u64, what: What) -> io::Result<()> {
        let (at, life) = (now(), self.life);
        let entry = Entry {
            at,
            life,
            run,
            what,
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        (&self.file).write_all(&line)
    }
}

/// Everything that all lives have written.
pub(super) fn read(directory: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in fs::read_dir(directory)? {
        read_file(&file?.path(), &mut entries)?;
    }
    entries.sort_by_key(|entry| entry.at);
    Ok(entries)
}

fn read_file(path: &PathBuf, entries: &mut Vec<Entry>) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    for line in text.split_inclusive('\n') {
        match serde_json::from_str(line) {
            Ok(entry) => entries.push(entry),
            // Its process was killed in the middle of it.
            Err(_) if !line.ends_with('\n') => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_life_wrote_is_read_and_a_line_that_is_cut_off_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let life = Life {
            worker: 1,
            number: 2,
        };
        let writer = Writer::create(directory.path(), life).unwrap();
        let began = What::Began {
            handler: "notes".to_owned(),
            event: Uuid::from_u128(1),
            request: Uuid::from_u128(2),
            attempt: 3,
        };
        let run = writer.began(began.clone()).unwrap();
        let ended = What::Ended {
            how: How::Completed,
        };
        writer.write(run, ended.clone()).unwrap();
        (&writer.file).write_all(b"{\"at\":1,\"li").unwrap();
        let read: Vec<_> = read(directory.path()).unwrap();
        let what: Vec<_> = read.into_iter().map(|entry| entry.what).collect();
        assert_eq!(what, [began, ended]);
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("worker-0-0.jsonl"), "{\"at\n{}\n").unwrap();
        assert!(read(directory.path()).is_err());
    }
}
