//! Where the blocks of a part are: the entry of its metadata, and how it gets there.
//!
//! **Invariant:** the shapes here are a file format: fields may be added with a default, never changed.

use std::io;

use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;
use serde::{Deserialize, Serialize};

/// The entry of a part's metadata that says where its blocks are.
const ENTRY: &str = "juno.aggregates";
/// The same of parts that have blocks of one width in one file.
const ENTRY_OF_ONE: &str = "juno.blocks";

/// The blocks of one width.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) width_us: i64,
    /// The rollup that they are kept for; absent for those that every part has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rollup: Option<u64>,
    /// The stored names of the columns that are aggregated; all of the part where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) columns: Vec<String>,
    pub(super) series: Place,
    pub(super) times: Place,
    pub(super) chunks: Vec<Chunk>,
}

/// Bytes of the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Neighbouring blocks in a file of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) blocks: u32,
    pub(super) place: Place,
}

/// Where some blocks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    Entry(Entry),
    /// In one file, in which each block has its tags.
    One {
        width_us: i64,
        place: Place,
    },
}

impl Kept {
    /// What a part's metadata says.
    pub(super) fn of(metadata: Option<&Vec<KeyValue>>) -> Vec<Self> {
        let value = |key: &str| metadata?.iter().find(|entry| entry.key == key)?.value.as_deref();
        if let Some(text) = value(ENTRY) {
            // A shape that is not known is none: rows answer the same.
            let entries: Vec<Entry> = serde_json::from_str(text).unwrap_or_default();
            return entries.into_iter().filter(|entry| entry.width_us > 0).map(Self::Entry).collect();
        }
        value(ENTRY_OF_ONE).and_then(one).into_iter().collect()
    }

    pub(super) fn width_us(&self) -> i64 {
        match self {
            Self::Entry(entry) => entry.width_us,
            Self::One { width_us, .. } => *width_us,
        }
    }

    pub(super) fn rollup(&self) -> Option<u64> {
        match self {
            Self::Entry(entry) => entry.rollup,
            Self::One { .. } => None,
        }
    }

    /// Bytes that they take up.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Entry(Entry { series, times, chunks, .. }) => {
                series.len + times.len + chunks.iter().map(|chunk| chunk.place.len).sum::<u64>()
            }
            Self::One { place, .. } => place.len,
        }
    }
}

/// Width, offset and length as decimal numbers with spaces between.
fn one(text: &str) -> Option<Kept> {
    let mut numbers = text.split(' ');
    let width_us = numbers.next()?.parse().ok().filter(|width| *width > 0)?;
    let place = Place { offset: numbers.next()?.parse().ok()?, len: numbers.next()?.parse().ok()? };
    numbers.next().is_none().then_some(Kept::One { width_us, place })
}

/// Blocks of one width as they are written.
pub(crate) struct Built {
    pub(super) width_us: i64,
    pub(super) rollup: Option<u64>,
    pub(super) columns: Vec<String>,
    pub(super) series: Vec<u8>,
    pub(super) times: Vec<u8>,
    /// How many blocks each file holds.
    pub(super) chunks: Vec<(u32, Vec<u8>)>,
}

/// Appends blocks to a part whose rows are all written.
pub(in super::super) fn append<W: io::Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    built: &[Built],
) -> Result<(), ParquetError> {
    if built.is_empty() {
        return Ok(());
    }
    let mut entries = Vec::with_capacity(built.len());
    for built in built {
        let mut place = |file: &[u8]| -> Result<Place, ParquetError> {
            let place = Place { offset: writer.bytes_written() as u64, len: file.len() as u64 };
            writer.write_all(file)?;
            Ok(place)
        };
        let (series, times) = (place(&built.series)?, place(&built.times)?);
        let chunks = built.chunks.iter().map(|(blocks, file)| Ok(Chunk { blocks: *blocks, place: place(file)? }));
        let chunks = chunks.collect::<Result<_, ParquetError>>()?;
        let (width_us, rollup, columns) = (built.width_us, built.rollup, built.columns.clone());
        entries.push(Entry { width_us, rollup, columns, series, times, chunks });
    }
    let text = serde_json::to_string(&entries).map_err(|error| ParquetError::External(Box::new(error)))?;
    writer.append_key_value_metadata(KeyValue::new(ENTRY.to_owned(), text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_known_and_others_are_none() {
        let entries = |key: &str, text: &str| Kept::of(Some(&vec![KeyValue::new(key.to_owned(), text.to_owned())]));
        let place = Place { offset: 4, len: 9 };
        assert_eq!(entries(ENTRY_OF_ONE, "60 4 9"), [Kept::One { width_us: 60, place }]);
        assert!(["", "60 4", "0 4 9", "60 4 9 1", "x 4 9"].iter().all(|text| entries(ENTRY_OF_ONE, text).is_empty()));
        let text = r#"[{"width_us":60,"rollup":7,"series":{"offset":4,"len":9},"times":{"offset":4,"len":9},"chunks":[{"blocks":2,"place":{"offset":4,"len":9}}]}]"#;
        let chunks = vec![Chunk { blocks: 2, place }];
        let entry = Entry { width_us: 60, rollup: Some(7), columns: Vec::new(), series: place, times: place, chunks };
        assert_eq!(entries(ENTRY, text), [Kept::Entry(entry)]);
        assert_eq!(entries(ENTRY, text)[0].len(), 27);
        assert!(entries(ENTRY, "{}").is_empty() && Kept::of(None).is_empty());
    }
}
