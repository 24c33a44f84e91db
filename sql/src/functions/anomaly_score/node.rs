//! The plan node that scores every series of a query in one kernel call.
//!
//! **Invariant:** each partition of its input is sorted so that the rows of a series stand together in time order; it keeps
//! that order, and holds all rows in accounted memory.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::partition;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt, stream};
use juno_kernels::Device;

use super::{append, column, score};
use crate::functions::gather::{Gather, Held, Partitions, blocking, take_in};
use crate::functions::launches::Launches;

/// Adds one column of scores for each of `values`; `keys` name the series.
pub(super) struct ScoreExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    values: Vec<Arc<dyn PhysicalExpr>>,
    names: Vec<String>,
    device: Device,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    gather: Gather,
}

impl ScoreExec {
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        values: Vec<Arc<dyn PhysicalExpr>>,
        names: Vec<String>,
        device: &Device,
    ) -> Result<Self> {
        let scores = names.iter().map(|name| Arc::new(Field::new(name, DataType::Float64, true)));
        let fields: Vec<_> = input.schema().fields().iter().cloned().chain(scores).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, input.schema().metadata().clone()));
        let known = EquivalenceProperties::new(Arc::clone(&schema)).extend(input.equivalence_properties().clone())?;
        let partitioning = input.output_partitioning().clone();
        let properties = PlanProperties::new(known, partitioning, EmissionType::Final, Boundedness::Bounded);
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(ScoreExec {
            input,
            keys,
            values,
            names,
            device: device.clone(),
            schema,
            properties: Arc::new(properties),
            metrics,
            gather: Gather::default(),
        })
    }
}

impl ScoreExec {
    /// The work of all partitions: take in, score in one call, give back.
    fn start(
        &self,
        partition: usize,
        context: &Arc<TaskContext>,
        time: Time,
    ) -> Result<BoxFuture<'static, Result<Partitions>>> {
        let begin = |partition| {
            Ok(Rows {
                keys: self.keys.clone(),
                exprs: self.values.clone(),
                batches: Vec::new(),
                values: vec![Vec::new(); self.values.len()],
                starts: Vec::new(),
                last: Vec::new(),
                held: Held::new("ScoreExec", partition, context),
            })
        };
        let rows = take_in(&self.input, context, begin, Rows::push)?;
        let launches = Launches::new(&self.metrics, partition);
        let (device, schema) = (self.device.clone(), Arc::clone(&self.schema));
        Ok(async move {
            let rows = rows.await?;
            blocking(&device, move |device| {
                let _timer = time.timer();
                score_all(rows, device, &schema, &launches)
            })
            .await
        }
        .boxed())
    }
}

impl fmt::Debug for ScoreExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScoreExec").field("names", &self.names).field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for ScoreExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let list =
            |exprs: &[Arc<dyn PhysicalExpr>]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (keys, values) = (list(&self.keys), list(&self.values));
        write!(f, "ScoreExec: by=[{keys}], anomaly_score=[{values}], device={}", self.device.kind())
    }
}

impl ExecutionPlan for ScoreExec {
    fn name(&self) -> &str {
        "ScoreExec"
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

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut recursion = TreeNodeRecursion::Continue;
        for expr in self.keys.iter().chain(&self.values) {
            recursion = visit(expr)?;
            if recursion == TreeNodeRecursion::Stop {
                break;
            }
        }
        Ok(recursion)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let (keys, values, names) = (self.keys.clone(), self.values.clone(), self.names.clone());
        Ok(Arc::new(Self::try_new(children.swap_remove(0), keys, values, names, &self.device)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let start = || self.start(partition, &context, baseline.elapsed_compute().clone());
        let share = self.gather.share(partition, self.input.output_partitioning().partition_count(), start)?;
        let scored = share.map_ok(move |batches| {
            stream::iter(batches.into_iter().map(move |batch| Ok(batch.record_output(&baseline))))
        });
        let stream = stream::once(scored).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The rows of one partition, as they arrive.
struct Rows {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    batches: Vec<RecordBatch>,
    /// For each expression the values of all rows.
    values: Vec<Vec<f64>>,
    /// The row that each series starts at.
    starts: Vec<usize>,
    /// The key of the last row.
    last: Vec<ScalarValue>,
    held: Held,
}

impl Rows {
    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        // Every value once more as it is taken, in one piece with the others, as a score and in its column.
        self.held.hold(&batch, 4 * size_of::<f64>() * rows * self.exprs.len())?;
        self.find_starts(&batch)?;
        for (expr, values) in self.exprs.iter().zip(&mut self.values) {
            append(values, &expr.evaluate(&batch)?.into_array(rows)?)?;
        }
        self.batches.push(batch);
        Ok(())
    }

    fn find_starts(&mut self, batch: &RecordBatch) -> Result<()> {
        let before = self.values[0].len();
        if self.keys.is_empty() {
            self.starts = vec![0];
            return Ok(());
        }
        let evaluate = |key: &Arc<dyn PhysicalExpr>| key.evaluate(batch)?.into_array(batch.num_rows());
        let keys = self.keys.iter().map(evaluate).collect::<Result<Vec<ArrayRef>>>()?;
        let key = |row| keys.iter().map(|key| ScalarValue::try_from_array(key, row)).collect::<Result<Vec<_>>>();
        let goes_on = before > 0 && key(0)? == self.last;
        let ranges = partition(&keys)?.ranges();
        self.starts.extend(ranges.iter().skip(usize::from(goes_on)).map(|range| before + range.start));
        self.last = key(batch.num_rows() - 1)?;
        Ok(())
    }

    /// The batches with their scores: for each column the scores of all rows, column after column.
    fn with_scores(self, scores: &[f64], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let (rows, columns) = (self.values[0].len(), self.values.len());
        let mut from = 0;
        let with_scores = |batch: RecordBatch| {
            let to = from + batch.num_rows();
            let scores = (0..columns).map(|index| column(&scores[index * rows + from..index * rows + to]));
            let arrays = batch.columns().iter().cloned().chain(scores).collect();
            from = to;
            Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
        };
        self.batches.into_iter().map(with_scores).collect()
    }
}

/// One kernel call for all series of all columns and partitions.
fn score_all(partitions: Vec<Rows>, device: &Device, schema: &SchemaRef, launches: &Launches) -> Result<Partitions> {
    let (mut values, mut offsets, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for rows in &partitions {
        for column in &rows.values {
            offsets.extend(rows.starts.iter().map(|start| values.len() + start));
            values.extend_from_slice(column);
        }
        ends.push(values.len());
    }
    if values.is_empty() {
        return Ok(vec![Vec::new(); partitions.len()]);
    }
    offsets.push(values.len());
    let scored = score(device, &values, &offsets)?;
    launches.add(scored.launches, offsets.len() - 1);
    let mut from = 0;
    let give_back = |(rows, to): (Rows, usize)| {
        let own = &scored.scores[from..to];
        from = to;
        rows.with_scores(own, schema)
    };
    partitions.into_iter().zip(ends).map(give_back).collect()
}
