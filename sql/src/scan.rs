//! The plan node that reads slices of a table's snapshot.
//!
//! **Invariant:** plans nothing and filters nothing: slices come pruned, rows leave as the engine gives them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, in_list, lit};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, Metric, MetricValue, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use juno_engine::{ScanRequest, Slice, TableSnapshot, TagFilter};

use crate::Error;

/// What a scan was made of, for rules that find a shorter way to its rows.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) table: TableSnapshot,
    pub(crate) request: ScanRequest,
    /// Whether the session lets block aggregates and the like answer in place of rows.
    pub(crate) aggregates: bool,
}

/// Reads a table: each partition reads its share of the slices, one after the other.
pub(crate) struct Scan {
    table: String,
    origin: Origin,
    schema: SchemaRef,
    /// Slices by partition.
    shares: Vec<Vec<Arc<Slice>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// Whether it was read.
    begun: AtomicBool,
}

impl Scan {
    /// A scan of `slices` in at most `partitions` partitions, about even in rows.
    pub(crate) fn new(table: String, origin: Origin, schema: SchemaRef, slices: Vec<Slice>, partitions: usize) -> Self {
        let shares = share(slices, partitions);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(shares.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let (metrics, begun) = (ExecutionPlanMetricsSet::new(), AtomicBool::new(false));
        Scan { table, origin, schema, shares, properties, metrics, begun }
    }

    /// What it was made of.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The name of the table.
    pub(crate) fn name_of_table(&self) -> &str {
        &self.table
    }

    /// Rows that it reads, at most.
    pub(crate) fn rows(&self) -> u64 {
        self.shares.iter().flatten().map(|slice| slice.stats().rows).sum()
    }

    /// All that it reads.
    pub(crate) fn slices(&self) -> Vec<Arc<Slice>> {
        self.shares.concat()
    }

    /// The scan of no more than these of its slices.
    pub(crate) fn only(&self, slices: Vec<Slice>, partitions: usize) -> Self {
        Self::new(self.table.clone(), self.origin.clone(), Arc::clone(&self.schema), slices, partitions)
    }

    /// What its rows satisfy beside their times, over its own columns; none where these do not tell.
    pub(crate) fn filters(&self) -> Option<Vec<Arc<dyn PhysicalExpr>>> {
        self.origin.request.fields.is_empty().then(|| tag_filters(&self.origin, &self.schema)).flatten()
    }

    /// Parts, row groups and bytes that its slices read, and what they leave out; nothing where it was not read.
    fn cost(&self) -> juno_engine::Result<[(&'static str, usize); 5]> {
        let begun = self.begun.load(Ordering::Relaxed);
        let reads = self.shares.iter().flatten().filter(|_| begun).map(|slice| slice.reads());
        let reads = reads.collect::<juno_engine::Result<Vec<_>>>()?.concat();
        let parts: BTreeSet<u64> = reads.iter().map(|read| read.part).collect();
        let groups: usize = reads.iter().map(|read| read.row_groups).sum();
        let of: usize = reads.iter().map(|read| read.row_groups_all).sum();
        let bytes: u64 = reads.iter().map(|read| read.bytes).sum();
        Ok([
            ("parts", parts.len()),
            ("parts_pruned", self.origin.table.parts() - parts.len()),
            ("row_groups", groups),
            ("row_groups_pruned", of - groups),
            ("bytes", usize::try_from(bytes).unwrap_or(usize::MAX)),
        ])
    }

    /// Whether another scan asks for the same tags.
    pub(crate) fn same_tags(&self, other: &Self) -> bool {
        self.origin.request.tags == other.origin.request.tags
    }
}

/// What the tags of a scan's rows satisfy, over the scan's columns; none where these lack one.
pub(crate) fn tag_filters(origin: &Origin, schema: &SchemaRef) -> Option<Vec<Arc<dyn PhysicalExpr>>> {
    let table = origin.table.schema();
    let filter = |tag: &TagFilter| {
        let name = &table.columns[tag.column].name;
        let column = Arc::new(Column::new(name, schema.index_of(name).ok()?)) as Arc<dyn PhysicalExpr>;
        let value = |text: &String| {
            let text = ScalarValue::Utf8(Some(text.clone()));
            lit(ScalarValue::Dictionary(Box::new(DataType::Int32), Box::new(text)))
        };
        in_list(column, tag.any_of.iter().map(value).collect(), &false, schema).ok()
    };
    origin.request.tags.iter().map(filter).collect()
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("table", &self.table).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Deals slices out, largest first, each to the share with the fewest rows; never fewer than one share.
fn share(mut slices: Vec<Slice>, partitions: usize) -> Vec<Vec<Arc<Slice>>> {
    slices.sort_by_key(|slice| std::cmp::Reverse(slice.stats().rows));
    let mut shares = vec![(0u64, Vec::new()); partitions.min(slices.len()).max(1)];
    for slice in slices {
        let least = shares.iter_mut().min_by_key(|(rows, _)| *rows).expect("there is always one share");
        least.0 += slice.stats().rows;
        least.1.push(Arc::new(slice));
    }
    shares.into_iter().map(|(_, slices)| slices).collect()
}

impl DisplayAs for Scan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let slices: usize = self.shares.iter().map(Vec::len).sum();
        write!(f, "Scan: table={}, slices={slices}, columns=[{}]", self.table, columns.join(", "))
    }
}

impl ExecutionPlan for Scan {
    fn name(&self) -> &str {
        "Scan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        self.begun.store(true, Ordering::Relaxed);
        let share = self.shares[partition].clone();
        let schema = Arc::clone(&self.schema);
        let batches = share.into_iter().flat_map(move |slice| {
            let read: Box<dyn Iterator<Item = juno_engine::Result<RecordBatch>> + Send> = match slice.read() {
                Ok(reader) => Box::new(reader),
                Err(error) => Box::new(std::iter::once(Err(error))),
            };
            read
        });
        let mut batches = batches;
        let read = std::iter::from_fn(move || {
            let timer = baseline.elapsed_compute().timer();
            let batch = batches.next()?;
            timer.done();
            Some(batch.map_err(|error| DataFusionError::from(Error::from(error))).and_then(|batch| {
                baseline.record_output(batch.num_rows());
                let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &rows)?)
            }))
        });
        let stream = futures::stream::iter(read).boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream)))
    }

    /// What was measured, and what the slices take to read: only EXPLAIN ANALYZE asks.
    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        self.cost().into_iter().flatten().for_each(|(name, value)| {
            let count = Count::new();
            count.add(value);
            metrics.push(Arc::new(Metric::new(MetricValue::Count { name: name.into(), count }, None)));
        });
        Some(metrics)
    }
}
