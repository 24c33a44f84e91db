//! Footers, page indexes, block aggregates and columns of parts, kept in memory up to a limit each.
//!
//! **Invariant:** forgets only what can be read again.

use std::collections::HashMap;
use std::sync::Arc;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::aggregate::Blocks;
use super::cache::ColumnCache;
use crate::Result;
use crate::system::sync::Mutex;

/// What is kept of parts.
#[derive(Debug)]
pub(crate) struct FooterCache {
    /// Decoded columns.
    pub(super) columns: ColumnCache,
    footers: Cache<ArrowReaderMetadata>,
    blocks: Cache<Arc<Blocks>>,
}

/// Values by part number; the one used longest ago goes first.
#[derive(Debug)]
struct Cache<V> {
    bytes_max: u64,
    kept: Mutex<Kept<V>>,
}

#[derive(Debug)]
struct Kept<V> {
    values: HashMap<u64, Value<V>>,
    bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Value<V> {
    value: V,
    bytes: u64,
    last_use: u64,
}

impl FooterCache {
    /// Keeps footers up to a limit, and blocks and columns up to others.
    pub(crate) fn new(footer_bytes_max: u64, block_bytes_max: u64, column_bytes_max: u64) -> Self {
        Self {
            columns: ColumnCache::new(column_bytes_max),
            footers: Cache::new(footer_bytes_max),
            blocks: Cache::new(block_bytes_max),
        }
    }

    /// The footer of a part.
    pub(crate) fn get(
        &self,
        number: u64,
        load: impl FnOnce() -> Result<ArrowReaderMetadata>,
    ) -> Result<ArrowReaderMetadata> {
        self.footers.get(number, load, |footer| footer.metadata().memory_size())
    }

    /// The block aggregates of a part.
    pub(crate) fn blocks(&self, number: u64, load: impl FnOnce() -> Result<Arc<Blocks>>) -> Result<Arc<Blocks>> {
        self.blocks.get(number, load, |blocks| blocks.bytes())
    }

    pub(crate) fn forget(&self, number: u64) {
        self.footers.kept.lock().remove(number);
        self.blocks.kept.lock().remove(number);
        self.columns.forget(number);
    }
}

impl<V: Clone> Cache<V> {
    fn new(bytes_max: u64) -> Self {
        Self { bytes_max, kept: Mutex::new(Kept { values: HashMap::new(), bytes: 0, uses: 0 }) }
    }

    fn get(&self, number: u64, load: impl FnOnce() -> Result<V>, bytes: impl FnOnce(&V) -> usize) -> Result<V> {
        if let Some(value) = self.kept.lock().touch(number) {
            return Ok(value);
        }
        let value = load()?;
        let bytes = bytes(&value) as u64;
        self.kept.lock().insert(number, value.clone(), bytes, self.bytes_max);
        Ok(value)
    }
}

impl<V: Clone> Kept<V> {
    fn touch(&mut self, number: u64) -> Option<V> {
        self.uses += 1;
        let kept = self.values.get_mut(&number)?;
        kept.last_use = self.uses;
        Some(kept.value.clone())
    }

    fn insert(&mut self, number: u64, value: V, bytes: u64, bytes_max: u64) {
        self.remove(number);
        self.bytes += bytes;
        self.uses += 1;
        self.values.insert(number, Value { value, bytes, last_use: self.uses });
        while self.bytes > bytes_max && self.values.len() > 1 {
            let oldest = self.values.iter().min_by_key(|(_, kept)| kept.last_use).map(|(&number, _)| number);
            self.remove(oldest.expect("there are at least two"));
        }
    }
}

impl<V> Kept<V> {
    fn remove(&mut self, number: u64) {
        if let Some(kept) = self.values.remove(&number) {
            self.bytes -= kept.bytes;
        }
    }
}
