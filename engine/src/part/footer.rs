//! Footers and page indexes of parts, kept in memory up to a limit.
//!
//! **Invariant:** forgets only what can be read again.

use std::collections::HashMap;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use crate::Result;
use crate::system::sync::Mutex;

/// Footers by part number; the one used longest ago goes first.
#[derive(Debug)]
pub(crate) struct FooterCache {
    bytes_max: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    footers: HashMap<u64, Footer>,
    bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Footer {
    metadata: ArrowReaderMetadata,
    bytes: u64,
    last_use: u64,
}

impl FooterCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    pub(crate) fn get(
        &self,
        number: u64,
        load: impl FnOnce() -> Result<ArrowReaderMetadata>,
    ) -> Result<ArrowReaderMetadata> {
        if let Some(metadata) = self.kept.lock().touch(number) {
            return Ok(metadata);
        }
        let metadata = load()?;
        self.kept.lock().insert(number, metadata.clone(), self.bytes_max);
        Ok(metadata)
    }

    pub(crate) fn forget(&self, number: u64) {
        self.kept.lock().remove(number);
    }
}

impl Kept {
    fn touch(&mut self, number: u64) -> Option<ArrowReaderMetadata> {
        self.uses += 1;
        let footer = self.footers.get_mut(&number)?;
        footer.last_use = self.uses;
        Some(footer.metadata.clone())
    }

    fn insert(&mut self, number: u64, metadata: ArrowReaderMetadata, bytes_max: u64) {
        self.remove(number);
        let bytes = metadata.metadata().memory_size() as u64;
        self.bytes += bytes;
        self.footers.insert(number, Footer { metadata, bytes, last_use: self.uses });
        while self.bytes > bytes_max && self.footers.len() > 1 {
            let oldest = self.footers.iter().min_by_key(|(_, footer)| footer.last_use).map(|(&number, _)| number);
            self.remove(oldest.expect("there are at least two"));
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(footer) = self.footers.remove(&number) {
            self.bytes -= footer.bytes;
        }
    }
}
