//! The plan node that forecasts every group of a query in one kernel call.
//!
//! **Invariant:** keeps its input's rows and their order; holds all collected points in accounted memory.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, ListArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt, stream};
use juno_kernels::Device;

use super::Request;
use super::series::{Wanted, work};
use crate::functions::gather::{Gather, Held, Partitions, blocking, take_in};
use crate::functions::launches::Launches;

/// Replaces columns of points by their forecasts.
pub(super) struct ForecastExec {
    input: Arc<dyn ExecutionPlan>,
    /// Which columns hold points, and what to forecast of each.
    requests: Vec<(usize, Request)>,
    device: Device,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    gather: Gather,
}

impl ForecastExec {
    /// A node that gives what a node with that schema and those properties would.
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        requests: Vec<(usize, Request)>,
        schema: SchemaRef,
        like: &PlanProperties,
        device: &Device,
    ) -> Self {
        let (known, partitioning) = (like.eq_properties.clone(), like.partitioning.clone());
        let properties = PlanProperties::new(known, partitioning, EmissionType::Final, Boundedness::Bounded);
        let metrics = ExecutionPlanMetricsSet::new();
        let (device, properties, gather) = (device.clone(), Arc::new(properties), Gather::default());
        ForecastExec { input, requests, device, schema, properties, metrics, gather }
    }
}

impl ForecastExec {
    /// The work of all partitions: take in, forecast in one call, give back.
    fn start(
        &self,
        partition: usize,
        context: &Arc<TaskContext>,
        time: Time,
    ) -> Result<BoxFuture<'static, Result<Partitions>>> {
        let begin = |partition| Ok(Points { batches: Vec::new(), held: Held::new("ForecastExec", partition, context) });
        let points = take_in(&self.input, context, begin, Points::push)?;
        let grids = Held::new("ForecastExec grids", partition, context);
        let launches = Launches::new(&self.metrics, partition);
        let (requests, device, schema) = (self.requests.clone(), self.device.clone(), Arc::clone(&self.schema));
        Ok(async move {
            let points = points.await?;
            blocking(&device, move |device| {
                let _timer = time.timer();
                forecast_all(points, &requests, device, &schema, &launches, grids)
            })
            .await
        }
        .boxed())
    }
}

impl fmt::Debug for ForecastExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForecastExec")
            .field("requests", &self.requests)
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for ForecastExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ForecastExec: device={}", self.device.kind())?;
        for (column, request) in &self.requests {
            let name = self.schema.field(*column).name();
            write!(f, ", {name} ({request})")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ForecastExec {
    fn name(&self) -> &str {
        "ForecastExec"
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
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let (input, requests, schema) = (children.swap_remove(0), self.requests.clone(), Arc::clone(&self.schema));
        Ok(Arc::new(Self::new(input, requests, schema, &self.properties, &self.device)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let start = || self.start(partition, &context, baseline.elapsed_compute().clone());
        let share = self.gather.share(partition, self.input.output_partitioning().partition_count(), start)?;
        let (rows_max, column) = (context.session_config().batch_size(), self.requests[0].0);
        let forecast = share.map_ok(move |batches| {
            let slices = batches.into_iter().flat_map(move |batch| slices(batch, column, rows_max));
            stream::iter(slices.map(move |batch| Ok(batch.record_output(&baseline))))
        });
        let stream = stream::once(forecast).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The collected points of one partition, as they arrive.
struct Points {
    batches: Vec<RecordBatch>,
    held: Held,
}

impl Points {
    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.held.hold(&batch, 0)?;
        self.batches.push(batch);
        Ok(())
    }
}

/// Forecasts all columns of all batches of all partitions together.
fn forecast_all(
    partitions: Vec<Points>,
    requests: &[(usize, Request)],
    device: &Device,
    schema: &SchemaRef,
    launches: &Launches,
    mut grids: Held,
) -> Result<Partitions> {
    let wanted: Vec<_> = partitions
        .iter()
        .flat_map(|points| &points.batches)
        .flat_map(|batch| requests.iter().map(|(column, request)| (batch.column(*column).as_list::<i32>(), request)))
        .map(|(points, request)| Wanted { points, request })
        .collect();
    let done = work(device, &wanted, |bytes| grids.grow(bytes))?;
    launches.add(done.launches, done.series);
    let mut lists = done.lists.into_iter();
    let mut replace = |batch: &RecordBatch| {
        let mut columns = batch.columns().to_vec();
        for (column, list) in requests.iter().map(|(column, _)| *column).zip(&mut lists) {
            columns[column] = Arc::new(list);
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    };
    partitions.iter().map(|points| points.batches.iter().map(&mut replace).collect()).collect()
}

/// Cuts a batch so that unnesting the lists of `column` makes about `rows_max` rows at a time.
fn slices(batch: RecordBatch, column: usize, rows_max: usize) -> Vec<RecordBatch> {
    let lengths: Vec<usize> = lengths(batch.column(column).as_list::<i32>());
    let (mut slices, mut from, mut rows) = (Vec::new(), 0, 0);
    for (row, length) in lengths.iter().enumerate() {
        if rows > 0 && rows + length > rows_max {
            slices.push(batch.slice(from, row - from));
            (from, rows) = (row, 0);
        }
        rows += length.max(&1);
    }
    if from < batch.num_rows() {
        slices.push(batch.slice(from, batch.num_rows() - from));
    }
    slices
}

fn lengths(lists: &ListArray) -> Vec<usize> {
    lists.value_offsets().windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect()
}
