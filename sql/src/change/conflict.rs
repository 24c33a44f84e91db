//! INSERT … ON CONFLICT: what happens to a new row whose key exists.
//!
//! **Invariant:** the table's key is the only constraint that a row can be in conflict with.

use std::collections::HashMap;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{self, ConflictTarget, OnConflictAction, OnInsert};
use juno_engine::TableSchema;

use super::lower::{assignments, cast_to_column};
use super::scope::expression;
use super::{Scope, Target};
use crate::definition::folded;
use crate::types::HIDDEN_PREFIX;
use crate::{Error, Result};

/// The name that DO UPDATE calls the new row by.
const EXCLUDED: &str = "excluded";

/// A planned ON CONFLICT.
#[derive(Debug, Clone)]
pub(crate) struct Conflict {
    /// None is DO NOTHING.
    pub(crate) update: Option<DoUpdate>,
}

/// A planned DO UPDATE.
#[derive(Debug, Clone)]
pub(crate) struct DoUpdate {
    /// The existing row, then the new one.
    pub(crate) scope: Scope,
    /// The existing rows, then the values assigned.
    pub(crate) plan: LogicalPlan,
    pub(crate) assigned: Vec<usize>,
}

impl Conflict {
    pub(super) fn plan(state: &SessionState, target: &Target, on: OnInsert) -> Result<Self> {
        let OnInsert::OnConflict(on) = on else {
            return Err(Error::Syntax("syntax error: write ON CONFLICT (…) DO UPDATE or DO NOTHING".into()));
        };
        if let Some(named) = &on.conflict_target {
            check_target(&target.table, named)?;
        }
        match on.action {
            OnConflictAction::DoNothing => Ok(Conflict { update: None }),
            OnConflictAction::DoUpdate(_) if on.conflict_target.is_none() => Err(Error::Syntax(
                "syntax error: ON CONFLICT DO UPDATE requires the key's columns or its constraint's name".into(),
            )),
            OnConflictAction::DoUpdate(update) => Ok(Conflict { update: Some(do_update(state, target, update)?) }),
        }
    }
}

/// The target must be the table's key.
fn check_target(table: &TableSchema, target: &ConflictTarget) -> Result<()> {
    let mut key: Vec<&str> = table.key.iter().map(|&index| table.columns[index].name.as_str()).collect();
    let fits = match target {
        ConflictTarget::Columns(columns) => {
            let mut named: Vec<String> = columns.iter().map(folded).collect();
            if let Some(missing) = named.iter().find(|name| table.column(name).is_none()) {
                return Err(Error::UndefinedColumn(format!("column \"{missing}\" does not exist")));
            }
            named.sort_unstable();
            named.dedup();
            key.sort_unstable();
            named == key
        }
        ConflictTarget::OnConstraint(name) => {
            let name = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
            if name != format!("{}_pkey", table.name) {
                let text = format!("constraint \"{name}\" for table \"{}\" does not exist", table.name);
                return Err(Error::UndefinedType(text));
            }
            true
        }
    };
    if fits && !key[0].starts_with(HIDDEN_PREFIX) {
        return Ok(());
    }
    let key: Vec<&str> = key.into_iter().filter(|name| !name.starts_with(HIDDEN_PREFIX)).collect();
    let hint = if key.is_empty() { "has no key".to_owned() } else { format!("has the key ({})", key.join(", ")) };
    Err(Error::NoConstraint(format!(
        "there is no unique or exclusion constraint matching the ON CONFLICT specification: \"{}\" {hint}",
        table.name
    )))
}

fn do_update(state: &SessionState, target: &Target, update: ast::DoUpdate) -> Result<DoUpdate> {
    let table = &target.table;
    let scope = Scope::of(&target.alias, table).and(Scope::of(EXCLUDED, table));
    let mut over = scope.plan()?;
    if let Some(condition) = update.selection {
        let condition = expression(state, &over, condition, "ON CONFLICT DO UPDATE")?;
        over = LogicalPlanBuilder::from(over).filter(condition)?.build()?;
    }
    let columns = over.schema().columns();
    let mut exprs: Vec<Expr> = columns.into_iter().take(table.columns.len()).map(Expr::Column).collect();
    let mut assigned = Vec::new();
    for (index, value) in assignments(table, update.assignments)? {
        let value = expression(state, &over, value, "ON CONFLICT DO UPDATE")?;
        exprs.push(cast_to_column(value, table, index, &over)?);
        assigned.push(index);
    }
    let plan = LogicalPlanBuilder::from(over).project(exprs)?.build()?;
    Ok(DoUpdate { scope, plan, assigned })
}

/// New rows, told apart by whether their key exists.
pub(crate) struct Split {
    /// Those whose key does not.
    pub(crate) fresh: UInt32Array,
    /// Those whose key does, and beside them the existing rows.
    pub(crate) taken: UInt32Array,
    pub(crate) existing: UInt32Array,
}

/// Tells new rows apart. Of new rows with one key the first counts where the others are to be passed over.
///
/// # Errors
/// [`Error::ChangedTwice`] where new rows share a key and DO UPDATE would have to change the first one.
pub(crate) fn split(table: &TableSchema, new: &RecordBatch, old: &RecordBatch, updates: bool) -> Result<Split> {
    let fields = table.key.iter().map(|&index| SortField::new(table.columns[index].data_type.clone())).collect();
    let converter = RowConverter::new(fields)?;
    let (new, old) = (keys(&converter, table, new)?, keys(&converter, table, old)?);
    let mut seen: HashMap<OwnedRow, Option<u32>> = HashMap::with_capacity(old.num_rows() + new.num_rows());
    for (row, key) in (0u32..).zip(old.iter()) {
        seen.insert(key.owned(), Some(row));
    }
    let (mut fresh, mut taken, mut existing) = (Vec::new(), Vec::new(), Vec::new());
    for (row, key) in (0u32..).zip(new.iter()) {
        match seen.entry(key.owned()) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(None);
                fresh.push(row);
            }
            std::collections::hash_map::Entry::Occupied(_) if !updates => {}
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                let Some(old) = entry.insert(None) else { return Err(Error::ChangedTwice) };
                taken.push(row);
                existing.push(old);
            }
        }
    }
    Ok(Split { fresh: fresh.into(), taken: taken.into(), existing: existing.into() })
}

fn keys(converter: &RowConverter, table: &TableSchema, rows: &RecordBatch) -> Result<Rows> {
    let column = |index: &usize| {
        let name = &table.columns[*index].name;
        let missing = || Error::Internal(format!("key column \"{name}\" is missing"));
        rows.column_by_name(name).cloned().ok_or_else(missing)
    };
    let columns = table.key.iter().map(column).collect::<Result<Vec<ArrayRef>>>()?;
    Ok(converter.convert_columns(&columns)?)
}
