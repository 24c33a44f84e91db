//! What a query's filters say about time and tags, so that the engine can skip what cannot match.
//!
//! **Invariant:** conservative: an expression that is not understood prunes nothing, and DataFusion filters the rows again.

use datafusion::common::Column;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use juno_engine::{TableSchema, TagFilter, TimeRange};

/// The most tag values of one filter that are worth handing down.
const TAG_VALUES_MAX: usize = 1_000;

/// Whether a filter can prune anything.
pub(crate) fn prunes(table: &TableSchema, filter: &Expr) -> bool {
    let filters = std::slice::from_ref(filter);
    let all = time_range(table, filters);
    all.from != i64::MIN || all.to != i64::MAX || !tags(table, filters).is_empty()
}

/// The half-open range of times, in µs, outside which no row can match.
pub(crate) fn time_range(table: &TableSchema, filters: &[Expr]) -> TimeRange {
    let mut range = TimeRange { from: i64::MIN, to: i64::MAX };
    if let Some(time) = table.time() {
        let name = &table.columns[time].name;
        filters.iter().for_each(|filter| narrow(&mut range, name, filter));
    }
    range
}

fn narrow(range: &mut TimeRange, time: &str, filter: &Expr) {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            narrow(range, time, left);
            narrow(range, time, right);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if let (true, Some(bound)) = (names(left, time), literal_us(right)) {
                apply(range, *op, bound);
            } else if let (true, Some(bound), Some(op)) = (names(right, time), literal_us(left), op.swap()) {
                apply(range, op, bound);
            }
        }
        Expr::Between(between) if !between.negated && names(&between.expr, time) => {
            if let (Some(low), Some(high)) = (literal_us(&between.low), literal_us(&between.high)) {
                apply(range, Operator::GtEq, low);
                apply(range, Operator::LtEq, high);
            }
        }
        _ => {}
    }
}

/// A bound between two microseconds is kept as the one below and the one above.
#[derive(Clone, Copy)]
struct Bound {
    floor: i64,
    ceil: i64,
}

fn apply(range: &mut TimeRange, op: Operator, bound: Bound) {
    match op {
        Operator::Gt | Operator::GtEq => range.from = range.from.max(bound.floor),
        Operator::Lt => range.to = range.to.min(bound.ceil),
        Operator::LtEq => range.to = range.to.min(bound.ceil.saturating_add(1)),
        Operator::Eq => {
            range.from = range.from.max(bound.floor);
            range.to = range.to.min(bound.ceil.saturating_add(1));
        }
        _ => {}
    }
}

fn names(expr: &Expr, column: &str) -> bool {
    named_column(expr).is_some_and(|named| named.name == column)
}

fn literal_us(expr: &Expr) -> Option<Bound> {
    let Expr::Literal(value, _) = expr else { return None };
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

/// For each tag that the filters pin to values: the values.
pub(crate) fn tags(table: &TableSchema, filters: &[Expr]) -> Vec<TagFilter> {
    let mut found = Vec::new();
    filters.iter().for_each(|filter| pin(table, filter, &mut found));
    found
}

fn pin(table: &TableSchema, filter: &Expr, found: &mut Vec<TagFilter>) {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            pin(table, left, found);
            pin(table, right, found);
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq | Operator::Or, right: _ })
            if named_column(left).is_none() =>
        {
            if let Some((column, any_of)) = any_of(table, filter) {
                found.push(TagFilter { column, any_of });
            }
        }
        Expr::BinaryExpr(_) | Expr::InList(_) => {
            if let Some((column, any_of)) = any_of(table, filter) {
                found.push(TagFilter { column, any_of });
            }
        }
        _ => {}
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

fn tag(table: &TableSchema, expr: &Expr) -> Option<usize> {
    let column = table.column(&named_column(expr)?.name)?;
    table.tags().contains(&column).then_some(column)
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

/// The column that an expression names, looking through casts.
pub(crate) fn named_column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(cast) => named_column(&cast.expr),
        Expr::TryCast(cast) => named_column(&cast.expr),
        _ => None,
    }
}
