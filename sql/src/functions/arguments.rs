//! The arguments of a table function over a relation: which relation, which columns, which constants.
//!
//! **Invariant:** every refusal names the function and the argument.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{Column, DFSchema, DataFusionError, ExprSchema, Result, ScalarValue, TableReference};
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

use crate::Error;
use crate::functions::calls::typed;
use crate::functions::refusal::invalid;
use crate::spelling::with_seconds;

/// The arguments of one call, by name.
pub(super) struct Arguments<'a> {
    function: &'static str,
    names: &'a [&'static str],
    given: Vec<Option<SqlExpr>>,
}

impl<'a> Arguments<'a> {
    /// Sorts what was written between the parentheses; `names` are in the order that arguments without a name have.
    pub(super) fn arrange(
        function: &'static str,
        names: &'a [&'static str],
        args: Vec<FunctionArg>,
        context: &dyn RelationPlannerContext,
    ) -> Result<Self> {
        let mut arguments = Self { function, names, given: vec![None; names.len()] };
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
                Some(name) => arguments.place(&context.normalize_ident(name))?,
                None if arguments.given.iter().skip(index).any(Option::is_some) => {
                    return Err(invalid(format!("{function} takes arguments without a name before those with one")));
                }
                None => index,
            };
            arguments.put(place, expr)?;
        }
        Ok(arguments)
    }

    fn place(&self, name: &str) -> Result<usize> {
        let text = || format!("{} has no argument \"{name}\"; it takes {}", self.function, self.names.join(", "));
        self.names.iter().position(|known| *known == name).ok_or_else(|| invalid(text()))
    }

    fn put(&mut self, place: usize, expr: SqlExpr) -> Result<()> {
        let (function, names) = (self.function, self.names);
        match self.given.get_mut(place) {
            Some(given @ None) => *given = Some(expr),
            Some(Some(_)) => return Err(invalid(format!("argument {} of {function} is given twice", names[place]))),
            None => {
                let text = format!("{function} takes at most {} arguments: {}", names.len(), names.join(", "));
                return Err(invalid(text));
            }
        }
        Ok(())
    }

    /// Takes an argument out; none where it was not given.
    pub(super) fn take(&mut self, name: &str) -> Option<SqlExpr> {
        let place = self.names.iter().position(|known| *known == name)?;
        self.given[place].take()
    }

    /// An argument that must be there; `what` says what it is.
    pub(super) fn need(&mut self, name: &str, what: &str) -> Result<SqlExpr> {
        let text = format!("{} needs the argument {name}: {what}", self.function);
        self.take(name).ok_or_else(|| invalid(text))
    }

    /// A relation: the name of a table or a sub-query.
    pub(super) fn relation(
        &self,
        name: &str,
        relation: SqlExpr,
        catalogs: &Arc<dyn CatalogProviderList>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let table = match relation {
            SqlExpr::Subquery(subquery) => {
                return context.plan(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None });
            }
            SqlExpr::Identifier(name) => ObjectName::from(vec![name]),
            SqlExpr::CompoundIdentifier(parts) => {
                ObjectName(parts.into_iter().map(ObjectNamePart::Identifier).collect())
            }
            other => {
                let text = self.text(name, &other)?;
                let wrong = || invalid(format!("argument {name} of {}: '{text}' is no table name", self.function));
                parsed(&text, |parser| parser.parse_object_name(false)).ok_or_else(wrong)?
            }
        };
        planned(table, catalogs, context)
    }

    /// The one column that an argument names.
    pub(super) fn column(&self, schema: &DFSchema, name: &str, expr: SqlExpr) -> Result<Column> {
        let column = match expr {
            SqlExpr::Identifier(ident) => Name::Ident(ident),
            other => Name::Text(self.text(name, &other)?),
        };
        self.find(schema, name, &column)
    }

    /// The columns that an argument names: `'a, b'`, `ARRAY['a', 'b']`, or a name without quotes. None is named as one of `taken`.
    pub(super) fn columns(&self, schema: &DFSchema, name: &str, expr: SqlExpr, taken: &[&str]) -> Result<Vec<Column>> {
        let function = self.function;
        let mut columns: Vec<Column> = Vec::new();
        for column in self.column_names(schema, name, expr)? {
            let column = self.find(schema, name, &column)?;
            if taken.contains(&column.name.as_str()) {
                return Err(invalid(format!(
                    "argument {name} of {function}: \"{}\" is also the name of a result column: rename it in a sub-query",
                    column.name
                )));
            }
            if columns.iter().any(|known| known.name == column.name) {
                return Err(invalid(format!("argument {name} of {function} names \"{}\" twice", column.name)));
            }
            columns.push(column);
        }
        Ok(columns)
    }

    fn column_names(&self, schema: &DFSchema, name: &str, expr: SqlExpr) -> Result<Vec<Name>> {
        match expr {
            SqlExpr::Array(array) => array.elem.iter().map(|expr| Ok(Name::Text(self.text(name, expr)?))).collect(),
            SqlExpr::Identifier(ident) => Ok(vec![Name::Ident(ident)]),
            other => {
                let text = self.text(name, &other)?;
                if schema.has_column_with_unqualified_name(&text) {
                    return Ok(vec![Name::Text(text)]);
                }
                let wrong = || invalid(format!("argument {name} of {}: '{text}' is no list of columns", self.function));
                let idents = parsed(&text, |parser| parser.parse_comma_separated(Parser::parse_identifier));
                Ok(idents.ok_or_else(wrong)?.into_iter().map(Name::Ident).collect())
            }
        }
    }

    /// A constant expression.
    pub(super) fn constant(
        &self,
        expr: SqlExpr,
        data_type: &DataType,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Expr> {
        let mut expr = context.sql_to_expr(expr, &DFSchema::empty())?;
        if let (Expr::Literal(ScalarValue::Utf8(Some(text)), _), DataType::Timestamp(..)) = (&mut expr, data_type)
            && let Some(whole) = with_seconds(text)
        {
            *text = whole;
        }
        typed(Some(&mut expr), data_type);
        Ok(expr)
    }

    fn text(&self, argument: &str, expr: &SqlExpr) -> Result<String> {
        let value = match expr {
            SqlExpr::Value(value) => Some(&value.value),
            _ => None,
        };
        match value {
            Some(Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text)) => Ok(text.trim().to_owned()),
            Some(Value::DollarQuotedString(text)) => Ok(text.value.trim().to_owned()),
            _ => {
                let text = format!("argument {argument} of {} must be a name in quotes, not {expr}", self.function);
                Err(invalid(text))
            }
        }
    }

    fn find(&self, schema: &DFSchema, argument: &str, name: &Name) -> Result<Column> {
        let function = self.function;
        let candidates = match name {
            Name::Text(text) => {
                let quoted =
                    parsed(text, |parser| parser.parse_identifier()).filter(|ident| ident.quote_style.is_some());
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
                    let text = format!("argument {argument} of {function}: column \"{candidate}\" is ambiguous");
                    return Err(Error::AmbiguousColumn(text).into());
                }
                (None, _) => {}
            }
        }
        let known: Vec<String> = schema.columns().into_iter().map(|column| column.name).collect();
        let (name, known) = (&candidates[0], known.join(", "));
        let text =
            format!("argument {argument} of {function}: column \"{name}\" does not exist; the relation has {known}");
        Err(Error::UndefinedColumn(text).into())
    }

    /// The column that the argument time names, else the one called so, else the only timestamp.
    pub(super) fn time(&mut self, schema: &DFSchema) -> Result<Column> {
        if let Some(named) = self.take("time") {
            return self.column(schema, "time", named);
        }
        let is_timestamp = |column: &Column| {
            schema.field_from_column(column).is_ok_and(|field| matches!(field.data_type(), DataType::Timestamp(..)))
        };
        let timestamps: Vec<Column> = schema.columns().into_iter().filter(is_timestamp).collect();
        match (timestamps.iter().find(|column| column.name == "time"), timestamps.as_slice()) {
            (Some(time), _) => Ok(time.clone()),
            (None, [only]) => Ok(only.clone()),
            (None, several) => Err(self.no_time(several)),
        }
    }

    fn no_time(&self, several: &[Column]) -> DataFusionError {
        let names: Vec<_> = several.iter().map(|column| column.name.as_str()).collect();
        invalid(match several {
            [] => format!(
                "{} needs a timestamp column, and its relation has none: name one with time => '…'",
                self.function
            ),
            _ => format!(
                "{} cannot choose among the timestamp columns {}: name one with time => '…'",
                self.function,
                names.join(", ")
            ),
        })
    }
}

/// The plan of a table that was named.
fn planned(
    name: ObjectName,
    catalogs: &Arc<dyn CatalogProviderList>,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
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

/// A column's name as it was written.
enum Name {
    /// As text: exact, or else as SQL would read it.
    Text(String),
    Ident(Ident),
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
