//! A shorter way to plan the queries that ask most often: one table, filtered, grouped, sorted.
//!
//! DataFusion's optimiser looks in every plan for joins, subqueries, unions and windows, and goes over it several times. A plan
//! that has none of them is done after one pass of the few rules that can do something for it.
//!
//! **Invariant:** leaves out only rules of DataFusion's own that have nothing to do in such a plan; juno's rules all run.

use std::collections::HashSet;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

/// Logical rules of DataFusion that can do something for a plan over one table.
const LOGICAL: &[&str] = &[
    "simplify_expressions",
    "eliminate_filter",
    "eliminate_limit",
    "push_down_limit",
    "push_down_filter",
    "optimize_projections",
];
/// Physical ones.
const PHYSICAL: &[&str] = &[
    "OutputRequirements",
    "EnsureRequirements",
    "CombinePartialFinalAggregate",
    "ProjectionPushdown",
    "LimitPushdown",
    "EnsureCooperative",
];
/// Aggregates that no rule rewrites.
const AGGREGATES: &[&str] = &["avg", "count", "max", "min", "sum"];

/// The state with the rules that plans which [`fits`] need.
pub(crate) fn lean(state: &SessionState) -> SessionState {
    let known: HashSet<String> = Optimizer::new().rules.iter().map(|rule| rule.name().to_owned()).collect();
    let needed = |name: &str| LOGICAL.contains(&name) || !known.contains(name);
    let logical = state.optimizers().iter().filter(|rule| needed(rule.name())).cloned().collect();
    let known: HashSet<String> = PhysicalOptimizer::new().rules.iter().map(|rule| rule.name().to_owned()).collect();
    let needed = |name: &str| PHYSICAL.contains(&name) || !known.contains(name);
    let physical = state.physical_optimizers().iter().filter(|rule| needed(rule.name())).cloned().collect();
    let mut config = state.config().clone();
    config.options_mut().optimizer.max_passes = 1;
    SessionStateBuilder::new_from_existing(state.clone())
        .with_config(config)
        .with_optimizer_rules(logical)
        .with_physical_optimizer_rules(physical)
        .build()
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
