//! `juno check`, `juno backup` and `juno restore`: what is done with the files of a database that no process has open. A running
//! server does the same by `CALL check()` and `CALL backup('DIR')`.
//!
//! **Invariant:** opens no database and replays no log; what is read is not changed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use juno_sql::engine::system::System;
use juno_sql::engine::{self, BackupReport, Damage, Error as EngineError};

use crate::bucket::{self, BucketDisk};
use crate::config::{BackupArgs, CheckArgs, RestoreArgs};
use crate::serve::Storage;

/// Why a check, a backup or a restore failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The engine refused.
    #[error("{0}")]
    Engine(String),
    /// A process has the directory open.
    #[error("data directory \"{}\" is open in another juno, which can do it itself: {call}", path.display())]
    Running {
        /// The directory.
        path: PathBuf,
        /// What to ask the server.
        call: String,
    },
    /// The bucket cannot be read.
    #[error("--object-store (JUNO_OBJECT_STORE): {0}")]
    Bucket(io::Error),
    /// A check found damage; it is printed already.
    #[error("damage was found in {0} places")]
    Damaged(usize),
}

/// Reads all files, says what was read and names what is damaged.
pub(crate) fn check(args: &CheckArgs) -> Result<(), Error> {
    let storage = args.data.storage();
    let report = engine::check(&storage.data, &system(&storage)?);
    let report = report.map_err(|error| failed(error, "CALL check()"))?;
    println!("manifest: {} bytes\nlog: {} bytes", report.manifest_bytes, report.log_bytes);
    for table in &report.tables {
        println!("table {}: {} parts, {} rows, {} bytes", table.name, table.parts, table.rows, table.bytes);
    }
    for damage in &report.damages {
        eprintln!("{}", Damage { file: object(&storage, &damage.file), ..damage.clone() });
    }
    match report.damages.len() {
        0 => println!("no damage was found"),
        damages => return Err(Error::Damaged(damages)),
    }
    Ok(())
}

/// Copies a database to a new directory.
pub(crate) fn backup(args: &BackupArgs) -> Result<(), Error> {
    let storage = args.data.storage();
    let report = engine::restore(&storage.data, &args.to, &system(&storage)?);
    let report = report.map_err(|error| failed(error, &format!("CALL backup('{}')", args.to.display())))?;
    println!("backed up {} to {}", told(&report), args.to.display());
    Ok(())
}

/// Makes a data directory of a backup.
pub(crate) fn restore(args: &RestoreArgs) -> Result<(), Error> {
    bucket::refuse_without(&args.from).map_err(Error::Bucket)?;
    let report = engine::restore(&args.from, &args.data, &System::real());
    let report = report.map_err(|error| failed(error, &format!("CALL backup('{}')", args.data.display())))?;
    println!("restored {} to {}", told(&report), args.data.display());
    Ok(())
}

/// The world as it is, where parts may be in a bucket.
fn system(storage: &Storage) -> Result<System, Error> {
    match &storage.bucket {
        None => bucket::refuse_without(&storage.data).map(|()| System::real()),
        Some(bucket) => BucketDisk::look(&storage.data, bucket).map(|disk| System::real().with_disk(Arc::new(disk))),
    }
    .map_err(Error::Bucket)
}

/// The file, by its name in the bucket where it is there.
fn object(storage: &Storage, file: &Path) -> PathBuf {
    match (&storage.bucket, file.strip_prefix(storage.data.join(bucket::PARTS_DIR))) {
        (Some(bucket), Ok(name)) => format!("{}/{}", bucket.url.as_str().trim_end_matches('/'), name.display()).into(),
        _ => file.to_owned(),
    }
}

fn failed(error: EngineError, call: &str) -> Error {
    match error {
        EngineError::Locked { path } => Error::Running { path, call: call.to_owned() },
        other => Error::Engine(juno_sql::Error::from(other).to_string()),
    }
}

fn told(report: &BackupReport) -> String {
    let BackupReport { tables, parts, bytes, .. } = report;
    format!("{tables} tables with {parts} parts and {bytes} bytes")
}
