//! A database server that an attack has for itself: it is stopped, killed, moved in time, and its disk filled.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use clap::ValueEnum;

use super::{
    Result,
    clock::{self, Movable},
};
use crate::place::{Place, System};

/// The script that starts and stops servers.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server");
/// How much fits on the disk of a server that can be filled.
const DISK: &str = "size=1500m,mode=755";
/// How much of it is written at a time.
const BALLAST: usize = 1 << 20;

/// The servers that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    Postgres,
    Mariadb,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
        }
    }
}

/// A private server, gone when this is dropped or its process has ended.
#[derive(Debug)]
pub(super) struct Server {
    kind: Kind,
    directory: PathBuf,
    pub(super) place: Place,
    /// Moves the clock of the server, if that can be done here.
    clock: Option<Movable>,
    /// Whether the server's files are on a disk of their own.
    has_disk: bool,
    /// Stops the server when its standard input ends, of which this has the other end.
    guard: Child,
}

impl Server {
    /// Starts one.
    pub(super) fn start(kind: Kind, moves_clock: bool) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tidings-attack.")
            .tempdir()?
            .keep();
        let guard = Command::new("bash")
            .args([SCRIPT, "guard"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let has_disk = mount(&directory);
        let clock = clock::library()
            .filter(|_| moves_clock)
            .map(|library| Movable::new(library, &directory))
            .transpose()?;
        let mut server = Self {
            kind,
            has_disk,
            clock,
            place: Place {
                system: match kind {
                    Kind::Postgres => System::Postgres,
                    Kind::Mariadb => System::MySql,
                },
                url: String::new(),
            },
            directory,
            guard,
        };
        server.place.url = server.command("start", None)?;
        Ok(server)
    }

    pub(super) const fn has_disk(&self) -> bool {
        self.has_disk
    }

    pub(super) const fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// Ends it: as an administrator would, or as a crash does.
    pub(super) fn stop(&self, crashes: bool) -> Result<()> {
        let how = if crashes { "immediate" } else { "fast" };
        self.command("stop", Some(how))?;
        Ok(())
    }

    /// Starts it again with its data, on its port.
    pub(super) fn start_again(&self) -> Result<()> {
        self.command("start", None)?;
        Ok(())
    }

    /// Moves its clock to so many seconds from the machine's.
    pub(super) fn move_clock(&self, seconds: i64) -> Result<()> {
        let clock = self.clock.as_ref().ok_or("its clock cannot be moved")?;
        clock.move_to(seconds)
    }

    /// Leaves no room on its disk.
    pub(super) fn fill_disk(&self) -> Result<()> {
        let mut ballast = fs::File::create(self.ballast())?;
        let piece = vec![0; BALLAST];
        while ballast.write_all(&piece).is_ok() {}
        // What is left is less than a piece.
        while ballast.write_all(&[0; 512]).is_ok() {}
        Ok(())
    }

    /// Makes room again, and starts the server if it has ended over that.
    pub(super) fn free_disk(&self) -> Result<()> {
        fs::remove_file(self.ballast())?;
        let address = self.place.address()?;
        let address = address.ok_or("the server has no address")?;
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        // What a start would take for a server that runs.
        self.command("stop", Some("immediate"))?;
        self.start_again()
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }

    fn command(&self, action: &str, option: Option<&str>) -> Result<String> {
        let mut command = Command::new("bash");
        command
            .args([SCRIPT, action, self.kind.name()])
            .arg(&self.directory)
            .args(option)
            .stdin(Stdio::null());
        if let Some(clock) = &self.clock {
            clock.give_to(&mut command);
        }
        let output = command.output()?;
        if !output.status.success() {
            let (name, said) = (self.kind.name(), String::from_utf8_lossy(&output.stderr));
            return Err(format!("cannot {action} {name}: {}", said.trim()).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closes the standard input first; the guard itself says what fails.
        drop(self.guard.wait());
    }
}

/// Gives a directory a small disk of its own, if this user may.
fn mount(directory: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", DISK, "tidings-attack"]);
    let mounted = mount.arg(directory).stderr(Stdio::null()).status();
    mounted.is_ok_and(|status| status.success())
}
