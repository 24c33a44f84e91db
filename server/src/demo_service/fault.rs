//! What can be broken.
//!
//! **Invariant:** what is broken in memory is mended by a restart, what is broken outside of it is not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{interval, sleep};

/// How much a leak takes each time.
const LEAK_BYTES: usize = 2 << 20;
/// How often.
const LEAK_EVERY: Duration = Duration::from_millis(200);
/// A leak goes on up to so many times: 256 MiB.
const LEAKS_MAX: usize = 128;

/// How long one that crashes again and again lives.
const LIFE: Duration = Duration::from_millis(1_500);

/// A fault.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It answers nobody.
    Hang,
    /// Each request takes 400 ms longer.
    Slow,
    /// Four of five requests fail.
    Errors,
    /// Its memory grows by 10 MiB a second.
    Leak,
    /// Something else has filled its disk.
    FullDisk,
    /// Its database, which is none of the fleet's services, does not answer; a standby has another one.
    DependencyDown,
    /// It does no work and answers its health check.
    Deadlock,
    /// Each third request takes 700 ms longer.
    Stutter,
    /// It ends soon after each start, until a standby takes over.
    CrashLoop,
    /// Each eighth request fails.
    Flaky,
    /// Each request takes 2 ms longer than the one before, up to 600 ms.
    Creep,
    /// For four seconds of eight all requests fail.
    Burst,
}

/// What is broken.
#[derive(Debug)]
pub(super) struct Faults {
    /// What a restart mends.
    broken: Mutex<BTreeSet<Fault>>,
    /// A file that is there while it crashes; None where it does not.
    crash: Option<PathBuf>,
    /// A file that is there while the database is down; None where it has another database.
    dependency: Option<PathBuf>,
}

impl Faults {
    pub(super) fn open(dir: &Path, is_standby: bool) -> Self {
        let own = |name: &str| (!is_standby).then(|| dir.join(name));
        Self { broken: Mutex::default(), crash: own("crash-loop"), dependency: own("database-is-down") }
    }

    pub(super) fn set(&self, fault: Fault) -> std::io::Result<()> {
        match fault {
            Fault::CrashLoop => self.crash.as_ref().map_or(Ok(()), |file| std::fs::write(file, b"")),
            Fault::DependencyDown => self.dependency.as_ref().map_or(Ok(()), |file| std::fs::write(file, b"")),
            fault => {
                self.broken.lock().insert(fault);
                Ok(())
            }
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        match fault {
            Fault::CrashLoop => self.crash.as_ref().is_some_and(|file| file.exists()),
            Fault::DependencyDown => self.dependency.as_ref().is_some_and(|file| file.exists()),
            fault => self.broken.lock().contains(&fault),
        }
    }

    /// Returns when it crashes.
    pub(super) async fn crash(&self) {
        while !self.has(Fault::CrashLoop) {
            sleep(LIFE / 10).await;
        }
        sleep(LIFE).await;
    }

    /// Never returns while it hangs.
    pub(super) async fn hang(&self) {
        if self.has(Fault::Hang) {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes memory and never gives it back.
pub(super) async fn leak() {
    let mut ticks = interval(LEAK_EVERY);
    let mut held: Vec<Vec<u8>> = Vec::new();
    while held.len() < LEAKS_MAX {
        ticks.tick().await;
        held.push(vec![1; LEAK_BYTES]);
    }
    std::future::pending::<()>().await;
    drop(held);
}
