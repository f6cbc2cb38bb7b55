//! Opens an input and checks all its lines, so that a bad one is found before anything is raised.
//!
//! A file is read twice. What cannot be read twice (a pipe, standard input) goes through a
//! temporary file without a name, so memory stays constant. When bad lines are skipped there is
//! nothing to find beforehand, and everything is read once, as it comes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write},
    thread,
};

use tokio::sync::oneshot;

use super::{
    InputError, OnBadLine, Reading,
    lines::{Line, Lines},
    name_of,
};
use crate::{
    arguments::Input,
    cloud_events::{self, Defect, MAX_LINE_LEN},
};

/// How much is read at once.
pub(super) const CHUNK: usize = 128 * 1024;

/// Opens `input`, checks it unless bad lines are skipped, and gives it back ready to be read.
///
/// Cancellation safe: a check that nobody waits for ends by itself, or with the process.
pub(crate) async fn check(input: Input, on_bad_line: OnBadLine) -> Result<Reading, InputError> {
    let name = name_of(&input);
    let (answer, answered) = oneshot::channel();
    let checking = thread::Builder::new()
        .name("check-input".to_owned())
        .spawn(move || {
            // Nobody waits any more when the demo was stopped meanwhile.
            drop(answer.send(check_blocking(&input, on_bad_line)));
        });
    if let Err(source) = checking {
        return Err(InputError::Read { name, source });
    }
    answered.await.unwrap_or(Err(InputError::Ended { name }))
}

fn check_blocking(input: &Input, on_bad_line: OnBadLine) -> Result<Reading, InputError> {
    let name = name_of(input);
    let open = |source| InputError::Open {
        name: name.clone(),
        source,
    };
    let (file, is_regular): (Box<dyn Source>, bool) = match input {
        Input::Stdin => (Box::new(io::stdin()), false),
        Input::File(path) => {
            let file = File::open(path).map_err(open)?;
            let metadata = file.metadata().map_err(open)?;
            if metadata.is_dir() {
                return Err(InputError::Directory { name });
            }
            if metadata.is_file() && on_bad_line == OnBadLine::Stop {
                let file = reread(file, &name)?;
                return Ok(file);
            }
            (Box::new(file), metadata.is_file())
        }
    };
    if on_bad_line == OnBadLine::Stop {
        return spool(file, name);
    }
    Ok(Reading::new(
        name,
        BufReader::with_capacity(CHUNK, file),
        None,
        on_bad_line,
    )
    .eager(!is_regular))
}

/// What can be read from, without its type.
pub(super) trait Source: Read + Send {}

impl<R: Read + Send> Source for R {}

/// Checks a file, and goes back to its beginning.
fn reread(mut file: File, name: &str) -> Result<Reading, InputError> {
    let read = |source| InputError::Read {
        name: name.to_owned(),
        source,
    };
    let events = check_lines(BufReader::with_capacity(CHUNK, &mut file), name, |_| Ok(()))?;
    file.rewind().map_err(read)?;
    let reader: Box<dyn Source> = Box::new(file);
    Ok(Reading::new(
        name.to_owned(),
        BufReader::with_capacity(CHUNK, reader),
        Some(events),
        OnBadLine::Stop,
    ))
}

/// Checks what can be read once only, and keeps its lines in a temporary file. Lines that would be
/// passed over are not kept, so its numbers of lines would differ; but no line is bad any more.
fn spool(source: Box<dyn Source>, name: String) -> Result<Reading, InputError> {
    let spooling = |source| InputError::Spool {
        name: name.clone(),
        directory: std::env::temp_dir(),
        source,
    };
    let mut kept = BufWriter::with_capacity(CHUNK, tempfile::tempfile().map_err(spooling)?);
    let events = check_lines(BufReader::with_capacity(CHUNK, source), &name, |line| {
        kept.write_all(line)
            .and_then(|()| kept.write_all(b"\n"))
            .map_err(spooling)
    })?;
    let mut kept = kept
        .into_inner()
        .map_err(|error| spooling(error.into_error()))?;
    kept.rewind().map_err(spooling)?;
    let reader: Box<dyn Source> = Box::new(kept);
    Ok(Reading::new(
        name,
        BufReader::with_capacity(CHUNK, reader),
        Some(events),
        OnBadLine::Stop,
    ))
}

/// Checks all lines, hands each to `keep`, and counts them.
fn check_lines(
    reader: impl BufRead,
    name: &str,
    mut keep: impl FnMut(&[u8]) -> Result<(), InputError>,
) -> Result<u64, InputError> {
    let mut lines = Lines::new(reader, MAX_LINE_LEN);
    let mut events = 0;
    loop {
        let next = lines.next().map_err(|source| InputError::Read {
            name: name.to_owned(),
            source,
        })?;
        let Some((number, line)) = next else {
            return Ok(events);
        };
        let bad = |defect| InputError::BadLine {
            name: name.to_owned(),
            number,
            defect,
        };
        match line {
            Line::TooLong => {
                return Err(bad(Defect::TooLong {
                    limit: MAX_LINE_LEN,
                }));
            }
            Line::Whole(line) => {
                cloud_events::parse(line).map_err(bad)?;
                keep(line)?;
            }
        }
        events += 1;
    }
}
