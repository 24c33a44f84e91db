//! One replica: a process that this one started, or that an earlier juno did.
//!
//! A replica is the leader of a process group of its own, so that a signal reaches what it started too and an interrupt of
//! the terminal does not reach it.
//!
//! **Invariant:** no signal is sent to a process that is not the one that was started.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group, setpriority_process};
use tokio::process::{Child, Command};

use super::procfs::{Identity, State, Usage};
use super::spec::{Program, Service};

/// A log longer than this is begun anew at a start, in bytes.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// The name of a service's log in its directory.
pub(super) const LOG: &str = "log";

/// One replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) identity: Identity,
    /// None where an earlier juno started it.
    child: Option<Child>,
}

impl Replica {
    /// Starts replica `index` of a service.
    pub(super) fn spawn(service: &Service, program: &Program, dir: &Path, index: usize) -> io::Result<Self> {
        let filled = |text: &String| service.filled(text, dir, index);
        let log = dir.join(LOG);
        let is_long = std::fs::metadata(&log).is_ok_and(|log| log.len() > LOG_BYTES_MAX);
        let log = OpenOptions::new().create(true).append(!is_long).write(true).truncate(is_long).open(log)?;
        let argv: Vec<String> = program.argv.iter().map(filled).collect();
        let child = Command::new(&argv[0])
            .args(&argv[1..])
            .envs(program.env.iter().map(|(name, value)| (name, filled(value))))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let identity = child.id().and_then(Identity::of);
        let identity = identity.ok_or_else(|| io::Error::other("it ended while it was started"))?;
        Ok(Self { identity, child: Some(child) })
    }

    /// Takes over a replica that an earlier juno started; None where it is gone.
    pub(super) fn adopt(identity: Identity) -> Option<Self> {
        (identity.state() != State::Gone).then_some(Self { identity, child: None })
    }

    pub(super) fn state(&mut self) -> State {
        // Asking for the exit status also buries the dead.
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(_))) => State::Gone,
            _ => self.identity.state(),
        }
    }

    /// How it ended, in words, where that is known.
    pub(super) fn ending(&mut self) -> String {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => status.to_string(),
            _ => "it ended".to_owned(),
        }
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.identity.usage()
    }

    /// Sends a signal to its process group; nothing where it is gone.
    pub(super) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.state() == State::Gone {
            return Ok(());
        }
        match self.pid().map(|pid| kill_process_group(pid, signal)) {
            Some(Ok(())) | Some(Err(rustix::io::Errno::SRCH)) | None => Ok(()),
            Some(Err(error)) => Err(error.into()),
        }
    }

    pub(super) fn set_nice(&self, nice: i32) -> io::Result<()> {
        setpriority_process(self.pid(), nice).map_err(io::Error::from)
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.identity.pid).ok()?)
    }
}

impl Drop for Replica {
    /// What it started goes with it.
    fn drop(&mut self) {
        let _ = self.signal(Signal::KILL);
    }
}
