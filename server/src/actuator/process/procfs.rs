//! What Linux says of a process (proc(5)).
//!
//! **Invariant:** a process is known by its number and the time of its start: a number that was given anew is another one's.

use std::fs;

use serde::{Deserialize, Serialize};

/// Clock ticks of a second in /proc, the same on every machine that juno runs on.
const TICKS_PER_S: u64 = 100;

/// A process, for as long as the machine runs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// Clock ticks from the start of the machine to that of the process.
    pub(super) started_ticks: u64,
    /// Which start of the machine.
    pub(super) boot: String,
}

/// What a process does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Running,
    /// Stopped by a signal or traced.
    Halted,
    /// It ended, or another process has its number.
    Gone,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) rss_bytes: u64,
    pub(super) cpu_ms: u64,
    pub(super) open_files: u64,
    pub(super) nice: i32,
}

/// The fields of /proc/PID/stat after the name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

impl Identity {
    /// The process that has this number now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let started_ticks = stat(pid)?.get(19)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { pid, started_ticks, boot })
    }

    pub(super) fn state(&self) -> State {
        if Self::of(self.pid).as_ref() != Some(self) {
            return State::Gone;
        }
        match stat(self.pid).as_ref().and_then(|fields| fields.first()).map(String::as_str) {
            None | Some("Z" | "X" | "x") => State::Gone,
            Some("T" | "t") => State::Halted,
            Some(_) => State::Running,
        }
    }

    /// None where it is gone.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.state() == State::Gone {
            return None;
        }
        let fields = stat(self.pid)?;
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Some(Usage {
            rss_bytes: rss.and_then(|kb| kb.trim().parse::<u64>().ok()).unwrap_or_default() * 1024,
            cpu_ms: (number(11)? + number(12)?) * 1_000 / TICKS_PER_S,
            open_files: fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, |files| files.count() as u64),
            nice: fields.get(16).and_then(|field| field.parse().ok()).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_uses_something_and_another_start_of_it_does_not() {
        let own = Identity::of(std::process::id()).unwrap();
        assert_eq!(own.state(), State::Running);
        let usage = own.usage().unwrap();
        assert!(usage.rss_bytes > 100_000 && usage.open_files >= 3, "{usage:?}");
        let earlier = Identity { started_ticks: own.started_ticks - 1, ..own.clone() };
        assert_eq!((earlier.state(), earlier.usage()), (State::Gone, None));
        let boot = Identity { boot: "other".into(), ..own };
        assert_eq!(boot.state(), State::Gone);
    }
}
