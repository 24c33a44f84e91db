//! How each column of a part is encoded: the smallest of a few candidates on a sample of its rows.
//!
//! **Invariant:** only encodings that plain Parquet readers read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::column::{self, DeltaColumn};
use crate::{Result, TableSchema};

/// The level of compression.
const ZSTD_LEVEL: i32 = 3;
/// Rows in a page of telemetry, which is what a scan can skip.
const PAGE_ROWS: usize = 16_384;
/// Rows in a page of another table, of which a look-up by key reads one in each part.
const LOOK_UP_PAGE_ROWS: usize = 2_048;

/// An encoding of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    /// Deltas as juno packs them.
    Deltas,
    Dictionary,
    Plain(Encoding),
}

/// How the columns of a part are written.
pub(super) struct Encodings {
    /// For what Parquet's own writer writes.
    pub(super) properties: WriterProperties,
    /// The columns that are written as deltas instead.
    pub(super) deltas: Vec<bool>,
    /// Rows in a page of any column.
    pub(super) page_rows: usize,
}

/// How to write a part with these columns; the sample has them as they are stored.
pub(super) fn choose(schema: &TableSchema, stored: &Schema, sample: &RecordBatch) -> Result<Encodings> {
    let page_rows = if schema.time().is_some() { PAGE_ROWS } else { LOOK_UP_PAGE_ROWS };
    let mut builder = base()
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(page_rows)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    let mut deltas = Vec::with_capacity(stored.fields().len());
    for field in stored.fields() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        let in_key = schema.column(field.name()).is_some_and(|index| schema.key.contains(&index));
        if in_key {
            builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
        }
        let candidate = smallest(field, in_key, sample)?;
        deltas.push(candidate == Some(Candidate::Deltas));
        builder = candidate.map_or_else(|| builder.clone(), |candidate| candidate.apply(builder.clone(), path));
    }
    Ok(Encodings { properties: builder.build(), deltas, page_rows })
}

fn base() -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("a level that zstd has");
    WriterProperties::builder().set_compression(Compression::ZSTD(level))
}

impl Candidate {
    fn apply(self, builder: WriterPropertiesBuilder, path: ColumnPath) -> WriterPropertiesBuilder {
        match self {
            Self::Deltas => builder,
            Self::Dictionary => builder.set_column_dictionary_enabled(path, true),
            Self::Plain(encoding) => {
                builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding)
            }
        }
    }
}

/// The smallest encoding of a numeric column; none for other columns, which keep Parquet's own choice.
fn smallest(field: &Field, in_key: bool, sample: &RecordBatch) -> Result<Option<Candidate>> {
    use Candidate::{Deltas, Dictionary, Plain};
    let candidates: &[Candidate] = match field.data_type() {
        // Pages of keys have bounds of their own, which deltas do not write.
        kind if column::takes(kind) && !in_key => &[Deltas, Dictionary],
        kind if column::takes(kind) => &[Plain(Encoding::DELTA_BINARY_PACKED), Dictionary],
        DataType::UInt64 => &[Plain(Encoding::DELTA_BINARY_PACKED), Dictionary],
        DataType::Float32 | DataType::Float64 => {
            &[Dictionary, Plain(Encoding::BYTE_STREAM_SPLIT), Plain(Encoding::PLAIN)]
        }
        _ => return Ok(None),
    };
    let Ok(index) = sample.schema_ref().index_of(field.name()) else { return Ok(None) };
    let column = sample.project(&[index])?;
    let mut best: Option<(usize, Candidate)> = None;
    for &candidate in candidates {
        let size = encoded_size(&column, candidate)?;
        if best.is_none_or(|(smallest, _)| size < smallest) {
            best = Some((size, candidate));
        }
    }
    Ok(best.map(|(_, candidate)| candidate))
}

/// Bytes of the data pages and the dictionary of a column alone.
fn encoded_size(column: &RecordBatch, candidate: Candidate) -> Result<usize> {
    let field = column.schema_ref().field(0);
    let schema = Arc::new(Schema::new(vec![field.clone()]));
    let builder = base().set_statistics_enabled(EnabledStatistics::None);
    let properties = candidate.apply(builder, ColumnPath::new(vec![field.name().clone()])).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    if candidate == Candidate::Deltas {
        let (file, _) = writer.into_serialized_writer()?;
        let mut deltas = DeltaColumn::new(file.schema_descr().column(0), PAGE_ROWS)?;
        deltas.write(column.column(0))?;
        return Ok(deltas.finish()?.0.len());
    }
    writer.write(column)?;
    let metadata = writer.finish()?;
    Ok(metadata.row_groups().iter().map(|group| group.compressed_size() as usize).sum())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, Int64Array};

    use super::*;

    fn chosen(column: ArrayRef) -> Candidate {
        let sample = RecordBatch::try_from_iter([("v", column)]).unwrap();
        smallest(sample.schema_ref().field(0), false, &sample).unwrap().unwrap()
    }

    #[test]
    fn repeated_values_get_a_dictionary_noise_does_not_and_steps_get_deltas() {
        let mut noise = 1_u64;
        let mut random = move || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise >> 11
        };
        let gauge: Float64Array = (0..20_000).map(|_| Some((random() % 100) as f64)).collect();
        assert_eq!(chosen(Arc::new(gauge)), Candidate::Dictionary);
        let noisy: Float64Array = (0..20_000).map(|_| Some(random() as f64 / 1e17)).collect();
        assert_ne!(chosen(Arc::new(noisy)), Candidate::Dictionary);
        let counter: Int64Array = (0..20_000).map(|i| Some(i * 1000)).collect();
        assert_eq!(chosen(Arc::new(counter)), Candidate::Deltas);
        let walk: Int64Array = (0..20_000)
            .scan(0, |at, _| {
                *at += (random() % 5) as i64 - 2;
                Some(Some(*at))
            })
            .collect();
        assert_eq!(chosen(Arc::new(walk)), Candidate::Deltas);
        let codes: Int64Array = (0..20_000).map(|_| Some([200, 404, 503, 70_000][(random() % 4) as usize])).collect();
        assert_eq!(chosen(Arc::new(codes)), Candidate::Dictionary);
    }
}
