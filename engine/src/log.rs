//! The log: every change is in it, durably, before anyone sees it.
//!
//! The directory `log` holds segments `0000000001.log`, `0000000002.log`, … All numbers are little endian.
//!
//! A segment begins with a header of 32 bytes:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..8 | `junolog\0` |
//! | 8..12 | version, 1 |
//! | 12..16 | zero |
//! | 16..24 | the sequence number of the first commit in the segment |
//! | 24..28 | zero |
//! | 28..32 | CRC-32 of bytes 0..28 |
//!
//! Records follow without gaps. A record holds the commits of one group, which share one write and one fsync, and is
//! whole or counts for nothing:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | `JREC` |
//! | 4..8 | length of the payload in bytes |
//! | 8..16 | the sequence number of the first commit in the record |
//! | 16..20 | CRC-32 of the payload |
//! | 20..24 | CRC-32 of bytes 0..20 |
//! | 24.. | the payload |
//!
//! The payload is entries without gaps. Entries of one commit share its sequence number; those numbers ascend by one:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | kind: 1 rows, 2 create table, 3 drop table, 4 add columns, 5 alter table, 6 truncate table |
//! | 4..8 | length of the body in bytes |
//! | 8..16 | the sequence number of the commit |
//! | 16..24 | the table's number: the sequence number of the commit that created it, and of the n-th further table of that commit n × 2⁴⁸ more |
//! | 24.. | the body |
//!
//! The body of *rows* is one Arrow IPC stream with one batch, sorted by key, one row per key. A column `__deleted` marks
//! deleted keys where there are any; a column `__whole` marks rows of telemetry tables that older rows of their key do not
//! show through, where there are any. Columns bear their stored names; tags that the table got later may be absent. The
//! body of *create table* and of *alter table* is the table as JSON as in the manifest, for the latter as it is from then
//! on; that of *drop table* and of *truncate table* is empty. After the latter the table's number is that of the commit.
//! *Add columns*, a JSON list of columns, is read and not written any more.
//!
//! **Torn or damaged.** A record is written only after the one before it was synced. So a bad record with nothing whole
//! behind it, in the last segment, is the torn end of a crash: it is cut off. A bad record anywhere else is damage, and
//! opening fails with its file and offset.
//!
//! **Invariant:** knows tables only by their number, and does not interpret bodies except in `entry`.

pub(crate) mod entry;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod writer;

use std::path::{Path, PathBuf};

/// The extension of segments.
const EXTENSION: &str = "log";

/// The path of a segment.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.{EXTENSION}"))
}

/// The number of a segment, from its name.
pub(crate) fn segment_number(name: &Path) -> Option<u64> {
    if name.extension()? != EXTENSION {
        return None;
    }
    name.file_stem()?.to_str()?.parse().ok()
}
