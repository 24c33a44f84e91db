//! Buckets of time that blocks may fall into, and filters on time.
//!
//! **Invariant:** a bucket's function never goes down as time goes up, so that two times of one value have all between them
//! in the same bucket.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray, new_null_array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{Column, binary, lit};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use juno_engine::{BlockSpan, TimeRange};

use crate::scan::Scan;
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
        if others.is_some() || !source.is_time(time) {
            return None;
        }
        let time = time.downcast_ref::<Column>()?.index();
        Some(Bucket { expr: Arc::clone(expr), schema: source.scan.schema(), time })
    }

    /// For each span whether it lies in one bucket.
    pub(super) fn holds(&self, spans: &[BlockSpan]) -> Result<Vec<bool>> {
        let of = |time: fn(&BlockSpan) -> i64| -> Result<ArrayRef> {
            let times: TimestampMicrosecondArray = spans.iter().map(|span| Some(time(span))).collect();
            let columns = self.schema.fields().iter().enumerate().map(|(index, field)| -> ArrayRef {
                match index == self.time {
                    true => Arc::new(times.clone().with_data_type(field.data_type().clone())),
                    false => new_null_array(field.data_type(), spans.len()),
                }
            });
            let batch = RecordBatch::try_new(nullable(&self.schema), columns.collect())?;
            self.expr.evaluate(&batch)?.into_array(spans.len())
        };
        let (first, last) = (of(|span| span.time.from)?, of(|span| span.time.to - 1)?);
        Ok(not_distinct(&first, &last)?.values().iter().collect())
    }
}

/// The schema with every column nullable, for batches in which only some columns matter.
pub(super) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows of a scan within a range of times.
pub(super) fn within(scan: Arc<Scan>, range: TimeRange) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = scan.schema();
    let table = scan.origin().table.schema();
    let time = table.time().and_then(|index| schema.index_of(&table.columns[index].name).ok());
    let Some(time) = time.filter(|_| range != TimeRange::ALL) else { return Ok(scan) };
    let column = Arc::new(Column::new(schema.field(time).name(), time)) as Arc<dyn PhysicalExpr>;
    let bound = |op: Operator, bound: i64| -> Result<Arc<dyn PhysicalExpr>> {
        let value = ScalarValue::TimestampMicrosecond(Some(bound), None).cast_to(schema.field(time).data_type())?;
        binary(Arc::clone(&column), op, lit(value), &schema)
    };
    let from = bound(Operator::GtEq, range.from)?;
    let predicate = match range.to {
        i64::MAX => from,
        to => binary(from, Operator::And, bound(Operator::Lt, to)?, &schema)?,
    };
    Ok(Arc::new(FilterExec::try_new(predicate, scan)?))
}
