//! Which parts of a bucket are kept as local files too.
//!
//! **Invariant:** is told only of files that the bucket has; forgets the one that was opened longest ago first.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) struct Cache {
    dir: PathBuf,
    bytes_max: u64,
    /// Names and sizes, the one opened longest ago first.
    files: Mutex<VecDeque<(PathBuf, u64)>>,
}

impl Cache {
    pub(super) fn new(dir: PathBuf, bytes_max: u64) -> Self {
        Self { dir, bytes_max, files: Mutex::default() }
    }

    /// Takes a file in, and removes others where there are too many bytes now.
    pub(super) fn add(&self, name: PathBuf, bytes: u64) {
        let mut files = self.files();
        files.push_back((name, bytes));
        let mut total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        while total > self.bytes_max {
            let Some((name, bytes)) = files.pop_front() else { break };
            total -= bytes;
            if let Err(error) = std::fs::remove_file(self.dir.join(&name)) {
                tracing::warn!(%error, file = %name.display(), "could not remove a cached part");
            }
        }
    }

    /// Whether a file is here; then it counts as just opened.
    pub(super) fn touch(&self, name: &str) -> bool {
        let mut files = self.files();
        let Some(place) = files.iter().position(|(file, _)| file.as_os_str() == name) else { return false };
        let found = files.remove(place);
        files.extend(found);
        true
    }

    /// Says that a file is gone.
    pub(super) fn forget(&self, name: &str) {
        self.files().retain(|(file, _)| file.as_os_str() != name);
    }

    fn files(&self) -> MutexGuard<'_, VecDeque<(PathBuf, u64)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
