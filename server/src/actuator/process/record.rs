//! What is remembered of a service when juno restarts: a file in the service's directory.
//!
//! **Invariant:** written before the world changes where it says what should be, after it where it says what is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::procfs::Identity;
use crate::actuator::ledger::{write_durably, wrong};

/// What is remembered of a service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Record {
    /// How many replicas there should be while it is not stopped.
    pub(super) size: usize,
    pub(super) is_stopped: bool,
    pub(super) is_failed_over: bool,
    pub(super) is_cordoned: bool,
    pub(super) is_isolated: bool,
    /// How often a configuration was applied.
    pub(super) config_version: u64,
    /// The text that was applied last.
    pub(super) config: Option<String>,
    /// The text before that.
    pub(super) previous: Option<String>,
    /// Whether the last one was applied by a rollback: going back once more would bring back what was bad.
    pub(super) is_rolled_back: bool,
    /// The replicas that run, by number.
    pub(super) running: Vec<(usize, Identity)>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("service.json")
}

impl Record {
    /// Reads it; None where there is none yet.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(path(dir)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(&path(dir), &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        write_durably(&path(dir), &serde_json::to_vec(self).map_err(io::Error::other)?)
    }

    /// Makes `text` the configuration.
    pub(super) fn configure(&mut self, text: String) {
        self.previous = self.config.replace(text);
        self.is_rolled_back = false;
        self.config_version += 1;
    }

    /// Exchanges the configuration with the one before; whether there was one.
    pub(super) fn roll_back(&mut self) -> bool {
        if self.previous.is_none() {
            return false;
        }
        std::mem::swap(&mut self.previous, &mut self.config);
        self.is_rolled_back = !self.is_rolled_back;
        self.config_version += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_goes_back_once_and_a_second_one_forth() {
        let mut record = Record::default();
        record.configure("good".into());
        assert!(!record.roll_back(), "there is none before the first");
        record.configure("bad".into());
        assert!(record.roll_back() && record.is_rolled_back);
        assert_eq!((record.config.as_deref(), record.config_version), (Some("good"), 3));
        assert!(record.roll_back() && !record.is_rolled_back);
        assert_eq!(record.config.as_deref(), Some("bad"));
    }

    #[test]
    fn a_damaged_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        let record = Record { size: 3, ..Record::default() };
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record));
        fs::write(dir.path().join("service.json"), b"{").unwrap();
        assert!(Record::read(dir.path()).unwrap_err().to_string().contains("service.json is damaged"));
    }
}
