//! Gap filling: what `time_bucket_gapfill` in GROUP BY does to a plan.
//!
//! The rule turns `GROUP BY time_bucket_gapfill(width, time), keys` into the same with `time_bucket`, puts a node above the
//! aggregate (and above HAVING) that adds the missing buckets of each group, and gives `locf` and `interpolate` of that query
//! their window: by the keys, in time order. The bounds are the arguments start and finish, else what WHERE says of the time.
//!
//! **Invariant:** rows of the aggregate pass through unchanged, also those outside the bounds; only missing buckets are added.

mod exec;
mod node;
mod spans;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::expr::{Alias, ScalarFunction, WindowFunction};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, Extension, Filter, LogicalPlan, Operator, Window, WindowFunctionDefinition, lit,
};
use datafusion::optimizer::AnalyzerRule;

pub(crate) use self::exec::Planner;
use self::node::GapFill;
use super::fill::Fill;
use super::{time_bucket, time_bucket_gapfill};
use crate::functions::refusal::invalid;

/// The rule.
#[derive(Debug)]
pub(super) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "juno_gapfill"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut concerned = false;
        plan.apply_with_subqueries(|node| {
            concerned |= match node {
                LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.iter().any(|expr| gapfill(expr).is_some()),
                LogicalPlan::Window(window) => window.window_expr.iter().any(|expr| unordered(expr).is_some()),
                _ => false,
            };
            Ok(if concerned { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !concerned {
            return Ok(plan);
        }
        let rewritten = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) => filled(aggregate),
            LogicalPlan::Filter(filter) => Ok(under_having(filter)),
            LogicalPlan::Window(window) => windowed(window),
            other if !other.inputs().is_empty() => Ok(Transformed::yes(other.recompute_schema()?)),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(rewritten.data)
    }
}

/// The call of `time_bucket_gapfill` that an expression is.
fn gapfill(expr: &Expr) -> Option<&ScalarFunction> {
    match expr {
        Expr::Alias(alias) => gapfill(&alias.expr),
        Expr::ScalarFunction(call) if call.func.name() == time_bucket_gapfill::NAME => Some(call),
        _ => None,
    }
}

/// The call of `locf` or `interpolate` without a window of its own that an expression is.
fn unordered(expr: &Expr) -> Option<(&WindowFunction, &Fill)> {
    let call = match expr {
        Expr::Alias(alias) => return unordered(&alias.expr),
        Expr::WindowFunction(call) => call,
        _ => return None,
    };
    let WindowFunctionDefinition::WindowUDF(function) = &call.fun else { return None };
    let fill = function.inner().downcast_ref::<Fill>()?;
    call.params.order_by.is_empty().then_some((call, fill))
}

/// The aggregate with `time_bucket`, and the node above it.
fn filled(mut aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let Some(time) = aggregate.group_expr.iter().position(|expr| gapfill(expr).is_some()) else {
        return Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate).recompute_schema()?));
    };
    if aggregate.group_expr.iter().filter(|expr| gapfill(expr).is_some()).count() > 1 {
        return Err(invalid("a query can group by one time_bucket_gapfill only"));
    }
    let (qualifier, field) = aggregate.schema.qualified_field(time);
    let (qualifier, name) = (qualifier.cloned(), field.name().clone());
    let call = gapfill(&aggregate.group_expr[time]).expect("found above").clone();
    let mut arguments = call.args.into_iter();
    let (Some(width), Some(at)) = (arguments.next(), arguments.next()) else {
        return Err(invalid("time_bucket_gapfill takes a width and a time"));
    };
    let mut bounds = Bounds { start: given(arguments.next()), finish: given(arguments.next()) };
    bounds.infer(&aggregate.input, &at);
    let bucket = ScalarFunction::new_udf(Arc::new(time_bucket::time_bucket()), vec![width.clone(), at]);
    aggregate.group_expr[time] = Expr::Alias(Alias::new(Expr::ScalarFunction(bucket), qualifier, name));
    let keys = aggregate.group_expr.len();
    let input = Aggregate::try_new(aggregate.input, aggregate.group_expr, aggregate.aggr_expr)?;
    let node = GapFill::try_new(LogicalPlan::Aggregate(input), time, keys, width, bounds.start, bounds.finish)?;
    Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
}

fn given(bound: Option<Expr>) -> Option<Expr> {
    bound.filter(|bound| !matches!(bound, Expr::Literal(value, _) if value.is_null()))
}

/// HAVING leaves groups out before their gaps are filled.
fn under_having(filter: Filter) -> Transformed<LogicalPlan> {
    let Some(above) = node_of(&filter.input) else { return Transformed::no(LogicalPlan::Filter(filter)) };
    let mut below = filter.clone();
    below.input = Arc::new(above.input.clone());
    let node = GapFill { input: LogicalPlan::Filter(below), ..above.clone() };
    Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn node_of(plan: &LogicalPlan) -> Option<&GapFill> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<GapFill>(),
        _ => None,
    }
}

/// Gives `locf` and `interpolate` over a gap-filled aggregate their window.
fn windowed(mut window: Window) -> Result<Transformed<LogicalPlan>> {
    let mut below = window.input.as_ref();
    while let LogicalPlan::Window(inner) = below {
        below = inner.input.as_ref();
    }
    let node = node_of(below);
    for expr in &mut window.window_expr {
        let Some((call, fill)) = unordered(expr) else { continue };
        let Some(node) = node else {
            return Err(invalid(format!(
                "{} needs rows in time order: group by time_bucket_gapfill, or write {0}(…) OVER (PARTITION BY … ORDER BY time)",
                call.fun.name()
            )));
        };
        let (mut call, name) = (call.clone(), expr.schema_name().to_string());
        let time = Expr::Column(Column::from(node.schema.qualified_field(node.time)));
        if fill.takes_time() && call.params.args.len() == 1 {
            call.params.args.push(time.clone());
        }
        let others = (0..node.keys).filter(|key| *key != node.time);
        call.params.partition_by =
            others.map(|key| Expr::Column(Column::from(node.schema.qualified_field(key)))).collect();
        call.params.order_by = vec![time.sort(true, false)];
        *expr = Expr::from(call).alias(name);
    }
    Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(window.window_expr, window.input)?)))
}

/// From when to before when.
struct Bounds {
    start: Option<Expr>,
    finish: Option<Expr>,
}

impl Bounds {
    /// Takes what is not given from the conditions on the time right below the aggregate.
    fn infer(&mut self, input: &LogicalPlan, time: &Expr) {
        let mut below = input;
        loop {
            match below {
                LogicalPlan::Filter(filter) => {
                    for condition in split_conjunction(&filter.predicate) {
                        self.take(condition, time);
                    }
                    below = &filter.input;
                }
                LogicalPlan::SubqueryAlias(alias) => below = &alias.input,
                _ => return,
            }
        }
    }

    fn take(&mut self, condition: &Expr, time: &Expr) {
        match condition {
            Expr::Between(between) if !between.negated && same(&between.expr, time) => {
                self.bound(Operator::GtEq, &between.low);
                self.bound(Operator::LtEq, &between.high);
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if same(left, time) => self.bound(*op, right),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if same(right, time) => {
                if let Some(op) = op.swap() {
                    self.bound(op, left);
                }
            }
            _ => {}
        }
    }

    fn bound(&mut self, op: Operator, at: &Expr) {
        if at.any_column_refs() || at.is_volatile() {
            return;
        }
        let after = || at.clone() + lit(ScalarValue::new_interval_mdn(0, 0, 1_000));
        let (bound, value) = match op {
            Operator::GtEq => (&mut self.start, at.clone()),
            Operator::Gt => (&mut self.start, after()),
            Operator::Lt => (&mut self.finish, at.clone()),
            Operator::LtEq => (&mut self.finish, after()),
            _ => return,
        };
        bound.get_or_insert(value);
    }
}

/// Whether two expressions name the same column, whatever each is cast to.
fn same(expr: &Expr, time: &Expr) -> bool {
    match (uncast(expr), uncast(time)) {
        (Expr::Column(a), Expr::Column(b)) => a.name == b.name,
        (a, b) => a == b,
    }
}

fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => uncast(&cast.expr),
        other => other,
    }
}
