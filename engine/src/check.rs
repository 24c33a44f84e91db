//! Verifies a database's files: every checksum, every count, the order of every row.
//!
//! **Invariant:** changes nothing; goes on after damage, so that all of it is known at the end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;

use crate::key::KeyView;
use crate::log::replay::verify;
use crate::manifest::{Contents, Manifest};
use crate::part::{FooterCache, Part, PartReader};
use crate::system::{Disk, System};
use crate::{Error, Result, ScanRequest, TableSchema};

/// What a check read and found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// The tables that the manifest names, each with what its parts hold.
    pub tables: Vec<CheckedTable>,
    /// What is damaged; each names its file.
    pub damages: Vec<Damage>,
    /// Whether the first damage ends it.
    strict: bool,
}

/// What was read of a table.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CheckedTable {
    /// Its name.
    pub name: String,
    /// Parts that were read.
    pub parts: u64,
    /// Rows in those that are whole, versions of one key counted apart.
    pub rows: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The table whose part it is; none for the manifest and the log.
    pub table: Option<String>,
    /// The file.
    pub file: PathBuf,
    /// Where the damage begins, in bytes from the start of the file; 0 where that is not known.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: at byte {}: {}", self.file.display(), self.offset, self.reason)
    }
}

/// Checks the database in a directory that no process has open: its manifest, its log and its parts. The end of a file that
/// a crash tore is no damage, since the next start cuts it off.
///
/// # Errors
/// [`Error::Locked`] where a process has it open, [`Error::Io`] where the directory cannot be read. Damage is no error
/// but part of the answer.
pub fn check(root: impl AsRef<Path>, system: &System) -> Result<CheckReport> {
    let root = root.as_ref();
    let disk = system.disk();
    let names = disk.list(root).map_err(Error::io("read", root))?;
    if !names.iter().any(|name| name == Path::new("CURRENT")) {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no file CURRENT in it");
        return Err(Error::io("find a database in", root)(source));
    }
    let lock = disk.lock(&root.join("LOCK")).map_err(Error::io("lock", root))?;
    let _held = lock.ok_or_else(|| Error::Locked { path: root.into() })?;
    check_with(CheckReport::default(), disk, root)
}

/// Fails with the first damage of a database that nobody changes.
pub(crate) fn verify_files(disk: &Arc<dyn Disk>, root: &Path) -> Result<()> {
    let report = check_with(CheckReport { strict: true, ..CheckReport::default() }, disk, root)?;
    match report.damages.into_iter().next() {
        Some(Damage { file, offset, reason, .. }) => Err(Error::Corrupt { file, offset, reason }),
        None => Ok(()),
    }
}

fn check_with(mut report: CheckReport, disk: &Arc<dyn Disk>, root: &Path) -> Result<CheckReport> {
    // What the parts and the log must be only the manifest knows.
    if let Some(contents) = report.manifest_and_log(disk.as_ref(), root)? {
        report.parts(disk, root, &contents)?;
    }
    Ok(report)
}

impl CheckReport {
    /// Reads the manifest and the log while neither changes; answers what the manifest says where it can be read.
    pub(crate) fn manifest_and_log(&mut self, disk: &dyn Disk, root: &Path) -> Result<Option<Contents>> {
        let contents = match Manifest::read(disk, root) {
            Ok((contents, bytes)) => {
                self.manifest_bytes = bytes;
                contents
            }
            Err(error) => {
                self.damage(None, error)?;
                return Ok(None);
            }
        };
        match verify(disk, &root.join("log"), contents.saved()) {
            Ok(bytes) => self.log_bytes = bytes,
            Err(error) => self.damage(None, error)?,
        }
        Ok(Some(contents))
    }

    fn parts(&mut self, disk: &Arc<dyn Disk>, root: &Path, contents: &Contents) -> Result<()> {
        let footers = Arc::new(FooterCache::new(0, 0, 0));
        for table in &contents.tables {
            let name = &table.record.name;
            let Some(definition) = table.record.definition() else {
                let reason = format!("table \"{name}\" was defined by a newer juno");
                self.damages.push(Damage { table: None, file: root.join("manifest"), offset: 0, reason });
                continue;
            };
            let part = |record: &_| {
                let part = Part::new(Arc::clone(disk), &root.join("parts"), Clone::clone(record), Arc::clone(&footers));
                Arc::new(part)
            };
            self.table(name, &definition.stored, table.parts.iter().map(part))?;
        }
        Ok(())
    }

    /// Checks the parts of a table and takes down what is wrong with them.
    pub(crate) fn table(
        &mut self,
        name: &str,
        stored: &TableSchema,
        parts: impl IntoIterator<Item = Arc<Part>>,
    ) -> Result<()> {
        let mut checked = CheckedTable { name: name.into(), ..CheckedTable::default() };
        for part in parts {
            checked.parts += 1;
            checked.bytes += part.record.bytes;
            match check_part(stored, &part) {
                Ok(rows) => checked.rows += rows,
                Err(error) => self.damage(Some(name), error)?,
            }
        }
        self.tables.push(checked);
        Ok(())
    }

    fn damage(&mut self, table: Option<&str>, error: Error) -> Result<()> {
        let table = table.map(str::to_owned);
        let damage = match error {
            error if self.strict => return Err(error),
            Error::Corrupt { file, offset, reason } => Damage { table, file, offset, reason },
            Error::Io { verb, path, source } => {
                Damage { table, file: path, offset: 0, reason: format!("could not {verb} it: {source}") }
            }
            other => return Err(other),
        };
        self.damages.push(damage);
        Ok(())
    }
}

/// Reads a whole part; answers its rows.
fn check_part(schema: &TableSchema, part: &Arc<Part>) -> Result<u64> {
    let corrupt = |reason: String| Error::Corrupt { file: part.path().into(), offset: 0, reason };
    part.read_blocks(|_| Ok(()))?;
    let footer = part.footer()?;
    let names: Vec<String> = footer.schema().fields().iter().map(|field| field.name().clone()).collect();
    let plan = part.plan(schema, &ScanRequest::default())?;
    let mut rows = 0;
    let mut last: Option<KeyView> = None;
    for batch in PartReader::new(part, names.iter().map(String::as_str), &plan)? {
        let batch = batch?;
        // A key column that the part lacks is null in all its rows.
        let named = |&index: &usize| batch.column_by_name(&schema.columns[index].name);
        let key = KeyView::new(schema.key.iter().filter_map(named), batch.num_rows())?;
        let follows = |row: usize| match (row, &last) {
            (0, None) => true,
            (0, Some(last)) => last.compare(last.len() - 1, &key, 0).is_lt(),
            _ => key.compare(row - 1, &key, row).is_lt(),
        };
        if let Some(row) = (0..batch.num_rows()).find(|&row| !follows(row)) {
            return Err(corrupt(format!("row {} does not follow the one before it by its key", rows + row as u64)));
        }
        if let (Some(time), Some((first, last))) = (schema.time(), part.record.time) {
            let times = batch.column_by_name(&schema.columns[time].name);
            let times = times.map(|times| times.as_primitive::<TimestampMicrosecondType>().values().clone());
            let outside = |time: &&i64| !(first..=last).contains(*time);
            if let Some(time) = times.iter().flatten().find(outside) {
                return Err(corrupt(format!("time {time} lies outside of what the manifest says")));
            }
        }
        rows += batch.num_rows() as u64;
        last = Some(key);
    }
    match part.record.rows {
        expected if expected == rows => Ok(rows),
        expected => Err(corrupt(format!("the part has {rows} rows, and the manifest says {expected}"))),
    }
}
