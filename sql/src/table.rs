//! An engine table as DataFusion sees it, and the plan node that reads a snapshot of it.
//!
//! **Invariant:** reads only; INSERT, UPDATE and DELETE go through `change`. The snapshot is the statement's: it is taken from
//! the session configuration when the plan is made, so that all tables of a statement are seen at one moment.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use juno_engine::{Db, ScanRequest, Snapshot, TableSchema};

use crate::Error;
use crate::prune::{self, Wanted};
use crate::scan::{Origin, Scan};
use crate::types::{DEFAULT_KEY, HIDDEN_PREFIX, TYPE_KEY};

/// The snapshot that a statement reads, carried in its session configuration.
pub(crate) struct StatementSnapshot {
    pub(crate) snapshot: Snapshot,
    /// Whether block aggregates and the like may answer in place of rows.
    pub(crate) aggregates: bool,
}

/// One table of the engine.
pub(crate) struct Table {
    db: Db,
    stored: Arc<TableSchema>,
    shown: SchemaRef,
    defaults: HashMap<String, Expr>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("name", &self.stored.name).finish_non_exhaustive()
    }
}

impl Table {
    /// The table with its DEFAULT expressions planned by `planner`.
    pub(crate) fn new(db: Db, stored: Arc<TableSchema>, planner: &SessionState) -> DataFusionResult<Self> {
        let mut defaults = HashMap::new();
        for column in &stored.columns {
            if let Some(sql) = column.metadata.get(DEFAULT_KEY) {
                defaults.insert(column.name.clone(), planner.create_logical_expr(sql, &DFSchema::empty())?);
            }
        }
        let shown = shown(&stored);
        Ok(Table { db, stored, shown, defaults })
    }

    /// The same table with juno's own columns shown, for changes.
    pub(crate) fn with_hidden(&self) -> Self {
        let fields: Vec<Field> = self
            .stored
            .columns
            .iter()
            .map(|column| match self.shown.field_with_name(&column.name) {
                Ok(field) => field.clone(),
                Err(_) => Field::new(&column.name, column.data_type.clone(), column.nullable),
            })
            .collect();
        Table {
            db: self.db.clone(),
            stored: Arc::clone(&self.stored),
            shown: Arc::new(Schema::new(fields)),
            defaults: HashMap::new(),
        }
    }

    /// The table as it is defined.
    pub(crate) fn stored(&self) -> &TableSchema {
        &self.stored
    }

    /// What filters that the table took ask for, by the columns that it has.
    pub(crate) fn wanted(&self, filters: &[Expr]) -> Result<Wanted, Error> {
        wanted(&self.stored, filters)
    }

    /// What a scan of these columns reads, in the snapshot of the statement.
    pub(crate) fn origin(&self, state: &dyn Session, schema: &SchemaRef, filters: &[Expr]) -> Result<Origin, Error> {
        let taken = state.config().get_extension::<StatementSnapshot>();
        let fresh;
        let snapshot = match &taken {
            Some(taken) => &taken.snapshot,
            None => {
                fresh = self.db.snapshot();
                &fresh
            }
        };
        let name = &self.stored.name;
        let table = snapshot
            .table(name)
            .ok_or_else(|| Error::UndefinedTable(format!("relation \"{name}\" does not exist any more")))?;
        let now = table.schema();
        let place = |field: &Arc<Field>| match now.column(field.name()) {
            Some(index) if now.columns[index].data_type == *field.data_type() => Ok(index),
            _ => Err(changed(name, &format!(" (column \"{}\")", field.name()))),
        };
        let projection = schema.fields().iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let wanted = wanted(now, filters)?;
        let request = ScanRequest { projection, time: wanted.time, tags: wanted.tags, fields: wanted.fields };
        let aggregates = taken.as_ref().is_none_or(|taken| taken.aggregates);
        Ok(Origin { table: table.clone(), request, aggregates })
    }
}

fn wanted(table: &TableSchema, filters: &[Expr]) -> Result<Wanted, Error> {
    prune::wanted(table, filters).ok_or_else(|| changed(&table.name, ""))
}

fn changed(name: &str, what: &str) -> Error {
    Error::Unsupported(format!("table \"{name}\" changed since this statement was prepared: prepare it again{what}"))
}

/// The columns that users see: without juno's own, and of the metadata only the SQL type.
pub(crate) fn shown(stored: &TableSchema) -> SchemaRef {
    let fields: Vec<Field> = stored
        .columns
        .iter()
        .filter(|column| !column.name.starts_with(HIDDEN_PREFIX))
        .map(|column| {
            let metadata = column.metadata.get(TYPE_KEY).map(|name| (TYPE_KEY.to_owned(), name.clone()));
            Field::new(&column.name, column.data_type.clone(), column.nullable)
                .with_metadata(metadata.into_iter().collect())
        })
        .collect();
    Arc::new(Schema::new(fields))
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shown)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| {
                if prune::wanted(&self.stored, std::slice::from_ref(*filter)).is_some() {
                    TableProviderFilterPushDown::Exact
                } else {
                    TableProviderFilterPushDown::Unsupported
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(indices) => Arc::new(self.shown.project(indices)?),
            None => Arc::clone(&self.shown),
        };
        let origin = self.origin(state, &schema, filters)?;
        let slices = origin.table.scan(&origin.request).map_err(Error::from)?;
        let partitions = state.config().target_partitions();
        Ok(Arc::new(Scan::new(self.stored.name.clone(), origin, schema, slices, partitions)))
    }
}
