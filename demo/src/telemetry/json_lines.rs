//! A file of JSON objects, one a line, that does not grow without end.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::Serialize;

/// A file of lines. Each line is written at once and whole, so that what is written survives the
/// process, whatever ends it.
#[derive(Debug)]
pub(super) struct JsonLines {
    path: PathBuf,
    max_len: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    len: u64,
    /// The first error, for the end: nothing on the way should stop because of it.
    error: Option<io::Error>,
}

impl JsonLines {
    /// Begins an empty file, and keeps other processes from doing the same while this one lives.
    /// `None` if another process has it.
    pub(super) fn create(path: PathBuf, max_len: u64) -> io::Result<Option<Self>> {
        let Some(file) = create(&path)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            path,
            max_len,
            state: Mutex::new(State {
                file,
                len: 0,
                error: None,
            }),
        }))
    }

    /// Writes `value` as a line. An error is kept for [`finish`](Self::finish), which tells the
    /// first one.
    pub(super) fn write(&self, value: &impl Serialize) {
        let mut state = self.state.lock();
        if let Err(error) = self.append(&mut state, value) {
            state.error.get_or_insert(error);
        }
    }

    /// Answers whether every line was written.
    pub(super) fn finish(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state
            .error
            .take()
            .map_or_else(|| state.file.sync_all(), Err)
    }

    /// Where the lines are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn append(&self, state: &mut State, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if state.len > 0 && state.len.saturating_add(len) > self.max_len {
            fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
            let taken = || io::Error::other("another process has taken the file");
            state.file = create(&self.path)?.ok_or_else(taken)?;
            state.len = 0;
        }
        state.file.write_all(&line)?;
        state.len += len;
        Ok(())
    }
}

/// Creates or empties a file, unless another process holds it.
fn create(path: &Path) -> io::Result<Option<File>> {
    // Emptied only when it is locked: it may be another process's.
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<u64> {
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_full_file_goes_on_as_a_new_one_and_one_older_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers.jsonl");
        let file = JsonLines::create(path.clone(), 10).unwrap().unwrap();
        (0..13_u64).for_each(|number| file.write(&number));
        file.finish().unwrap();
        assert_eq!(
            lines(&directory.path().join("numbers.1.jsonl")),
            [5, 6, 7, 8, 9]
        );
        assert_eq!(lines(&path), [10, 11, 12]);
    }

    #[test]
    fn two_writers_do_not_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers.jsonl");
        let first = JsonLines::create(path.clone(), 1000).unwrap().unwrap();
        first.write(&1_u64);
        assert!(JsonLines::create(path.clone(), 1000).unwrap().is_none());
        first.write(&2_u64);
        assert_eq!(lines(&path), [1, 2]);
        drop(first);
        assert!(JsonLines::create(path.clone(), 1000).unwrap().is_some());
        assert_eq!(lines(&path), [0; 0]);
    }

    #[test]
    fn an_error_on_the_way_is_told_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers.jsonl");
        let file = JsonLines::create(path.clone(), 4).unwrap().unwrap();
        file.write(&1_u64);
        drop(directory);
        file.write(&1_000_000_u64);
        assert!(file.finish().is_err());
    }
}
