//! INSERT, UPDATE and DELETE: a plan that computes rows, turned into writes of the engine.
//!
//! **Invariant:** computes writes and makes none; the session commits them, alone or with its transaction.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, WriteOp};
use juno_engine::{OnConflict, TableKind, TableSchema, Write};

use crate::prune::named_column;
use crate::table::Table;
use crate::types::HIDDEN_PREFIX;
use crate::{Error, Result, column};

/// Old key columns travel beside the new row under this prefix.
const OLD_KEY_PREFIX: &str = "__old_";
/// The most bytes of rows that one statement may change.
const CHANGE_BYTES_MAX: usize = 1 << 30;

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Insert,
    /// The flag says that a key column is assigned to.
    Update {
        moves: bool,
    },
    Delete,
}

/// A planned change of one table.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) op: Op,
    pub(crate) table: Arc<TableSchema>,
    /// INSERT: the new rows. UPDATE: the new rows, and their old keys where they move. DELETE: the keys.
    pub(crate) plan: LogicalPlan,
}

impl Change {
    /// From DataFusion's plan of the statement.
    pub(crate) fn from_plan(plan: LogicalPlan) -> Result<Self> {
        let LogicalPlan::Dml(dml) = plan else {
            return Err(Error::Unsupported("this statement changes no table".into()));
        };
        let provider = source_as_provider(&dml.target)?;
        let Some(table) = provider.downcast_ref::<Table>() else {
            return Err(Error::InvalidDefinition(format!(
                "\"{}\" is a view and cannot be changed",
                dml.table_name.table()
            )));
        };
        let whole: Arc<Table> = Arc::new(table.with_hidden());
        let stored = Arc::clone(table.stored());
        let input = |dml: &DmlStatement| with_hidden(&dml.input, &dml.table_name, &whole);
        let (op, plan) = match &dml.op {
            WriteOp::Insert(_) => (Op::Insert, dml.input.as_ref().clone()),
            WriteOp::Delete => (Op::Delete, keys_of(&stored, input(&dml)?)?),
            WriteOp::Update => updated(&stored, input(&dml)?)?,
            other => return Err(Error::Unsupported(format!("{other} is not supported"))),
        };
        Ok(Change { op, table: stored, plan })
    }

    /// The writes that the computed rows ask for, and how many rows they change.
    pub(crate) fn writes(&self, db: &juno_engine::Db, batches: &[RecordBatch]) -> Result<(Vec<Write>, usize)> {
        let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        if bytes > CHANGE_BYTES_MAX {
            let most = CHANGE_BYTES_MAX >> 20;
            return Err(Error::OutOfMemory(format!(
                "a statement may change {most} MiB of rows: change fewer at a time"
            )));
        }
        let Some(first) = batches.first().filter(|_| count > 0) else { return Ok((Vec::new(), 0)) };
        let all = concat_batches(&first.schema(), batches)?;
        let keyed = matches!(self.table.kind, TableKind::Keyed);
        let (rows, deletes, on_conflict) = match self.op {
            Op::Insert => {
                let rows = column::conform(&self.table, &with_row_ids(&self.table, db, all)?)?;
                (Some(rows), None, if keyed { OnConflict::Error } else { OnConflict::Replace })
            }
            Op::Delete => (None, Some(column::conform_keys(&self.table, &all)?), OnConflict::Replace),
            Op::Update { moves: false } => {
                // Rows of telemetry merge by column, so a null counts only where the old row is deleted first.
                let deletes = if keyed { None } else { Some(column::conform_keys(&self.table, &all)?) };
                (Some(column::conform(&self.table, &all)?), deletes, OnConflict::Replace)
            }
            Op::Update { moves: true } => {
                let (old, new) = split_old_keys(&all)?;
                let deletes = column::conform_keys(&self.table, &old)?;
                (Some(column::conform(&self.table, &new)?), Some(deletes), OnConflict::Error)
            }
        };
        Ok((vec![Write { table: self.table.name.clone(), rows, deletes, on_conflict }], count))
    }

    /// The command tag.
    pub(crate) fn tag(&self, count: usize) -> String {
        match self.op {
            Op::Insert => format!("INSERT 0 {count}"),
            Op::Update { .. } => format!("UPDATE {count}"),
            Op::Delete => format!("DELETE {count}"),
        }
    }

    /// Whether the change reads the table before it writes it.
    pub(crate) fn reads_itself(&self) -> bool {
        self.op != Op::Insert
    }
}

/// The plan with the target's scan showing juno's own columns too.
fn with_hidden(plan: &LogicalPlan, name: &TableReference, table: &Arc<Table>) -> Result<LogicalPlan> {
    let replaced = plan.clone().transform_down(|node| -> DataFusionResult<_> {
        match &node {
            LogicalPlan::TableScan(scan) if scan.table_name.table() == name.table() => {
                let source = provider_as_source(Arc::clone(table) as _);
                let scan = LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?.build()?;
                Ok(Transformed::yes(scan))
            }
            _ => Ok(Transformed::no(node)),
        }
    })?;
    Ok(replaced.data.recompute_schema()?)
}

/// The expression for a column of the plan, whatever relation it belongs to there.
fn column_of(plan: &LogicalPlan, name: &str) -> Result<Expr> {
    let found = plan.schema().iter().find(|(_, field)| field.name() == name);
    let (relation, _) = found.ok_or_else(|| Error::Internal(format!("the plan lost column \"{name}\"")))?;
    Ok(Expr::Column(Column::new(relation.cloned(), name)))
}

fn keys_of(table: &TableSchema, input: LogicalPlan) -> Result<LogicalPlan> {
    let keys =
        table.key.iter().map(|&index| column_of(&input, &table.columns[index].name)).collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlanBuilder::from(input).project(keys)?.build()?)
}

/// DataFusion's UPDATE plan projects every shown column to its new value; add what it does not show and, where a key
/// column is assigned to, the old key.
fn updated(table: &TableSchema, plan: LogicalPlan) -> Result<(Op, LogicalPlan)> {
    let LogicalPlan::Projection(projection) = plan else {
        return Err(Error::Internal("an UPDATE plan must be a projection".into()));
    };
    let input = projection.input.as_ref().clone();
    let mut exprs: Vec<Expr> = projection.expr.clone();
    let assigned = |index: &&usize| {
        let name = &table.columns[**index].name;
        exprs.iter().any(|expr| {
            let (named, inner) = match expr {
                Expr::Alias(alias) => (alias.name == *name, alias.expr.as_ref()),
                other => (named_column(other).is_some_and(|column| column.name == *name), other),
            };
            named && !matches!(inner, Expr::Column(column) if column.name == *name)
        })
    };
    let moves = table.key.iter().any(|index| assigned(&index));
    for hidden in table.columns.iter().filter(|column| column.name.starts_with(HIDDEN_PREFIX)) {
        exprs.push(column_of(&input, &hidden.name)?);
    }
    if moves {
        for &index in &table.key {
            let name = &table.columns[index].name;
            exprs.push(column_of(&input, name)?.alias(format!("{OLD_KEY_PREFIX}{name}")));
        }
    }
    Ok((Op::Update { moves }, LogicalPlanBuilder::from(input).project(exprs)?.build()?))
}

/// Old keys under their own names, and the new rows.
fn split_old_keys(all: &RecordBatch) -> Result<(RecordBatch, RecordBatch)> {
    let schema = all.schema();
    let (old, new): (Vec<usize>, Vec<usize>) =
        (0..all.num_columns()).partition(|&index| schema.field(index).name().starts_with(OLD_KEY_PREFIX));
    let keys = all.project(&old)?;
    let fields: Vec<_> = keys
        .schema()
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_name(field.name().trim_start_matches(OLD_KEY_PREFIX)))
        .collect();
    let keys = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), keys.columns().to_vec())?;
    Ok((keys, all.project(&new)?))
}

/// Rows of a table without a key of its own get one.
fn with_row_ids(table: &TableSchema, db: &juno_engine::Db, rows: RecordBatch) -> Result<RecordBatch> {
    let Some(&key) = table.key.first() else { return Ok(rows) };
    let name = &table.columns[key].name;
    if !name.starts_with(HIDDEN_PREFIX) {
        return Ok(rows);
    }
    let ids: arrow::array::StringArray =
        (0..rows.num_rows()).map(|_| Some(db.system().uuid_v7().to_string())).collect();
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(arrow::datatypes::Field::new(name, arrow::datatypes::DataType::Utf8, false)));
    let mut arrays = rows.columns().to_vec();
    arrays.push(Arc::new(ids));
    Ok(RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), arrays)?)
}
