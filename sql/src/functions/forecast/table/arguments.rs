//! The arguments of the table function: which relation, which columns, which constants.
//!
//! **Invariant:** every refusal names the argument.

use std::sync::Arc;

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

use super::super::{Request, Task};
use crate::Error;
use crate::functions::calls::{type_of, typed};
use crate::functions::refusal::invalid;

/// The arguments, resolved.
pub(super) struct Arguments {
    pub(super) input: LogicalPlan,
    pub(super) time: Option<Column>,
    pub(super) value: Column,
    pub(super) by: Vec<Column>,
    /// The task's constants as the aggregate takes them.
    pub(super) constants: Vec<Expr>,
}

impl Arguments {
    /// Resolves what was written between the parentheses.
    pub(super) fn plan(
        task: Task,
        args: Vec<FunctionArg>,
        catalogs: &Arc<dyn CatalogProviderList>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Self> {
        let mut args = arrange(task, args, context)?;
        let mut take =
            |name: &str| task.arguments().iter().position(|known| *known == name).and_then(|at| args[at].take());
        let relation = take("relation")
            .ok_or_else(|| missing(task, "relation", "the name of a table or a sub-query in parentheses"))?;
        let value =
            take("value").ok_or_else(|| missing(task, "value", "the name of the column that holds the values"))?;
        let (by, time) = (take("by"), take("time"));
        let mut constants: Vec<Option<SqlExpr>> = task.constants().iter().map(|name| take(name)).collect();
        if let Some(None) = constants.first() {
            return Err(missing(task, "horizon", "an interval like '24 hours' or a number of steps"));
        }
        while let Some(None) = constants.last() {
            constants.pop();
        }
        let input = plan_relation(task, relation, catalogs, context)?;
        let schema = input.schema();
        let column = |name: &str, expr: SqlExpr| -> Result<Column> {
            let argument = format!("{name} of {}", task.name());
            find(schema, &argument, &one_name(&argument, expr)?)
        };
        let value = column("value", value)?;
        let time = time.map(|expr| column("time", expr)).transpose()?;
        let by = by.map(|expr| by_columns(task, schema, expr)).transpose()?.unwrap_or_default();
        let mut constant = |(name, expr): (&&str, Option<SqlExpr>)| -> Result<Expr> {
            let Some(expr) = expr else { return Ok(Expr::Literal(Request::default_of(name), None)) };
            let mut expr = context.sql_to_expr(expr, &DFSchema::empty())?;
            typed(Some(&mut expr), &type_of(name));
            Ok(expr)
        };
        let constants = task.constants().iter().zip(constants).map(&mut constant).collect::<Result<Vec<_>>>()?;
        Request::check(task, constants.iter().map(Some))?;
        Ok(Arguments { time, value, by, constants, input })
    }
}

fn missing(task: Task, name: &str, what: &str) -> datafusion::common::DataFusionError {
    let function = task.name();
    invalid(format!("{function} needs the argument {name}: {what}"))
}

/// Each argument at its place in [`Task::arguments`].
fn arrange(task: Task, args: Vec<FunctionArg>, context: &dyn RelationPlannerContext) -> Result<Vec<Option<SqlExpr>>> {
    let (function, names) = (task.name(), task.arguments());
    let mut places: Vec<Option<SqlExpr>> = names.iter().map(|_| None).collect();
    for (index, arg) in args.into_iter().enumerate() {
        let (name, arg) = match arg {
            FunctionArg::Unnamed(arg) => (None, arg),
            FunctionArg::Named { name, arg, .. } => (Some(name), arg),
            FunctionArg::ExprNamed { name: SqlExpr::Identifier(name), arg, .. } => (Some(name), arg),
            other => return Err(invalid(format!("{function} cannot take the argument {other}"))),
        };
        let FunctionArgExpr::Expr(expr) = arg else {
            return Err(invalid(format!("{function} cannot take the argument {arg}")));
        };
        let place = match name {
            Some(name) => place_of(task, &context.normalize_ident(name))?,
            None if places.iter().skip(index).any(Option::is_some) => {
                return Err(invalid(format!("{function} takes arguments without a name before those with one")));
            }
            None => index,
        };
        match places.get_mut(place) {
            Some(place @ None) => *place = Some(expr),
            Some(Some(_)) => return Err(invalid(format!("argument {} of {function} is given twice", names[place]))),
            None => {
                return Err(invalid(format!(
                    "{function} takes at most {} arguments: {}",
                    names.len(),
                    names.join(", ")
                )));
            }
        }
    }
    Ok(places)
}

fn place_of(task: Task, name: &str) -> Result<usize> {
    let names = task.arguments();
    let unknown = || invalid(format!("{} has no argument \"{name}\"; it takes {}", task.name(), names.join(", ")));
    names.iter().position(|known| *known == name).ok_or_else(unknown)
}

fn plan_relation(
    task: Task,
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
            let argument = format!("relation of {}", task.name());
            let text = text(&argument, &other)?;
            parsed(&text, |parser| parser.parse_object_name(false))
                .ok_or_else(|| invalid(format!("argument {argument}: '{text}' is no table name")))?
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
fn by_columns(task: Task, schema: &DFSchema, expr: SqlExpr) -> Result<Vec<Column>> {
    let argument = format!("by of {}", task.name());
    let names = match expr {
        SqlExpr::Array(array) => {
            array.elem.into_iter().map(|expr| one_name(&argument, expr)).collect::<Result<Vec<_>>>()?
        }
        SqlExpr::Identifier(name) => vec![Name::Ident(name)],
        other => {
            let text = text(&argument, &other)?;
            match schema.has_column_with_unqualified_name(&text) {
                true => vec![Name::Text(text)],
                false => parsed(&text, |parser| parser.parse_comma_separated(Parser::parse_identifier))
                    .ok_or_else(|| invalid(format!("argument {argument}: '{text}' is no list of columns")))?
                    .into_iter()
                    .map(Name::Ident)
                    .collect(),
            }
        }
    };
    let mut columns: Vec<Column> = Vec::with_capacity(names.len());
    for name in &names {
        let column = find(schema, &argument, name)?;
        if task.fields().iter().any(|field| *field.name() == column.name) {
            return Err(invalid(format!(
                "argument {argument}: \"{}\" is also the name of a result column: rename it in a sub-query",
                column.name
            )));
        }
        if columns.iter().any(|known| known.name == column.name) {
            return Err(invalid(format!("argument {argument} names \"{}\" twice", column.name)));
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
            other => Err(invalid(format!("argument {argument} must be a name in quotes, not {other}"))),
        },
        other => Err(invalid(format!("argument {argument} must be a name in quotes, not {other}"))),
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
                let text = format!("argument {argument}: column \"{candidate}\" is ambiguous");
                return Err(Error::AmbiguousColumn(text).into());
            }
            (None, _) => {}
        }
    }
    let known: Vec<String> = schema.columns().into_iter().map(|column| column.name).collect();
    let text = format!(
        "argument {argument}: column \"{}\" does not exist; the relation has {}",
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
