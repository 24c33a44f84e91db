//! What PostgreSQL's users write one way and DataFusion's planner takes another, changed in the parsed statement.
//!
//! **Invariant:** looks at the statement alone and at no catalog: types are not known here, so that what depends on them is for
//! the planners of `functions`.

mod catalog;
mod expression;
mod literal;
mod rows;
mod scalar;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, LimitClause, Query, Select, SelectItem, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

pub(crate) use self::catalog::plannable;
pub(crate) use self::literal::with_seconds;

/// The operator that `x = ANY ($1)` becomes: the planner can type the parameter of an operator.
pub(crate) const ANY_OF: &str = "any_of";

/// Changes every part of a statement that is spelt differently.
pub(crate) fn adapt(statement: &mut ast::Statement) {
    let _ = VisitMut::visit(statement, &mut Spelling);
    // After ANY, ALL and ARRAY have taken theirs.
    scalar::adapt(statement);
}

struct Spelling;

impl VisitorMut for Spelling {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        literal::adapt(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        expression::adapt(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        rows::adapt_items(&mut select.projection);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, relation: &mut TableFactor) -> ControlFlow<()> {
        rows::adapt_relation(relation);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        fetch_to_limit(query);
        ControlFlow::Continue(())
    }
}

/// Items without a name of their own keep the one that `name_of` knows, whatever becomes of them.
pub(crate) fn keep_names(items: &mut [SelectItem], name_of: impl Fn(&Expr) -> Option<Ident>) {
    for item in items {
        if let SelectItem::UnnamedExpr(expr) = item
            && let Some(alias) = name_of(expr)
        {
            *item = SelectItem::ExprWithAlias { expr: take(expr), alias };
        }
    }
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
fn fetch_to_limit(query: &mut Query) {
    let Some(fetch) = query.fetch.take_if(|fetch| !fetch.with_ties && !fetch.percent) else { return };
    let rows = fetch.quantity.unwrap_or_else(|| Expr::value(ast::Value::Number("1".into(), false)));
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => *limit = Some(rows),
        _ => {
            let clause = LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: Vec::new() };
            query.limit_clause = Some(clause);
        }
    }
}

/// Calls `see` for every part of an expression, but not for those of its sub-queries, the inner ones first.
fn each_part(expr: &mut Expr, see: impl FnMut(&mut Expr)) {
    struct Parts<F> {
        queries: usize,
        see: F,
    }
    impl<F: FnMut(&mut Expr)> VisitorMut for Parts<F> {
        type Break = ();
        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.queries += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if self.queries == 0 {
                (self.see)(expr);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = VisitMut::visit(expr, &mut Parts { queries: 0, see });
}

/// The expression of a text that is made here.
fn parsed(text: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?.parse_expr().ok()
}

/// The query of a text that is made here.
fn parsed_query(text: &str) -> Option<Query> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?.parse_query().ok().map(|query| *query)
}

/// The name of a function that is called without a schema, or with `pg_catalog`; in lower case.
fn plain_name(name: &ast::ObjectName) -> Option<String> {
    let part = match name.0.as_slice() {
        [part] => part,
        [schema, part] if schema.to_string().eq_ignore_ascii_case("pg_catalog") => part,
        _ => return None,
    };
    part.as_ident().map(|ident| ident.value.to_lowercase())
}

/// Takes an expression out of its place.
fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(ast::Value::Null))
}
