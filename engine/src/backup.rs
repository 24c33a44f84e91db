//! Copies a database while it is used, and makes a database of the copy.
//!
//! A backup is a data directory of its own: the parts, one log segment with the rows that were in memory as one commit, a
//! manifest, and last of all `CURRENT`; a directory without that file is no whole backup.
//!
//! **Invariant:** every part is read against its checksums while it is copied, so damage is never backed up nor restored.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use crate::check::verify_files;
use crate::log::record::Kind;
use crate::log::writer::{EntryRef, LogWriter};
use crate::log::{entry, segment_number};
use crate::manifest::{Contents, Manifest, TableContents, TableRecord};
use crate::part::{FooterCache, Part, part_path};
use crate::state::{State, TableState};
use crate::system::{Disk, System, read_all};
use crate::tail::Failure;
use crate::{Error, Result};

/// What was backed up or restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// The newest commit in it.
    pub sequence: u64,
    /// Tables.
    pub tables: u64,
    /// Parts.
    pub parts: u64,
    /// Bytes of parts and log.
    pub bytes: u64,
}

/// Writes a state to a new directory.
pub(crate) fn backup(disk: &Arc<dyn Disk>, state: &State, to: &Path) -> Result<BackupReport> {
    prepare(disk.as_ref(), to)?;
    let mut report = BackupReport { sequence: state.sequence, ..BackupReport::default() };
    for table in state.tables.values() {
        report.tables += 1;
        for part in &table.parts {
            copy_part(disk.as_ref(), part, to, &mut report)?;
        }
    }
    disk.sync_dir(&to.join("parts")).map_err(Error::io("sync", to))?;
    let in_memory = write_log(disk, state, to)?;
    report.bytes += in_memory;
    // The log's commit must follow what the manifest says it has.
    let catalog_sequence = if in_memory > 0 { state.sequence - 1 } else { state.sequence };
    let tables = state.tables.values().map(|table| contents(table)).collect();
    Manifest::write(disk, to, &Contents::new(catalog_sequence, tables))?;
    Ok(report)
}

/// Makes a new data directory of a backup, or of any data directory that no process has open. All is checked before anything
/// is written.
///
/// # Errors
/// [`Error::Corrupt`] where the backup is damaged or not whole, [`Error::Locked`] where a process has it open, [`Error::Io`],
/// also where the new directory is not empty.
pub fn restore(from: impl AsRef<Path>, to: impl AsRef<Path>, system: &System) -> Result<BackupReport> {
    let (from, to, disk) = (from.as_ref(), to.as_ref(), system.disk());
    // Where no lock can be had, as on a medium that is not written, nobody has it open.
    let held = disk.lock(&from.join("LOCK")).ok();
    if held.as_ref().is_some_and(Option::is_none) {
        return Err(Error::Locked { path: from.into() });
    }
    verify_files(disk, from)?;
    let (contents, _) = Manifest::read(disk.as_ref(), from)?;
    prepare(disk.as_ref(), to)?;
    let mut report = BackupReport { sequence: contents.saved(), ..BackupReport::default() };
    let footers = Arc::new(FooterCache::new(0, 0, 0));
    for table in &contents.tables {
        report.tables += 1;
        for record in &table.parts {
            let part = Part::new(Arc::clone(disk), &from.join("parts"), record.clone(), Arc::clone(&footers));
            copy_part(disk.as_ref(), &part, to, &mut report)?;
        }
    }
    disk.sync_dir(&to.join("parts")).map_err(Error::io("sync", to))?;
    report.bytes += copy_log(disk.as_ref(), &from.join("log"), &to.join("log"))?;
    Manifest::write(disk, to, &contents)?;
    Ok(report)
}

/// Makes the directories of a database where there is nothing yet.
fn prepare(disk: &dyn Disk, to: &Path) -> Result<()> {
    for dir in [to, &to.join("parts"), &to.join("log"), &to.join("manifest")] {
        disk.create_dir(dir).map_err(Error::io("create", dir))?;
        if disk.list(dir).map_err(Error::io("read", dir))?.is_empty() {
            continue;
        }
        let taken = io::Error::new(ErrorKind::AlreadyExists, "there are files in it; name a new directory");
        return Err(Error::io("write to", dir)(taken));
    }
    Ok(())
}

fn contents(table: &TableState) -> TableContents {
    TableContents {
        record: TableRecord::new(table.id, &table.definition),
        flushed: table.flushed,
        parts: table.parts.iter().map(|part| part.record.clone()).collect(),
        kept_from: table.kept_from,
    }
}

fn copy_part(disk: &dyn Disk, part: &Part, to: &Path, report: &mut BackupReport) -> Result<()> {
    let path = part_path(&to.join("parts"), part.record.number);
    let mut file = disk.create(&path).map_err(Error::io("create", &path))?;
    part.read_blocks(|bytes| file.append(&[bytes]).map_err(Error::io("write", &path)))?;
    file.sync().map_err(Error::io("sync", &path))?;
    report.parts += 1;
    report.bytes += part.record.bytes;
    Ok(())
}

/// Writes the rows in memory as one commit; answers its bytes, 0 where there are none.
fn write_log(disk: &Arc<dyn Disk>, state: &State, to: &Path) -> Result<u64> {
    let mut bodies = Vec::new();
    for table in state.tables.values() {
        for run in table.runs() {
            bodies.push((table.id, entry::encode(run)?));
        }
    }
    let entry = |(table, body)| EntryRef { kind: Kind::Rows, sequence: state.sequence, table, body };
    let entries: Vec<_> = bodies.iter().map(|(table, body)| entry((*table, body.as_slice()))).collect();
    let segments = Arc::default();
    let mut log = LogWriter::new(Arc::clone(disk), to.join("log"), Arc::clone(&segments), 1, u64::MAX);
    log.append(&entries).map_err(Failure::into_error)?;
    Ok(segments.lock().iter().map(|segment| segment.bytes).sum())
}

fn copy_log(disk: &dyn Disk, from: &Path, to: &Path) -> Result<u64> {
    let mut copied = 0;
    for name in disk.list(from).map_err(Error::io("read", from))? {
        if segment_number(&name).is_none() {
            continue;
        }
        let (source, path) = (from.join(&name), to.join(&name));
        let bytes = read_all(disk, &source).map_err(Error::io("read", &source))?;
        let mut file = disk.create(&path).map_err(Error::io("create", &path))?;
        file.append(&[&bytes]).map_err(Error::io("write", &path))?;
        file.sync().map_err(Error::io("sync", &path))?;
        copied += bytes.len() as u64;
    }
    disk.sync_dir(to).map_err(Error::io("sync", to))?;
    Ok(copied)
}
