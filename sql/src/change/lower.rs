//! UPDATE and DELETE as the SELECT that finds their rows.
//!
//! **Invariant:** syntax in, syntax out; only [`cast_assigned`] sees a plan.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::logical_expr::{Expr as Planned, ExprSchemable, LogicalPlan, Projection};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    self, Assignment, AssignmentTarget, Expr, Ident, ObjectName, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    Statement as Sql, TableFactor, TableWithJoins, UpdateTableFromKind, VisitMut, VisitorMut,
    WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use juno_engine::TableSchema;

use super::Target;
use super::scope::field_of;
use crate::catalog::WHOLE_PREFIX;
use crate::definition::folded;
use crate::types::HIDDEN_PREFIX;
use crate::{Error, Result};

/// Puts the WITH of an INSERT where the planner looks for it, and spells DEFAULT VALUES out.
pub(super) fn complete(insert: &mut ast::Insert, with: Option<ast::With>, target: &Target) -> Result<()> {
    let source = match insert.source.take() {
        Some(source) => source,
        None => {
            let first = target.table.columns.iter().find(|column| !column.name.starts_with(HIDDEN_PREFIX));
            let first = first.ok_or_else(|| Error::Internal("a table has columns".into()))?;
            insert.columns = vec![ObjectName::from(vec![quoted(&first.name)])];
            let default = crate::default::of(&target.table, &first.name)?;
            query(&format!("VALUES ({default})"))?
        }
    };
    let mut source = source;
    match (with, &mut source.with) {
        (Some(outer), Some(inner)) => inner.cte_tables.splice(0..0, outer.cte_tables).for_each(drop),
        (Some(outer), none) => *none = Some(outer),
        (None, _) => {}
    }
    spell_out_values(&mut source)?;
    insert.source = Some(source);
    name_columns(insert, target)
}

/// Makes selects of the VALUES below the source of an INSERT: the planner holds all of them to the columns of the table.
fn spell_out_values(source: &mut ast::Query) -> Result<()> {
    struct Below {
        depth: usize,
    }
    impl VisitorMut for Below {
        type Break = Error;
        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
            self.depth += 1;
            match query.body.as_ref() {
                SetExpr::Values(values) if self.depth > 1 => match selects(values) {
                    Ok(body) => query.body = body,
                    Err(error) => return ControlFlow::Break(error),
                },
                _ => {}
            }
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<Error> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
    }
    match VisitMut::visit(source, &mut Below { depth: 0 }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The rows of VALUES, each as a SELECT.
fn selects(values: &ast::Values) -> Result<Box<SetExpr>> {
    let row = |row: &[Expr]| {
        let named: Vec<String> = row.iter().zip(1..).map(|(value, at)| format!("{value} AS column{at}")).collect();
        format!("SELECT {}", named.join(", "))
    };
    let rows: Vec<String> = values.rows.iter().map(|one| row(&one.content)).collect();
    Ok(query(&rows.join(" UNION ALL "))?.body)
}

/// An INSERT that names no columns may give fewer values than there are: those for the first columns.
fn name_columns(insert: &mut ast::Insert, target: &Target) -> Result<()> {
    let body = insert.source.as_ref().map(|source| source.body.as_ref());
    let given = match body {
        Some(SetExpr::Values(values)) => {
            let given = values.rows.first().map_or(0, |row| row.len());
            if values.rows.iter().any(|row| row.len() != given) {
                return Err(Error::Syntax("VALUES lists must all be the same length".into()));
            }
            given
        }
        Some(SetExpr::Select(select))
            if select
                .projection
                .iter()
                .all(|item| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })) =>
        {
            select.projection.len()
        }
        _ => return Ok(()),
    };
    let visible =
        target.table.columns.iter().map(|column| &column.name).filter(|name| !name.starts_with(HIDDEN_PREFIX));
    let all = visible.clone().count();
    let named = insert.columns.len();
    let wanted = if named == 0 { all } else { named };
    if given > wanted {
        return Err(Error::Syntax(format!(
            "INSERT has more expressions than target columns: {given} values for {wanted} columns"
        )));
    }
    if named > given {
        return Err(Error::Syntax(format!(
            "INSERT has more target columns than expressions: {named} columns, {given} values"
        )));
    }
    if named == 0 && given < all {
        insert.columns = visible.take(given).map(|name| ObjectName::from(vec![quoted(name)])).collect();
    }
    Ok(())
}

/// The table of an UPDATE, and its alias.
pub(super) fn named(table: &TableWithJoins) -> Result<(ObjectName, Option<String>)> {
    match &table.relation {
        TableFactor::Table { name, alias, .. } if table.joins.is_empty() => {
            Ok((name.clone(), alias.as_ref().map(|alias| folded(&alias.name))))
        }
        other => Err(Error::Syntax(format!("syntax error: one table can be changed, not \"{other}\""))),
    }
}

/// The table of a DELETE, and its alias.
pub(super) fn deleted_from(delete: &ast::Delete) -> Result<(ObjectName, Option<String>)> {
    let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
    match from.as_slice() {
        [one] if delete.tables.is_empty() => named(one),
        _ => Err(Error::Syntax("syntax error: DELETE takes one table; name others in USING".into())),
    }
}

/// The columns that an UPDATE assigns to, and the query for its rows.
pub(super) fn update(
    update: ast::Update,
    with: Option<ast::With>,
    target: &Target,
    returns: bool,
) -> Result<(Vec<usize>, Parsed)> {
    if update.or.is_some() || !update.order_by.is_empty() || update.limit.is_some() {
        return Err(Error::Syntax("syntax error: UPDATE takes SET, FROM, WHERE and RETURNING".into()));
    }
    let mut items = columns(target, false);
    let mut assigned = Vec::new();
    for (index, value) in assignments(&target.table, update.assignments)? {
        let alias = quoted(&format!("{HIDDEN_PREFIX}set_{index}"));
        items.push(SelectItem::ExprWithAlias { expr: value, alias });
        assigned.push(index);
    }
    let from = match update.from {
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => from,
        None => Vec::new(),
    };
    if returns {
        from.iter().for_each(|table| relations(table, &mut items));
    }
    Ok((assigned, select(target, items, from, update.selection, with)?))
}

/// The query for the rows of a DELETE.
pub(super) fn delete(delete: ast::Delete, with: Option<ast::With>, target: &Target, returns: bool) -> Result<Parsed> {
    if !delete.order_by.is_empty() || delete.limit.is_some() {
        return Err(Error::Syntax("syntax error: DELETE takes USING, WHERE and RETURNING".into()));
    }
    let mut items = columns(target, !returns);
    let using = delete.using.unwrap_or_default();
    if returns {
        using.iter().for_each(|table| relations(table, &mut items));
    }
    select(target, items, using, delete.selection, with)
}

/// The assignments of SET, by the column's place in the table.
pub(super) fn assignments(table: &TableSchema, assignments: Vec<Assignment>) -> Result<Vec<(usize, Expr)>> {
    let mut all: Vec<(usize, Expr)> = Vec::with_capacity(assignments.len());
    let mut add = |name: &ObjectName, value: Expr| {
        let column = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
        let missing =
            || Error::UndefinedColumn(format!("column \"{column}\" of relation \"{}\" does not exist", table.name));
        let index = table.column(&column).filter(|_| !column.starts_with(HIDDEN_PREFIX)).ok_or_else(missing)?;
        if all.iter().any(|(before, _)| *before == index) {
            return Err(Error::Syntax(format!("syntax error: multiple assignments to same column \"{column}\"")));
        }
        all.push((index, value));
        Ok(())
    };
    for Assignment { target, value } in assignments {
        match (target, value) {
            (AssignmentTarget::ColumnName(name), value) => add(&name, value)?,
            (AssignmentTarget::Tuple(names), Expr::Tuple(values)) if names.len() == values.len() => {
                names.iter().zip(values).try_for_each(|(name, value)| add(name, value))?;
            }
            (AssignmentTarget::Tuple(names), Expr::Nested(value)) if names.len() == 1 => add(&names[0], *value)?,
            (AssignmentTarget::Tuple(_), value) => {
                let text = format!("SET (…) = {value} is not supported: assign to each column by itself");
                return Err(Error::Unsupported(text));
            }
        }
    }
    Ok(all)
}

/// Gives the assigned values of a plan the types of their columns, parameters among them.
pub(super) fn cast_assigned(plan: LogicalPlan, table: &TableSchema, assigned: &[usize]) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else {
        return Err(Error::Internal("an UPDATE must plan to a projection".into()));
    };
    let mut exprs = projection.expr.clone();
    let first = table.columns.len();
    for (expr, &index) in exprs[first..].iter_mut().zip(assigned) {
        *expr = cast_to_column(expr.clone(), table, index, &projection.input)?;
    }
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&projection.input))?))
}

/// An expression in the type of the column that it is assigned to, under its own name.
pub(super) fn cast_to_column(expr: Planned, table: &TableSchema, index: usize, input: &LogicalPlan) -> Result<Planned> {
    let name = format!("{HIDDEN_PREFIX}set_{index}");
    let field = field_of(table, index);
    let mut expr = expr.unalias();
    if let Planned::Placeholder(placeholder) = &mut expr {
        placeholder.field = placeholder.field.take().or_else(|| Some(Arc::clone(&field)));
    }
    Ok(expr.cast_to(field.data_type(), input.schema())?.alias(name))
}

/// All columns of the target, those that users do not see too, or only its key.
fn columns(target: &Target, only_key: bool) -> Vec<SelectItem> {
    let table = &target.table;
    let column = |index: usize| {
        let name = &table.columns[index].name;
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(vec![quoted(&target.alias), quoted(name)]))
    };
    match only_key {
        true => table.key.iter().map(|&index| column(index)).collect(),
        false => (0..table.columns.len()).map(column).collect(),
    }
}

/// `name.*` for each relation.
fn relations(table: &TableWithJoins, items: &mut Vec<SelectItem>) {
    for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
        let name = match factor {
            TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
                alias.name.clone()
            }
            TableFactor::Table { name, .. } => match name.0.last().and_then(|part| part.as_ident()) {
                Some(name) => name.clone(),
                None => continue,
            },
            TableFactor::NestedJoin { table_with_joins, .. } => {
                relations(table_with_joins, items);
                continue;
            }
            _ => continue,
        };
        let name = SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![name]));
        items.push(SelectItem::QualifiedWildcard(name, WildcardAdditionalOptions::default()));
    }
}

fn select(
    target: &Target,
    items: Vec<SelectItem>,
    from: Vec<TableWithJoins>,
    selection: Option<Expr>,
    with: Option<ast::With>,
) -> Result<Parsed> {
    let whole = quoted(&format!("{WHOLE_PREFIX}{}", target.table.name));
    let mut query = query(&format!("SELECT 1 FROM {whole} AS {}", quoted(&target.alias)))?;
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::Internal("a SELECT parsed to something else".into()));
    };
    select.projection = items;
    select.from.extend(from);
    select.selection = selection;
    query.with = with;
    Ok(Parsed::Statement(Box::new(Sql::Query(query))))
}

fn query(text: &str) -> Result<Box<ast::Query>> {
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).and_then(|mut parser| parser.parse_query());
    parsed.map_err(|error| Error::Internal(format!("\"{text}\" does not parse: {error}")))
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}
