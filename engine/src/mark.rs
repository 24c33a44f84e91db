//! Marks of rows: which only say that a key is deleted, and which hide all that is older.
//!
//! A row of a telemetry table that is *whole* stands alone: its nulls are nulls, whatever older rows of its key hold. It
//! comes from a write that deleted the key before it wrote the row, or from a merge that met a deletion below the row.
//!
//! **Invariant:** a kind of mark that no row bears is absent.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;

use crate::Result;
use crate::schema::{DELETED, WHOLE};

/// The marks of some rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    /// Rows that mark their key as deleted and hold nothing else.
    pub(crate) deleted: Option<BooleanArray>,
    /// Rows that older rows of their key do not show through; no deleted one is among them.
    pub(crate) whole: Option<BooleanArray>,
}

impl Marks {
    pub(crate) fn new(deleted: Option<BooleanArray>, whole: Option<BooleanArray>) -> Self {
        let borne = |marks: &BooleanArray| marks.true_count() > 0;
        Self { deleted: deleted.filter(borne), whole: whole.filter(borne) }
    }

    /// Those in the hidden columns of a batch.
    pub(crate) fn of(batch: &RecordBatch) -> Self {
        let column = |name| batch.column_by_name(name).map(|column| column.as_boolean().clone());
        Self::new(column(DELETED), column(WHOLE))
    }

    /// The batch with the marks as hidden columns behind its own.
    pub(crate) fn append_to(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut fields: Vec<_> = batch.schema_ref().fields().iter().cloned().collect();
        let mut columns = batch.columns().to_vec();
        for (name, marks) in [(DELETED, &self.deleted), (WHOLE, &self.whole)] {
            let Some(marks) = marks else { continue };
            fields.push(Arc::new(Field::new(name, DataType::Boolean, false)));
            columns.push(Arc::new(marks.clone()) as ArrayRef);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    pub(crate) fn any(&self) -> bool {
        self.deleted.is_some() || self.whole.is_some()
    }

    pub(crate) fn is_deleted(&self, row: usize) -> bool {
        self.deleted.as_ref().is_some_and(|deleted| deleted.value(row))
    }

    /// Whether nothing older of the row's key shows through.
    pub(crate) fn hides_older(&self, row: usize) -> bool {
        self.is_deleted(row) || self.whole.as_ref().is_some_and(|whole| whole.value(row))
    }

    /// The marks of the rows that `keep` selects.
    pub(crate) fn filter(&self, keep: &BooleanArray) -> Result<Self> {
        let kept = |marks: &Option<BooleanArray>| -> Result<_> {
            let kept = marks.as_ref().map(|marks| arrow::compute::filter(marks, keep)).transpose()?;
            Ok(kept.map(|kept| kept.as_boolean().clone()))
        };
        Ok(Self::new(kept(&self.deleted)?, kept(&self.whole)?))
    }
}
