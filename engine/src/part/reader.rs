//! Reads columns of a part.
//!
//! **Invariant:** gives rows in the file's order, which is key order.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

use super::block::{PartFile, Refused};
use super::{Part, ReadPlan, stored};
use crate::{BATCH_ROWS_MAX, Result};

pub(super) fn load_footer(file: &PartFile) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let footer = ArrowReaderMetadata::load(file, options.clone())?;
    let meant = stored::meant(footer.schema());
    if meant == *footer.schema() {
        return Ok(footer);
    }
    ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options.with_schema(meant))
}

/// Batches of some columns of a part; columns that it lacks are absent.
pub(crate) struct PartReader {
    part: Arc<Part>,
    refused: Refused,
    reader: ParquetRecordBatchReader,
}

impl PartReader {
    /// Reads the columns with these names from what the plan selects.
    pub(crate) fn new<'a>(part: &Arc<Part>, names: impl IntoIterator<Item = &'a str>, plan: &ReadPlan) -> Result<Self> {
        let footer = part.footer()?;
        let schema = footer.schema();
        let roots: Vec<_> = names.into_iter().filter_map(|name| schema.index_of(name).ok()).collect();
        let mask = ProjectionMask::roots(footer.parquet_schema(), roots);
        let file = part.file()?;
        let refused = Arc::clone(&file.refused);
        let groups = plan.row_groups.iter().map(|&group| footer.metadata().row_group(group));
        let chunks = groups.flat_map(|group| group.columns().iter().enumerate());
        file.will_read(chunks.filter(|(leaf, _)| mask.leaf_included(*leaf)).map(|(_, chunk)| {
            let (start, len) = chunk.byte_range();
            start..start + len
        }));
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS_MAX)
            .with_row_groups(plan.row_groups.clone());
        if let Some(selection) = &plan.selection {
            builder = builder.with_row_selection(selection.clone());
        }
        let reader = builder.build().map_err(|error| part.unread(&refused, &error))?;
        Ok(Self { part: Arc::clone(part), refused, reader })
    }
}

impl Iterator for PartReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?.and_then(stored::restore);
        Some(batch.map_err(|error| self.part.unread(&self.refused, &error)))
    }
}
