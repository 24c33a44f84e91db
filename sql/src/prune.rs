//! What a query's filters say about a table's rows, so that the engine reads only these.
//!
//! **Invariant:** exact: a filter is taken whole or not at all, and what is taken selects just the rows for which the filter is true.

use arrow::array::Scalar;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use juno_engine::{Comparison, FieldFilter, TableSchema, TagFilter, TimeRange};

/// The most tag values of one filter that are worth handing down.
const TAG_VALUES_MAX: usize = 1_000;

/// What the engine looks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) time: TimeRange,
    pub(crate) tags: Vec<TagFilter>,
    pub(crate) fields: Vec<FieldFilter>,
}

/// What filters that must all be true say; none where one of them says something else.
pub(crate) fn wanted(table: &TableSchema, filters: &[Expr]) -> Option<Wanted> {
    let mut wanted = Wanted::default();
    filters.iter().try_for_each(|filter| take(table, filter, &mut wanted))?;
    Some(wanted)
}

fn take(table: &TableSchema, filter: &Expr, wanted: &mut Wanted) -> Option<()> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            take(table, left, wanted)?;
            take(table, right, wanted)
        }
        Expr::Between(between) if !between.negated => {
            compare(table, &between.expr, Operator::GtEq, &between.low, wanted)?;
            compare(table, &between.expr, Operator::LtEq, &between.high, wanted)
        }
        _ if any_of(table, filter).is_some() => {
            let (column, any_of) = any_of(table, filter)?;
            wanted.tags.push(TagFilter { column, any_of });
            Some(())
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            compare(table, left, *op, right, wanted).or_else(|| compare(table, right, op.swap()?, left, wanted))
        }
        _ => None,
    }
}

/// A comparison of a column with a constant.
fn compare(table: &TableSchema, left: &Expr, op: Operator, right: &Expr, wanted: &mut Wanted) -> Option<()> {
    let Expr::Literal(value, _) = right else { return None };
    if let Some(time) = table.time().filter(|&time| is_time(left, &table.columns[time].name)) {
        return match (op, literal_us(value)) {
            (Operator::NotEq, _) | (_, None) => field(table, time, op, value, left, wanted),
            (op, Some(bound)) => narrow(&mut wanted.time, op, bound),
        };
    }
    let Expr::Column(named) = left else { return None };
    field(table, table.column(&named.name)?, op, value, left, wanted)
}

fn field(
    table: &TableSchema,
    column: usize,
    op: Operator,
    value: &ScalarValue,
    left: &Expr,
    wanted: &mut Wanted,
) -> Option<()> {
    let comparison = match op {
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    };
    let data_type = &table.columns[column].data_type;
    let ordered = data_type.is_numeric() || matches!(data_type, DataType::Timestamp(_, _) | DataType::Date32);
    // Texts by their equality, which is what looks up a row by its id.
    let known = ordered || (comparison == Comparison::Equal && *data_type == DataType::Utf8);
    let whole = matches!(left, Expr::Column(_)) && known && value.data_type() == *data_type && !value.is_null();
    let value = Scalar::new(value.to_array().ok().filter(|_| whole)?);
    wanted.fields.push(FieldFilter { column, comparison, value });
    Some(())
}

/// Whether an expression is the time, at most in another unit that loses nothing, or in UTC.
fn is_time(expr: &Expr, time: &str) -> bool {
    let utc = |zone: &Option<std::sync::Arc<str>>| zone.as_deref().is_none_or(|zone| matches!(zone, "+00:00" | "UTC"));
    match expr {
        Expr::Column(column) => column.name == time,
        Expr::Cast(cast) => match cast.field.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, zone) => {
                utc(zone) && is_time(&cast.expr, time)
            }
            _ => false,
        },
        _ => false,
    }
}

/// A bound between two microseconds is kept as the one below and the one above.
#[derive(Clone, Copy)]
struct Bound {
    floor: i64,
    ceil: i64,
}

/// Narrows a range to the times that compare so with a bound; none where a range cannot say that.
fn narrow(range: &mut TimeRange, op: Operator, bound: Bound) -> Option<()> {
    let (mut from, mut to) = (i64::MIN, i64::MAX);
    match op {
        Operator::Gt => from = bound.floor.checked_add(1)?,
        Operator::GtEq => from = bound.ceil,
        Operator::Lt => to = bound.ceil,
        Operator::LtEq => to = bound.floor.checked_add(1)?,
        Operator::Eq => (from, to) = (bound.ceil, bound.floor.checked_add(1)?),
        _ => return None,
    }
    // The last time of all is in a range that ends with it.
    if op != Operator::Gt && op != Operator::GtEq && to == i64::MAX {
        return None;
    }
    range.from = range.from.max(from);
    range.to = range.to.min(to);
    Some(())
}

fn literal_us(value: &ScalarValue) -> Option<Bound> {
    let exact = |us: i64| Some(Bound { floor: us, ceil: us });
    match value {
        ScalarValue::TimestampSecond(Some(t), _) => exact(t.checked_mul(1_000_000)?),
        ScalarValue::TimestampMillisecond(Some(t), _) => exact(t.checked_mul(1_000)?),
        ScalarValue::TimestampMicrosecond(Some(t), _) => exact(*t),
        ScalarValue::TimestampNanosecond(Some(t), _) => {
            let floor = t.div_euclid(1_000);
            Some(Bound { floor, ceil: floor + i64::from(t.rem_euclid(1_000) != 0) })
        }
        ScalarValue::Date32(Some(days)) => exact(i64::from(*days).checked_mul(86_400_000_000)?),
        _ => None,
    }
}

/// `tag = 'a'`, `tag IN ('a', 'b')` and `tag = 'a' OR tag = 'b'` as a tag and its values.
fn any_of(table: &TableSchema, filter: &Expr) -> Option<(usize, Vec<String>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (column, mut values) = any_of(table, left)?;
            let (other, more) = any_of(table, right)?;
            values.extend(more);
            (column == other && values.len() <= TAG_VALUES_MAX).then_some((column, values))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (tag(table, left), tag(table, right)) {
            (Some(column), None) => Some((column, vec![text(right)?])),
            (None, Some(column)) => Some((column, vec![text(left)?])),
            _ => None,
        },
        Expr::InList(InList { expr, list, negated: false }) if list.len() <= TAG_VALUES_MAX => {
            Some((tag(table, expr)?, list.iter().map(text).collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// The tag that an expression is, at most as plain text.
fn tag(table: &TableSchema, expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(named) => table.column(&named.name).filter(|column| table.tags().contains(column)),
        Expr::Cast(cast)
            if cast.field.data_type().is_string() || *cast.field.data_type() == TableSchema::tag_type() =>
        {
            tag(table, &cast.expr)
        }
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<String> {
    fn of(value: &ScalarValue) -> Option<String> {
        match value {
            ScalarValue::Dictionary(_, inner) => of(inner),
            other => other.try_as_str().flatten().map(str::to_owned),
        }
    }
    match expr {
        Expr::Literal(literal, _) => of(literal),
        _ => None,
    }
}
