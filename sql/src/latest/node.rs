//! The plan node that reads the newest row of each series.
//!
//! **Invariant:** decides nothing: that newer rows suffice was found out by who made it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use juno_engine::{ScanRequest, TableSnapshot};

use crate::Error;

/// Reads the newest row of each series of a table.
pub(super) struct LatestScan {
    name: String,
    schema: SchemaRef,
    table: TableSnapshot,
    request: ScanRequest,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
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
        LatestScan { name: name.to_owned(), schema, table, request, properties: Arc::new(properties), metrics }
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
        let read = move || {
            let _timer = baseline.elapsed_compute().timer();
            let rows = table.latest(&request).map_err(Error::from)?;
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
