//! The plan node that reads stages one after the other, until they gave enough rows.
//!
//! **Invariant:** a stage that was begun is read to its end; one that is not needed is not begun.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, execute_stream,
};
use futures::{TryStreamExt, stream};

/// Reads plans of one schema in their order.
pub(super) struct StagedExec {
    stages: Vec<Arc<dyn ExecutionPlan>>,
    /// Rows that are enough.
    rows: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// How far an execution is.
struct Progress {
    stages: std::vec::IntoIter<Arc<dyn ExecutionPlan>>,
    current: Option<SendableRecordBatchStream>,
    missing: usize,
    baseline: BaselineMetrics,
    context: Arc<TaskContext>,
}

impl StagedExec {
    /// At least one stage.
    pub(super) fn new(stages: Vec<Arc<dyn ExecutionPlan>>, rows: usize) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(stages[0].schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { stages, rows, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl fmt::Debug for StagedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedExec").field("stages", &self.stages).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl DisplayAs for StagedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StagedExec: stages={}, rows={}", self.stages.len(), self.rows)
    }
}

impl ExecutionPlan for StagedExec {
    fn name(&self) -> &str {
        "StagedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.stages.iter().collect()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.stages.len()]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children, self.rows)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let begin = Progress {
            stages: self.stages.clone().into_iter(),
            current: None,
            missing: self.rows,
            baseline: BaselineMetrics::new(&self.metrics, partition),
            context,
        };
        let batches = stream::try_unfold(begin, async |mut progress| {
            loop {
                let Some(current) = &mut progress.current else {
                    let Some(stage) = progress.stages.next().filter(|_| progress.missing > 0) else { return Ok(None) };
                    progress.current = Some(execute_stream(stage, Arc::clone(&progress.context))?);
                    continue;
                };
                match current.try_next().await? {
                    Some(batch) => {
                        progress.missing = progress.missing.saturating_sub(batch.num_rows());
                        return Ok(Some((batch.record_output(&progress.baseline), progress)));
                    }
                    None => progress.current = None,
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
