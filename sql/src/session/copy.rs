//! COPY in a session: planned like a query on the way out, committed like an INSERT on the way in.
//!
//! **Invariant:** a COPY FROM stores all its rows or none of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Statement as Sql};
use futures::{Stream, StreamExt, TryStreamExt};
use juno_engine::{Db, OnConflict, TableKind, TableSchema, Write};
use tokio::sync::mpsc;

use super::{Session, blocking};
use crate::copy::{Copy, CopyOptions, CopyPlace, CopyRows, Subject};
use crate::definition::{folded, table_name};
use crate::interrupt::Interrupt;
use crate::statement::{Kind, Outcome, Prepared, Statement, Work, for_planner};
use crate::types::{DEFAULT_KEY, HIDDEN_PREFIX};
use crate::{Error, Result, change, table};

/// The most bytes of rows that one COPY may hold before its commit.
const COPY_BYTES_MAX: usize = 1 << 30;
/// Bytes of rows for a telemetry table after which a COPY of its own goes straight into parts.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Batches that wait to go into parts.
const BATCHES_WAITING: usize = 2;

/// A COPY FROM that waits for its rows.
#[derive(Debug, Clone)]
pub struct CopyIn {
    table: Arc<TableSchema>,
    /// The columns that the input has, in its order.
    pub schema: SchemaRef,
    /// How the input is written.
    pub options: CopyOptions,
    /// Where the input comes from.
    pub place: CopyPlace,
}

impl CopyIn {
    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table.name
    }
}

impl Session {
    pub(super) async fn prepare_copy(&self, copy: Copy, types: &[Option<DataType>]) -> Result<Prepared> {
        let Copy { subject, place, options } = copy;
        match subject {
            Subject::From(query) => {
                let mut query = Sql::Query(query);
                for_planner(&mut query)?;
                let kind = Kind::Query("COPY", Box::new(Parsed::Statement(Box::new(query))));
                let mut inner = Box::pin(self.prepare(Statement { kind }, types)).await?;
                let (parameters, wanted) = (inner.parameters.clone(), inner.wanted.clone());
                let schema = inner.schema.take().ok_or_else(|| Error::Internal("a query must have columns".into()))?;
                let work = Work::CopyOut { inner: Box::new(inner), schema, options, place };
                Ok(Prepared { parameters, wanted, schema: None, work })
            }
            Subject::Into { table, columns } => {
                let copy = self.copy_into(&table, &columns, options, place)?;
                let work = Work::CopyIn(Box::new(copy));
                Ok(Prepared { parameters: Vec::new(), wanted: Vec::new(), schema: None, work })
            }
        }
    }

    fn copy_into(
        &self,
        name: &ObjectName,
        columns: &[Ident],
        options: CopyOptions,
        place: CopyPlace,
    ) -> Result<CopyIn> {
        let name = table_name(name)?;
        let public = self.public();
        if public.has_view(&name) {
            return Err(Error::InvalidDefinition(format!("\"{name}\" is a view and cannot be copied into")));
        }
        let catalog = public.catalog();
        let missing = || Error::UndefinedTable(format!("relation \"{name}\" does not exist"));
        let stored = Arc::clone(catalog.table(&name).ok_or_else(missing)?);
        let shown = table::shown(&stored);
        let mut fields = Vec::with_capacity(shown.fields().len());
        let mut seen = BTreeSet::new();
        for column in columns.iter().map(folded) {
            let (_, field) = shown.fields().find(&column).ok_or_else(|| {
                Error::UndefinedColumn(format!("column \"{column}\" of relation \"{name}\" does not exist"))
            })?;
            if !seen.insert(column.clone()) {
                return Err(Error::DuplicateColumn(column));
            }
            fields.push(Arc::clone(field));
        }
        let schema = if columns.is_empty() { shown } else { Arc::new(Schema::new(fields)) };
        Ok(CopyIn { table: stored, schema, options, place })
    }

    /// Stores the rows of a COPY FROM, all or none: at once, or with the transaction that is open.
    ///
    /// # Errors
    /// The first error of `rows`, or what keeps a row from being stored, with its line; then nothing was stored.
    pub async fn copy_in(&self, copy: &CopyIn, rows: impl Stream<Item = Result<CopyRows>> + Send) -> Result<Outcome> {
        let timeout = self.settings.lock().duration("statement_timeout");
        let mut interrupt = Interrupt::new(self.cancels.subscribe(), self.moment().0, timeout);
        interrupt.guard(self.store(copy, rows)).await
    }

    async fn store(&self, copy: &CopyIn, rows: impl Stream<Item = Result<CopyRows>> + Send) -> Result<Outcome> {
        self.check_writable("COPY FROM")?;
        let missing = self.missing(copy)?;
        let alone = !self.transaction.lock().holds() && matches!(copy.table.kind, TableKind::Telemetry { .. });
        let (mut writes, mut bytes) = (Vec::new(), 0);
        let mut writable = std::pin::pin!(rows.map(|batch| {
            let CopyRows { rows, lines } = batch?;
            let rows = with_defaults(&rows, &missing)?;
            let write = insertion(&copy.table, &self.shared.db, rows.clone());
            write.map_err(|error| self.located(copy, &rows, &lines, error))
        }));
        while let Some(write) = writable.try_next().await? {
            bytes += write.rows.as_ref().map_or(0, RecordBatch::get_array_memory_size);
            writes.push(write);
            if alone && bytes > HELD_BYTES_MAX {
                let held = futures::stream::iter(writes.into_iter().map(Ok));
                let count = self.store_in_parts(copy, held.chain(writable)).await?;
                return Ok(Outcome::done(format!("COPY {count}")));
            }
            if bytes > COPY_BYTES_MAX {
                let most = COPY_BYTES_MAX >> 20;
                return Err(Error::OutOfMemory(format!(
                    "one COPY into a table with a key, or in a transaction, may hold {most} MiB of rows, since it stores all or \
                     none: copy in several steps"
                )));
            }
        }
        let count: usize = writes.iter().filter_map(|write| write.rows.as_ref()).map(RecordBatch::num_rows).sum();
        let view = self.view();
        self.settle(writes, view).await?;
        Ok(Outcome::done(format!("COPY {count}")))
    }

    /// Has the engine sort rows into parts while they come in, and show them in one step.
    async fn store_in_parts(&self, copy: &CopyIn, writes: impl Stream<Item = Result<Write>> + Send) -> Result<u64> {
        let (sender, mut waiting) = mpsc::channel(BATCHES_WAITING);
        let (db, table) = (self.shared.db.clone(), copy.table.name.clone());
        let importing = tokio::spawn(blocking(move || {
            let batches = std::iter::from_fn(|| match waiting.blocking_recv() {
                Some(Next::Rows(rows)) => Some(Ok(rows)),
                Some(Next::End) => None,
                // Whoever sent them was stopped, or met a bad row.
                None => Some(Err(Error::Cancelled)),
            });
            Ok(db.import(&table, batches)?.rows)
        }));
        let mut writes = std::pin::pin!(writes);
        while let Some(write) = writes.try_next().await? {
            let Some(rows) = write.rows else { continue };
            // Where nobody takes them, the import failed and says why.
            if sender.send(Next::Rows(rows)).await.is_err() {
                break;
            }
        }
        let _ = sender.send(Next::End).await;
        importing.await.map_err(|error| Error::Internal(format!("the import failed: {error}")))?
    }

    /// The columns that the input has not: their DEFAULT, or null.
    fn missing(&self, copy: &CopyIn) -> Result<Vec<(Field, Arc<dyn PhysicalExpr>)>> {
        let state = &self.shared.planner.state;
        let nothing = DFSchema::empty();
        let shown = copy.table.columns.iter().filter(|column| !column.name.starts_with(HIDDEN_PREFIX));
        shown
            .filter(|column| copy.schema.index_of(&column.name).is_err())
            .map(|column| {
                let expr = match column.metadata.get(DEFAULT_KEY) {
                    Some(sql) => state.create_logical_expr(sql, &nothing)?,
                    None => Expr::Literal(ScalarValue::try_from(&column.data_type)?, None),
                };
                let expr = state.create_physical_expr(expr, &nothing)?;
                Ok((Field::new(&column.name, expr.data_type(nothing.as_arrow())?, true), expr))
            })
            .collect()
    }

    /// The error with the line of the first row that has it.
    fn located(&self, copy: &CopyIn, rows: &RecordBatch, lines: &[u64], error: Error) -> Error {
        let fails = |from: usize, count: usize| insertion(&copy.table, &self.shared.db, rows.slice(from, count)).err();
        let (mut from, mut count) = (0, rows.num_rows());
        while count > 1 {
            let half = count / 2;
            if fails(from, half).is_some() {
                count = half;
            } else {
                (from, count) = (from + half, count - half);
            }
        }
        let cause = fails(from, count).unwrap_or(error);
        let line = lines.get(from).copied().unwrap_or_default();
        Error::Row { place: format!("COPY {}, line {line}", copy.table.name), cause: Box::new(cause) }
    }
}

/// What travels to an import.
enum Next {
    Rows(RecordBatch),
    End,
}

/// The write that stores new rows; a row whose primary key exists is an error.
fn insertion(table: &TableSchema, db: &Db, rows: RecordBatch) -> Result<Write> {
    let rows = change::inserted(table, db, rows)?;
    let keyed = matches!(table.kind, TableKind::Keyed);
    let on_conflict = if keyed { OnConflict::Error } else { OnConflict::Replace };
    Ok(Write { table: table.name.clone(), rows: Some(rows), deletes: None, on_conflict })
}

fn with_defaults(rows: &RecordBatch, missing: &[(Field, Arc<dyn PhysicalExpr>)]) -> Result<RecordBatch> {
    if missing.is_empty() {
        return Ok(rows.clone());
    }
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    let mut arrays = rows.columns().to_vec();
    for (field, expr) in missing {
        fields.push(Arc::new(field.clone()));
        arrays.push(expr.evaluate(rows)?.into_array(rows.num_rows())?);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
