//! Names of result columns as PostgreSQL gives them: `count` for `count(*)`, `?column?` for `1 + 1`.
//!
//! DataFusion names an unnamed column after its expression, such as `Int64(1)` or `sum(cpu.usage)`. Only the names that clients see
//! change; the plan keeps its own.
//!
//! **Invariant:** a column that the query names, or that a wildcard brings, keeps its name.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{Expr, Query, SelectItem, SetExpr, Statement as Sql};
use futures::StreamExt;

use crate::definition::folded;

/// What PostgreSQL calls a column that has no better name.
const UNNAMED: &str = "?column?";

/// For each item of the query's outermost SELECT: its PostgreSQL name where it has none of its own. None where a wildcard makes
/// the places unknown.
pub(crate) fn names(parsed: &Parsed) -> Option<Vec<Option<String>>> {
    let Parsed::Statement(statement) = parsed else { return None };
    let Sql::Query(query) = statement.as_ref() else { return None };
    select_names(query)
}

fn select_names(query: &Query) -> Option<Vec<Option<String>>> {
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::Select(select) => {
                let item = |item: &SelectItem| match item {
                    SelectItem::UnnamedExpr(expr) => Some(name(expr)),
                    SelectItem::ExprWithAlias { .. } => Some(None),
                    _ => None,
                };
                return select.projection.iter().map(item).collect();
            }
            SetExpr::Query(inner) => return select_names(inner),
            SetExpr::SetOperation { left, .. } => body = left,
            _ => return None,
        }
    }
}

fn name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => None,
        Expr::Function(function) => {
            let last = function.name.0.last().and_then(|part| part.as_ident());
            let called = last.map_or(UNNAMED, |ident| ident.value.as_str()).to_lowercase();
            Some(called.strip_prefix("cast_").map_or(called.clone(), str::to_owned))
        }
        Expr::Cast { expr, data_type, .. } => match name(expr) {
            Some(inner) if inner == UNNAMED => {
                let written = data_type.to_string().to_lowercase();
                Some(written.split(['(', ' ']).next().unwrap_or(UNNAMED).to_owned())
            }
            // A cast column keeps the column's name.
            None => column(expr),
            inner => inner,
        },
        Expr::Nested(inner) => name(inner).or_else(|| column(inner)),
        Expr::Case { .. } => Some("case".into()),
        Expr::Exists { .. } => Some("exists".into()),
        Expr::Extract { .. } => Some("extract".into()),
        Expr::Substring { .. } => Some("substring".into()),
        Expr::Trim { .. } => Some("btrim".into()),
        Expr::Position { .. } => Some("position".into()),
        Expr::Floor { .. } => Some("floor".into()),
        Expr::Ceil { .. } => Some("ceil".into()),
        _ => Some(UNNAMED.into()),
    }
}

/// What PostgreSQL calls the column of an expression.
pub(crate) fn shown(expr: &Expr) -> String {
    name(expr).or_else(|| column(expr)).unwrap_or_else(|| UNNAMED.to_owned())
}

fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(folded(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded),
        Expr::Nested(inner) => column(inner),
        _ => None,
    }
}

/// The columns that a plan gives once it runs: the types of a set operation are settled only when the plan is analysed.
pub(crate) fn schema(state: &SessionState, plan: &LogicalPlan) -> SchemaRef {
    let settled = |plan: &LogicalPlan| {
        let unions = plan.exists(|node| Ok(matches!(node, LogicalPlan::Union(_)))).unwrap_or(false);
        let analysed =
            unions.then(|| state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {}));
        Some(Arc::clone(analysed?.ok()?.schema().inner()))
    };
    settled(plan).unwrap_or_else(|| Arc::clone(plan.schema().inner()))
}

/// The schema under its PostgreSQL names.
pub(crate) fn renamed(schema: &SchemaRef, names: Option<&[Option<String>]>) -> SchemaRef {
    let Some(names) = names.filter(|names| names.len() == schema.fields().len()) else { return Arc::clone(schema) };
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .zip(names)
        .map(|(field, name)| match name {
            Some(name) => Arc::new(field.as_ref().clone().with_name(name)),
            None => Arc::clone(field),
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The stream's batches with the schema's names.
pub(crate) fn renamed_stream(
    stream: SendableRecordBatchStream,
    names: Option<&[Option<String>]>,
) -> SendableRecordBatchStream {
    let schema = renamed(&stream.schema(), names);
    if schema == stream.schema() {
        return stream;
    }
    let given = Arc::clone(&schema);
    let batches = stream.map(move |batch| {
        let batch = batch?;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&given), batch.columns().to_vec(), &rows)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}
