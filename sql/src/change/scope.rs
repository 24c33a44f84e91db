//! The rows of a change as expressions see them: of RETURNING, and of ON CONFLICT DO UPDATE.
//!
//! The expressions are planned over a scan without rows of its own; what it gives is put into the session configuration when the
//! plan runs, as the statement's snapshot is.
//!
//! **Invariant:** names and types only; values come with execution.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_empty_array};
use arrow::compute::cast;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::ident;
use datafusion::sql::sqlparser::ast::{self, ExprWithAlias, Query, Visit, Visitor};
use juno_engine::TableSchema;
use std::ops::ControlFlow;

use super::Target;
use crate::table::shown;
use crate::types::HIDDEN_PREFIX;
use crate::{Error, Result};

/// The rows that a plan over a scope reads, carried in the session configuration.
pub(crate) struct StatementRows(pub(crate) RecordBatch);

/// Columns that expressions can name, each with its relation.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    columns: Vec<(TableReference, FieldRef)>,
}

impl Scope {
    /// The columns of a table that users see.
    pub(crate) fn of(alias: &str, table: &TableSchema) -> Self {
        let relation = TableReference::bare(alias);
        let columns = shown(table).fields().iter().map(|field| (relation.clone(), Arc::clone(field))).collect();
        Scope { columns }
    }

    /// The target's columns, and those that a plan gives from its `first` on.
    pub(super) fn with(target: &Target, plan: &LogicalPlan, first: usize) -> Self {
        let mut scope = Scope::of(&target.alias, &target.table);
        let nameless = TableReference::bare("");
        let more = plan.schema().iter().skip(first);
        scope.columns.extend(
            more.map(|(relation, field)| (relation.cloned().unwrap_or_else(|| nameless.clone()), Arc::clone(field))),
        );
        scope
    }

    pub(super) fn and(mut self, other: Scope) -> Self {
        self.columns.extend(other.columns);
        self
    }

    pub(super) fn columns(&self) -> &[(TableReference, FieldRef)] {
        &self.columns
    }

    fn schema(&self) -> SchemaRef {
        let field = |(place, (_, field)): (usize, &(TableReference, FieldRef))| {
            field.as_ref().clone().with_name(format!("{HIDDEN_PREFIX}{place}")).with_nullable(true)
        };
        Arc::new(Schema::new(self.columns.iter().enumerate().map(field).collect::<Vec<_>>()))
    }

    /// The columns in order, as the plan's scan gives them.
    pub(crate) fn batch(&self, columns: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let schema = self.schema();
        let fit = |(array, field): (&ArrayRef, &FieldRef)| {
            if array.data_type() == field.data_type() { Ok(Arc::clone(array)) } else { cast(array, field.data_type()) }
        };
        let columns = columns.iter().zip(schema.fields()).map(fit).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// The columns without a row.
    pub(crate) fn nothing(&self) -> Vec<ArrayRef> {
        self.columns.iter().map(|(_, field)| new_empty_array(field.data_type())).collect()
    }

    /// A plan that gives the rows under their names.
    pub(super) fn plan(&self) -> Result<LogicalPlan> {
        let rows = provider_as_source(Arc::new(Rows { schema: self.schema() }));
        let name = |(place, (relation, field)): (usize, &(TableReference, FieldRef))| {
            ident(format!("{HIDDEN_PREFIX}{place}")).alias_qualified(Some(relation.clone()), field.name())
        };
        let names = self.columns.iter().enumerate().map(name);
        Ok(LogicalPlanBuilder::scan("_juno_rows", rows, None)?.project(names)?.build()?)
    }
}

/// Plans an expression over the columns of a plan.
pub(super) fn expression(state: &SessionState, over: &LogicalPlan, expr: ast::Expr, place: &str) -> Result<Expr> {
    struct Queries;
    impl Visitor for Queries {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    if expr.visit(&mut Queries).is_break() {
        return Err(Error::Unsupported(format!("a sub-query in {place} is not supported: use a query of its own")));
    }
    let expr = ExprWithAlias { expr, alias: None };
    Ok(state.create_logical_expr_from_sql_expr(expr, over.schema())?)
}

/// A table whose rows are the statement's own.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let rows = state.config().get_extension::<StatementRows>();
        let rows = rows.ok_or_else(|| Error::Internal("the rows of a change are missing".into()))?;
        let memory =
            MemorySourceConfig::try_new_exec(&[vec![rows.0.clone()]], Arc::clone(&self.schema), projection.cloned())?;
        Ok(memory)
    }
}

/// The field of a column, for a placeholder that is assigned to it.
pub(super) fn field_of(table: &TableSchema, index: usize) -> FieldRef {
    let column = &table.columns[index];
    match shown(table).field_with_name(&column.name) {
        Ok(field) => Arc::new(field.clone()),
        Err(_) => Arc::new(Field::new(&column.name, column.data_type.clone(), column.nullable)),
    }
}
