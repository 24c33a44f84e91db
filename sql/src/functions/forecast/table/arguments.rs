//! The arguments of the table function: which relation, which columns, which constants.
//!
//! **Invariant:** every refusal names the argument.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableSource};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableFactor, Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::FutureExt;

use super::super::{Request, step_fields};
use crate::Error;
use crate::functions::calls::typed;
use crate::functions::refusal::invalid;

/// Names of the arguments, in the order that they have without names.
const NAMES: [&str; 6] = ["relation", "value", "by", "horizon", "level", "time"];

/// The arguments, resolved.
pub(super) struct Arguments {
    pub(super) input: LogicalPlan,
    pub(super) time: Option<Column>,
    pub(super) value: Column,
    pub(super) by: Vec<Column>,
    pub(super) horizon: Expr,
    pub(super) level: Option<Expr>,
}

impl Arguments {
    /// Resolves what was written between the parentheses.
    pub(super) fn plan(
        args: Vec<FunctionArg>,
        catalogs: &Arc<dyn CatalogProviderList>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Self> {
        let [relation, value, by, horizon, level, time] = arrange(args, context)?;
        let relation =
            relation.ok_or_else(|| missing("relation", "the name of a table or a sub-query in parentheses"))?;
        let value = value.ok_or_else(|| missing("value", "the name of the column to forecast"))?;
        let horizon = horizon.ok_or_else(|| missing("horizon", "an interval like '24 hours' or a number of steps"))?;
        let input = plan_relation(relation, catalogs, context)?;
        let schema = input.schema();
        let column = |name: &str, expr: SqlExpr| -> Result<Column> { find(schema, name, &one_name(name, expr)?) };
        let value = column("value", value)?;
        let time = time.map(|expr| column("time", expr)).transpose()?;
        let by = by.map(|expr| by_columns(schema, expr)).transpose()?.unwrap_or_default();
        let mut constant = |expr, data_type| -> Result<Expr> {
            let mut expr = context.sql_to_expr(expr, &DFSchema::empty())?;
            typed(Some(&mut expr), data_type);
            Ok(expr)
        };
        let horizon = constant(horizon, &DataType::Utf8)?;
        let level = level.map(|expr| constant(expr, &DataType::Float64)).transpose()?;
        Request::check(Some(&horizon), level.as_ref())?;
        Ok(Arguments { time, value, by, horizon, level, input })
    }
}

fn missing(name: &str, what: &str) -> datafusion::common::DataFusionError {
    invalid(format!("forecast needs the argument {name}: {what}"))
}

/// Each argument at its place in [`NAMES`].
fn arrange(args: Vec<FunctionArg>, context: &dyn RelationPlannerContext) -> Result<[Option<SqlExpr>; 6]> {
    let mut places: [Option<SqlExpr>; 6] = Default::default();
    for (index, arg) in args.into_iter().enumerate() {
        let (name, arg) = match arg {
            FunctionArg::Unnamed(arg) => (None, arg),
            FunctionArg::Named { name, arg, .. } => (Some(name), arg),
            FunctionArg::ExprNamed { name: SqlExpr::Identifier(name), arg, .. } => (Some(name), arg),
            other => return Err(invalid(format!("forecast cannot take the argument {other}"))),
        };
        let FunctionArgExpr::Expr(expr) = arg else {
            return Err(invalid(format!("forecast cannot take the argument {arg}")));
        };
        let place = match name {
            Some(name) => place_of(&context.normalize_ident(name))?,
            None if places.iter().skip(index).any(Option::is_some) => {
                return Err(invalid("forecast takes arguments without a name before those with one"));
            }
            None => index,
        };
        match places.get_mut(place) {
            Some(place @ None) => *place = Some(expr),
            Some(Some(_)) => return Err(invalid(format!("argument {} of forecast is given twice", NAMES[place]))),
            None => {
                return Err(invalid(format!("forecast takes at most {} arguments: {}", NAMES.len(), NAMES.join(", "))));
            }
        }
    }
    Ok(places)
}

fn place_of(name: &str) -> Result<usize> {
    NAMES
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| invalid(format!("forecast has no argument \"{name}\"; it takes {}", NAMES.join(", "))))
}

fn plan_relation(
    relation: SqlExpr,
    catalogs: &Arc<dyn CatalogProviderList>,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let name = match relation {
        SqlExpr::Subquery(subquery) => {
            return context.plan(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None });
        }
        SqlExpr::Identifier(name) => ObjectName::from(vec![name]),
        SqlExpr::CompoundIdentifier(parts) => ObjectName(parts.into_iter().map(ObjectNamePart::Identifier).collect()),
        other => {
            let text = text("relation", &other)?;
            parsed(&text, |parser| parser.parse_object_name(false))
                .ok_or_else(|| invalid(format!("argument relation of forecast: '{text}' is no table name")))?
        }
    };
    let table = context.object_name_to_table_reference(name.clone())?;
    let planned = context.plan(TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    });
    planned.or_else(|unknown| match look_up(&table, catalogs, context) {
        Some(source) => LogicalPlanBuilder::scan(table, source?, None)?.build(),
        None => Err(unknown),
    })
}

/// A table that the catalogs hold and can give at once.
fn look_up(
    table: &TableReference,
    catalogs: &Arc<dyn CatalogProviderList>,
    context: &dyn RelationPlannerContext,
) -> Option<Result<Arc<dyn TableSource>>> {
    let defaults = &context.context_provider().options().catalog;
    let table = table.clone().resolve(&defaults.default_catalog, &defaults.default_schema);
    let schema = catalogs.catalog(&table.catalog)?.schema(&table.schema)?;
    let found = schema.table(&table.table).now_or_never()?;
    found.transpose().map(|provider| provider.map(provider_as_source))
}

/// The columns of `by`: `'a, b'`, `ARRAY['a', 'b']`, or a name without quotes.
fn by_columns(schema: &DFSchema, expr: SqlExpr) -> Result<Vec<Column>> {
    let names = match expr {
        SqlExpr::Array(array) => array.elem.into_iter().map(|expr| one_name("by", expr)).collect::<Result<Vec<_>>>()?,
        SqlExpr::Identifier(name) => vec![Name::Ident(name)],
        other => {
            let text = text("by", &other)?;
            match schema.has_column_with_unqualified_name(&text) {
                true => vec![Name::Text(text)],
                false => parsed(&text, |parser| parser.parse_comma_separated(Parser::parse_identifier))
                    .ok_or_else(|| invalid(format!("argument by of forecast: '{text}' is no list of columns")))?
                    .into_iter()
                    .map(Name::Ident)
                    .collect(),
            }
        }
    };
    let mut columns: Vec<Column> = Vec::with_capacity(names.len());
    for name in &names {
        let column = find(schema, "by", name)?;
        if step_fields().iter().any(|field| *field.name() == column.name) {
            return Err(invalid(format!(
                "argument by of forecast: \"{}\" is also the name of a result column: rename it in a sub-query",
                column.name
            )));
        }
        if columns.iter().any(|known| known.name == column.name) {
            return Err(invalid(format!("argument by of forecast names \"{}\" twice", column.name)));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// A column's name as it was written.
enum Name {
    /// As text: exact, or else as SQL would fold it.
    Text(String),
    Ident(Ident),
}

fn one_name(argument: &str, expr: SqlExpr) -> Result<Name> {
    match expr {
        SqlExpr::Identifier(name) => Ok(Name::Ident(name)),
        other => text(argument, &other).map(Name::Text),
    }
}

fn text(argument: &str, expr: &SqlExpr) -> Result<String> {
    match expr {
        SqlExpr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Ok(text.trim().to_owned()),
            Value::DollarQuotedString(text) => Ok(text.value.trim().to_owned()),
            other => Err(invalid(format!("argument {argument} of forecast must be a name in quotes, not {other}"))),
        },
        other => Err(invalid(format!("argument {argument} of forecast must be a name in quotes, not {other}"))),
    }
}

fn find(schema: &DFSchema, argument: &str, name: &Name) -> Result<Column> {
    let candidates = match name {
        Name::Text(text) => {
            let quoted = parsed(text, |parser| parser.parse_identifier()).filter(|ident| ident.quote_style.is_some());
            vec![text.clone(), quoted.map_or_else(|| text.to_lowercase(), |ident| ident.value)]
        }
        Name::Ident(ident) if ident.quote_style.is_some() => vec![ident.value.clone()],
        Name::Ident(ident) => vec![ident.value.to_lowercase(), ident.value.clone()],
    };
    for candidate in &candidates {
        let mut matches = schema.columns().into_iter().filter(|column| column.name == *candidate);
        match (matches.next(), matches.next()) {
            (Some(column), None) => return Ok(column),
            (Some(_), Some(_)) => {
                let text = format!("argument {argument} of forecast: column \"{candidate}\" is ambiguous");
                return Err(Error::AmbiguousColumn(text).into());
            }
            (None, _) => {}
        }
    }
    let known: Vec<String> = schema.columns().into_iter().map(|column| column.name).collect();
    let text = format!(
        "argument {argument} of forecast: column \"{}\" does not exist; the relation has {}",
        candidates[0],
        known.join(", ")
    );
    Err(Error::UndefinedColumn(text).into())
}

/// What the whole of a text parses to.
fn parsed<T>(
    text: &str,
    parse: impl FnOnce(&mut Parser) -> Result<T, datafusion::sql::sqlparser::parser::ParserError>,
) -> Option<T> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?;
    let parsed = parse(&mut parser).ok()?;
    (parser.next_token().token == Token::EOF).then_some(parsed)
}
