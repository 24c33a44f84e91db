//! INSERT, UPDATE and DELETE at work: rows computed at one snapshot, turned into writes, given back where asked for.
//!
//! **Invariant:** what RETURNING gives was computed before the writes are handed over: where that fails, nothing was changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::{concat, take_record_batch};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use juno_engine::{OnConflict, Snapshot, TableKind, TableSchema, Write};

use super::{Session, blocking, bound};
use crate::change::{self, Change, Changed, Conflict, Op, Returning};
use crate::statement::Outcome;
use crate::table::shown;
use crate::transaction::View;
use crate::{Error, Result};

/// How often an INSERT … ON CONFLICT is begun anew because another session wrote one of its keys meanwhile.
const ATTEMPTS_MAX: usize = 100;

impl Session {
    pub(super) async fn change(&self, change: &Change, values: &ParamValues) -> Result<Outcome> {
        self.check_writable(change.word())?;
        let _held = match change.reads_itself() {
            true => self.lock(&change.table.name).await?,
            false => None,
        };
        let upsert = matches!(change.op, Op::Insert(Some(_)));
        for _ in 1..ATTEMPTS_MAX {
            match self.attempt(change, values).await {
                Err(Error::UniqueViolation { .. }) if upsert => {}
                done => return done,
            }
        }
        self.attempt(change, values).await
    }

    async fn attempt(&self, change: &Change, values: &ParamValues) -> Result<Outcome> {
        let view = self.view();
        let changed = self.changed(change, &view.whole, values).await?;
        let returned = match &change.returning {
            Some(returning) => Some(self.returned(returning, &changed, view.whole.clone(), values).await?),
            None => None,
        };
        self.settle(changed.writes, view).await?;
        match (returned, &change.returning) {
            (Some(batches), Some(returning)) => {
                let batches = futures::stream::iter(batches.into_iter().map(Ok));
                let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&returning.schema), batches));
                Ok(Outcome::Rows { tag: change.word(), stream })
            }
            _ => Ok(Outcome::done(change.tag(changed.count))),
        }
    }

    /// Commits writes, or has them wait for COMMIT.
    pub(super) async fn settle(&self, writes: Vec<Write>, view: View) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let db = self.shared.db.clone();
        if !self.transaction.lock().holds() {
            return blocking(move || Ok(db.commit(writes)?)).await.map(drop);
        }
        let prepared = blocking(move || {
            if view.repeatable {
                let now = db.snapshot();
                writes.iter().try_for_each(|write| unchanged(write, &view.base, &now))?;
            }
            Ok(view.whole.prepare(&writes)?)
        });
        let prepared = prepared.await?;
        self.transaction.lock().hold(prepared)
    }

    /// The writes of a change, and the rows that it changes.
    async fn changed(&self, change: &Change, snapshot: &Snapshot, values: &ParamValues) -> Result<Changed> {
        let table = &change.table;
        let batches = self.computed(bound(&change.plan, values)?, snapshot, None).await?;
        let Some(rows) = change::all_rows(&batches)? else {
            let rows = match &change.returning {
                Some(returning) => returning.scope.nothing(),
                None => Vec::new(),
            };
            return Ok(Changed { writes: Vec::new(), count: 0, rows });
        };
        let settled = match &change.op {
            Op::Insert(conflict) => {
                let rows = change::inserted(table, &self.shared.db, rows)?;
                return match conflict {
                    None => Ok(plainly_inserted(table, rows)),
                    Some(conflict) => self.upserted(table, conflict, rows, snapshot, values).await,
                };
            }
            Op::Update(assigned) => change::updated(table, assigned, &rows, change.joined)?,
            Op::Delete => change::deleted(table, &rows, change.joined)?,
        };
        let mut columns = Vec::new();
        if change.returning.is_some() {
            columns = visible(table, &settled.rows);
            columns.extend(settled.more);
        }
        Ok(Changed { count: settled.rows.num_rows(), writes: vec![settled.write], rows: columns })
    }

    async fn upserted(
        &self,
        table: &Arc<TableSchema>,
        conflict: &Conflict,
        rows: RecordBatch,
        snapshot: &Snapshot,
        values: &ParamValues,
    ) -> Result<Changed> {
        let keys = rows.project(&table.key)?;
        let (name, at) = (table.name.clone(), snapshot.clone());
        let existing = blocking(move || {
            let missing = || Error::UndefinedTable(format!("relation \"{name}\" does not exist any more"));
            Ok(at.table(&name).ok_or_else(missing)?.find(&keys)?)
        });
        let existing = existing.await?;
        let split = change::split(table, &rows, &existing, conflict.update.is_some())?;
        let fresh = take_record_batch(&rows, &split.fresh)?;
        let mut changed = Changed { writes: Vec::new(), count: fresh.num_rows(), rows: visible(table, &fresh) };
        if fresh.num_rows() > 0 {
            changed.writes.push(Write {
                table: table.name.clone(),
                rows: Some(fresh),
                deletes: None,
                on_conflict: OnConflict::Error,
            });
        }
        let Some(update) = conflict.update.as_ref().filter(|_| !split.taken.is_empty()) else { return Ok(changed) };
        let mut columns = take_record_batch(&existing, &split.existing)?.columns().to_vec();
        columns.extend(take_record_batch(&rows, &split.taken)?.columns().iter().cloned());
        let pairs = update.scope.batch(&columns, split.taken.len())?;
        let batches = self.computed(bound(&update.plan, values)?, snapshot, Some(pairs)).await?;
        if let Some(rows) = change::all_rows(&batches)? {
            let settled = change::updated(table, &update.assigned, &rows, false)?;
            changed.count += settled.rows.num_rows();
            for (column, more) in changed.rows.iter_mut().zip(visible(table, &settled.rows)) {
                *column = concat(&[column.as_ref(), more.as_ref()])?;
            }
            changed.writes.push(settled.write);
        }
        Ok(changed)
    }

    async fn returned(
        &self,
        returning: &Returning,
        changed: &Changed,
        snapshot: Snapshot,
        values: &ParamValues,
    ) -> Result<Vec<RecordBatch>> {
        let rows = returning.scope.batch(&changed.rows, changed.count)?;
        let batches = self.computed(bound(&returning.plan, values)?, &snapshot, Some(rows)).await?;
        let renamed = batches.into_iter().map(|batch| {
            let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&returning.schema), batch.columns().to_vec(), &rows)?)
        });
        renamed.collect()
    }

    /// All rows of a plan, which may read `own` rows of the statement.
    async fn computed(
        &self,
        plan: LogicalPlan,
        snapshot: &Snapshot,
        own: Option<RecordBatch>,
    ) -> Result<Vec<RecordBatch>> {
        Ok(self.rows_at(plan, snapshot.clone(), own).await?.try_collect().await?)
    }
}

/// Under REPEATABLE READ a row that others changed since must not be changed again.
fn unchanged(write: &Write, base: &Snapshot, now: &Snapshot) -> Result<()> {
    let gone = || Error::Serialization(write.table.clone());
    let (base, now) = (base.table(&write.table).ok_or_else(gone)?, now.table(&write.table).ok_or_else(gone)?);
    let key: Vec<&str> = base.schema().key.iter().map(|&i| base.schema().columns[i].name.as_str()).collect();
    let replaced = write.rows.as_ref().filter(|_| write.on_conflict == OnConflict::Replace);
    let keyed = matches!(base.schema().kind, TableKind::Keyed);
    for rows in write.deletes.iter().chain(replaced.filter(|_| keyed)) {
        let places = key.iter().map(|name| rows.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let keys = rows.project(&places)?;
        if base.find(&keys)? != now.find(&keys)? {
            return Err(gone());
        }
    }
    Ok(())
}

fn plainly_inserted(table: &TableSchema, rows: RecordBatch) -> Changed {
    let (count, columns) = (rows.num_rows(), visible(table, &rows));
    let keyed = matches!(table.kind, TableKind::Keyed);
    let on_conflict = if keyed { OnConflict::Error } else { OnConflict::Replace };
    let write = Write { table: table.name.clone(), rows: Some(rows), deletes: None, on_conflict };
    Changed { writes: vec![write], count, rows: columns }
}

/// The columns that users see, in order.
fn visible(table: &TableSchema, rows: &RecordBatch) -> Vec<ArrayRef> {
    let of = |field: &arrow::datatypes::FieldRef| match rows.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), rows.num_rows()),
    };
    shown(table).fields().iter().map(of).collect()
}
