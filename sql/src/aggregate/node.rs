//! The plan node that gives partial states from the blocks of parts.
//!
//! **Invariant:** takes the blocks of its spans and no others; filters on tags are checked here, since blocks stand for rows
//! that no operator sees.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array};
use arrow::compute::{and, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use juno_engine::{BlockSpan, Blocks, TableSchema};

use super::Question;
use super::bucket::nullable;
use super::state::time_column;
use crate::scan::Scan;

/// Gives the states that a first phase would give for the rows of some blocks.
pub(super) struct BlockScan {
    name: String,
    schema: SchemaRef,
    reader: Arc<Reader>,
    rows: u64,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What it takes to read blocks.
struct Reader {
    table: Arc<TableSchema>,
    /// The scan's columns, which expressions are over.
    scan: SchemaRef,
    schema: SchemaRef,
    question: Question,
    /// The blocks of each part, and the numbers of those that are taken.
    taken: Vec<(Arc<Blocks>, HashSet<i64>)>,
}

impl BlockScan {
    pub(super) fn new(scan: &Scan, schema: &SchemaRef, question: Question, spans: Vec<BlockSpan>) -> Self {
        let rows = spans.iter().map(|span| span.rows).sum();
        let mut taken: Vec<(Arc<Blocks>, HashSet<i64>)> = Vec::new();
        for span in spans.into_iter().filter(|span| span.rows > 0) {
            match taken.iter_mut().find(|(blocks, _)| Arc::ptr_eq(blocks, &span.blocks)) {
                Some((_, numbers)) => {
                    numbers.insert(span.number);
                }
                None => taken.push((span.blocks, HashSet::from([span.number]))),
            }
        }
        let table = Arc::clone(scan.origin().table.schema());
        let reader = Reader { table, scan: scan.schema(), schema: Arc::clone(schema), question, taken };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        BlockScan {
            name: scan.name_of_table().to_owned(),
            schema: Arc::clone(schema),
            reader: Arc::new(reader),
            rows,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl Reader {
    /// The states of the blocks that are taken of one part.
    fn states(&self, blocks: &Blocks, numbers: &HashSet<i64>) -> Result<RecordBatch> {
        let width = blocks.width_us();
        let taken = |time: &i64| numbers.contains(&time.div_euclid(width));
        let mut keep: BooleanArray = blocks.first_times().values().iter().map(|time| Some(taken(time))).collect();
        let series = self.series(blocks)?;
        for filter in &self.question.selection.tags {
            let satisfied = filter.evaluate(&series)?.into_array(series.num_rows())?;
            let satisfied = match satisfied.as_boolean() {
                nulls if nulls.null_count() > 0 => prep_null_mask_filter(nulls),
                plain => plain.clone(),
            };
            keep = and(&keep, &satisfied)?;
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for group in &self.question.groups {
            columns.push(group.evaluate(&series)?.into_array(series.num_rows())?);
        }
        for (place, state) in self.question.states.iter().enumerate() {
            let types = self.types(columns.len(), place);
            let unknown = || DataFusionError::Internal("blocks that were taken lack a measure".into());
            columns.extend(state.columns(blocks, &types)?.ok_or_else(unknown)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(blocks.len()));
        let all = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(filter_record_batch(&all, &keep)?)
    }

    /// The types of a state's columns, which begin at `from`.
    fn types(&self, from: usize, place: usize) -> Vec<&DataType> {
        let columns = self.question.states[place].width();
        self.schema.fields()[from..from + columns].iter().map(|field| field.data_type()).collect()
    }

    /// The blocks as rows of the scan: tags and a time, and nothing else.
    fn series(&self, blocks: &Blocks) -> Result<RecordBatch> {
        let tag = |name: &str| self.table.tags().iter().any(|&index| self.table.columns[index].name == name);
        let time = self.table.time().map(|index| self.table.columns[index].name.as_str());
        let column = |name: &String, data_type: &DataType| -> Result<ArrayRef> {
            Ok(match name.as_str() {
                name if tag(name) => blocks.tag(name),
                name if time == Some(name) => time_column(blocks.first_times(), data_type)?,
                _ => new_null_array(data_type, blocks.len()),
            })
        };
        let columns = self.scan.fields().iter().map(|field| column(field.name(), field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(blocks.len()));
        let columns = columns.collect::<Result<_>>()?;
        Ok(RecordBatch::try_new_with_options(nullable(&self.scan), columns, &options)?)
    }
}

impl fmt::Debug for BlockScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockScan").field("table", &self.name).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl DisplayAs for BlockScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans: usize = self.reader.taken.iter().map(|(_, numbers)| numbers.len()).sum();
        let parts = self.reader.taken.len();
        write!(f, "BlockScan: table={}, parts={parts}, spans={spans}, in place of rows={}", self.name, self.rows)
    }
}

impl ExecutionPlan for BlockScan {
    fn name(&self) -> &str {
        "BlockScan"
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
        let counted = MetricBuilder::new(&self.metrics).counter("blocks", partition);
        let reader = Arc::clone(&self.reader);
        let batches = (0..reader.taken.len()).map(move |part| {
            let _timer = baseline.elapsed_compute().timer();
            let (blocks, numbers) = &reader.taken[part];
            let states = reader.states(blocks, numbers)?;
            counted.add(states.num_rows());
            Ok(states.record_output(&baseline))
        });
        let stream = futures::stream::iter(batches);
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
