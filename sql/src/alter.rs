//! ALTER TABLE: from SQL's operations to alterations of the engine.
//!
//! **Invariant:** pure: a syntax tree and the table as it is in, alterations and what to tell the user out.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, ColumnDef, Ident, RenameTableNameKind, SqlOption,
};
use juno_engine::{Alteration, TableSchema};

use crate::definition::{self, folded, table_name};
use crate::types::{DEFAULT_KEY, HIDDEN_PREFIX};
use crate::{Error, Result};

const DAY_US: i64 = 86_400_000_000;

/// What one operation comes to.
#[derive(Debug, Default)]
pub(crate) struct Altered {
    pub(crate) alterations: Vec<Alteration>,
    pub(crate) notices: Vec<String>,
}

impl From<Alteration> for Altered {
    fn from(alteration: Alteration) -> Self {
        Altered { alterations: vec![alteration], notices: Vec::new() }
    }
}

/// Whether an operation takes a name away that views may read.
pub(crate) fn takes_names(operation: &AlterTableOperation) -> bool {
    matches!(
        operation,
        AlterTableOperation::DropColumn { .. }
            | AlterTableOperation::RenameColumn { .. }
            | AlterTableOperation::RenameTable { .. }
    )
}

/// The alterations of one operation; `planner` checks DEFAULT expressions.
pub(crate) fn alter(table: &TableSchema, operation: &AlterTableOperation, planner: &SessionState) -> Result<Altered> {
    match operation {
        AlterTableOperation::AddColumn { if_not_exists, column_def, .. } => {
            add(table, column_def, *if_not_exists, planner)
        }
        AlterTableOperation::DropColumn { column_names, if_exists, .. } => {
            drop_columns(table, column_names, *if_exists)
        }
        AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
            let (from, to) = (known(table, old_column_name)?, folded(new_column_name));
            definition::check_name(&to)?;
            if table.column(&to).is_some() {
                return Err(Error::DuplicateColumn(to));
            }
            Ok(Alteration::RenameColumn { from, to }.into())
        }
        AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(name) } => {
            let name = table_name(name)?;
            definition::check_name(&name)?;
            Ok(Alteration::RenameTable(name).into())
        }
        AlterTableOperation::SetOptionsParens { options } => set(options),
        AlterTableOperation::AlterColumn { column_name, op } => alter_column(table, column_name, op, planner),
        other => Err(Error::Unsupported(format!("ALTER TABLE … {other} is not supported"))),
    }
}

fn add(table: &TableSchema, column: &ColumnDef, if_not_exists: bool, planner: &SessionState) -> Result<Altered> {
    let (column, is_key) = definition::column(column, planner)?;
    definition::check_name(&column.name)?;
    if is_key {
        return Err(Error::InvalidDefinition("the PRIMARY KEY is settled when a table is made".into()));
    }
    if table.column(&column.name).is_some() {
        let notice = format!("column \"{}\" of relation \"{}\" already exists, skipping", column.name, table.name);
        return match if_not_exists {
            true => Ok(Altered { alterations: Vec::new(), notices: vec![notice] }),
            false => Err(Error::DuplicateColumn(column.name)),
        };
    }
    if !column.nullable {
        let text = format!("column \"{}\" cannot be NOT NULL: the rows that are there have none", column.name);
        return Err(Error::InvalidDefinition(text));
    }
    let mut notices = Vec::new();
    if column.metadata.contains_key(DEFAULT_KEY) {
        notices.push(format!(
            "rows that are there have null in column \"{}\"; its DEFAULT is for rows to come",
            column.name
        ));
    }
    Ok(Altered { alterations: vec![Alteration::AddColumns(vec![column])], notices })
}

fn drop_columns(table: &TableSchema, names: &[Ident], if_exists: bool) -> Result<Altered> {
    let mut altered = Altered::default();
    for name in names {
        match known(table, name) {
            Ok(name) => altered.alterations.push(Alteration::DropColumn(name)),
            Err(_) if if_exists => {
                let name = folded(name);
                let text = format!("column \"{name}\" of relation \"{}\" does not exist, skipping", table.name);
                altered.notices.push(text);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(altered)
}

/// The column of this name, which users see.
fn known(table: &TableSchema, name: &Ident) -> Result<String> {
    let name = folded(name);
    match table.column(&name) {
        Some(_) if !name.starts_with(HIDDEN_PREFIX) => Ok(name),
        _ => Err(Error::UndefinedColumn(format!("column \"{name}\" of relation \"{}\" does not exist", table.name))),
    }
}

fn set(options: &[SqlOption]) -> Result<Altered> {
    let mut altered = Altered::default();
    for option in options {
        match option {
            SqlOption::KeyValue { key, value } if key.value.eq_ignore_ascii_case("retention") => {
                altered.alterations.push(Alteration::SetRetention(retention(&value.to_string())?));
            }
            other => {
                let text = format!("unrecognized table option {other}: ALTER TABLE can set retention");
                return Err(Error::InvalidDefinition(text));
            }
        }
    }
    Ok(altered)
}

fn alter_column(
    table: &TableSchema,
    name: &Ident,
    operation: &AlterColumnOperation,
    planner: &SessionState,
) -> Result<Altered> {
    let column = known(table, name)?;
    let found = table.column(&column).map(|index| table.columns[index].metadata.clone());
    let mut metadata = found.unwrap_or_default();
    match operation {
        AlterColumnOperation::SetDefault { value } => {
            let sql = value.to_string();
            planner.create_logical_expr(&sql, &DFSchema::empty())?;
            metadata.insert(DEFAULT_KEY.into(), sql);
        }
        AlterColumnOperation::DropDefault => drop(metadata.remove(DEFAULT_KEY)),
        other => return Err(Error::Unsupported(format!("ALTER COLUMN {other} is not supported"))),
    }
    Ok(Alteration::SetMetadata { column, metadata }.into())
}

/// How old rows may be, in microseconds: `'30 days'`; `none` is for ever.
pub(crate) fn retention(text: &str) -> Result<Option<i64>> {
    let text = text.trim().trim_matches('\'');
    if ["none", "null", "forever", ""].contains(&text.to_lowercase().as_str()) {
        return Ok(None);
    }
    let wrong = || {
        Error::InvalidArgument(format!(
            "retention \"{text}\" must be a length of time above zero in days or smaller units, such as '30 days', or 'none'"
        ))
    };
    let interval = parse_interval_month_day_nano(text).map_err(|_| wrong())?;
    let days = i64::from(interval.days).checked_mul(DAY_US);
    let us = days.and_then(|days| days.checked_add(interval.nanoseconds / 1_000));
    us.filter(|us| *us > 0 && interval.months == 0).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_is_a_length_of_time_above_zero() {
        assert_eq!(retention("'30 days'").expect("days"), Some(30 * DAY_US));
        assert_eq!(retention("90 minutes").expect("minutes"), Some(5_400_000_000));
        assert_eq!(retention("'none'").expect("none"), None);
        for wrong in ["'1 month'", "'-1 day'", "'0 days'", "'soon'"] {
            assert!(matches!(retention(wrong), Err(Error::InvalidArgument(_))), "{wrong}");
        }
    }
}
