//! Statement parameters: which type each `$n` has.
//!
//! **Invariant:** types only; values come with execution.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, Limit, LogicalPlan};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType as SqlType, ExactNumberInfo, Expr as SqlExpr, TimezoneInfo, Value, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

use crate::{Error, Result};

/// The most parameters of a statement: what the protocol can number.
const PARAMETERS_MAX: usize = u16::MAX as usize;

/// Functions whose argument at a place is of one type, or of one that PostgreSQL prefers, and that take it untyped too.
const DECLARED: &[(&str, usize, DataType)] = &[
    ("time_bucket", 0, INTERVAL),
    ("time_bucket_gapfill", 0, INTERVAL),
    ("date_bin", 0, INTERVAL),
    ("to_timestamp", 0, DataType::Float64),
    ("round", 0, DataType::Float64),
    ("trunc", 0, DataType::Float64),
];
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// A plan, the fields that clients send its parameters as, and the types that the plan wants where they differ.
pub(crate) type Planned = (LogicalPlan, Vec<FieldRef>, Vec<Option<DataType>>);

/// The fields that clients send parameters as, and the types that are wanted where they differ.
pub(crate) type Fields = (Vec<FieldRef>, Vec<Option<DataType>>);

/// Plans a statement and finds the type of each parameter: as the client said, else from where it stands, else text.
pub(crate) async fn plan(state: &SessionState, parsed: Parsed, types: &[Option<DataType>]) -> Result<Planned> {
    let spare = types.iter().any(Option::is_some).then(|| parsed.clone());
    let planned = match state.statement_to_plan(parsed).await {
        Ok(plan) => resolved(state, plan, types),
        Err(error) => Err(error.into()),
    };
    match (planned, spare) {
        (Err(_), Some(mut spare)) => {
            cast_placeholders(&mut spare, types);
            resolved(state, state.statement_to_plan(spare).await?, types)
        }
        (planned, _) => planned,
    }
}

fn resolved(state: &SessionState, plan: LogicalPlan, types: &[Option<DataType>]) -> Result<Planned> {
    let (sent, wanted) = fields(state, &[&plan], types)?;
    Ok((plan, sent, wanted))
}

/// The parameters of plans that are numbered together: the fields that clients send them as, and the types wanted where they
/// differ. Where several plans have one, the first that knows its type decides.
pub(crate) fn fields(state: &SessionState, plans: &[&LogicalPlan], types: &[Option<DataType>]) -> Result<Fields> {
    let mut found: HashMap<String, Option<FieldRef>> = HashMap::new();
    for plan in plans {
        for (id, field) in plan.get_parameter_fields()? {
            let known = found.entry(id).or_default();
            *known = known.take().or(field);
        }
    }
    let is_said = |id: &str| number(id).is_some_and(|number| matches!(types.get(number - 1), Some(Some(_))));
    let is_known = |field: &Option<FieldRef>| field.as_ref().is_some_and(|field| !field.data_type().is_null());
    if found.iter().any(|(id, field)| !is_known(field) && !is_said(id)) {
        for (id, field) in plans.iter().flat_map(|plan| coerced(state, plan)) {
            let known = found.entry(id).or_default();
            *known = known.take().filter(|known| !known.data_type().is_null()).or(Some(field));
        }
    }
    let mut count = types.len();
    for id in found.keys() {
        let number = number(id)
            .ok_or_else(|| Error::InvalidParameter(format!("there is no parameter {id}: write $1, $2, …")))?;
        count = count.max(number);
    }
    let (mut sent, mut wanted) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for number in 1..=count {
        let planned =
            found.get(&format!("${number}")).cloned().flatten().filter(|field| *field.data_type() != DataType::Null);
        let said = types.get(number - 1).cloned().flatten();
        let plain = |data_type| Arc::new(Field::new("", data_type, true));
        sent.push(match (planned.clone(), said) {
            (Some(field), None) => undictionaried(field),
            (Some(field), Some(said)) if undictionaried(Arc::clone(&field)).data_type() == &said => {
                undictionaried(field)
            }
            (_, Some(said)) => plain(said),
            (None, None) => plain(DataType::Utf8),
        });
        wanted.push(planned.map(|field| field.data_type().clone()));
    }
    Ok((sent, wanted))
}

/// The parameters of a plan that only the coercion of types says something of: arguments of functions, branches of CASE, and
/// the numbers of LIMIT and OFFSET.
fn coerced(state: &SessionState, plan: &LogicalPlan) -> Vec<(String, FieldRef)> {
    let mut found = Vec::new();
    let mut note = |expr: &Expr, field: Field| {
        if let Expr::Placeholder(Placeholder { id, field: known }) = expr
            && known.as_ref().is_none_or(|known| known.data_type().is_null())
        {
            found.push((id.clone(), Arc::new(field)));
        }
    };
    let plain = |data_type: &DataType| Field::new("", data_type.clone(), true);
    // What cannot be coerced has its error where it is executed.
    let coerced = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {});
    for plan in std::iter::once(plan).chain(coerced.as_ref().ok()) {
        let _ = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Limit(Limit { skip, fetch, .. }) = node {
                skip.iter().chain(fetch).for_each(|rows| note(rows, plain(&DataType::Int64)));
            }
            let schema = merge_schema(&node.inputs());
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    match expr {
                        Expr::Cast(Cast { expr, field }) => note(expr, plain(field.data_type())),
                        // As `x = ANY ($1)` of questions about the catalog.
                        Expr::ScalarFunction(call) if call.name() == "array_has" => {
                            if let [list, item] = call.args.as_slice()
                                && let Ok((_, item)) = item.to_field(&schema)
                            {
                                let item = item.as_ref().clone().with_name(Field::LIST_FIELD_DEFAULT_NAME);
                                note(list, plain(&DataType::List(Arc::new(item))));
                            }
                        }
                        Expr::ScalarFunction(call) => {
                            for (name, place, declared) in DECLARED {
                                if call.name() == *name
                                    && let Some(argument) = call.args.get(*place)
                                {
                                    note(argument, plain(declared));
                                }
                            }
                        }
                        _ => {}
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        });
    }
    found
}

/// The number of a placeholder, where it is one that a parameter can have.
fn number(id: &str) -> Option<usize> {
    id.trim_start_matches('$').parse().ok().filter(|number| (1..=PARAMETERS_MAX).contains(number))
}

/// A tag's parameter is sent as text.
fn undictionaried(field: FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Dictionary(_, value) => Arc::new(field.as_ref().clone().with_data_type(value.as_ref().clone())),
        _ => field,
    }
}

/// The values in the types that the plan wants.
pub(crate) fn fitted(values: Vec<ScalarValue>, wanted: &[Option<DataType>]) -> Result<Vec<ScalarValue>> {
    let fit = |(value, wanted): (ScalarValue, &Option<DataType>)| match wanted {
        Some(wanted) if value.data_type() != *wanted => Ok(value.cast_to(wanted)?),
        _ => Ok(value),
    };
    values.into_iter().zip(wanted).map(fit).collect()
}

/// The statement that computes the arguments of a CALL.
pub(crate) fn select(arguments: &[SqlExpr]) -> Result<Parsed> {
    let named = |(place, argument): (usize, &SqlExpr)| format!("{argument} AS argument_{place}");
    let list = arguments.iter().enumerate().map(named).collect::<Vec<_>>().join(", ");
    let text = if list.is_empty() { "SELECT 1 WHERE false".to_owned() } else { format!("SELECT {list}") };
    let mut parsed =
        DFParserBuilder::new(text.as_str()).with_dialect(&PostgreSqlDialect {}).build()?.parse_statements()?;
    parsed.pop_front().ok_or_else(|| Error::Internal("a SELECT parsed to nothing".into()))
}

/// `$n` becomes `$n::type` wherever the client named a type.
fn cast_placeholders(parsed: &mut Parsed, types: &[Option<DataType>]) {
    struct Placeholders<'a>(&'a [Option<DataType>]);
    impl VisitorMut for Placeholders<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
            if let SqlExpr::Value(value) = expr
                && let Value::Placeholder(id) = &value.value
                && let Some(number) = number(id)
                && let Some(Some(said)) = self.0.get(number - 1)
                && let Some(data_type) = sql_name(said)
            {
                let inner = Box::new(expr.clone());
                *expr = SqlExpr::Cast { kind: CastKind::Cast, expr: inner, data_type, array: false, format: None };
            }
            ControlFlow::Continue(())
        }
    }
    if let Parsed::Statement(statement) = parsed {
        let _ = VisitMut::visit(statement.as_mut(), &mut Placeholders(types));
    }
}

fn sql_name(data_type: &DataType) -> Option<SqlType> {
    Some(match data_type {
        DataType::Boolean => SqlType::Boolean,
        DataType::Int16 => SqlType::SmallInt(None),
        DataType::Int32 => SqlType::Integer(None),
        DataType::Int64 => SqlType::BigInt(None),
        DataType::Float32 => SqlType::Real,
        DataType::Float64 => SqlType::DoublePrecision,
        DataType::Decimal128(precision, scale) => {
            SqlType::Numeric(ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)))
        }
        DataType::Utf8 => SqlType::Text,
        DataType::List(item) => {
            SqlType::Array(ArrayElemTypeDef::SquareBracket(Box::new(sql_name(item.data_type())?), None))
        }
        DataType::Date32 => SqlType::Date,
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => SqlType::Timestamp(None, TimezoneInfo::Tz),
        DataType::Timestamp(TimeUnit::Microsecond, None) => SqlType::Timestamp(None, TimezoneInfo::None),
        _ => return None,
    })
}
