//! What processes used, as the operating system tells it. Where there is no `/proc`, most is unknown.

use std::{fs, time::Duration};

/// How long a tick is in which `/proc` counts; all Linux systems of today tell the same to programs.
const TICK: Duration = Duration::from_millis(10);

/// The processor time of this process so far, of all its threads.
#[cfg(unix)]
pub(super) fn cpu_time() -> Option<Duration> {
    use nix::sys::{
        resource::{UsageWho, getrusage},
        time::TimeVal,
    };

    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let duration = |time: TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).ok()?;
        let micros = u64::try_from(time.tv_usec()).ok()?;
        Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
    };
    Some(duration(usage.user_time())? + duration(usage.system_time())?)
}

#[cfg(not(unix))]
pub(super) fn cpu_time() -> Option<Duration> {
    None
}

/// Forgets the greatest memory of this process so far; answers whether it could.
pub(super) fn forget_peak_memory() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The most memory in bytes that this process has had since it was forgotten.
pub(in crate::bench) fn peak_memory() -> Option<f64> {
    peak_in(&fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_in(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kibibytes) * 1024.0)
}

/// How many bytes this process has written so far: to files, and what its parts tell each other.
pub(super) fn bytes_written() -> Option<f64> {
    written_in(&fs::read_to_string("/proc/self/io").ok()?)
}

fn written_in(io: &str) -> Option<f64> {
    let line = io.lines().find_map(|line| line.strip_prefix("wchar:"))?;
    line.trim().parse().ok()
}

/// A process as `/proc` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    id: u32,
    name: String,
    parent: u32,
    /// Of itself.
    cpu: Duration,
    /// Of its children that have ended, and theirs.
    cpu_of_ended: Duration,
}

impl Shown {
    /// What the file `stat` of a process says. Its name can hold anything, blanks and brackets, too.
    fn in_stat(stat: &str) -> Option<Self> {
        let (id, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        // From the third field on: the state, then the parent.
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ticks = |at: usize| {
            let ticks: u32 = fields.get(at)?.parse().ok()?;
            Some(TICK * ticks)
        };
        Some(Self {
            id: id.parse().ok()?,
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            cpu: ticks(11)? + ticks(12)?,
            cpu_of_ended: ticks(13)? + ticks(14)?,
        })
    }

    fn find(id: u32) -> Option<Self> {
        Self::in_stat(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.filter_map(Self::find).collect()
    }
}

/// A process and its children, which are a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    head: u32,
}

impl Family {
    /// A process of this id with one of these names, and its children.
    pub(super) fn of(id: u32, names: &[&str]) -> Option<Self> {
        let shown = Shown::find(id)?;
        names
            .contains(&shown.name.as_str())
            .then_some(Self { head: id })
    }

    /// The parent of a process of this id, if both are called the same, and its children.
    pub(super) fn of_child(id: u32, name: &str) -> Option<Self> {
        let child = Shown::find(id).filter(|child| child.name == name)?;
        Self::of(child.parent, &[name])
    }

    /// The processor time of all so far, also of those that have ended.
    pub(super) fn cpu_time(self) -> Option<Duration> {
        let all = Shown::all();
        all.iter().find(|one| one.id == self.head)?;
        Some(self.sum(&all))
    }

    fn sum(self, all: &[Shown]) -> Duration {
        let of_one = |one: &Shown| {
            if one.id == self.head {
                one.cpu + one.cpu_of_ended
            } else if one.parent == self.head {
                one.cpu
            } else {
                Duration::ZERO
            }
        };
        all.iter().map(of_one).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stat: &str) -> Shown {
        Shown::in_stat(stat).unwrap()
    }

    #[test]
    fn a_name_with_blanks_and_brackets_moves_no_field() {
        let one = shown("17 (a (b) c) S 3 4 5 6 7 8 9 10 11 12 200 100 30 20 20 0 1 0 99 0 0");
        assert_eq!((one.id, one.parent), (17, 3));
        assert_eq!(one.name, "a (b) c");
        assert_eq!(one.cpu, Duration::from_secs(3));
        assert_eq!(one.cpu_of_ended, Duration::from_millis(500));
    }

    #[test]
    fn a_server_is_its_head_with_children_that_live_and_those_that_ended_but_nobody_else() {
        let all = [
            shown("1 (init) S 0 0 0 0 0 0 0 0 0 0 900 0 900 0 20"),
            shown("10 (postgres) S 1 0 0 0 0 0 0 0 0 0 100 0 50 0 20"),
            shown("11 (postgres) S 10 0 0 0 0 0 0 0 0 0 7 0 0 0 20"),
            shown("20 (postgres) S 1 0 0 0 0 0 0 0 0 0 800 0 800 0 20"),
        ];
        let server = Family { head: 10 };
        assert_eq!(server.sum(&all), Duration::from_millis(1570));
    }

    #[test]
    fn figures_of_the_system_are_read_and_what_is_not_there_is_unknown() {
        let status = "Name:\tdemo\nVmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(peak_in(status), Some(2_097_152.0));
        assert_eq!(peak_in("Name:\tdemo\n"), None);
        assert_eq!(written_in("rchar: 5\nwchar: 17\n"), Some(17.0));
        assert_eq!(written_in(""), None);
    }

    #[test]
    fn another_process_is_not_taken_for_a_server() {
        assert_eq!(Family::of(std::process::id(), &["postgres"]), None);
        assert_eq!(Family::of_child(std::process::id(), "postgres"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_takes_time_and_memory_has_a_peak() {
        let before = cpu_time().unwrap();
        let mut sum = 0_u64;
        while cpu_time().unwrap() < before + Duration::from_millis(1) {
            sum = sum.wrapping_add(1);
        }
        assert!(sum > 0 && peak_memory().unwrap() > 0.0);
    }
}
