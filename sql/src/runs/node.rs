//! The plan node that aggregates runs of rows.
//!
//! **Invariant:** takes in all partitions at the same time and gives one; every group's memory is accounted for.

use std::fmt;
use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{TryFutureExt, TryStreamExt, stream};

use super::cells::Cells;
use super::groups::Groups;
use super::{Aggregate, Bucket, GroupBy, Phase};
use crate::functions::gather::{Held, take_in};

/// What the maps hold for each group.
const GROUP_BYTES: usize = 64;

/// Aggregates groups of rows that mostly stand together.
pub(super) struct RunsExec {
    input: Arc<dyn ExecutionPlan>,
    groups: Vec<GroupBy>,
    aggregates: Vec<Aggregate>,
    phase: Phase,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RunsExec {
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        groups: Vec<GroupBy>,
        aggregates: Vec<Aggregate>,
        schema: SchemaRef,
        phase: Phase,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { input, groups, aggregates, phase, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl RunsExec {
    /// What it reads, and the buckets that one of its columns is of, where it gives whole groups.
    pub(super) fn bucket(&self, column: usize) -> Option<(&Arc<dyn ExecutionPlan>, Bucket)> {
        match self.groups.get(column)? {
            &GroupBy::Bucket { column, width_us, origin_us, .. } if self.phase == Phase::Whole => {
                Some((&self.input, Bucket { column, width_us, origin_us }))
            }
            _ => None,
        }
    }
}

impl fmt::Debug for RunsExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunsExec").field("groups", &self.groups).field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for RunsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let (groups, aggregates) = names.split_at(self.groups.len());
        write!(f, "RunsExec: by=[{}], aggregates=[{}]", groups.join(", "), aggregates.join(", "))
    }
}

impl ExecutionPlan for RunsExec {
    fn name(&self) -> &str {
        "RunsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let (groups, aggregates) = (self.groups.clone(), self.aggregates.clone());
        Ok(Arc::new(Self::new(children.swap_remove(0), groups, aggregates, self.schema(), self.phase)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let runs = MetricBuilder::new(&self.metrics).counter("runs", partition);
        let begin = |partition| {
            Ok(Taken {
                groups: Groups::new(&self.groups),
                cells: cells(&self.aggregates, &self.schema(), self.groups.len(), self.phase),
                phase: self.phase,
                held: Held::new("RunsExec", partition, &context),
                runs: runs.clone(),
            })
        };
        let taken = take_in(&self.input, &context, begin, Taken::push)?;
        let (schema, batch_rows) = (self.schema(), context.session_config().batch_size());
        let rows = taken.and_then(async move |taken| {
            let _timer = baseline.elapsed_compute().timer();
            let whole = merged(taken, &schema)?;
            let starts = (0..whole.num_rows()).step_by(batch_rows);
            let batch = |start| whole.slice(start, batch_rows.min(whole.num_rows() - start)).record_output(&baseline);
            Ok(stream::iter(starts.map(batch).map(Ok).collect::<Vec<_>>()))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::once(rows).try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn cells(aggregates: &[Aggregate], schema: &SchemaRef, groups: usize, phase: Phase) -> Vec<Cells> {
    let mut column = groups;
    let cells = |aggregate: &Aggregate| {
        column += if phase == Phase::First { aggregate.measure.states() } else { 1 };
        Cells::new(*aggregate, schema.field(column - 1).data_type())
    };
    aggregates.iter().map(cells).collect()
}

/// What came of one partition.
struct Taken {
    groups: Groups,
    cells: Vec<Cells>,
    phase: Phase,
    held: Held,
    runs: datafusion::physical_plan::metrics::Count,
}

impl Taken {
    fn push(&mut self, mut batch: RecordBatch) -> Result<()> {
        if self.phase == Phase::Last {
            batch = in_microseconds(batch)?;
        }
        let before = self.groups.len();
        let runs = self.groups.runs(&batch)?;
        let groups = self.groups.len();
        self.held.grow((groups - before) * (GROUP_BYTES + self.cells.len() * Cells::GROUP_BYTES))?;
        self.runs.add(runs.len());
        self.cells.iter_mut().try_for_each(|cells| match self.phase {
            Phase::Last => cells.push_states(&batch, &runs, groups),
            Phase::Whole | Phase::First => cells.push(&batch, &runs, groups),
        })
    }

    fn take_in(&mut self, other: &Self) {
        let numbers = self.groups.take_in(&other.groups);
        let groups = self.groups.len();
        for (mine, theirs) in self.cells.iter_mut().zip(&other.cells) {
            mine.take_in(theirs, &numbers, groups);
        }
    }
}

/// States with the starts of buckets in microseconds, whatever unit they have.
fn in_microseconds(batch: RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    let nanos = |field: &FieldRef| matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
    if !schema.fields().iter().any(nanos) {
        return Ok(batch);
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let wanted = match field.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            other => other.clone(),
        };
        columns.push(cast(column, &wanted)?);
        fields.push(field.as_ref().clone().with_data_type(wanted));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The groups of all partitions as one batch.
fn merged(mut taken: Vec<Taken>, schema: &SchemaRef) -> Result<RecordBatch> {
    taken.sort_by_key(|taken| std::cmp::Reverse(taken.groups.len()));
    let mut taken = taken.into_iter();
    let Some(mut all) = taken.next() else { return Ok(RecordBatch::new_empty(Arc::clone(schema))) };
    for other in taken {
        all.held.grow(other.groups.len() * (GROUP_BYTES + other.cells.len() * Cells::GROUP_BYTES))?;
        all.take_in(&other);
    }
    let types: Vec<_> = schema.fields().iter().map(|field| field.data_type()).collect();
    let mut columns = all.groups.columns(&types)?;
    match all.phase {
        Phase::First => columns.extend(all.cells.iter().flat_map(Cells::states)),
        Phase::Whole | Phase::Last => columns.extend(all.cells.iter().map(Cells::column)),
    }
    let columns = columns.iter().zip(types).map(|(column, wanted)| cast(column, wanted)).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
