//! The plan node that adds the missing buckets, batch by batch.
//!
//! **Invariant:** each partition of its input holds whole groups, sorted by the other keys and then by the bucket; it keeps that
//! order and holds one input batch at a time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::{SortOptions, concat_batches, partition, take};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{StreamExt, stream};

use super::node::GapFill;
use super::spans::{Grid, Span, Walk};
use crate::functions::refusal::invalid;
use crate::functions::time_bucket::Width;

/// The most rows of an output batch.
const BATCH_ROWS_MAX: usize = 8_192;

/// Plans the node.
#[derive(Debug)]
pub(crate) struct Planner;

#[async_trait]
impl ExtensionPlanner for Planner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<GapFill>() else { return Ok(None) };
        let constant = |name: &str, expr: &Expr| {
            let refused = || invalid(format!("argument {name} of time_bucket_gapfill must be a constant"));
            let expr =
                planner.create_physical_expr(expr, &DFSchema::empty(), session, context).map_err(|_| refused())?;
            match expr.evaluate(&RecordBatch::new_empty(Arc::new(Schema::empty())))? {
                ColumnarValue::Scalar(value) => Ok(value),
                ColumnarValue::Array(_) => Err(refused()),
            }
        };
        let width = Width::parse(&constant("width", &node.width)?)?;
        let bucket_type = node.schema.field(node.time).data_type();
        let bound = |name: &str, expr: &Option<Expr>| match expr {
            Some(expr) => match constant(name, expr)?.cast_to(bucket_type)? {
                ScalarValue::TimestampMicrosecond(at, _) => Ok(at),
                _ => Err(invalid(format!("argument {name} of time_bucket_gapfill must be a timestamp"))),
            },
            None => Ok(None),
        };
        let start = bound("start", &node.start)?.and_then(|start| width.start(start));
        let grid = Grid { width, start, finish: bound("finish", &node.finish)? };
        let schema = Arc::new(node.schema.as_arrow().clone());
        Ok(Some(Arc::new(GapFillExec::new(Arc::clone(&inputs[0]), schema, node.time, node.keys, grid))))
    }
}

/// Adds rows for missing buckets.
pub(super) struct GapFillExec {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    time: usize,
    keys: usize,
    grid: Grid,
    ordering: LexOrdering,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GapFillExec {
    fn new(input: Arc<dyn ExecutionPlan>, schema: SchemaRef, time: usize, keys: usize, grid: Grid) -> Self {
        let options = SortOptions { descending: false, nulls_first: false };
        let order =
            others(time, keys).chain([time]).map(|index| PhysicalSortExpr { expr: column(&schema, index), options });
        let ordering = LexOrdering::new(order).expect("there is a time");
        let known = EquivalenceProperties::new_with_orderings(Arc::clone(&schema), [ordering.clone()]);
        let partitioning = input.output_partitioning().clone();
        let properties = PlanProperties::new(known, partitioning, EmissionType::Incremental, Boundedness::Bounded);
        let metrics = ExecutionPlanMetricsSet::new();
        GapFillExec { input, schema, time, keys, grid, ordering, properties: Arc::new(properties), metrics }
    }
}

fn others(time: usize, keys: usize) -> impl Iterator<Item = usize> {
    (0..keys).filter(move |key| *key != time)
}

fn column(schema: &SchemaRef, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(index).name(), index))
}

impl fmt::Debug for GapFillExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GapFillExec").field("grid", &self.grid).field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let Grid { width, start, finish } = self.grid;
        write!(f, "GapFillExec: every={width:?}, start_us={start:?}, finish_us={finish:?}")
    }
}

impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &str {
        "GapFillExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(OrderingRequirements::from(self.ordering.clone()))]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let keys: Vec<_> = others(self.time, self.keys).map(|index| column(&self.schema, index)).collect();
        let wanted = if keys.is_empty() { Distribution::SinglePartition } else { Distribution::KeyPartitioned(keys) };
        InputDistributionRequirements::new(vec![wanted])
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut recursion = TreeNodeRecursion::Continue;
        for sort in self.ordering.iter() {
            recursion = visit(&sort.expr)?;
            if recursion == TreeNodeRecursion::Stop {
                break;
            }
        }
        Ok(recursion)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.schema);
        Ok(Arc::new(Self::new(children.swap_remove(0), schema, self.time, self.keys, self.grid)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let filler = Filler {
            schema: Arc::clone(&self.schema),
            time: self.time,
            keys: self.keys,
            walk: Walk::new(self.grid),
            width: self.grid.width,
            rows: None,
            spans: VecDeque::new(),
        };
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let batches = stream::try_unfold((filler, Some(input), baseline), |(mut filler, mut input, baseline)| async {
            loop {
                if let Some(batch) = filler.next()? {
                    return Ok(Some((batch.record_output(&baseline), (filler, input, baseline))));
                }
                let Some(more) = &mut input else { return Ok(None) };
                match more.next().await {
                    Some(batch) => filler.push(&batch?)?,
                    None => {
                        input = None;
                        filler.finish();
                    }
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One partition on its way through.
struct Filler {
    schema: SchemaRef,
    time: usize,
    keys: usize,
    walk: Walk,
    width: Width,
    /// The rows that spans speak of; the first of them is the last of those before.
    rows: Option<RecordBatch>,
    spans: VecDeque<Span>,
}

impl Filler {
    /// Takes the next rows in; all spans of the rows before are given out.
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let carried = self.rows.take().map(|rows| rows.slice(rows.num_rows() - 1, 1));
        let given = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())?;
        let rows = match &carried {
            Some(carried) => concat_batches(&self.schema, [carried, &given])?,
            None => given,
        };
        let keys: Vec<ArrayRef> = others(self.time, self.keys).map(|key| Arc::clone(rows.column(key))).collect();
        let whole = 0..rows.num_rows();
        let groups = if keys.is_empty() { [whole].into() } else { partition(&keys)?.ranges() };
        let times = times(&rows, self.time)?;
        let time = |row: usize| times.is_valid(row).then(|| times.value(row));
        let mut spans = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            if index > 0 {
                self.walk.end(group.start - 1, &mut spans);
            }
            let seen = usize::from(index == 0 && carried.is_some());
            self.walk.rows(group.start + seen..group.end, time, &mut spans);
        }
        self.spans.extend(spans);
        self.rows = Some(rows);
        Ok(())
    }

    /// There are no more rows.
    fn finish(&mut self) {
        if let Some(rows) = &self.rows {
            let mut spans = Vec::new();
            self.walk.end(rows.num_rows() - 1, &mut spans);
            self.spans.extend(spans);
        }
    }

    /// The next output; none until more rows are taken in.
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(rows) = self.rows.as_ref().filter(|_| !self.spans.is_empty()) else { return Ok(None) };
        let given = times(rows, self.time)?;
        let (mut groups, mut values, mut times) = (Vec::new(), Vec::new(), Vec::new());
        while groups.len() < BATCH_ROWS_MAX
            && let Some(span) = self.spans.front_mut()
        {
            match span {
                Span::Row(row) => {
                    groups.push(*row as u64);
                    values.push(Some(*row as u64));
                    times.push(given.is_valid(*row).then(|| given.value(*row)));
                    self.spans.pop_front();
                }
                Span::Gap { group, from, to } => {
                    groups.push(*group as u64);
                    values.push(None);
                    times.push(Some(*from));
                    match self.width.next(*from).filter(|next| next < to) {
                        Some(next) => *from = next,
                        None => {
                            self.spans.pop_front();
                        }
                    }
                }
            }
        }
        let (groups, values) = (UInt64Array::from(groups), UInt64Array::from(values));
        let times = TimestampMicrosecondArray::from(times).with_data_type(rows.column(self.time).data_type().clone());
        let arrays = rows.columns().iter().enumerate().map(|(index, array)| match index {
            index if index == self.time => Ok(Arc::new(times.clone()) as ArrayRef),
            index if index < self.keys => Ok(take(array, &groups, None)?),
            _ => Ok(take(array, &values, None)?),
        });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), arrays)?))
    }
}

fn times(rows: &RecordBatch, index: usize) -> Result<&TimestampMicrosecondArray> {
    match rows.column(index).data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(rows.column(index).as_primitive::<TimestampMicrosecondType>())
        }
        other => Err(DataFusionError::Internal(format!("buckets are of {other}"))),
    }
}
