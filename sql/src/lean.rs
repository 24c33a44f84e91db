//! A shorter way to plan the queries that ask most often: one table, filtered, grouped, sorted.
//!
//! DataFusion's optimiser looks in every plan for joins, subqueries, unions and windows, and goes over it several times. A plan
//! that has none of them is done after one pass of the few rules that can do something for it.
//!
//! **Invariant:** leaves out only rules of DataFusion's own that have nothing to do in such a plan; juno's rules all run.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// Logical rules of DataFusion that can do something for a plan over one table.
const LOGICAL: &[&str] = &[
    "simplify_expressions",
    "eliminate_filter",
    "eliminate_limit",
    "push_down_limit",
    "push_down_filter",
    "optimize_projections",
];
/// Physical ones, for plans that are not yet [`settled`].
const UNSETTLED: &[&str] = &[
    "OutputRequirements",
    "EnsureRequirements",
    "CombinePartialFinalAggregate",
    "ProjectionPushdown",
    "LimitPushdown",
];
/// What makes leaves give way to others: for every plan.
const COOPERATIVE: &str = "EnsureCooperative";
/// Aggregates that no rule rewrites.
const AGGREGATES: &[&str] = &["avg", "count", "max", "min", "sum"];

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// The state with the rules that plans which [`fits`] need.
pub(crate) fn lean(state: &SessionState) -> SessionState {
    let known: HashSet<String> = Optimizer::new().rules.iter().map(|rule| rule.name().to_owned()).collect();
    let needed = |name: &str| LOGICAL.contains(&name) || !known.contains(name);
    let logical = state.optimizers().iter().filter(|rule| needed(rule.name())).cloned().collect();
    let known: HashSet<String> = PhysicalOptimizer::new().rules.iter().map(|rule| rule.name().to_owned()).collect();
    let (mut physical, mut unsettled) = (Vec::<Rule>::new(), Vec::new());
    let mut place = 0;
    for rule in state.physical_optimizers() {
        if UNSETTLED.contains(&rule.name()) {
            unsettled.push(Arc::clone(rule));
        } else if rule.name() == COOPERATIVE || !known.contains(rule.name()) {
            // Those of juno's that look for shortcuts come first.
            place = if unsettled.is_empty() { physical.len() + 1 } else { place };
            physical.push(Arc::clone(rule));
        }
    }
    physical.insert(place, Arc::new(Unsettled(unsettled)));
    let mut config = state.config().clone();
    config.options_mut().optimizer.max_passes = 1;
    SessionStateBuilder::new_from_existing(state.clone())
        .with_config(config)
        .with_optimizer_rules(logical)
        .with_physical_optimizer_rules(physical)
        .build()
}

/// Rules that have nothing to do for a plan that is settled.
#[derive(Debug)]
struct Unsettled(Vec<Rule>);

impl PhysicalOptimizerRule for Unsettled {
    fn name(&self) -> &str {
        "juno_unsettled"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if settled(&plan) {
            return Ok(plan);
        }
        self.0.iter().try_fold(plan, |plan, rule| rule.optimize(plan, config))
    }
}

/// Whether every node has its input as it needs it: those that want a single partition have one.
fn settled(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let input = || plan.children().into_iter().next().filter(|input| settled(input));
    match plan.name() {
        "Scan" | "LatestScan" | "BlockScan" => true,
        "ProjectionExec" | "FilterExec" | "RunsExec" | "StagedExec" => input().is_some(),
        "SortExec" => input().is_some_and(|input| input.output_partitioning().partition_count() == 1),
        _ => false,
    }
}

/// Whether a plan reads one table and only filters, groups, projects, sorts and limits its rows.
pub(crate) fn fits(plan: &LogicalPlan) -> bool {
    let mut plain = true;
    let looked = plan.apply(|node| {
        plain &= match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::TableScan(_) => is_plain(node).unwrap_or(false),
            _ => false,
        };
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    looked.is_ok() && plain
}

/// Whether a node's expressions hold no plans and no aggregates that need rules of their own.
fn is_plain(node: &LogicalPlan) -> Result<bool> {
    let mut plain = true;
    node.apply_expressions(|expr| {
        let odd = expr.exists(|expr| {
            Ok(match expr {
                Expr::AggregateFunction(call) => {
                    call.params.distinct || !AGGREGATES.contains(&call.func.name()) || call.params.filter.is_some()
                }
                Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(_, _)
                | Expr::GroupingSet(_)
                | Expr::WindowFunction(_)
                | Expr::Unnest(_) => true,
                _ => false,
            })
        })?;
        plain &= !odd;
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(plain)
}
