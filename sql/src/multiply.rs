//! Unnest makes many rows of one, so that a key of its input is no key of its output; DataFusion 55 forgets that and, for
//! `ORDER BY host, time` over an unnested aggregate by host, drops `time`.
//!
//! An analyzer rule puts a node above each Unnest whose schema claims no keys; the planner takes it away again.
//!
//! **Invariant:** the node changes no row and is not there when a plan runs.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError};
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use crate::functions::GapFillPlanner;

/// The same rows, with no key claimed.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Keyless {
    input: LogicalPlan,
    schema: DFSchemaRef,
}

impl Keyless {
    fn over(input: LogicalPlan) -> Result<Self> {
        let fields = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Keyless { input, schema })
    }
}

impl PartialOrd for Keyless {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for Keyless {
    fn name(&self) -> &str {
        "Keyless"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        std::collections::HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyless")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.pop().ok_or_else(|| DataFusionError::Internal("Keyless has one input".into()))?;
        Keyless::over(input)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// A plan that claims no keys. What plans an Unnest itself says so at once: an aggregate over it that is planned before the
/// analyzer runs would group by all that the key is thought to decide.
pub(crate) fn keyless(plan: LogicalPlan) -> Result<LogicalPlan> {
    let node = Arc::new(Keyless::over(plan)?);
    Ok(LogicalPlan::Extension(Extension { node }))
}

/// Puts [`Keyless`] above every Unnest.
#[derive(Debug)]
pub(crate) struct Rule;

impl AnalyzerRule for Rule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut multiplies = false;
        plan.apply_with_subqueries(|node| {
            multiplies |= matches!(node, LogicalPlan::Unnest(_));
            Ok(if multiplies { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !multiplies {
            return Ok(plan);
        }
        let marked = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Unnest(_) => Ok(Transformed::yes(keyless(node)?)),
            other if !other.inputs().is_empty() => Ok(Transformed::yes(other.recompute_schema()?)),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(marked.data)
    }

    fn name(&self) -> &str {
        "juno_multiply"
    }
}

/// DataFusion's planner, which takes the node away and knows the node that fills gaps.
#[derive(Debug)]
pub(crate) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Remove), Arc::new(GapFillPlanner)]);
        planner.create_physical_plan(plan, session).await
    }
}

struct Remove;

#[async_trait]
impl ExtensionPlanner for Remove {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let ours = node.as_any().is::<Keyless>();
        Ok(inputs.first().filter(|_| ours).cloned())
    }
}
