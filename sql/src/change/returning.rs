//! RETURNING: what a change gives back of the rows that it changed.
//!
//! **Invariant:** sees the rows as they are stored: after defaults, casts and the constraints of their columns.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::{Column, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{SelectItem, SelectItemQualifiedWildcardKind as Kind};

use super::Scope;
use super::scope::expression;
use crate::definition::folded;
use crate::types::HIDDEN_PREFIX;
use crate::{Error, Result, output};

/// A planned RETURNING.
#[derive(Debug, Clone)]
pub(crate) struct Returning {
    pub(crate) scope: Scope,
    pub(crate) plan: LogicalPlan,
    /// The columns under the names that clients see.
    pub(crate) schema: SchemaRef,
}

impl Returning {
    pub(super) fn plan(state: &SessionState, scope: Scope, items: Vec<SelectItem>) -> Result<Self> {
        let over = scope.plan()?;
        let (mut names, mut exprs) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                SelectItem::Wildcard(_) => take(&scope, None, &mut names, &mut exprs)?,
                SelectItem::QualifiedWildcard(Kind::ObjectName(name), _) => {
                    let relation = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
                    take(&scope, Some(relation), &mut names, &mut exprs)?;
                }
                SelectItem::UnnamedExpr(expr) => {
                    names.push(output::shown(&expr));
                    exprs.push(expression(state, &over, expr, "RETURNING")?);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    names.push(folded(&alias));
                    exprs.push(expression(state, &over, expr, "RETURNING")?);
                }
                other => return Err(Error::Unsupported(format!("RETURNING {other} is not supported"))),
            }
        }
        let numbered = exprs.into_iter().enumerate().map(|(n, expr)| expr.alias(format!("{HIDDEN_PREFIX}{n}")));
        let plan = LogicalPlanBuilder::from(over).project(numbered)?.build()?;
        let named = |(field, name): (&FieldRef, String)| Arc::new(field.as_ref().clone().with_name(name));
        let fields: Vec<_> = plan.schema().fields().iter().zip(names).map(named).collect();
        Ok(Returning { scope, plan, schema: Arc::new(Schema::new(fields)) })
    }
}

/// All columns of the scope, or those of one relation.
fn take(scope: &Scope, relation: Option<String>, names: &mut Vec<String>, exprs: &mut Vec<Expr>) -> Result<()> {
    let wanted = relation.as_ref().map(|name| TableReference::bare(name.as_str()));
    let before = names.len();
    for (of, field) in scope.columns().iter().filter(|(of, _)| wanted.as_ref().is_none_or(|wanted| wanted == of)) {
        names.push(field.name().clone());
        exprs.push(Expr::Column(Column::new(Some(of.clone()), field.name())));
    }
    match relation {
        Some(name) if names.len() == before => {
            Err(Error::UndefinedTable(format!("missing FROM-clause entry for table \"{name}\"")))
        }
        _ => Ok(()),
    }
}
