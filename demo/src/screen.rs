//! The terminal, and what goes there: status lines and a progress bar that update in place, and
//! plain lines that must not tear them. Where there is no terminal, plain lines only.

use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::fmt::MakeWriter;

/// What updates in place, if anything does. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Screen(MultiProgress);

impl Screen {
    /// Updates in place on standard output, if that is a terminal.
    pub(crate) fn stdout() -> Self {
        Self(MultiProgress::with_draw_target(ProgressDrawTarget::stdout()))
    }

    /// Updates in place on standard error, if that is a terminal: standard output is for results.
    pub(crate) fn stderr() -> Self {
        Self(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
    }

    /// Whether there is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        !self.0.is_hidden()
    }

    /// Where bars and lines that update in place are added.
    pub(crate) const fn bars(&self) -> &MultiProgress {
        &self.0
    }

    /// Takes everything away that updates in place.
    pub(crate) fn clear(&self) {
        // A terminal that cannot be written to needs no clearing.
        drop(self.0.clear());
    }

    /// Prints a line on standard output.
    pub(crate) fn print(&self, line: &str) -> io::Result<()> {
        self.0.suspend(|| {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{line}")?;
            stdout.flush()
        })
    }

    /// Prints a line on standard error. What cannot be told is not told.
    pub(crate) fn complain(&self, line: &str) {
        self.0.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogWriter<'a>;

    fn make_writer(&'a self) -> LogWriter<'a> {
        LogWriter(self)
    }
}

/// Writes logs to standard error, around what updates in place.
#[derive(Debug)]
pub(crate) struct LogWriter<'a>(&'a Screen);

impl Write for LogWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
