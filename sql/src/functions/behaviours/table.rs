//! `FROM brute_force(relation, …)`: which columns of the relation are meant, and the plan of the aggregate over them.
//!
//! A column is the one that its argument names, else one of a name that it is known by. Where no argument names a column and not
//! all that are needed are found by name, the relation's columns are taken in their order.
//!
//! **Invariant:** only plans; it reads no rows.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{Column as Named, DFSchema, ExprSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::sql::sqlparser::ast::FunctionArg;
use juno_kernels::Device;

use super::told::fields;
use super::{Behaviour, Column, Kind, Unit, aggregate};
use crate::Error;
use crate::functions::arguments::Arguments;
use crate::functions::over_relations::rows;
use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::mismatch;
use crate::types::timestamptz;

/// Plans a call.
pub(in crate::functions) fn plan(
    behaviour: &'static Behaviour,
    args: Vec<FunctionArg>,
    device: &Device,
    catalogs: &Arc<dyn CatalogProviderList>,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let columns = behaviour.columns.iter().map(|column| column.name);
    let constants = behaviour.constants.iter().map(|constant| constant.name);
    let names: Vec<&'static str> = std::iter::once("relation").chain(columns).chain(constants).collect();
    let mut arguments = Arguments::arrange(behaviour.name, &names, args, context)?;
    let relation = arguments.need("relation", "the name of a table or a sub-query in parentheses")?;
    let input = arguments.relation("relation", relation, catalogs, context)?;
    let found = resolve(behaviour, &mut arguments, input.schema())?;
    let row = behaviour.columns.iter().zip(found).map(|(column, found)| {
        let to = arrow_type(column.kind);
        let expr = match found {
            Some(found) => cast(checked(behaviour, column, found, input.schema())?, to),
            None => lit(ScalarValue::try_from(to)?),
        };
        Ok(expr.alias(column.name))
    });
    let row = row.collect::<Result<Vec<_>>>()?;
    let input = LogicalPlanBuilder::from(input).project(row)?.build()?;
    let mut call: Vec<Expr> =
        behaviour.columns.iter().map(|column| Expr::Column(Named::from_name(column.name))).collect();
    for constant in behaviour.constants {
        let of = if constant.unit == Unit::Span { DataType::Utf8 } else { DataType::Float64 };
        call.push(match arguments.take(constant.name) {
            Some(expr) => arguments.constant(expr, &of, context)?,
            None => lit(ScalarValue::Null),
        });
    }
    rows(input, aggregate(behaviour, device).call(call), Vec::new(), &fields(behaviour))
}

fn arrow_type(kind: Kind) -> DataType {
    match kind {
        Kind::Time => timestamptz(),
        Kind::Text => DataType::Utf8,
        Kind::Number => DataType::Float64,
    }
}

/// The relation's column for each of the behaviour's.
fn resolve(behaviour: &Behaviour, arguments: &mut Arguments, schema: &DFSchema) -> Result<Vec<Option<Named>>> {
    let mut by_argument = false;
    let mut found = Vec::new();
    for column in behaviour.columns {
        let named = arguments.take(column.name);
        by_argument |= named.is_some();
        found.push(match named {
            Some(named) => Some(arguments.column(schema, column.name, named)?),
            None => by_name(behaviour, column, schema)?,
        });
    }
    if found[0].is_none() && found.iter().skip(1).any(Option::is_some) {
        found[0] = Some(arguments.time(schema)?);
    }
    let missing = behaviour.columns.iter().zip(&found).find(|(column, found)| column.needed && found.is_none());
    let enough = |found: &[Option<Named>]| {
        let has = |name: &str| {
            let place = behaviour.columns.iter().position(|column| column.name == name);
            place.is_some_and(|place| found[place].is_some())
        };
        behaviour.either.is_empty() || behaviour.either.iter().any(|group| group.iter().all(|name| has(name)))
    };
    if missing.is_none() && enough(&found) {
        return Ok(found);
    }
    let least = behaviour.columns.iter().filter(|column| column.needed).count();
    let given = schema.columns();
    if !by_argument && (least..=behaviour.columns.len()).contains(&given.len()) {
        let mut in_order: Vec<Option<Named>> = given.into_iter().map(Some).collect();
        in_order.resize(behaviour.columns.len(), None);
        if enough(&in_order) {
            return Ok(in_order);
        }
    }
    let given: Vec<String> = schema.columns().into_iter().map(|column| column.name).collect();
    Err(lacking(behaviour, missing.map(|(column, _)| column), &given.join(", ")))
}

fn lacking(behaviour: &Behaviour, missing: Option<&Column>, given: &str) -> datafusion::common::DataFusionError {
    let name = behaviour.name;
    let text = match missing {
        Some(column) => format!(
            "{name} needs the column {}, known as {}: name it with {} => '…'; the relation has {given}",
            column.name,
            column.known_as.join(", "),
            column.name
        ),
        None => {
            let groups: Vec<String> = behaviour.either.iter().map(|group| group.join(" and ")).collect();
            format!("{name} needs the column {}; the relation has {given}", groups.join(", or "))
        }
    };
    Error::UndefinedColumn(text).into()
}

/// The relation's column of a name that this one is known by.
fn by_name(behaviour: &Behaviour, column: &Column, schema: &DFSchema) -> Result<Option<Named>> {
    for name in column.known_as {
        let mut matches = schema.columns().into_iter().filter(|given| given.name == *name);
        match (matches.next(), matches.next()) {
            (Some(_), Some(_)) => {
                let text = format!("column \"{name}\" of the relation that {} was given is ambiguous", behaviour.name);
                return Err(Error::AmbiguousColumn(text).into());
            }
            (Some(given), None) => return Ok(Some(given)),
            (None, _) => {}
        }
    }
    Ok(None)
}

/// The column, if its type can be read as what is needed.
fn checked(behaviour: &Behaviour, column: &Column, found: Named, schema: &DFSchema) -> Result<Expr> {
    let given = schema.field_from_column(&found)?.data_type().clone();
    let plain = match &given {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    let (fits, what) = match column.kind {
        Kind::Time => (matches!(plain, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64), "a timestamp"),
        Kind::Text => (
            plain.is_string() || plain.is_integer() || matches!(plain, DataType::Boolean | DataType::Null),
            "text, a whole number or boolean",
        ),
        Kind::Number => (plain.is_numeric() || plain.is_null(), "a number"),
    };
    if fits {
        return Ok(Expr::Column(found));
    }
    let text = format!(
        "argument {} of {} must be {what}, but column \"{}\" is {}",
        column.name,
        behaviour.name,
        found.name,
        name_of(&given)
    );
    Err(mismatch(text))
}
