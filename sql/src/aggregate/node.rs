//! The plan node that gives partial states from the blocks of parts.
//!
//! **Invariant:** takes the blocks of its spans and no others; filters on tags are checked here, since blocks stand for rows
//! that no operator sees.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array, new_null_array};
use arrow::compute::{and, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
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

use super::bucket::{Bucket, nullable};
use super::{Group, Question};
use crate::Error;
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
    taken: Vec<Taken>,
}

/// Blocks of one part and width.
struct Taken {
    blocks: Arc<Blocks>,
    /// The numbers of those that are taken, in order.
    numbers: Vec<Range<i64>>,
}

impl BlockScan {
    pub(super) fn new(scan: &Scan, schema: &SchemaRef, question: Question, spans: &[BlockSpan]) -> Self {
        let rows = spans.iter().map(|span| span.rows).sum();
        let mut taken: Vec<Taken> = Vec::new();
        for span in spans.iter().filter(|span| span.rows > 0) {
            // Mostly one of the last.
            let place = taken.iter().rposition(|taken| Arc::ptr_eq(&taken.blocks, &span.blocks));
            let place = place.unwrap_or_else(|| {
                taken.push(Taken { blocks: Arc::clone(&span.blocks), numbers: Vec::new() });
                taken.len() - 1
            });
            taken[place].add(span.number);
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

    /// How many times are taken of each width, and from which rollup.
    fn times(&self) -> String {
        let mut times: BTreeMap<(i64, Option<&str>), i64> = BTreeMap::new();
        for Taken { blocks, numbers } in &self.reader.taken {
            let count = numbers.iter().map(|range| range.end - range.start).sum::<i64>();
            *times.entry((-blocks.width_us(), blocks.rollup())).or_default() += count;
        }
        let text = |((width, rollup), count): (&(i64, Option<&str>), &i64)| {
            let of = format!("{count} of {}", length(-width));
            rollup.map_or(of.clone(), |name| format!("{of} from rollup {name}"))
        };
        times.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

impl Taken {
    fn add(&mut self, number: i64) {
        match self.numbers.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            _ => self.numbers.push(number..number + 1),
        }
    }

    /// The buckets of blocks whose first times are these: worked out once for each number, since a block that is taken lies
    /// in one bucket.
    fn buckets(&self, bucket: &Bucket, first_times: &Int64Array) -> Result<ArrayRef> {
        let mut places: HashMap<i64, u32> = HashMap::new();
        let mut distinct: Vec<i64> = Vec::new();
        let mut before = None;
        let places: UInt32Array = first_times
            .values()
            .iter()
            .map(|&time| {
                let number = time.div_euclid(self.blocks.width_us());
                let place = match before {
                    Some((same, place)) if same == number => place,
                    _ => *places.entry(number).or_insert_with(|| {
                        distinct.push(time);
                        u32::try_from(distinct.len() - 1).expect("a part has fewer blocks")
                    }),
                };
                before = Some((number, place));
                place
            })
            .collect();
        Ok(take(&bucket.of_times(&distinct.into())?, &places, None)?)
    }
}

impl Reader {
    /// The states of the blocks that are taken of one part.
    fn states(&self, taken: &Taken) -> Result<RecordBatch> {
        let series = self.series(&taken.blocks)?;
        let mut keep = BooleanArray::from(vec![true; series.num_rows()]);
        for filter in &self.question.selection.tags {
            let satisfied = filter.evaluate(&series)?.into_array(series.num_rows())?;
            let satisfied = match satisfied.as_boolean() {
                nulls if nulls.null_count() > 0 => prep_null_mask_filter(nulls),
                plain => plain.clone(),
            };
            keep = and(&keep, &satisfied)?;
        }
        let blocks = taken.blocks.select(&keep, &taken.numbers).map_err(Error::from)?;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for group in &self.question.groups {
            columns.push(match group {
                Group::Series(expr) => {
                    let values = expr.evaluate(&series)?.into_array(series.num_rows())?;
                    take(&values, blocks.series(), None)?
                }
                Group::Bucket(bucket) => taken.buckets(bucket, &blocks.first_times().map_err(Error::from)?)?,
            });
        }
        for (place, state) in self.question.states.iter().enumerate() {
            let types = self.types(columns.len(), place);
            let unknown = || DataFusionError::Internal("blocks that were taken lack a measure".into());
            columns.extend(state.columns(&blocks, &types)?.ok_or_else(unknown)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(blocks.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// The types of a state's columns, which begin at `from`.
    fn types(&self, from: usize, place: usize) -> Vec<&DataType> {
        let columns = self.question.states[place].width();
        self.schema.fields()[from..from + columns].iter().map(|field| field.data_type()).collect()
    }

    /// The series as rows of the scan: tags and nothing else.
    fn series(&self, blocks: &Blocks) -> Result<RecordBatch> {
        let tag = |name: &str| self.table.tags().iter().any(|&index| self.table.columns[index].name == name);
        let column = |field: &FieldRef| match field.name().as_str() {
            name if tag(name) => blocks.tag(name),
            _ => new_null_array(field.data_type(), blocks.series()),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(blocks.series()));
        let columns = self.scan.fields().iter().map(column).collect();
        Ok(RecordBatch::try_new_with_options(nullable(&self.scan), columns, &options)?)
    }
}

/// A width as people say it.
pub(crate) fn length(width_us: i64) -> String {
    let units = [("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000), ("second", 1_000_000)];
    let fitting = units.into_iter().find(|(_, unit)| width_us % unit == 0);
    let (unit, count) = fitting.map_or(("microsecond", width_us), |(name, unit)| (name, width_us / unit));
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

impl fmt::Debug for BlockScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockScan").field("table", &self.name).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl DisplayAs for BlockScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: HashSet<u64> = self.reader.taken.iter().map(|taken| taken.blocks.part_number()).collect();
        let (parts, times) = (parts.len(), self.times());
        write!(f, "BlockScan: table={}, parts={parts}, times=[{times}], in place of rows={}", self.name, self.rows)
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
            let states = reader.states(&reader.taken[part])?;
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
