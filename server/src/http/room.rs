//! Room on the disk of the data directory, which readiness asks for: at least [`FREE_BYTES_MIN`], or a twentieth of a small disk.
//!
//! **Invariant:** waits for a disk no longer than [`PATIENCE`]; one that does not say how full it is, or is looked at already, has room.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// What must be free of a large disk: 256 MiB.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// And of a small one: one part of so many.
const FREE_PART: u64 = 20;
/// How long a disk is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Held by who looks.
static LOOKS: Semaphore = Semaphore::const_new(1);

/// How full a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    free_bytes: u64,
    all_bytes: u64,
}

impl Room {
    fn at(path: &Path) -> Option<Room> {
        let disk = statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some(Room { free_bytes: bytes(disk.f_bavail), all_bytes: bytes(disk.f_blocks) })
    }

    /// Why it is too little; none where it is not.
    fn lack(self) -> Option<String> {
        let least = FREE_BYTES_MIN.min(self.all_bytes / FREE_PART);
        let free = self.free_bytes;
        let text =
            || format!("{free} bytes are free on the disk of the data directory, fewer than {least}: free some space");
        (free < least).then(text)
    }
}

/// Why there is too little room at a path; none where there is enough.
pub(super) async fn lack(path: PathBuf) -> Option<String> {
    // One looks at a time: a disk that hangs holds one thread, and not one of each who asks.
    let turn = LOOKS.try_acquire().ok()?;
    let look = move || {
        let _turn = turn;
        Room::at(&path)
    };
    timeout(PATIENCE, spawn_blocking(look)).await.ok()?.ok()??.lack()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_keeps_so_many_bytes_free_and_a_small_one_a_twentieth() {
        let lacks = |free_bytes: u64, all_bytes: u64| Room { free_bytes, all_bytes }.lack().is_some();
        assert!(lacks(FREE_BYTES_MIN - 1, 1 << 40) && !lacks(FREE_BYTES_MIN, 1 << 40));
        assert!(lacks(99, 2_000) && !lacks(100, 2_000));
        assert!(!lacks(0, 0), "what does not say how large it is has room");
        let text = Room { free_bytes: 7, all_bytes: 2_000 }.lack().unwrap();
        assert!(text.contains("7 bytes") && text.contains("fewer than 100"), "{text}");
    }

    #[tokio::test]
    async fn a_directory_is_looked_at_and_one_that_is_not_there_lacks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Room::at(directory.path()).unwrap().all_bytes > 0);
        assert_eq!(lack(directory.path().join("not there")).await, None);
    }
}
