//! The end of a file that is only appended to, such as a segment of the log or the manifest.
//!
//! **Invariant:** after an append that failed and was undone the file is what it was before, durably; after any other
//! failure nobody knows what it holds, and nothing more may be written.

use std::path::PathBuf;
use std::sync::Arc;

use crate::Error;
use crate::system::{Disk, DiskWrite};

/// An open file, the length of what is whole in it, and how to get back to that.
pub(crate) struct Tail {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Box<dyn DiskWrite>,
    bytes: u64,
}

/// A write that failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing of it is on the disk: it can be tried again.
    Undone(Error),
    /// Some of it may be on the disk, now or after a restart.
    Unknown(Error),
}

impl Failure {
    /// What went wrong, for one who gives up either way.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Undone(error) | Self::Unknown(error) => error,
        }
    }
}

impl Tail {
    /// The end of a file of `bytes` bytes, all of them durable.
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf, file: Box<dyn DiskWrite>, bytes: u64) -> Self {
        Self { disk, path, file, bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends the pieces durably.
    pub(crate) fn append(&mut self, pieces: &[&[u8]]) -> Result<(), Failure> {
        if let Err(error) = self.file.append(pieces) {
            return Err(self.undo(error));
        }
        // What a failed fsync has dropped from the cache a later one does not bring back: there is no second try.
        self.file.sync().map_err(|error| Failure::Unknown(Error::io("sync", &self.path)(error)))?;
        self.bytes += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        Ok(())
    }

    fn undo(&mut self, error: std::io::Error) -> Failure {
        let error = Error::io("write", &self.path)(error);
        let reopened = self.disk.truncate(&self.path, self.bytes).and_then(|()| self.disk.append(&self.path));
        match reopened {
            Ok(file) => {
                self.file = file;
                Failure::Undone(error)
            }
            Err(_) => Failure::Unknown(error),
        }
    }
}
