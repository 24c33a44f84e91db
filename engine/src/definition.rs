//! A table's definition: as callers know it, and the names under which its columns are stored.
//!
//! A column keeps its stored name for life, so that a rename touches no row; a column that is added under a name which rows
//! may still have from an earlier column gets another stored name, so that no old value comes back. The stored name is the
//! name, unless that was taken: then it is the name, `#`, and the number of the commit that added the column.
//!
//! **Invariant:** pure; `stored` is `table` under other column names, and no two columns that a table ever had share one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::schema::check_column;
use crate::{Column, Error, ROLLUPS_MAX, Result, Rollup, TableKind, TableSchema};

/// A change to a table's definition, for [`crate::Db::alter_table`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alteration {
    /// Columns beside the key, null in rows that are there. Those that the table has already with the same type are
    /// passed over.
    AddColumns(Vec<Column>),
    /// Tags behind those that there are, null in rows that are there. Those that the table has already are passed over.
    AddTags(Vec<String>),
    /// A column beside the key, with its values. One that is added later under its name begins empty.
    DropColumn(String),
    /// A column gets another name.
    RenameColumn {
        /// Its name so far.
        from: String,
        /// Its name from now on.
        to: String,
    },
    /// The table gets another name.
    RenameTable(String),
    /// Rows may be so old, in microseconds; for ever where absent. For telemetry tables.
    SetRetention(Option<i64>),
    /// A column gets other metadata.
    SetMetadata {
        /// The column.
        column: String,
        /// All of its metadata from now on.
        metadata: BTreeMap<String, String>,
    },
    /// Parts keep block aggregates of another width from now on. For telemetry tables.
    AddRollup(Rollup),
    /// The rollup with this name goes.
    DropRollup(String),
}

/// A table's definition at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    /// As callers know it.
    pub(crate) table: Arc<TableSchema>,
    /// Under the stored names of columns.
    pub(crate) stored: Arc<TableSchema>,
    /// Stored names of columns that were dropped.
    pub(crate) retired: BTreeSet<String>,
    /// By the number of the commit that declared each; their columns under stored names.
    pub(crate) rollups: BTreeMap<u64, Rollup>,
}

impl Definition {
    /// Of a new table, whose columns are stored under their names.
    pub(crate) fn new(table: Arc<TableSchema>) -> Self {
        Self { stored: Arc::clone(&table), table, retired: BTreeSet::new(), rollups: BTreeMap::new() }
    }

    /// Of a table whose columns are stored under these names.
    pub(crate) fn with_stored(table: TableSchema, names: Vec<String>, retired: BTreeSet<String>) -> Self {
        let mut stored = table.clone();
        stored.columns.iter_mut().zip(names).for_each(|(column, name)| column.name = name);
        Self { table: Arc::new(table), stored: Arc::new(stored), retired, rollups: BTreeMap::new() }
    }

    /// The name under which a column is stored.
    pub(crate) fn stored_name(&self, column: &str) -> Option<&str> {
        Some(self.stored.columns[self.table.column(column)?].name.as_str())
    }

    /// The rollups, in the order in which they were declared, their columns under the names that callers know.
    pub(crate) fn rollups(&self) -> impl Iterator<Item = (u64, Rollup)> {
        let known = |stored: &String| Some(self.table.columns[self.stored.column(stored)?].name.clone());
        self.rollups.iter().map(move |(&id, rollup)| {
            (id, Rollup { columns: rollup.columns.iter().filter_map(known).collect(), ..rollup.clone() })
        })
    }

    /// The definition after a change made by commit `sequence`.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`], [`Error::ColumnType`], [`Error::InvalidSchema`].
    pub(crate) fn altered(&self, alteration: Alteration, sequence: u64) -> Result<Self> {
        let mut table = TableSchema::clone(&self.table);
        let mut names: Vec<String> = self.stored.columns.iter().map(|column| column.name.clone()).collect();
        let mut retired = self.retired.clone();
        let mut rollups = self.rollups.clone();
        match alteration {
            Alteration::AddColumns(columns) => add_columns(&mut table, columns)?,
            Alteration::AddTags(tags) => add_tags(&mut table, tags)?,
            Alteration::DropColumn(name) => {
                let index = drop_column(&mut table, &name)?;
                let gone = names.remove(index);
                drop_from_rollups(&mut rollups, &gone);
                retired.insert(gone);
            }
            Alteration::RenameColumn { from, to } => {
                let index = known(&table, &from)?;
                table.columns[index].name = to;
                check_column(&table.name, &table.columns[index])?;
            }
            Alteration::RenameTable(name) => table.name = name,
            Alteration::SetRetention(retention) => table.retention = retention,
            Alteration::SetMetadata { column, metadata } => {
                let index = known(&table, &column)?;
                table.columns[index].metadata = metadata;
            }
            Alteration::AddRollup(rollup) => {
                rollups.insert(sequence, self.declared(rollup)?);
            }
            Alteration::DropRollup(name) => {
                let before = rollups.len();
                rollups.retain(|_, rollup| rollup.name != name);
                if rollups.len() == before {
                    let reason = format!("it has no rollup \"{name}\"");
                    return Err(Error::InvalidSchema { table: table.name.clone(), reason });
                }
            }
        }
        for column in &table.columns[names.len()..] {
            names.push(stored_name(&column.name, sequence, &names, &retired));
        }
        table.validate()?;
        Ok(Self { rollups, ..Self::with_stored(table, names, retired) })
    }

    /// A rollup as it is kept.
    fn declared(&self, mut rollup: Rollup) -> Result<Rollup> {
        rollup.check(&self.table)?;
        if self.rollups.len() >= ROLLUPS_MAX {
            let reason = format!("it has {ROLLUPS_MAX} rollups, which is the most that a table can have");
            return Err(Error::InvalidSchema { table: self.table.name.clone(), reason });
        }
        let stored = |name: &String| self.stored_name(name).unwrap_or(name).to_owned();
        let mut columns: Vec<String> = rollup.columns.iter().map(stored).collect();
        columns.sort_unstable();
        columns.dedup();
        rollup.columns = columns;
        Ok(rollup)
    }
}

/// Takes a column out of rollups; one that named no other goes with it.
fn drop_from_rollups(rollups: &mut BTreeMap<u64, Rollup>, stored: &str) {
    rollups.retain(|_, rollup| {
        let before = rollup.columns.len();
        rollup.columns.retain(|name| name != stored);
        before == 0 || !rollup.columns.is_empty()
    });
}

/// A name that no column of the table was ever stored under.
fn stored_name(name: &str, sequence: u64, used: &[String], retired: &BTreeSet<String>) -> String {
    let taken = |name: &String| used.contains(name) || retired.contains(name);
    let mut stored = name.to_owned();
    if taken(&stored) {
        stored = format!("{name}#{sequence}");
    }
    while taken(&stored) {
        stored.push('#');
    }
    stored
}

fn known(table: &TableSchema, column: &str) -> Result<usize> {
    let unknown = || Error::UnknownColumn { table: table.name.clone(), column: column.into() };
    table.column(column).ok_or_else(unknown)
}

fn add_columns(table: &mut TableSchema, columns: Vec<Column>) -> Result<()> {
    for column in columns {
        check_column(&table.name, &column)?;
        if has_already(table, &column)? {
            continue;
        }
        if !column.nullable {
            let reason = format!("new column \"{}\" must be nullable, since rows exist without it", column.name);
            return Err(Error::InvalidSchema { table: table.name.clone(), reason });
        }
        table.columns.push(column);
    }
    Ok(())
}

fn add_tags(table: &mut TableSchema, tags: Vec<String>) -> Result<()> {
    let TableKind::Telemetry { .. } = table.kind else {
        let reason = "it has a primary key and no tags; add a column".to_owned();
        return Err(Error::InvalidSchema { table: table.name.clone(), reason });
    };
    for name in tags {
        let column = Column::new(name, TableSchema::tag_type(), true);
        check_column(&table.name, &column)?;
        let found = table.column(&column.name);
        if found.is_some_and(|index| table.tags().contains(&index)) {
            continue;
        }
        if found.is_some() {
            let reason = format!("column \"{}\" is there and is no tag; choose another name", column.name);
            return Err(Error::InvalidSchema { table: table.name.clone(), reason });
        }
        table.key.insert(table.key.len() - 1, table.columns.len());
        table.columns.push(column);
    }
    Ok(())
}

/// Whether a table has a column; an error where it has another type there.
fn has_already(table: &TableSchema, column: &Column) -> Result<bool> {
    let Some(index) = table.column(&column.name) else { return Ok(false) };
    let expected = table.columns[index].data_type.clone();
    if expected == column.data_type {
        return Ok(true);
    }
    let (table, name, found) = (table.name.clone(), column.name.clone(), column.data_type.clone());
    Err(Error::ColumnType { table, column: name, expected, found })
}

/// Takes a column out; answers where it was.
fn drop_column(table: &mut TableSchema, name: &str) -> Result<usize> {
    let index = known(table, name)?;
    if table.key.contains(&index) {
        let reason = format!("column \"{name}\" belongs to its key and cannot be dropped");
        return Err(Error::InvalidSchema { table: table.name.clone(), reason });
    }
    table.columns.remove(index);
    let shifted = |place: usize| place - usize::from(place > index);
    table.key.iter_mut().for_each(|place| *place = shifted(*place));
    if let TableKind::Telemetry { time } = &mut table.kind {
        *time = shifted(*time);
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, TimeUnit};

    use super::*;

    fn cpu() -> Definition {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        Definition::new(Arc::new(TableSchema {
            name: "cpu".into(),
            columns: vec![
                Column::new("usage", DataType::Float64, true),
                Column::new("time", time, false),
                Column::new("host", TableSchema::tag_type(), true),
            ],
            key: vec![2, 1],
            kind: TableKind::Telemetry { time: 1 },
            retention: None,
        }))
    }

    fn altered(alterations: impl IntoIterator<Item = Alteration>) -> Result<Definition> {
        (10..).zip(alterations).try_fold(cpu(), |definition, (sequence, next)| definition.altered(next, sequence))
    }

    fn names(table: &TableSchema) -> Vec<&str> {
        table.columns.iter().map(|column| column.name.as_str()).collect()
    }

    fn usage() -> Alteration {
        Alteration::AddColumns(vec![Column::new("usage", DataType::Int64, true)])
    }

    #[test]
    fn no_two_columns_are_ever_stored_under_one_name() {
        let drop = || Alteration::DropColumn("usage".into());
        let rename = Alteration::RenameColumn { from: "usage".into(), to: "load".into() };
        let definition = altered([drop(), usage(), drop(), usage(), rename, usage()]).unwrap();
        assert_eq!(names(&definition.table), ["time", "host", "load", "usage"]);
        assert_eq!(names(&definition.stored), ["time", "host", "usage#13", "usage#15"]);
        assert_eq!(definition.retired, BTreeSet::from(["usage".to_string(), "usage#11".to_string()]));
        assert_eq!((&definition.table.key, definition.table.time()), (&vec![1, 0], Some(0)));
        let same = definition.altered(usage(), 99).unwrap();
        assert_eq!(same, definition, "a column that is there is passed over");
    }

    #[test]
    fn a_new_tag_stands_before_the_time_in_the_key() {
        let tags = || Alteration::AddTags(vec!["rack".into(), "host".into()]);
        let definition = altered([tags(), tags()]).unwrap();
        assert_eq!(names(&definition.table), ["usage", "time", "host", "rack"]);
        assert_eq!((&definition.table.key, definition.table.tags()), (&vec![2, 3, 1], &[2, 3][..]));
        assert!(altered([Alteration::AddTags(vec!["usage".into()])]).is_err());
    }

    #[test]
    fn what_the_key_needs_and_what_is_not_there_is_refused() {
        let text = |alteration| altered([alteration]).unwrap_err().to_string();
        assert!(text(Alteration::DropColumn("host".into())).contains("belongs to its key"));
        assert!(text(Alteration::DropColumn("gone".into())).contains("does not exist"));
        let rename = |to: &str| Alteration::RenameColumn { from: "usage".into(), to: to.into() };
        assert!(text(rename("host")).contains("defined twice"));
        assert!(text(rename("__deleted")).contains("reserved"));
        assert!(text(Alteration::SetRetention(Some(0))).contains("retention"));
        assert!(text(Alteration::RenameTable(String::new())).contains("empty"));
    }
}
