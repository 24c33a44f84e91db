//! DEFAULT written as a value: `INSERT INTO t VALUES (1, DEFAULT)` and `UPDATE t SET v = DEFAULT`.
//!
//! **Invariant:** only rewrites what was parsed; a DEFAULT becomes the expression that the column was declared with, or NULL.

use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, ObjectName, OnConflict, OnConflictAction, OnInsert, SetExpr, Statement as Sql,
    TableFactor, TableObject, Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use juno_engine::{Catalog, TableSchema};

use crate::definition::{folded, table_name};
use crate::types::{DEFAULT_KEY, HIDDEN_PREFIX};
use crate::{Error, Result};

/// Fills the defaults of an INSERT or UPDATE in. A table that does not exist is left to the planner to refuse.
pub(crate) fn fill(statement: &mut Sql, catalog: &Catalog) -> Result<()> {
    let known = |name: &ObjectName| table_name(name).ok().and_then(|name| catalog.table(&name));
    match statement {
        Sql::Insert(insert) => {
            let TableObject::TableName(name) = &insert.table else { return Ok(()) };
            if let Some(OnInsert::OnConflict(OnConflict { action: OnConflictAction::DoUpdate(update), .. })) =
                &mut insert.on
                && let Some(table) = known(name)
            {
                fill_assignments(table, &mut update.assignments)?;
            }
            let Some(source) = &mut insert.source else { return Ok(()) };
            let SetExpr::Values(values) = source.body.as_mut() else { return Ok(()) };
            let given = |value: &Expr| is_default(value);
            if !values.rows.iter().flat_map(|row| row.iter()).any(given) {
                return Ok(());
            }
            let Some(table) = known(name) else { return Ok(()) };
            let columns: Vec<String> = match insert.columns.is_empty() {
                true => {
                    table.columns.iter().map(|column| column.name.clone()).filter(|name| !is_hidden(name)).collect()
                }
                false => insert.columns.iter().map(last).collect(),
            };
            for row in &mut values.rows {
                for (value, column) in row.iter_mut().zip(&columns).filter(|(value, _)| is_default(value)) {
                    *value = of(table, column)?;
                }
            }
        }
        Sql::Update(update) => {
            let TableFactor::Table { name, .. } = &update.table.relation else { return Ok(()) };
            let Some(table) = known(name) else { return Ok(()) };
            fill_assignments(table, &mut update.assignments)?;
        }
        _ => {}
    }
    Ok(())
}

fn fill_assignments(table: &TableSchema, assignments: &mut [Assignment]) -> Result<()> {
    for Assignment { target, value } in assignments {
        if let AssignmentTarget::ColumnName(column) = target
            && is_default(value)
        {
            *value = of(table, &last(column))?;
        }
    }
    Ok(())
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(HIDDEN_PREFIX)
}

/// The word itself; `"default"` in quotes would be a column.
fn is_default(value: &Expr) -> bool {
    matches!(value, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

fn last(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default()
}

/// What a column is by default.
pub(crate) fn of(table: &TableSchema, column: &str) -> Result<Expr> {
    let declared = table.column(column).and_then(|index| table.columns[index].metadata.get(DEFAULT_KEY));
    let Some(sql) = declared else { return Ok(Expr::value(Value::Null)) };
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_expr());
    parsed.map_err(|error| Error::Internal(format!("the default of column \"{column}\" does not parse: {error}")))
}
