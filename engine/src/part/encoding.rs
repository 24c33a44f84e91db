//! How each column of a part is encoded: the smallest of a few candidates on a sample of its rows.
//!
//! **Invariant:** only encodings that plain Parquet readers read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::{Result, TableSchema};

/// The level of compression.
const ZSTD_LEVEL: i32 = 3;
/// Rows in a row group.
const ROW_GROUP_ROWS: usize = 262_144;
/// Rows in a page, which is what a scan can skip.
const PAGE_ROWS: usize = 8192;

/// An encoding of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    Dictionary,
    Plain(Encoding),
}

/// The properties with which a part is written.
pub(super) fn properties(schema: &TableSchema, sample: &RecordBatch) -> Result<WriterProperties> {
    let mut builder = base()
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for field in sample.schema_ref().fields() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        if schema.column(field.name()).is_some_and(|index| schema.key.contains(&index)) {
            builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
        }
        if let Some(candidate) = choose(sample, field.name())? {
            builder = candidate.apply(builder, path);
        }
    }
    Ok(builder.build())
}

fn base() -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("a level that zstd has");
    WriterProperties::builder().set_compression(Compression::ZSTD(level))
}

impl Candidate {
    fn apply(self, builder: WriterPropertiesBuilder, path: ColumnPath) -> WriterPropertiesBuilder {
        match self {
            Self::Dictionary => builder.set_column_dictionary_enabled(path, true),
            Self::Plain(encoding) => {
                builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding)
            }
        }
    }
}

/// The smallest encoding of a numeric column; none for other columns, which keep Parquet's own choice.
fn choose(sample: &RecordBatch, name: &str) -> Result<Option<Candidate>> {
    use Candidate::{Dictionary, Plain};
    let index = sample.schema_ref().index_of(name)?;
    let candidates: &[Candidate] = match sample.column(index).data_type() {
        DataType::Timestamp(_, _) | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt64 => {
            &[Plain(Encoding::DELTA_BINARY_PACKED), Dictionary]
        }
        DataType::Float32 | DataType::Float64 => {
            &[Dictionary, Plain(Encoding::BYTE_STREAM_SPLIT), Plain(Encoding::PLAIN)]
        }
        _ => return Ok(None),
    };
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

fn encoded_size(column: &RecordBatch, candidate: Candidate) -> Result<usize> {
    let name = column.schema_ref().field(0).name().clone();
    let builder = base().set_statistics_enabled(EnabledStatistics::None);
    let properties = candidate.apply(builder, ColumnPath::new(vec![name])).build();
    let schema = Arc::new(Schema::new(column.schema_ref().fields().clone()));
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    writer.write(column)?;
    Ok(writer.into_inner()?.len())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, Int64Array};

    use super::*;

    fn chosen(column: ArrayRef) -> Candidate {
        choose(&RecordBatch::try_from_iter([("v", column)]).unwrap(), "v").unwrap().unwrap()
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
        assert_eq!(chosen(Arc::new(counter)), Candidate::Plain(Encoding::DELTA_BINARY_PACKED));
    }
}
