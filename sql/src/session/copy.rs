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
use futures::{Stream, TryStreamExt};
use juno_engine::{Db, OnConflict, TableKind, TableSchema, Write};

use super::Session;
use crate::copy::{Copy, CopyOptions, CopyPlace, CopyRows, Subject};
use crate::definition::{folded, table_name};
use crate::interrupt::Interrupt;
use crate::statement::{Kind, Outcome, Prepared, Statement, Work};
use crate::types::{DEFAULT_KEY, HIDDEN_PREFIX};
use crate::{Error, Result, change, spelling, table};

/// The most bytes of rows that one COPY may hold before its commit.
const COPY_BYTES_MAX: usize = 1 << 30;

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
                spelling::adapt(&mut query);
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
        let mut interrupt = Interrupt::new(self.cancels.subscribe(), timeout);
        interrupt.guard(self.store(copy, rows)).await
    }

    async fn store(&self, copy: &CopyIn, rows: impl Stream<Item = Result<CopyRows>> + Send) -> Result<Outcome> {
        self.check_writable("COPY FROM")?;
        let missing = self.missing(copy)?;
        let (mut writes, mut count, mut bytes) = (Vec::new(), 0, 0);
        let mut rows = std::pin::pin!(rows);
        while let Some(CopyRows { rows, lines }) = rows.try_next().await? {
            count += rows.num_rows();
            bytes += rows.get_array_memory_size();
            if bytes > COPY_BYTES_MAX {
                let most = COPY_BYTES_MAX >> 20;
                return Err(Error::OutOfMemory(format!(
                    "one COPY may hold {most} MiB of rows, since it stores all or none: copy in several steps, or use juno import"
                )));
            }
            let rows = with_defaults(&rows, &missing)?;
            let write = insertion(&copy.table, &self.shared.db, rows.clone());
            writes.push(write.map_err(|error| self.located(copy, &rows, &lines, error))?);
        }
        let view = self.view();
        self.settle(writes, view).await?;
        Ok(Outcome::done(format!("COPY {count}")))
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
