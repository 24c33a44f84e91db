//! Select items that DataFusion would give one name, told apart: `SELECT v, v::integer`, `SELECT 1, 1`, `SELECT *, v`.
//!
//! PostgreSQL lets columns of a result share a name; DataFusion, which leaves casts out of names, refuses the statement. Such a
//! statement is planned again with names of juno's own, and its result shows the names that PostgreSQL would.
//!
//! **Invariant:** a statement that plans as it was written is planned as it was written.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Schema};
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, Select, SelectItem, SetExpr, Statement as Sql, VisitMut, VisitorMut,
};

use crate::definition::folded;
use crate::parameter::{self, Planned};
use crate::types::HIDDEN_PREFIX;
use crate::{Error, Result, output};

/// By the name that an item was given here: the name that clients see.
#[derive(Debug, Default)]
pub(crate) struct Shown(HashMap<String, String>);

/// Plans a statement, with its select items told apart where that is needed.
pub(crate) async fn plan(state: &SessionState, parsed: Parsed, types: &[Option<DataType>]) -> Result<(Planned, Shown)> {
    let spare = selects(&parsed).then(|| parsed.clone());
    match (parameter::plan(state, parsed, types).await, spare) {
        (Err(Error::Syntax(text)), Some(Parsed::Statement(mut spare))) if text.contains("unique expression names") => {
            let mut items = Items::default();
            let _ = VisitMut::visit(spare.as_mut(), &mut items);
            Ok((parameter::plan(state, Parsed::Statement(spare), types).await?, items.shown))
        }
        (planned, _) => Ok((planned?, Shown::default())),
    }
}

/// Whether a statement has select items: the rows of a long INSERT are not worth a copy.
fn selects(parsed: &Parsed) -> bool {
    let Parsed::Statement(statement) = parsed else { return false };
    match statement.as_ref() {
        Sql::Query(_) => true,
        Sql::Insert(insert) => {
            insert.source.as_ref().is_some_and(|source| !matches!(source.body.as_ref(), SetExpr::Values(_)))
        }
        _ => false,
    }
}

impl Shown {
    /// The names of a result's columns by place, over those that were found before.
    pub(crate) fn names(&self, schema: &Schema, given: Option<Vec<Option<String>>>) -> Option<Vec<Option<String>>> {
        if self.0.is_empty() {
            return given;
        }
        let given = given.filter(|names| names.len() == schema.fields().len());
        let of = |(place, name): (usize, &String)| {
            self.0.get(name).cloned().or_else(|| given.as_ref().and_then(|names| names[place].clone()))
        };
        Some(schema.fields().iter().map(|field| field.name()).enumerate().map(of).collect())
    }
}

/// Gives names to the items of every SELECT that it visits.
#[derive(Default)]
struct Items {
    shown: Shown,
}

impl VisitorMut for Items {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.body(&mut query.body);
        ControlFlow::Continue(())
    }
}

impl Items {
    fn body(&mut self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    /// The first plain column of a name keeps it, unless a wildcard may bring it too.
    fn select(&mut self, select: &mut Select) {
        let wild = select
            .projection
            .iter()
            .any(|item| !matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }));
        let mut taken = HashSet::new();
        for item in &mut select.projection {
            let (expr, shown, keeps) = match item {
                SelectItem::UnnamedExpr(expr) => {
                    let shown = output::shown(expr);
                    let plain = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                    let keeps = plain && !wild && taken.insert(shown.clone());
                    (expr, shown, keeps)
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let shown = folded(alias);
                    let keeps = taken.insert(shown.clone());
                    (expr, shown, keeps)
                }
                _ => continue,
            };
            if !keeps {
                let alias = format!("{HIDDEN_PREFIX}column_{}", self.shown.0.len());
                let expr = std::mem::replace(expr, Expr::Identifier(Ident::new("")));
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', alias.as_str()) };
                self.shown.0.insert(alias, shown);
            }
        }
    }
}
