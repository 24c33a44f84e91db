//! Checks on calls of the ML functions that only the parsed call can show: clauses that make no sense, constants out of range.
//!
//! **Invariant:** refuses or passes on; the only thing it rewrites is the type of an untyped parameter.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr};
use datafusion::logical_expr::{Expr, WindowFunctionDefinition};

use super::forecast::{Request, Task};
use crate::functions::refusal::invalid;

/// Checks calls of `forecast`, the scores and the studies while SQL is planned.
#[derive(Debug)]
pub(super) struct Calls;

impl ExprPlanner for Calls {
    fn plan_aggregate(&self, mut call: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        if let Some(task) = Task::named(call.func.name()) {
            if call.distinct || !call.order_by.is_empty() {
                let name = task.name();
                return Err(invalid(format!("{name} takes no DISTINCT and no ORDER BY: rows may come in any order")));
            }
            for (index, constant) in task.constants().iter().enumerate() {
                typed(call.args.get_mut(2 + index), &type_of(constant));
            }
            Request::check(task, call.args.iter().skip(2).map(Some))?;
        }
        if STUDIES.contains(&call.func.name()) {
            let name = call.func.name();
            if call.distinct || !call.order_by.is_empty() {
                let text = format!("{name} takes no DISTINCT and no ORDER BY: rows may come in any order");
                return Err(invalid(text));
            }
            (2..call.args.len()).for_each(|index| typed(call.args.get_mut(index), &DataType::Float64));
        }
        Ok(PlannerResult::Original(call))
    }

    fn plan_window(&self, call: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        match &call.func_def {
            WindowFunctionDefinition::AggregateUDF(function) if Task::named(function.name()).is_some() => {
                return Err(invalid(format!("{} is an aggregate: use GROUP BY in place of OVER", function.name())));
            }
            WindowFunctionDefinition::AggregateUDF(function) if STUDIES.contains(&function.name()) => {
                let name = function.name();
                return Err(invalid(format!("{name} is an aggregate: use GROUP BY in place of OVER")));
            }
            WindowFunctionDefinition::WindowUDF(function) if SCORES.contains(&function.name()) => {
                score(function.name(), &call)?;
            }
            _ => {}
        }
        Ok(PlannerResult::Original(call))
    }
}

/// Window functions that judge a point by those before it.
const SCORES: [&str; 2] = ["anomaly_score", "anomaly_pvalue"];
/// Aggregates over the points of a series.
const STUDIES: [&str; 3] = ["anomalies", "change_points", "diagnose"];

fn score(name: &str, call: &RawWindowExpr) -> Result<()> {
    let Some(first) = call.order_by.first() else {
        return Err(invalid(format!("{name} needs its window in time order: add ORDER BY time to OVER (…)")));
    };
    if !first.asc {
        let text = format!("{name} learns from the past: its window must be ordered by time ascending, not DESC");
        return Err(invalid(text));
    }
    if call.filter.is_some() || call.distinct || call.null_treatment.is_some() {
        let text = format!("{name} takes no FILTER, DISTINCT or NULLS clause: filter rows in a sub-query");
        return Err(invalid(text));
    }
    Ok(())
}

/// The type that a constant of a [`Task`] is read as.
pub(super) fn type_of(constant: &str) -> DataType {
    match constant {
        "level" => DataType::Float64,
        "origins" => DataType::Int64,
        _ => DataType::Utf8,
    }
}

/// Gives a parameter such as `$1`, of which nothing else says the type, the type that its argument expects.
pub(super) fn typed(argument: Option<&mut Expr>, data_type: &DataType) {
    if let Some(Expr::Placeholder(parameter)) = argument
        && parameter.field.is_none()
    {
        parameter.field = Some(Arc::new(Field::new(&parameter.id, data_type.clone(), true)));
    }
}
