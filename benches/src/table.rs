//! Reading the Parquet files that measurements start from.
//!
//! **Invariant:** whole columns in memory; for files of some million values.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// A Parquet file in memory.
pub struct Table {
    rows: RecordBatch,
}

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// Where the file cannot be read; the text names it.
    pub fn read(path: &Path) -> Result<Table> {
        let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.build()?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        Ok(Table { rows: concat_batches(&schema, &batches)? })
    }

    /// Rows in the file.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether the file has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A text column.
    ///
    /// # Errors
    /// Where there is no such column.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let column = arrow::compute::cast(self.column(name)?, &DataType::Utf8)?;
        Ok(column.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect())
    }

    /// A column of numbers; null is NaN.
    ///
    /// # Errors
    /// Where there is no such column.
    pub fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        let column = arrow::compute::cast(self.column(name)?, &DataType::Float64)?;
        Ok(column.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }

    /// A column of whole numbers; null is 0.
    ///
    /// # Errors
    /// Where there is no such column.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        let column = arrow::compute::cast(self.column(name)?, &DataType::Int64)?;
        Ok(column.as_primitive::<Int64Type>().iter().map(Option::unwrap_or_default).collect())
    }

    /// The rows in order, cut into batches.
    pub fn batches(&self, rows: usize) -> Vec<RecordBatch> {
        let starts = (0..self.len()).step_by(rows.max(1));
        starts.map(|start| self.rows.slice(start, rows.min(self.len() - start))).collect()
    }

    fn column(&self, name: &str) -> Result<&arrow::array::ArrayRef> {
        self.rows.column_by_name(name).with_context(|| format!("the file has no column {name}"))
    }
}
