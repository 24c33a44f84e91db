//! The plan node that reads the newest row of each series, or of each group of series.
//!
//! **Invariant:** decides nothing: that newer rows suffice was found out by who made it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::row::{Row, RowConverter, SortField};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use juno_engine::{ScanRequest, TableSnapshot};

use super::table::Newest;
use crate::Error;

/// Reads the newest row of each series of a table.
pub(super) struct LatestScan {
    name: String,
    schema: SchemaRef,
    table: TableSnapshot,
    request: ScanRequest,
    pick: Option<Arc<Pick>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Which of the newest rows are given; columns are those that are read.
pub(super) struct Pick {
    /// What rows must satisfy.
    pub(super) filters: Vec<Arc<dyn PhysicalExpr>>,
    /// The tags that name a group.
    pub(super) groups: Vec<usize>,
    pub(super) time: usize,
    pub(super) newest: Newest,
    /// How many of the columns are given, from the first.
    pub(super) columns: usize,
}

impl Pick {
    fn of(&self, mut rows: RecordBatch) -> Result<RecordBatch> {
        for filter in &self.filters {
            let keep = filter.evaluate(&rows)?.into_array(rows.num_rows())?;
            rows = filter_record_batch(&rows, keep.as_boolean())?;
        }
        let picked = self.rows(&rows)?;
        let given = rows.project(&(0..self.columns).collect::<Vec<_>>())?;
        Ok(match picked.len() == given.num_rows() {
            // In order, so that they are all.
            true => given,
            false => take_record_batch(&given, &picked)?,
        })
    }

    /// The rows that are given, in order.
    fn rows(&self, rows: &RecordBatch) -> Result<UInt32Array> {
        let columns: Vec<ArrayRef> = self.groups.iter().map(|&group| Arc::clone(rows.column(group))).collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let names = RowConverter::new(fields)?.convert_columns(&columns)?;
        let times = rows.column(self.time).as_primitive::<TimestampMicrosecondType>().values();
        let mut newest: HashMap<Row<'_>, usize> = HashMap::with_capacity(rows.num_rows());
        for (row, name) in names.iter().enumerate() {
            let best = newest.entry(name).or_insert(row);
            if times[row] > times[*best] {
                *best = row;
            }
        }
        let named = |row: usize| columns.iter().all(|column| column.is_valid(row));
        let given = names.iter().enumerate().filter(|(row, name)| match self.newest {
            Newest::One => newest[name] == *row,
            Newest::All => times[*row] == times[newest[name]] && named(*row),
        });
        given.map(|(row, _)| u32::try_from(row).map_err(|error| DataFusionError::External(error.into()))).collect()
    }
}

impl LatestScan {
    pub(super) fn new(name: &str, schema: SchemaRef, table: TableSnapshot, request: ScanRequest) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        let (name, properties) = (name.to_owned(), Arc::new(properties));
        LatestScan { name, schema, table, request, pick: None, properties, metrics }
    }

    /// Gives only some of the rows.
    pub(super) fn picking(self, pick: Pick) -> Self {
        LatestScan { pick: Some(Arc::new(pick)), ..self }
    }
}

impl fmt::Debug for LatestScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatestScan").field("table", &self.name).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl DisplayAs for LatestScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "LatestScan: table={}, columns=[{}]", self.name, columns.join(", "))
    }
}

impl ExecutionPlan for LatestScan {
    fn name(&self) -> &str {
        "LatestScan"
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
        let (table, request, schema) = (self.table.clone(), self.request.clone(), Arc::clone(&self.schema));
        let pick = self.pick.clone();
        let read = move || {
            let _timer = baseline.elapsed_compute().timer();
            let rows = table.latest(&request).map_err(Error::from)?;
            let rows = match pick {
                Some(pick) => pick.of(rows)?,
                None => rows,
            };
            let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
            let rows = RecordBatch::try_new_with_options(schema, rows.columns().to_vec(), &options)?;
            Ok(rows.record_output(&baseline))
        };
        let stream = futures::stream::once(async move { read() });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
