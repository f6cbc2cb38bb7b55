//! Where events come from: a file or standard input, checked and then read in constant memory.
//!
//! Reading blocks, so it has a thread of its own, and one that nobody waits for at the end: a
//! pipe may stay silent for ever.

mod lines;
mod read;
mod source;

use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use self::{
    read::{OnBadLine, Part, Reading},
    source::check,
};
use crate::{arguments, cloud_events::Defect};

/// Why an input cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot open {name}; check the path and who may read it")]
    Open {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("{name} is a directory; name a file with one event a line")]
    Directory { name: String },
    #[error("{name} cannot be read to its end")]
    Read {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "{name} cannot be kept in a temporary file in {directory:?}; make room there, or set TMPDIR"
    )]
    Spool {
        name: String,
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "line {number} of {name} is bad: {defect}\nNothing was raised. Correct the line, or skip bad lines with --skip-bad-lines."
    )]
    BadLine {
        name: String,
        number: u64,
        defect: Defect,
    },
    #[error(
        "line {number} of {name} is bad: {defect}\nThe file changed while it was read, so some of its events are raised; repeating it raises the others."
    )]
    Changed {
        name: String,
        number: u64,
        defect: Defect,
    },
    #[error("reading {name} ended too early")]
    Ended { name: String },
}

/// The input's name in messages.
fn name_of(input: &arguments::Input) -> String {
    match input {
        arguments::Input::Stdin => "standard input".to_owned(),
        arguments::Input::File(path) => file_name(path),
    }
}

fn file_name(path: &Path) -> String {
    path.display().to_string()
}
