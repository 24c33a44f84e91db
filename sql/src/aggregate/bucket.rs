//! Buckets of time that blocks may fall into.
//!
//! **Invariant:** a bucket's function never goes down as time goes up, so that two times of one value have all between them
//! in the same bucket.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray, new_null_array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use juno_engine::BlockSpan;

use crate::source::Source;

/// Functions that give the start of a time's bucket.
const FUNCTIONS: &[&str] = &["time_bucket", "date_bin", "date_trunc"];

/// A bucket of the time column.
pub(super) struct Bucket {
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    /// The place of the time among the scan's columns.
    time: usize,
}

impl Bucket {
    /// The bucket that an expression over the scan's columns is; none for any other expression.
    pub(super) fn of(expr: &Arc<dyn PhysicalExpr>, source: &Source<'_>) -> Option<Self> {
        let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
        if !FUNCTIONS.contains(&call.fun().name()) {
            return None;
        }
        let mut times = call.args().iter().filter(|arg| !arg.is::<datafusion::physical_expr::expressions::Literal>());
        let (time, others) = (times.next()?, times.next());
        // date_bin works in nanoseconds.
        let time = match time.downcast_ref::<CastExpr>() {
            Some(cast) if matches!(cast.cast_type(), DataType::Timestamp(..)) => cast.expr(),
            _ => time,
        };
        if others.is_some() || !source.is_time(time) {
            return None;
        }
        let time = time.downcast_ref::<Column>()?.index();
        Some(Bucket { expr: Arc::clone(expr), schema: source.scan.schema(), time })
    }

    /// For each span whether it lies in one bucket.
    pub(super) fn holds(&self, spans: &[BlockSpan]) -> Result<Vec<bool>> {
        let of = |time: fn(&BlockSpan) -> i64| self.of_times(&spans.iter().map(time).collect());
        let (first, last) = (of(|span| span.time.from)?, of(|span| span.time.to - 1)?);
        Ok(not_distinct(&first, &last)?.values().iter().collect())
    }

    /// The buckets of times in microseconds since 1970.
    pub(super) fn of_times(&self, times: &Int64Array) -> Result<ArrayRef> {
        let times: TimestampMicrosecondArray = times.reinterpret_cast();
        let columns = self.schema.fields().iter().enumerate().map(|(index, field)| -> ArrayRef {
            match index == self.time {
                true => Arc::new(times.clone().with_data_type(field.data_type().clone())),
                false => new_null_array(field.data_type(), times.len()),
            }
        });
        let batch = RecordBatch::try_new(nullable(&self.schema), columns.collect())?;
        self.expr.evaluate(&batch)?.into_array(times.len())
    }
}

/// The schema with every column nullable, for batches in which only some columns matter.
pub(super) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}
