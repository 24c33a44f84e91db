//! Queries that only need the newest row of each series read no others.
//!
//! Three forms are met: `SELECT DISTINCT ON (tags) … ORDER BY tags, time DESC`; aggregates by tags of `last(value, time)` and
//! `max(time)`, and `SELECT DISTINCT tags`; and the join of a table with its own `max(time)` by tags. The plans stay as they
//! are, but for the scan, which gives way to one of the newest rows.
//!
//! **Invariant:** a scan is only replaced where rows that are not the newest of their series cannot matter.

mod node;
mod rewrite;
mod table;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use juno_engine::ScanRequest;

use self::node::LatestScan;
pub(crate) use self::rewrite::rewritten;
use crate::source::{Selection, Source, over, with_leaf};

/// Replaces scans. Runs before DataFusion's own rules, while plans still have their plain form.
#[derive(Debug)]
pub(crate) struct Latest;

impl PhysicalOptimizerRule for Latest {
    fn name(&self) -> &str {
        "juno_latest"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        // Joins first: they look at the scans below their aggregates.
        let joined = plan.transform_down(|node| swapped(node, of_join))?.data;
        Ok(joined.transform_down(|node| swapped(node, of_aggregate))?.data)
    }
}

/// Gives a plan in the place of another, where there is one.
type Swap = fn(&Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>>;

/// Expressions that must be equal in a join.
type On<'a> = [(&'a Arc<dyn PhysicalExpr>, &'a Arc<dyn PhysicalExpr>)];

fn swapped(node: Arc<dyn ExecutionPlan>, swap: Swap) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    Ok(match swap(&node)? {
        Some(swapped) => Transformed::yes(swapped),
        None => Transformed::no(node),
    })
}

/// An aggregate over a scan, with the newest rows in the scan's place.
fn of_aggregate(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(aggregate) = node.downcast_ref::<AggregateExec>() else { return Ok(None) };
    if aggregate.mode().input_mode() != AggregateInputMode::Raw {
        return Ok(None);
    }
    let Some(source) = Source::of(aggregate.input()) else { return Ok(None) };
    let Some(selection) = selection(&source) else { return Ok(None) };
    if !needs_newest_only(aggregate, &source)? {
        return Ok(None);
    }
    let input = newest(aggregate.input(), &source, &selection)?;
    over(Arc::clone(node), vec![input]).map(Some)
}

/// What the rows must satisfy, where aggregates may be used at all.
fn selection(source: &Source<'_>) -> Option<Selection> {
    source.scan.origin().aggregates.then(|| source.selection()).flatten()
}

/// A source with the newest rows in the scan's place.
fn newest(plan: &Arc<dyn ExecutionPlan>, source: &Source<'_>, selection: &Selection) -> Result<Arc<dyn ExecutionPlan>> {
    let origin = source.scan.origin();
    let request = ScanRequest { time: selection.time, ..origin.request.clone() };
    let scan = LatestScan::new(source.scan.name_of_table(), source.scan.schema(), origin.table.clone(), request);
    let mut leaf: Arc<dyn ExecutionPlan> = Arc::new(scan);
    // The scan gave only rows with these tags.
    for filter in source.scan.filters().unwrap_or_default() {
        leaf = Arc::new(FilterExec::try_new(filter, leaf)?);
    }
    with_leaf(plan, leaf)
}

fn needs_newest_only(aggregate: &AggregateExec, source: &Source<'_>) -> Result<bool> {
    if !aggregate.group_expr().is_single() || aggregate.filter_expr().iter().any(Option::is_some) {
        return Ok(false);
    }
    let mut groups = Vec::new();
    for (expr, _) in aggregate.group_expr().expr() {
        let expr = source.substituted(expr)?;
        if !source.is_of_series(&expr) {
            return Ok(false);
        }
        groups.push(expr);
    }
    for function in aggregate.aggr_expr() {
        if !of_newest(function, source, &groups)? {
            return Ok(false);
        }
    }
    Ok(!groups.is_empty() || !aggregate.aggr_expr().is_empty())
}

/// Whether an aggregate's result comes from the rows with the latest time of its group.
fn of_newest(function: &AggregateFunctionExpr, source: &Source<'_>, groups: &[Arc<dyn PhysicalExpr>]) -> Result<bool> {
    if function.is_distinct() || function.ignore_nulls() {
        return Ok(false);
    }
    let arguments = function.expressions();
    let time = |place: usize| arguments.get(place).map(|expr| source.substituted(expr)).transpose();
    let is_time = |expr: Option<Arc<dyn PhysicalExpr>>| expr.is_some_and(|expr| source.is_time(&expr));
    let descending = match function.fun().name() {
        "max" => return Ok(is_time(time(0)?)),
        "last" => return Ok(function.order_bys().is_empty() && is_time(time(1)?)),
        "first_value" => true,
        "last_value" => false,
        _ => return Ok(false),
    };
    for order in function.order_bys() {
        let expr = source.substituted(&order.expr)?;
        if source.is_time(&expr) {
            return Ok(order.options.descending == descending);
        }
        if !groups.contains(&expr) {
            return Ok(false);
        }
    }
    Ok(false)
}

/// A join of a table with its own latest times, with the newest rows in the place of the other side's scan.
fn of_join(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(None) };
    // A join whose one side is not looked at any more is a semi-join.
    let joins = matches!(join.join_type(), JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi);
    if !joins || join.null_equality() != NullEquality::NullEqualsNothing {
        return Ok(None);
    }
    let sides = [join.left(), join.right()];
    for (outer, inner) in [(0, 1), (1, 0)] {
        let on: Vec<_> = join.on().iter().map(|(l, r)| if outer == 0 { (l, r) } else { (r, l) }).collect();
        let Some(source) = Source::of(sides[outer]) else { continue };
        let Some(selection) = selection(&source) else { continue };
        if !joins_its_latest(&source, &selection, sides[inner], &on)? {
            continue;
        }
        let mut children = sides.map(Arc::clone);
        children[outer] = newest(sides[outer], &source, &selection)?;
        return over(Arc::clone(node), children.into()).map(Some);
    }
    Ok(None)
}

/// Whether `inner` gives the latest time of the source by tags, and rows join by all of these and that time.
fn joins_its_latest(
    source: &Source<'_>,
    selection: &Selection,
    inner: &Arc<dyn ExecutionPlan>,
    on: &On<'_>,
) -> Result<bool> {
    let Some((last, columns)) = aggregate_below(inner) else { return Ok(false) };
    let first = last.input().downcast_ref::<AggregateExec>().unwrap_or(last);
    if first.mode().input_mode() != AggregateInputMode::Raw || !first.group_expr().is_single() {
        return Ok(false);
    }
    let Some(theirs) = Source::of(first.input()) else { return Ok(false) };
    let Some(same) = self::selection(&theirs) else { return Ok(false) };
    let text = |selection: &Selection| {
        let mut tags: Vec<_> = selection.tags.iter().map(names_only).collect();
        tags.sort();
        tags
    };
    let one_table = source.scan.name_of_table() == theirs.scan.name_of_table()
        && selection.time == same.time
        && text(selection) == text(&same)
        && source.scan.same_tags(theirs.scan);
    if !one_table || !needs_newest_only(first, &theirs)? {
        return Ok(false);
    }
    let groups = first.group_expr().expr();
    // For each of the aggregate's columns the table's column that it is joined with.
    let mut joined = vec![None; groups.len() + first.aggr_expr().len()];
    for (ours, their) in on {
        let Some(place) = their.downcast_ref::<Column>().and_then(|column| columns.get(column.index())) else {
            continue;
        };
        joined[*place] = source.column_of(&source.substituted(ours)?);
    }
    for (place, (group, _)) in groups.iter().enumerate() {
        let group = theirs.column_of(&theirs.substituted(group)?);
        if group.is_none() || joined[place] != group {
            return Ok(false);
        }
    }
    let by_time = first.aggr_expr().iter().enumerate().any(|(place, function)| {
        function.fun().name() == "max" && joined[groups.len() + place] == source.table().time()
    });
    Ok(by_time)
}

/// An expression as text, where columns are known by name alone.
fn names_only(expr: &Arc<dyn PhysicalExpr>) -> String {
    let swap = |expr: Arc<dyn PhysicalExpr>| match expr.downcast_ref::<Column>() {
        Some(column) => Ok(Transformed::yes(Arc::new(Column::new(column.name(), 0)) as Arc<dyn PhysicalExpr>)),
        None => Ok(Transformed::no(expr)),
    };
    Arc::clone(expr).transform_up(swap).map_or_else(|_| String::new(), |done| done.data.to_string())
}

/// The aggregate whose columns a plan gives, and which of them each of its own is.
fn aggregate_below(plan: &Arc<dyn ExecutionPlan>) -> Option<(&AggregateExec, Vec<usize>)> {
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        return Some((aggregate, (0..aggregate.schema().fields().len()).collect()));
    }
    let projection = plan.downcast_ref::<ProjectionExec>()?;
    let (aggregate, below) = aggregate_below(projection.input())?;
    let column = |expr: &Arc<dyn PhysicalExpr>| below.get(expr.downcast_ref::<Column>()?.index()).copied();
    let columns = projection.expr().iter().map(|item| column(&item.expr)).collect::<Option<_>>()?;
    Some((aggregate, columns))
}
