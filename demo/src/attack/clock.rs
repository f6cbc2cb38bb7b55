//! Clocks that are moved by a library which is loaded before all others, where it is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::Result;

/// The library, if it is here.
pub(super) fn library() -> Option<PathBuf> {
    let candidates = fs::read_dir("/usr/lib").ok()?;
    candidates
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|library| library.exists())
}

/// A process that is started by this lives so many seconds ahead. How long things take is the same for it.
pub(super) fn set_ahead(command: &mut Command, library: &Path, seconds: i64) {
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME", format!("{seconds:+}s"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

/// A clock that can be moved while it goes.
#[derive(Debug)]
pub(super) struct Movable {
    library: PathBuf,
    offset: PathBuf,
}

impl Movable {
    /// One that shows the machine's time, and has a file of its own in a directory.
    pub(super) fn new(library: PathBuf, directory: &Path) -> Result<Self> {
        let offset = directory.join("clock");
        fs::write(&offset, "+0")?;
        Ok(Self { library, offset })
    }

    /// Moves it to so many seconds from the machine's.
    pub(super) fn move_to(&self, seconds: i64) -> Result<()> {
        Ok(fs::write(&self.offset, format!("{seconds:+}"))?)
    }

    /// Whatever is started by this lives by it.
    pub(super) fn give_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}
