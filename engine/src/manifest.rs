//! The manifest: which tables and parts there are.
//!
//! The directory holds `CURRENT` and `manifest/0000000001.manifest`, … `CURRENT` is one line of text: the number of the
//! manifest in force with ten digits, a space, the CRC-32 of those ten digits in hexadecimal with eight digits, a line
//! feed. It is replaced by a rename. Numbers in a manifest are little endian. It begins with 16 bytes:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..8 | `junoman\0` |
//! | 8..12 | version, 1 |
//! | 12..16 | CRC-32 of bytes 0..12 |
//!
//! Edits follow without gaps, each synced before the next is written:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | `JEDT` |
//! | 4..8 | length of the payload in bytes |
//! | 8..12 | CRC-32 of the payload |
//! | 12..16 | CRC-32 of bytes 0..12 |
//! | 16.. | the payload: an [`Edit`] as JSON |
//!
//! A torn last edit is dropped, since what it announced was not relied on: the log still has the rows. A bad edit with a
//! whole one behind it is damage.
//!
//! **Invariant:** holds names and figures only; it neither reads nor removes parts.

pub(crate) mod edit;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use self::edit::{ColumnRecord, Edit, PartRecord, TableRecord};
use crate::system::{Disk, read_all};
use crate::tail::{Failure, Tail};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"junoman\0";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 16;
const EDIT_MAGIC: &[u8; 4] = b"JEDT";
const EDIT_LEN: usize = 16;

/// The manifest that is appended to.
pub(crate) struct Manifest {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    end: End,
    /// Definitions up to this commit are in it.
    pub(crate) catalog_saved: u64,
}

/// Where the next edit goes.
enum End {
    /// Behind the others of a file that this process wrote and synced.
    Tail(Tail),
    /// Into a new file, with all these before it: the disk was too full for one when the directory was opened.
    Fresh { number: u64, contents: Contents },
}

/// What a manifest says.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Contents {
    pub(crate) catalog_sequence: u64,
    pub(crate) tables: Vec<TableContents>,
    edits: usize,
}

/// One table with its parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableContents {
    pub(crate) record: TableRecord,
    pub(crate) flushed: u64,
    pub(crate) parts: Vec<PartRecord>,
    /// Rows before this time have expired; `i64::MIN` where none have.
    pub(crate) kept_from: i64,
}

impl Manifest {
    /// Reads the manifest of a directory, or begins one where there is none, and writes it anew: the end of what an earlier
    /// process wrote may be in the system's cache alone, since it was stopped before its fsync, or after one that failed and
    /// whose pages the system takes for written. On a full disk the first edit does that.
    pub(crate) fn open(disk: &Arc<dyn Disk>, root: &Path) -> Result<(Self, Contents)> {
        let dir = root.join("manifest");
        disk.create_dir(&dir).map_err(Error::io("create", &dir))?;
        let names = disk.list(&dir).map_err(Error::io("list", &dir))?;
        let numbers: Vec<u64> = names.iter().filter_map(|name| name.file_stem()?.to_str()?.parse().ok()).collect();
        let current = read_current(disk.as_ref(), root)?;
        let contents = match current {
            None => Contents::default(),
            Some(number) => load(disk.as_ref(), &manifest_path(&dir, number))?,
        };
        let number = numbers.iter().max().map_or(1, |last| last + 1);
        let fresh =
            |end| Self { disk: Arc::clone(disk), root: root.into(), end, catalog_saved: contents.catalog_sequence };
        match (rewrite(disk, root, number, &contents), current) {
            (Ok(tail), _) => {
                for other in numbers {
                    let path = manifest_path(&dir, other);
                    disk.remove(&path).map_err(Error::io("remove", &path))?;
                }
                Ok((fresh(End::Tail(tail)), contents))
            }
            // A full disk must not keep what is there from being read.
            (Err(Failure::Undone(error @ Error::DiskFull { .. })), Some(old)) => {
                tracing::warn!(
                    error = error.chain(),
                    "could not write the manifest anew; the first change will try again"
                );
                let path = manifest_path(&dir, old);
                disk.append(&path).and_then(|mut file| file.sync()).map_err(Error::io("sync", &path))?;
                Ok((fresh(End::Fresh { number, contents: contents.clone() }), contents))
            }
            (Err(Failure::Undone(error) | Failure::Unknown(error)), _) => Err(error),
        }
    }

    /// Whether what [`Self::open`] read is durable for certain. Until then nothing may be removed for its sake.
    pub(crate) fn settled(&self) -> bool {
        matches!(self.end, End::Tail(_))
    }

    /// Reads the manifest of a directory and changes nothing; answers its bytes, too.
    pub(crate) fn read(disk: &dyn Disk, root: &Path) -> Result<(Contents, u64)> {
        let missing = || Error::Corrupt { file: root.join("CURRENT"), offset: 0, reason: "the file is missing".into() };
        let number = read_current(disk, root)?.ok_or_else(missing)?;
        let path = manifest_path(&root.join("manifest"), number);
        let contents = load(disk, &path)?;
        let size = disk.open(&path).and_then(|file| file.size()).map_err(Error::io("read", &path))?;
        Ok((contents, size))
    }

    /// Writes the first manifest of a directory, durably.
    pub(crate) fn write(disk: &Arc<dyn Disk>, root: &Path, contents: &Contents) -> Result<()> {
        let dir = root.join("manifest");
        disk.create_dir(&dir).map_err(Error::io("create", &dir))?;
        rewrite(disk, root, 1, contents).map(drop).map_err(Failure::into_error)
    }

    /// Appends an edit durably. After a failure that leaves this open the manifest must not be written again.
    pub(crate) fn append(&mut self, edit: &Edit) -> Result<(), Failure> {
        match &mut self.end {
            End::Tail(tail) => tail.append(&[&frame(edit)])?,
            End::Fresh { number, contents } => {
                let mut contents = contents.clone();
                let corrupt = |reason| Error::Corrupt { file: self.root.join("manifest"), offset: 0, reason };
                contents.apply(edit.clone()).map_err(|reason| Failure::Undone(corrupt(reason)))?;
                self.end = End::Tail(rewrite(&self.disk, &self.root, *number, &contents)?);
            }
        }
        if let Edit::Catalog { sequence, .. } | Edit::CatalogWithRollups { sequence, .. } = edit {
            self.catalog_saved = *sequence;
        }
        Ok(())
    }
}

/// Writes a manifest and puts it in force. What a failed try left of one, the next one begins anew.
fn rewrite(disk: &Arc<dyn Disk>, root: &Path, number: u64, contents: &Contents) -> Result<Tail, Failure> {
    let dir = root.join("manifest");
    let path = manifest_path(&dir, number);
    let mut bytes = header().to_vec();
    contents.edits().iter().for_each(|edit| bytes.extend(frame(edit)));
    let write = || {
        let mut file = disk.create(&path).map_err(Error::io("create", &path))?;
        file.append(&[&bytes]).map_err(Error::io("write", &path))?;
        file.sync().map_err(Error::io("sync", &path))?;
        disk.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        Ok(file)
    };
    let file = write().map_err(|error| {
        // So that starts on a full disk do not fill it further; where this fails too, the next one takes it away.
        let _ = disk.remove(&path);
        Failure::Undone(error)
    })?;
    write_current(disk.as_ref(), root, number)?;
    Ok(Tail::new(Arc::clone(disk), path, file, bytes.len() as u64))
}

impl Contents {
    /// Definitions and the rows in parts.
    pub(crate) fn new(catalog_sequence: u64, tables: Vec<TableContents>) -> Self {
        Self { catalog_sequence, tables, edits: 0 }
    }

    /// The newest commit that is in it, wholly or in part.
    pub(crate) fn saved(&self) -> u64 {
        self.tables.iter().map(|table| table.flushed).fold(self.catalog_sequence, u64::max)
    }

    fn apply(&mut self, edit: Edit) -> Result<(), String> {
        self.edits += 1;
        match edit {
            Edit::Catalog { sequence, tables } | Edit::CatalogWithRollups { sequence, tables } => {
                let mut old = std::mem::take(&mut self.tables);
                for record in tables {
                    let known = old.iter().position(|table| table.record.id == record.id).map(|i| old.swap_remove(i));
                    let fresh =
                        || TableContents { record: record.clone(), flushed: 0, parts: vec![], kept_from: i64::MIN };
                    let known = known.unwrap_or_else(fresh);
                    self.tables.push(TableContents { record, ..known });
                }
                self.catalog_sequence = sequence;
            }
            Edit::Flush { table, sequence, parts } => {
                let found = self.tables.iter_mut().find(|known| known.record.id == table);
                let found = found.ok_or_else(|| format!("a flush of table {table}, which is not defined"))?;
                found.flushed = sequence;
                found.parts.extend(parts);
                found.parts.sort_by_key(PartRecord::place);
            }
            Edit::Expire { table, before, removed } => {
                let found = self.tables.iter_mut().find(|known| known.record.id == table);
                let found = found.ok_or_else(|| format!("rows of table {table} expire, which is not defined"))?;
                found.parts.retain(|part| !removed.contains(&part.number));
                found.kept_from = before;
            }
            Edit::Compact { table, removed, parts } => {
                let found = self.tables.iter_mut().find(|known| known.record.id == table);
                let found = found.ok_or_else(|| format!("a compaction of table {table}, which is not defined"))?;
                let before = found.parts.len();
                found.parts.retain(|part| !removed.contains(&part.number));
                if found.parts.len() + removed.len() != before {
                    return Err(format!("a compaction of table {table} removes parts that it does not have"));
                }
                found.parts.extend(parts);
                found.parts.sort_by_key(PartRecord::place);
            }
        }
        Ok(())
    }

    fn edits(&self) -> Vec<Edit> {
        let tables = self.tables.iter().map(|table| table.record.clone()).collect();
        let catalog = Edit::catalog(self.catalog_sequence, tables);
        let flushes = self.tables.iter().map(|table| Edit::Flush {
            table: table.record.id,
            sequence: table.flushed,
            parts: table.parts.clone(),
        });
        let expired = self.tables.iter().filter(|table| table.kept_from > i64::MIN);
        let expired =
            expired.map(|table| Edit::Expire { table: table.record.id, before: table.kept_from, removed: Vec::new() });
        std::iter::once(catalog).chain(flushes).chain(expired).collect()
    }
}

fn manifest_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.manifest"))
}

fn header() -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn frame(edit: &Edit) -> Vec<u8> {
    let payload = serde_json::to_vec(edit).expect("an edit has only strings and numbers");
    let mut bytes = Vec::with_capacity(EDIT_LEN + payload.len());
    bytes.extend(EDIT_MAGIC);
    bytes.extend(u32::try_from(payload.len()).expect("an edit is smaller than 4 GiB").to_le_bytes());
    bytes.extend(crc32fast::hash(&payload).to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// Reads a manifest.
fn load(disk: &dyn Disk, path: &Path) -> Result<Contents> {
    let corrupt = |offset: usize, reason: String| Error::Corrupt { file: path.into(), offset: offset as u64, reason };
    let bytes = read_all(disk, path).map_err(Error::io("read", path))?;
    if bytes.len() < HEADER_LEN || bytes[..HEADER_LEN] != header() {
        return Err(corrupt(0, format!("this is not a juno manifest of version {VERSION}")));
    }
    let mut contents = Contents::default();
    let mut offset = HEADER_LEN;
    while offset < bytes.len() {
        let Some(payload) = whole_edit(&bytes, offset) else {
            // What is in force was whole when CURRENT began to name it, so its first edit cannot be torn.
            let torn = contents.edits > 0 && !(offset + 1..bytes.len()).any(|at| whole_edit(&bytes, at).is_some());
            if !torn {
                return Err(corrupt(offset, "the edit does not match its checksum".into()));
            }
            tracing::warn!(file = %path.display(), offset, "dropped the torn end of the manifest");
            return Ok(contents);
        };
        let unknown = |error| corrupt(offset, format!("{error}; a newer juno may have written it"));
        let edit = serde_json::from_slice(payload).map_err(unknown)?;
        contents.apply(edit).map_err(|reason| corrupt(offset, reason))?;
        offset += EDIT_LEN + payload.len();
    }
    if contents.edits == 0 {
        return Err(corrupt(offset, "the manifest has no edit".into()));
    }
    Ok(contents)
}

/// The payload of the edit at `offset`, where it is whole.
fn whole_edit(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().expect("four bytes")));
    let header = bytes.get(offset..offset + EDIT_LEN)?;
    if &header[..4] != EDIT_MAGIC || word(offset + 12)? != crc32fast::hash(&header[..12]) {
        return None;
    }
    let start = offset + EDIT_LEN;
    let payload = bytes.get(start..start + word(offset + 4)? as usize)?;
    (crc32fast::hash(payload) == word(offset + 8)?).then_some(payload)
}

/// The number in `CURRENT`; none in a directory that holds no database yet.
fn read_current(disk: &dyn Disk, root: &Path) -> Result<Option<u64>> {
    let path = root.join("CURRENT");
    let corrupt = |reason: &str| Error::Corrupt { file: path.clone(), offset: 0, reason: reason.into() };
    let bytes = match read_all(disk, &path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            for dir in ["log", "parts"].map(|dir| root.join(dir)) {
                match disk.list(&dir) {
                    Ok(names) if names.is_empty() => {}
                    Ok(_) => return Err(corrupt("the file is missing, though there are parts or a log")),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::io("list", &dir)(error)),
                }
            }
            return Ok(None);
        }
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let number = text.get(..10).filter(|digits| text == current_line(digits)).and_then(|digits| digits.parse().ok());
    number.map(Some).ok_or_else(|| corrupt("the line does not match its checksum"))
}

/// Puts a manifest in force, durably.
fn write_current(disk: &dyn Disk, root: &Path, number: u64) -> Result<(), Failure> {
    let (path, fresh) = (root.join("CURRENT"), root.join("CURRENT.tmp"));
    let write = || {
        let mut file = disk.create(&fresh).map_err(Error::io("create", &fresh))?;
        file.append(&[current_line(&format!("{number:010}")).as_bytes()]).map_err(Error::io("write", &fresh))?;
        file.sync().map_err(Error::io("sync", &fresh))
    };
    write().map_err(Failure::Undone)?;
    let renamed = disk.rename(&fresh, &path).map_err(Error::io("rename", &fresh));
    let synced = renamed.and_then(|()| disk.sync_dir(root).map_err(Error::io("sync", root)));
    synced.map_err(Failure::Unknown)
}

fn current_line(digits: &str) -> String {
    format!("{digits} {:08x}\n", crc32fast::hash(digits.as_bytes()))
}

#[cfg(test)]
mod tests;
