//! Which aggregates can be worked out run by run.
//!
//! **Invariant:** decides and builds; reads no rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::filter::FilterExec;
use juno_engine::TableSchema;

use super::node::RunsExec;
use super::{Aggregate, Bucket, GroupBy, Measure, Phase};
use crate::functions::fixed_bucket;
use crate::scan::Scan;

/// The node that gives what an aggregate over a table gives; none where it is of another kind.
pub(super) fn aggregate(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(last) = plan.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let first = match last.mode() {
        AggregateMode::Final | AggregateMode::FinalPartitioned => match last.input().downcast_ref::<AggregateExec>() {
            Some(first) if *first.mode() == AggregateMode::Partial => first,
            _ => return Ok(None),
        },
        AggregateMode::Single | AggregateMode::SinglePartitioned => last,
        _ => return Ok(None),
    };
    let input = first.input();
    if !is_table(input) || last.limit_options().is_some() || first.filter_expr().iter().any(Option::is_some) {
        return Ok(None);
    }
    let Some((groups, aggregates)) = recognised(first) else { return Ok(None) };
    Ok(Some(Arc::new(RunsExec::new(Arc::clone(input), groups, aggregates, plan.schema(), Phase::Whole))))
}

/// The node that gives the states that a first phase over a table gives of `rows`, which are as its own input; none where
/// it is of another kind.
pub(crate) fn first_phase(first: &AggregateExec, rows: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let (groups, aggregates) = is_table(first.input()).then(|| recognised(first))??;
    Some(Arc::new(RunsExec::new(Arc::clone(rows), groups, aggregates, first.schema(), Phase::First)))
}

/// The node that makes of a first phase's states what the last phase does; none where it is of another kind.
pub(crate) fn last_phase(
    first: &AggregateExec,
    last: &Arc<dyn ExecutionPlan>,
    states: &Arc<dyn ExecutionPlan>,
) -> Option<Arc<dyn ExecutionPlan>> {
    let aggregate = last.downcast_ref::<AggregateExec>()?;
    let plain = first.group_expr().is_single() && first.filter_expr().iter().all(Option::is_none);
    if !plain || aggregate.limit_options().is_some() {
        return None;
    }
    let (input, schema) = (first.input().schema(), first.schema());
    let mut column = first.group_expr().expr().len();
    let group = |column: usize| {
        let unit_ns = match schema.field(column).data_type() {
            data_type if *data_type == TableSchema::tag_type() => return Some(GroupBy::Tag { column }),
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
            _ => return None,
        };
        Some(GroupBy::Bucket { column, width_us: 1, origin_us: 0, unit_ns })
    };
    let groups = (0..column).map(group).collect::<Option<Vec<_>>>().filter(|groups| one_bucket(groups))?;
    let mut aggregates = Vec::with_capacity(first.aggr_expr().len());
    for expr in first.aggr_expr() {
        let found = measure(expr, &input)?;
        aggregates.push(Aggregate { column, ..found });
        column += found.measure.states();
    }
    Some(Arc::new(RunsExec::new(Arc::clone(states), groups, aggregates, last.schema(), Phase::Last)))
}

/// What an aggregate over a table groups by and works out, where all of it is known.
fn recognised(first: &AggregateExec) -> Option<(Vec<GroupBy>, Vec<Aggregate>)> {
    let (schema, by) = (first.input().schema(), first.group_expr());
    let groups = by.expr().iter().map(|(expr, _)| group(expr.as_ref(), &schema)).collect::<Option<Vec<_>>>();
    let groups = groups.filter(|groups| by.is_single() && one_bucket(groups))?;
    let aggregates = first.aggr_expr().iter().map(|expr| measure(expr, &schema)).collect::<Option<Vec<_>>>()?;
    Some((groups, aggregates))
}

/// Whether rows come from a table as it gives them, at most filtered.
fn is_table(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.downcast_ref::<FilterExec>() {
        Some(filter) => is_table(filter.input()),
        None => plan.downcast_ref::<Scan>().is_some(),
    }
}

fn one_bucket(groups: &[GroupBy]) -> bool {
    !groups.is_empty() && groups.iter().filter(|group| matches!(group, GroupBy::Bucket { .. })).count() <= 1
}

/// The buckets of a column of times that an expression gives; each time is one where it is the column.
pub(crate) fn bucket(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Bucket> {
    if let Some((column, 1_000)) = time(expr, schema) {
        return Some(Bucket { column, width_us: 1, origin_us: 0 });
    }
    match group(expr.as_ref(), schema)? {
        GroupBy::Bucket { column, width_us, origin_us, .. } => Some(Bucket { column, width_us, origin_us }),
        GroupBy::Tag { .. } => None,
    }
}

fn group(expr: &dyn PhysicalExpr, schema: &Schema) -> Option<GroupBy> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        let is_tag = *schema.field(column.index()).data_type() == TableSchema::tag_type();
        return is_tag.then_some(GroupBy::Tag { column: column.index() });
    }
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let (column, unit_ns) = time(call.args().get(1)?, schema)?;
    let micros = matches!(call.return_type(), DataType::Timestamp(TimeUnit::Microsecond, _));
    let nanos = matches!(call.return_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
    if !(micros && unit_ns == 1_000 || nanos && unit_ns == 1) {
        return None;
    }
    let constant = |expr: &Arc<dyn PhysicalExpr>| Some(expr.downcast_ref::<Literal>()?.value().clone());
    let width = constant(&call.args()[0])?;
    let origin = match call.args().get(2) {
        Some(origin) => Some(micros_of(&constant(origin)?)?),
        None => None,
    };
    let (width_us, origin_us) = match call.fun().name() {
        "date_bin" => (interval_us(&width)?, origin.unwrap_or(0)),
        "time_bucket" => fixed_bucket(&width, origin)?,
        "date_trunc" if origin.is_none() => truncation(&width)?,
        _ => return None,
    };
    Some(GroupBy::Bucket { column, width_us, origin_us, unit_ns })
}

/// A column of times in microseconds, at most cast to nanoseconds, and the nanoseconds of the unit that it ends up in.
fn time(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<(usize, i64)> {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let utc = |zone: &Option<Arc<str>>| zone.as_deref().is_none_or(|zone| matches!(zone, "+00:00" | "UTC"));
        let unit_ns = match cast.cast_type() {
            DataType::Timestamp(TimeUnit::Microsecond, zone) if utc(zone) => 1_000,
            DataType::Timestamp(TimeUnit::Nanosecond, zone) if utc(zone) => 1,
            _ => return None,
        };
        let (column, _) = time(cast.expr(), schema)?;
        return Some((column, unit_ns));
    }
    let column = expr.downcast_ref::<Column>()?.index();
    let field = schema.field(column);
    let micros = matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _));
    (micros && !field.is_nullable()).then_some((column, 1_000))
}

/// An interval without months, in whole microseconds above zero.
fn interval_us(width: &ScalarValue) -> Option<i64> {
    let ScalarValue::IntervalMonthDayNano(Some(width)) = width else { return None };
    let whole = width.months == 0 && width.nanoseconds % 1_000 == 0;
    let days = i64::from(width.days).checked_mul(86_400_000_000)?;
    days.checked_add(width.nanoseconds / 1_000).filter(|&micros| whole && micros > 0)
}

/// The width and the origin of what `date_trunc` cuts times to, where all are as wide.
fn truncation(unit: &ScalarValue) -> Option<(i64, i64)> {
    let unit = unit.try_as_str()??;
    let seconds = match unit.to_lowercase().as_str() {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        // Weeks begin on Mondays.
        "week" => return Some((7 * 86_400_000_000, 4 * 86_400_000_000)),
        _ => return None,
    };
    Some((seconds * 1_000_000, 0))
}

fn micros_of(time: &ScalarValue) -> Option<i64> {
    match time {
        ScalarValue::TimestampMicrosecond(Some(time), _) => Some(*time),
        ScalarValue::TimestampNanosecond(Some(time), _) if time % 1_000 == 0 => Some(time / 1_000),
        ScalarValue::TimestampMillisecond(Some(time), _) => time.checked_mul(1_000),
        ScalarValue::TimestampSecond(Some(time), _) => time.checked_mul(1_000_000),
        _ => None,
    }
}

fn measure(aggregate: &AggregateFunctionExpr, schema: &Schema) -> Option<Aggregate> {
    if aggregate.is_distinct() || aggregate.ignore_nulls() || !aggregate.order_bys().is_empty() {
        return None;
    }
    let arguments = aggregate.expressions();
    let [argument] = arguments.as_slice() else { return None };
    let result = aggregate.field().data_type().clone();
    let named = aggregate.fun().name();
    if let Some(constant) = argument.downcast_ref::<Literal>() {
        let rows = named == "count" && !constant.value().is_null();
        return rows.then_some(Aggregate { measure: Measure::Rows, column: 0 });
    }
    let (column, cast) = match argument.downcast_ref::<CastExpr>() {
        Some(cast) if *cast.cast_type() == DataType::Float64 => (cast.expr().downcast_ref::<Column>()?, true),
        Some(_) => return None,
        None => (argument.downcast_ref::<Column>()?, false),
    };
    let given = schema.field(column.index()).data_type();
    let measure = match (named, given, &result) {
        ("count", _, DataType::Int64) if !cast => Measure::Count,
        ("avg", DataType::Float64 | DataType::Int64, DataType::Float64) => Measure::Mean,
        ("sum", given, result) if given == result && number(given) && !cast => Measure::Sum,
        ("min", given, result) if given == result && number(given) && !cast => Measure::Min,
        ("max", given, result) if given == result && number(given) && !cast => Measure::Max,
        _ => return None,
    };
    Some(Aggregate { measure, column: column.index() })
}

fn number(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float64 | DataType::Int64)
}
