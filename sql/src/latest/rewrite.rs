//! Two ways to ask for the newest row of each group, put as a scan that gives no others before anything is optimised.
//!
//! `SELECT DISTINCT ON (tags) … ORDER BY tags, time DESC` and the join of a table with its own `max(time)` by tags: planned as
//! they are written they cost more than all the rows there are to read.
//!
//! **Invariant:** only what is understood in full is rewritten; any other plan stays as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator, SubqueryAlias, TableScan,
};
use juno_engine::TableSchema;

use super::table::{Newest, NewestTable};
use crate::prune;
use crate::table::Table;

/// The plan with such scans in place.
pub(crate) fn rewritten(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !plan.exists(|node| Ok(matches!(node, LogicalPlan::Distinct(Distinct::On(_)) | LogicalPlan::Join(_))))? {
        return Ok(plan);
    }
    let swapped = plan.transform_up(|node| {
        let swapped = match &node {
            LogicalPlan::Distinct(Distinct::On(distinct)) => of_distinct(distinct)?,
            LogicalPlan::Join(join) => of_join(join)?,
            _ => None,
        };
        Ok(match swapped {
            Some(swapped) => Transformed::yes(swapped),
            None => Transformed::no(node),
        })
    })?;
    match swapped.transformed {
        false => Ok(swapped.data),
        true => swapped.data.transform_up(|node| node.recompute_schema().map(Transformed::yes)).map(|done| done.data),
    }
}

/// The newest rows in the order asked for, then the items selected.
fn of_distinct(distinct: &DistinctOn) -> Result<Option<LogicalPlan>> {
    let Some(order) = &distinct.sort_expr else { return Ok(None) };
    let groups: Option<Vec<&str>> = distinct.on_expr.iter().map(name).collect();
    let (Some(groups), Some((time, by_groups))) = (groups, order.split_last()) else { return Ok(None) };
    // What stands behind the time decides between rows of one time, which the scan does not.
    if by_groups.len() != distinct.on_expr.len() || time.asc {
        return Ok(None);
    }
    let Some(time) = name(&time.expr) else { return Ok(None) };
    let Some(newest) = swapped(&distinct.input, &groups, time, Newest::One, &mut Vec::new())? else { return Ok(None) };
    let sorted = LogicalPlanBuilder::from(newest).sort(by_groups.to_vec())?;
    let items = distinct.select_expr.iter().zip(distinct.schema.iter());
    let items = items.map(|(item, (qualifier, field))| match item {
        Expr::Column(_) | Expr::Alias(_) => item.clone(),
        _ => item.clone().alias_qualified(qualifier.cloned(), field.name()),
    });
    sorted.project(items)?.build().map(Some)
}

/// The name of a column.
fn name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

/// A table under filters and another name, with the newest rows of its groups in its place.
fn swapped(
    plan: &LogicalPlan,
    groups: &[&str],
    time: &str,
    newest: Newest,
    filters: &mut Vec<Expr>,
) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Filter(filter) => {
            filters.extend(split_conjunction(&filter.predicate).into_iter().cloned());
            swapped(&filter.input, groups, time, newest, filters)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(input) = swapped(&alias.input, groups, time, newest, filters)? else { return Ok(None) };
            let alias = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
            Ok(Some(LogicalPlan::SubqueryAlias(alias)))
        }
        LogicalPlan::TableScan(scan) => scanned(scan, groups, time, newest, std::mem::take(filters)),
        _ => Ok(None),
    }
}

fn scanned(
    scan: &TableScan,
    groups: &[&str],
    time: &str,
    newest: Newest,
    filters: Vec<Expr>,
) -> Result<Option<LogicalPlan>> {
    let Some(provider) = whole(scan) else { return Ok(None) };
    let Some(table) = provider.downcast_ref::<Table>().map(Table::stored) else { return Ok(None) };
    let known = groups.iter().all(|group| is_tag(table, group)) && is_time(table, time);
    if !known || prune::wanted(table, &filters).is_none_or(|wanted| !wanted.fields.is_empty()) {
        return Ok(None);
    }
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    let source = provider_as_source(Arc::new(NewestTable::new(provider, groups, newest)));
    LogicalPlanBuilder::scan_with_filters(scan.table_name.clone(), source, None, filters)?.build().map(Some)
}

/// The table of a scan that nothing was done to.
fn whole(scan: &TableScan) -> Option<Arc<dyn TableProvider>> {
    let plain = scan.projection.is_none() && scan.filters.is_empty() && scan.fetch.is_none();
    plain.then(|| source_as_provider(&scan.source).ok()).flatten()
}

fn is_tag(table: &TableSchema, name: &str) -> bool {
    table.column(name).is_some_and(|column| table.tags().contains(&column))
}

fn is_time(table: &TableSchema, name: &str) -> bool {
    table.time().is_some_and(|time| table.columns[time].name == name)
}

/// A join of a table with its latest times: the rows of these times, and the times beside them.
fn of_join(join: &Join) -> Result<Option<LogicalPlan>> {
    let plain = join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNothing;
    let Some(equal) = equalities(join).filter(|_| plain) else { return Ok(None) };
    for (outer, inner) in [(&join.left, &join.right), (&join.right, &join.left)] {
        if let Some(swapped) = of_sides(join, outer, inner, &equal)? {
            return Ok(Some(swapped));
        }
    }
    Ok(None)
}

fn of_sides(
    join: &Join,
    outer: &LogicalPlan,
    inner: &LogicalPlan,
    equal: &[(&Column, &Column)],
) -> Result<Option<LogicalPlan>> {
    let Some(latest) = Latest::of(inner) else { return Ok(None) };
    if scan_below(outer).is_none_or(|scan| scan.table_name != latest.scan.table_name) {
        return Ok(None);
    }
    // By the inner's column: the outer's that must be equal.
    let mut joined = BTreeMap::new();
    for &(one, other) in equal {
        let (ours, theirs) = if outer.schema().has_column(one) { (one, other) } else { (other, one) };
        let (true, Some(place)) = (outer.schema().has_column(ours), place(inner.schema(), theirs)) else {
            return Ok(None);
        };
        if ours.name != latest.columns[place] {
            return Ok(None);
        }
        joined.insert(ours.name.as_str(), ours);
    }
    if !latest.columns.iter().all(|column| joined.contains_key(column)) {
        return Ok(None);
    }
    let (groups, time) = (&latest.groups, latest.time);
    let Some(newest) = swapped(outer, groups, time, Newest::All, &mut Vec::new())? else { return Ok(None) };
    let item = |(place, (qualifier, field)): (usize, (Option<&TableReference>, &FieldRef))| {
        let inner_at = match std::ptr::eq(inner, join.left.as_ref()) {
            true => Some(place).filter(|&place| place < latest.columns.len()),
            false => place.checked_sub(outer.schema().fields().len()),
        };
        match inner_at {
            Some(at) => {
                Expr::Column(joined[latest.columns[at]].clone()).alias_qualified(qualifier.cloned(), field.name())
            }
            None => Expr::Column(Column::new(qualifier.cloned(), field.name())),
        }
    };
    let items: Vec<Expr> = join.schema.iter().enumerate().map(item).collect();
    LogicalPlanBuilder::from(newest).project(items)?.build().map(Some)
}

/// The pairs of columns that a join wants to be equal; none where it wants anything else.
fn equalities(join: &Join) -> Option<Vec<(&Column, &Column)>> {
    let mut pairs = Vec::new();
    for (left, right) in &join.on {
        pairs.push((left.try_as_col()?, right.try_as_col()?));
    }
    for conjunct in join.filter.iter().flat_map(split_conjunction) {
        match conjunct {
            Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
                pairs.push((binary.left.try_as_col()?, binary.right.try_as_col()?));
            }
            _ => return None,
        }
    }
    Some(pairs)
}

/// The scan of an unfiltered table under whatever name.
fn scan_below(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => scan_below(&alias.input),
        LogicalPlan::TableScan(scan) => Some(scan),
        _ => None,
    }
}

fn place(schema: &DFSchema, column: &Column) -> Option<usize> {
    schema.maybe_index_of_column(column)
}

/// `SELECT tags, max(time) FROM table GROUP BY tags`, its columns in any order and under any name.
struct Latest<'a> {
    scan: &'a TableScan,
    groups: Vec<&'a str>,
    time: &'a str,
    /// The table's column that each of its columns is.
    columns: Vec<&'a str>,
}

impl<'a> Latest<'a> {
    fn of(plan: &'a LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => Latest::of(&alias.input),
            LogicalPlan::Projection(projection) => {
                let below = Latest::of(&projection.input)?;
                let column = |expr: &Expr| {
                    let Expr::Column(column) = unaliased(expr) else { return None };
                    Some(below.columns[place(projection.input.schema(), column)?])
                };
                let columns = projection.expr.iter().map(column).collect::<Option<_>>()?;
                Some(Latest { columns, ..below })
            }
            LogicalPlan::Aggregate(aggregate) => Latest::of_aggregate(aggregate),
            _ => None,
        }
    }

    fn of_aggregate(aggregate: &'a Aggregate) -> Option<Self> {
        let scan = scan_below(&aggregate.input)?;
        let groups = aggregate.group_expr.iter().map(name).collect::<Option<Vec<_>>>()?;
        let [Expr::AggregateFunction(call)] = aggregate.aggr_expr.as_slice() else { return None };
        let arguments = &call.params;
        let odd = arguments.distinct || arguments.filter.is_some() || !arguments.order_by.is_empty();
        let ([argument], "max", false) = (arguments.args.as_slice(), call.func.name(), odd) else { return None };
        let time = name(argument)?;
        let columns = groups.iter().copied().chain([time]).collect();
        (!groups.is_empty()).then_some(Latest { scan, groups, time, columns })
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
