//! Footers, page indexes, block aggregates and columns of parts, kept in memory up to a limit each.
//!
//! **Invariant:** forgets only what can be read again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::aggregate::Outline;
use super::cache::ColumnCache;
use crate::Result;
use crate::system::sync::Mutex;

/// Part and which of its blocks.
type OutlineKey = (u64, u32);
/// Part, which of its blocks, chunk, column of the chunk.
pub(super) type BlockColumnKey = (u64, u32, u32, u32);

/// What is kept of parts.
#[derive(Debug)]
pub(crate) struct FooterCache {
    /// Decoded columns.
    pub(super) columns: ColumnCache,
    footers: Cache<u64, ArrowReaderMetadata>,
    outlines: Cache<OutlineKey, Arc<Outline>>,
    block_columns: Cache<BlockColumnKey, ArrayRef>,
}

/// Values of parts; the one used longest ago goes first.
#[derive(Debug)]
struct Cache<K, V> {
    bytes_max: u64,
    kept: Mutex<Kept<K, V>>,
}

#[derive(Debug)]
struct Kept<K, V> {
    values: HashMap<K, Value<V>>,
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
            outlines: Cache::new(block_bytes_max / 4),
            block_columns: Cache::new(block_bytes_max / 4 * 3),
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

    /// What blocks of one width a part has.
    pub(super) fn outline(&self, key: OutlineKey, load: impl FnOnce() -> Result<Arc<Outline>>) -> Result<Arc<Outline>> {
        self.outlines.get(key, load, |outline| outline.bytes())
    }

    /// A column of blocks.
    pub(super) fn block_column(
        &self,
        key: BlockColumnKey,
        load: impl FnOnce() -> Result<ArrayRef>,
    ) -> Result<ArrayRef> {
        self.block_columns.get(key, load, |column| column.get_array_memory_size())
    }

    pub(crate) fn forget(&self, number: u64) {
        self.footers.kept.lock().remove(&number);
        self.outlines.kept.lock().remove_where(|key| key.0 == number);
        self.block_columns.kept.lock().remove_where(|key| key.0 == number);
        self.columns.forget(number);
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    fn new(bytes_max: u64) -> Self {
        Self { bytes_max, kept: Mutex::new(Kept { values: HashMap::new(), bytes: 0, uses: 0 }) }
    }

    fn get(&self, key: K, load: impl FnOnce() -> Result<V>, bytes: impl FnOnce(&V) -> usize) -> Result<V> {
        if let Some(value) = self.kept.lock().touch(&key) {
            return Ok(value);
        }
        let value = load()?;
        let bytes = bytes(&value) as u64;
        self.kept.lock().insert(key, value.clone(), bytes, self.bytes_max);
        Ok(value)
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Kept<K, V> {
    fn touch(&mut self, key: &K) -> Option<V> {
        self.uses += 1;
        let kept = self.values.get_mut(key)?;
        kept.last_use = self.uses;
        Some(kept.value.clone())
    }

    fn insert(&mut self, key: K, value: V, bytes: u64, bytes_max: u64) {
        self.remove(&key);
        self.bytes += bytes;
        self.uses += 1;
        self.values.insert(key, Value { value, bytes, last_use: self.uses });
        while self.bytes > bytes_max && self.values.len() > 1 {
            let oldest = self.values.iter().min_by_key(|(_, kept)| kept.last_use).map(|(&key, _)| key);
            self.remove(&oldest.expect("there are at least two"));
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(kept) = self.values.remove(key) {
            self.bytes -= kept.bytes;
        }
    }

    fn remove_where(&mut self, goes: impl Fn(&K) -> bool) {
        let keys: Vec<K> = self.values.keys().copied().filter(|key| goes(key)).collect();
        keys.iter().for_each(|key| self.remove(key));
    }
}
