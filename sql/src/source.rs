//! What an operator reads: one scan, under filters and projections whose meaning is known.
//!
//! **Invariant:** a plan that is not understood in full is no source; nothing is guessed.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use juno_engine::{TableSchema, TimeRange};

use crate::scan::Scan;

/// A scan and what happens to its rows.
pub(crate) struct Source<'a> {
    pub(crate) scan: &'a Scan,
    /// The columns that come out, in terms of the scan's.
    pub(crate) columns: Vec<Arc<dyn PhysicalExpr>>,
    /// What rows must satisfy, in terms of the scan's columns.
    filters: Vec<Arc<dyn PhysicalExpr>>,
}

/// Filters that say no more than this.
pub(crate) struct Selection {
    /// The times of the rows, no others.
    pub(crate) time: TimeRange,
    /// What else a row must satisfy; looks at tags alone, so that it holds for all rows of a series or for none.
    pub(crate) tags: Vec<Arc<dyn PhysicalExpr>>,
}

impl<'a> Source<'a> {
    /// The source that a plan is; none where it is anything else.
    pub(crate) fn of(plan: &'a Arc<dyn ExecutionPlan>) -> Option<Self> {
        if let Some(scan) = plan.downcast_ref::<Scan>() {
            let fields = scan.schema().fields().clone();
            let column = |(index, name): (usize, &String)| Arc::new(Column::new(name, index)) as Arc<dyn PhysicalExpr>;
            let columns = fields.iter().map(|field| field.name()).enumerate().map(column).collect();
            return Some(Source { scan, columns, filters: scan.filters()? });
        }
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let mut source = Source::of(filter.input())?;
            for conjunct in split_conjunction(filter.predicate()) {
                source.filters.push(source.substituted(conjunct).ok()?);
            }
            if let Some(kept) = filter.projection() {
                source.columns = kept.iter().map(|&index| Arc::clone(&source.columns[index])).collect();
            }
            return filter.fetch().is_none().then_some(source);
        }
        let projection = plan.downcast_ref::<ProjectionExec>()?;
        let mut source = Source::of(projection.input())?;
        let columns = projection.expr().iter().map(|item| source.substituted(&item.expr));
        source.columns = columns.collect::<Result<_>>().ok()?;
        Some(source)
    }

    /// An expression over the columns that come out, as one over the scan's.
    pub(crate) fn substituted(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        in_terms_of(expr, &self.columns)
    }

    /// The table as it is read.
    pub(crate) fn table(&self) -> &TableSchema {
        self.scan.origin().table.schema()
    }

    /// Whether an expression over the scan's columns is the time column itself.
    pub(crate) fn is_time(&self, expr: &Arc<dyn PhysicalExpr>) -> bool {
        self.column_of(expr).is_some_and(|index| self.table().time() == Some(index))
    }

    /// The table's column that an expression is; none for any other expression.
    pub(crate) fn column_of(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
        self.table().column(expr.downcast_ref::<Column>()?.name())
    }

    /// Whether an expression gives all rows of a series the same value.
    pub(crate) fn is_of_series(&self, expr: &Arc<dyn PhysicalExpr>) -> bool {
        let table = self.table();
        let tag = |column: &Column| table.column(column.name()).is_some_and(|index| table.tags().contains(&index));
        !datafusion::physical_expr_common::physical_expr::is_volatile(expr) && collect_columns(expr).iter().all(tag)
    }

    /// What the filters say, where they speak of the time and of tags only.
    pub(crate) fn selection(&self) -> Option<Selection> {
        self.table().time()?;
        let mut selection = Selection { time: self.scan.origin().request.time, tags: Vec::new() };
        let add = |filter: &Arc<dyn PhysicalExpr>| {
            if self.is_of_series(filter) {
                selection.tags.push(Arc::clone(filter));
                return ControlFlow::Continue(());
            }
            match self.times(filter) {
                Some(range) => {
                    selection.time.from = selection.time.from.max(range.from);
                    selection.time.to = selection.time.to.min(range.to);
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Break(()),
            }
        };
        self.filters.iter().try_for_each(add).is_continue().then_some(selection)
    }

    /// The times that satisfy a comparison of the time column with a constant.
    fn times(&self, filter: &Arc<dyn PhysicalExpr>) -> Option<TimeRange> {
        let comparison = filter.downcast_ref::<BinaryExpr>()?;
        let (op, bound) = if self.is_time(comparison.left()) {
            (*comparison.op(), microseconds(comparison.right())?)
        } else if self.is_time(comparison.right()) {
            (comparison.op().swap()?, microseconds(comparison.left())?)
        } else {
            return None;
        };
        // A range that ends at the last time includes it.
        let after = bound.checked_add(1).filter(|&after| after < i64::MAX)?;
        let (from, to) = match op {
            Operator::Gt => (after, i64::MAX),
            Operator::GtEq => (bound, i64::MAX),
            Operator::Lt => (i64::MIN, bound),
            Operator::LtEq => (i64::MIN, after),
            Operator::Eq => (bound, after),
            _ => return None,
        };
        Some(TimeRange { from, to })
    }
}

fn microseconds(expr: &Arc<dyn PhysicalExpr>) -> Option<i64> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::TimestampMicrosecond(time, _) => *time,
        _ => None,
    }
}

/// An expression over some columns as one over what these are expressions of.
pub(crate) fn in_terms_of(
    expr: &Arc<dyn PhysicalExpr>,
    columns: &[Arc<dyn PhysicalExpr>],
) -> Result<Arc<dyn PhysicalExpr>> {
    let swap = |expr: Arc<dyn PhysicalExpr>| match expr.downcast_ref::<Column>() {
        Some(column) => Ok(Transformed::yes(Arc::clone(&columns[column.index()]))),
        None => Ok(Transformed::no(expr)),
    };
    Arc::clone(expr).transform_up(swap).map(|done| done.data)
}

/// The node over other children.
pub(crate) fn over(
    node: Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    node.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// The plan with another leaf in the place of its only one.
pub(crate) fn with_leaf(plan: &Arc<dyn ExecutionPlan>, leaf: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match plan.children().first() {
        None => Ok(leaf),
        Some(child) => {
            let child = with_leaf(child, leaf)?;
            over(Arc::clone(plan), vec![child])
        }
    }
}
