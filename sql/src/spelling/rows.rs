//! Functions that give rows, in SELECT and in FROM, and EXISTS as a value.
//!
//! **Invariant:** a column gets the name that PostgreSQL gives it.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, Ident, ObjectName, SelectItem, TableAlias, TableAliasColumnDef, TableFactor,
};

use super::expression::exists_as_value;
use super::{each_part, parsed_query, plain_name, take};
use crate::cast;
use crate::catalog::PG_CATALOG;
use crate::pg_catalog::INFORMATION_PREFIX;

/// Functions that give a list here and rows in PostgreSQL.
const ROWS: &[&str] = &[
    "generate_series",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_object_keys",
    "json_array_elements",
    "json_array_elements_text",
    "json_object_keys",
];
/// Functions that give a list of (key, value) here and such rows in PostgreSQL.
const MEMBERS: &[&str] = &["jsonb_each", "jsonb_each_text", "json_each", "json_each_text"];

/// The items of a SELECT.
pub(super) fn adapt_items(items: &mut [SelectItem]) {
    for item in items {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let name = match expr {
                    Expr::Function(call) => plain_name(&call.name).filter(|name| ROWS.contains(&name.as_str())),
                    Expr::Exists { .. } => Some("exists".to_owned()),
                    _ => None,
                };
                unnest(expr);
                exists(expr);
                if let Some(name) = name {
                    *item = SelectItem::ExprWithAlias { expr: take(expr), alias: Ident::with_quote('"', name) };
                }
            }
            SelectItem::ExprWithAlias { expr, .. } => {
                unnest(expr);
                exists(expr);
            }
            _ => {}
        }
    }
}

fn unnest(expr: &mut Expr) {
    let Expr::Function(call) = expr else { return };
    if plain_name(&call.name).is_some_and(|name| ROWS.contains(&name.as_str())) {
        *expr = cast::call("unnest", [take(expr)]);
    }
}

/// Changes EXISTS wherever it is part of the expression, but not in sub-queries of it.
fn exists(expr: &mut Expr) {
    each_part(expr, |part| {
        if let Expr::Exists { subquery, negated } = part
            && let Some(value) = exists_as_value(subquery, *negated)
        {
            *part = value;
        }
    });
}

/// A function in FROM becomes a sub-query of its rows.
pub(super) fn adapt_relation(relation: &mut TableFactor) {
    if let TableFactor::Table { name, alias, args: None, .. } = relation {
        adapt_information(name, alias);
        return;
    }
    if let TableFactor::UNNEST { alias, array_exprs, .. } = relation
        && array_exprs.len() == 1
    {
        *alias = Some(aliased(alias.take(), "unnest", "unnest"));
        return;
    }
    let TableFactor::Table { name, alias, args: Some(args), with_ordinality: false, .. } = relation else { return };
    let Some(function) = plain_name(name) else { return };
    if function == "generate_series" && args.args.iter().all(is_number) {
        // DataFusion makes these row by row; only the names are PostgreSQL's.
        *alias = Some(aliased(alias.take(), &function, &function));
        return;
    }
    let arguments = args.args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (query, column) = if ROWS.contains(&function.as_str()) {
        let value =
            if function.ends_with("elements") || function.ends_with("elements_text") { "value" } else { &function };
        (format!("SELECT unnest({function}({arguments})) AS {value}"), value.to_owned())
    } else if MEMBERS.contains(&function.as_str()) {
        let members = format!("SELECT unnest({function}({arguments})) AS member");
        (format!("SELECT member['key'] AS key, member['value'] AS value FROM ({members}) AS members"), String::new())
    } else {
        return;
    };
    if let Some(query) = parsed_query(&query) {
        let alias = Some(aliased(alias.take(), &function, &column));
        *relation = TableFactor::Derived { lateral: false, subquery: Box::new(query), alias, sample: None };
    }
}

/// The views of `information_schema` that juno has, under the names that the catalog has them by.
const INFORMATION: &[&str] = &[
    "columns",
    "constraint_column_usage",
    "key_column_usage",
    "referential_constraints",
    "schemata",
    "table_constraints",
    "tables",
    "views",
];

/// Views of `pg_catalog` that the library does not know, which finds the others without their schema.
const CATALOG: &[&str] = &["pg_indexes", "pg_parameter_acl", "pg_user", "pg_user_mappings"];

/// Finds the views that are juno's own where they are asked for under PostgreSQL's names.
fn adapt_information(name: &mut ObjectName, alias: &mut Option<TableAlias>) {
    let parts: Vec<String> = name.0.iter().filter_map(|part| Some(part.as_ident()?.value.to_lowercase())).collect();
    if let [view] = parts.as_slice()
        && CATALOG.contains(&view.as_str())
    {
        alias.get_or_insert_with(|| TableAlias {
            explicit: true,
            name: Ident::new(view),
            columns: Vec::new(),
            at: None,
        });
        *name = ObjectName::from(vec![Ident::new(PG_CATALOG), Ident::new(view)]);
        return;
    }
    let [.., schema, view] = parts.as_slice() else { return };
    if schema != "information_schema" || !INFORMATION.contains(&view.as_str()) {
        return;
    }
    alias.get_or_insert_with(|| TableAlias { explicit: true, name: Ident::new(view), columns: Vec::new(), at: None });
    *name = ObjectName::from(vec![Ident::new(PG_CATALOG), Ident::new(format!("{INFORMATION_PREFIX}{view}"))]);
}

/// The alias of a function in FROM: it names the one column too, where it names no columns itself.
fn aliased(alias: Option<TableAlias>, function: &str, column: &str) -> TableAlias {
    let given = alias.is_some();
    let mut alias =
        alias.unwrap_or(TableAlias { explicit: true, name: Ident::new(function), columns: Vec::new(), at: None });
    if alias.columns.is_empty() && !column.is_empty() {
        let name = if given { alias.name.clone() } else { Ident::new(column) };
        alias.columns = vec![TableAliasColumnDef { name, data_type: None }];
    }
    alias
}

fn is_number(argument: &FunctionArg) -> bool {
    argument.to_string().parse::<f64>().is_ok()
}
