//! CREATE TABLE: from SQL's columns and options to a table of the engine.
//!
//! A table with a PRIMARY KEY holds rows by that key. A table without one whose column `time` (or the one that
//! `WITH (time_column = '…')` names) is a timestamp holds telemetry: its tags are the columns of `WITH (tags = 'a, b')`, or else
//! every text column, and rows of the same tags and time are one, in which later values win. Any other table
//! keeps every row.
//!
//! **Invariant:** pure: a syntax tree in, a definition and what to tell the user out.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, CreateTableOptions, Expr, Ident, ObjectName, SqlOption, TableConstraint,
};
use juno_engine::{Column, TableKind, TableSchema};

use crate::catalog::SCHEMA;
use crate::types::{self, DEFAULT_KEY, HIDDEN_PREFIX};
use crate::{Error, Result, alter};

/// The hidden key of a table that declares none.
const ROW_ID: &str = "_juno_row_id";
/// The longest name, in bytes: PostgreSQL's own limit.
const NAME_BYTES_MAX: usize = 63;
/// The most columns of a table.
const COLUMNS_MAX: usize = 1_600;

/// A new table and what to tell the user about it.
pub(crate) struct Definition {
    pub(crate) table: TableSchema,
    pub(crate) notices: Vec<String>,
}

/// The bare name of a table: `t` or `public.t`, folded as PostgreSQL folds it.
pub(crate) fn table_name(name: &ObjectName) -> Result<String> {
    let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    match parts.as_slice() {
        [table] => Ok(folded(table)),
        [schema, table] if folded(schema) == SCHEMA => Ok(folded(table)),
        _ => Err(Error::InvalidDefinition(format!(
            "\"{name}\" is not in schema public, the one schema that tables live in"
        ))),
    }
}

/// An identifier as PostgreSQL folds it.
pub(crate) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The table that a CREATE TABLE declares, or that the columns of its query make; `planner` checks its DEFAULT expressions.
pub(crate) fn define(create: &CreateTable, given: Option<Vec<Column>>, planner: &SessionState) -> Result<Definition> {
    if create.like.is_some() {
        return Err(Error::Unsupported("CREATE TABLE LIKE is not supported: write CREATE TABLE … AS SELECT".into()));
    }
    if create.temporary {
        return Err(Error::Unsupported("temporary tables are not supported".into()));
    }
    let name = table_name(&create.name)?;
    let mut columns = Vec::with_capacity(create.columns.len() + 1);
    let mut key_names = Vec::new();
    let declared: &[ColumnDef] = if given.is_some() { &[] } else { &create.columns };
    columns.extend(given.unwrap_or_default());
    for definition in declared {
        let (column, is_key) = column(definition, planner)?;
        if is_key {
            key_names.push(column.name.clone());
        }
        columns.push(column);
    }
    table_constraints(create, &mut key_names)?;
    check_names(&name, &columns)?;
    let options = Options::from(&create.table_options)?;
    if !key_names.is_empty() {
        options.refuse_for_keyed()?;
        return keyed(name, columns, &key_names);
    }
    match time_column(&columns, options.time.as_deref())? {
        Some(time) => {
            let mut defined = telemetry(name, columns, time, options.tags)?;
            defined.table.retention = options.retention;
            Ok(defined)
        }
        None => {
            options.refuse_for_keyed()?;
            let row_id =
                Column { name: ROW_ID.into(), data_type: DataType::Utf8, nullable: false, metadata: BTreeMap::new() };
            columns.push(row_id);
            keyed(name, columns, &[ROW_ID.to_owned()])
        }
    }
}

/// The columns of CREATE TABLE AS: the query's.
pub(crate) fn columns_of(schema: &Schema, create: &CreateTable) -> Result<Vec<Column>> {
    if !create.columns.is_empty() {
        let text = "CREATE TABLE AS takes its columns from the query: write SELECT … AS name";
        return Err(Error::Unsupported(text.into()));
    }
    let column = |field: &FieldRef| {
        let name = field.name().clone();
        let metadata = field.metadata().get(types::TYPE_KEY).map(|kind| (types::TYPE_KEY.to_owned(), kind.clone()));
        let data_type = types::stored(field.data_type()).ok_or_else(|| {
            let given = field.data_type();
            Error::UndefinedType(format!("column \"{name}\" would have type {given}, which no column takes: cast it"))
        })?;
        Ok(Column { name, data_type, nullable: true, metadata: metadata.into_iter().collect() })
    };
    schema.fields().iter().map(column).collect()
}

/// Whether a relation may have this name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    check_names(name, &[])
}

/// A declared column, and whether it is the PRIMARY KEY.
pub(crate) fn column(definition: &ColumnDef, planner: &SessionState) -> Result<(Column, bool)> {
    let name = folded(&definition.name);
    let declared = types::column_type(&definition.data_type)?;
    let mut column = Column { name, metadata: declared.metadata(), data_type: declared.arrow, nullable: true };
    let mut is_key = false;
    for option in &definition.options {
        match &option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => column.nullable = false,
            ColumnOption::PrimaryKey(_) => {
                is_key = true;
                column.nullable = false;
            }
            ColumnOption::Default(expr) => {
                let sql = expr.to_string();
                planner.create_logical_expr(&sql, &DFSchema::empty())?;
                column.metadata.insert(DEFAULT_KEY.into(), sql);
            }
            other => return Err(Error::Unsupported(format!("column \"{}\": {other} is not supported", column.name))),
        }
    }
    Ok((column, is_key))
}

fn table_constraints(create: &CreateTable, key_names: &mut Vec<String>) -> Result<()> {
    for constraint in &create.constraints {
        match constraint {
            TableConstraint::PrimaryKey(primary) if key_names.is_empty() => {
                for part in &primary.columns {
                    match &part.column.expr {
                        Expr::Identifier(ident) => key_names.push(folded(ident)),
                        other => {
                            return Err(Error::InvalidDefinition(format!(
                                "PRIMARY KEY takes column names, not \"{other}\""
                            )));
                        }
                    }
                }
            }
            TableConstraint::PrimaryKey(_) => {
                let text = format!("multiple primary keys for table \"{}\" are not allowed", create.name);
                return Err(Error::InvalidDefinition(text));
            }
            other => return Err(Error::Unsupported(format!("constraint {other} is not supported"))),
        }
    }
    Ok(())
}

fn check_names(table: &str, columns: &[Column]) -> Result<()> {
    if columns.len() > COLUMNS_MAX {
        return Err(Error::InvalidDefinition(format!("a table can have at most {COLUMNS_MAX} columns")));
    }
    let mut seen = std::collections::BTreeSet::new();
    for name in std::iter::once(table).chain(columns.iter().map(|column| column.name.as_str())) {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Error::InvalidDefinition(format!("name \"{name}\" must have 1 to {NAME_BYTES_MAX} bytes")));
        }
        if name.starts_with(HIDDEN_PREFIX) {
            return Err(Error::InvalidDefinition(format!(
                "name \"{name}\" is reserved: it starts with {HIDDEN_PREFIX}"
            )));
        }
    }
    match columns.iter().find(|column| !seen.insert(column.name.as_str())) {
        Some(twice) => Err(Error::DuplicateColumn(twice.name.clone())),
        None => Ok(()),
    }
}

/// What `WITH (…)` may say.
#[derive(Default)]
struct Options {
    time: Option<String>,
    tags: Option<Vec<String>>,
    retention: Option<i64>,
}

impl Options {
    fn from(options: &CreateTableOptions) -> Result<Self> {
        let list = match options {
            CreateTableOptions::None => return Ok(Options::default()),
            CreateTableOptions::With(list) => list,
            other => return Err(Error::Unsupported(format!("table options {other} are not supported"))),
        };
        let mut parsed = Options::default();
        for option in list {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(Error::InvalidDefinition(format!("unrecognized table option {option}")));
            };
            let text = value.to_string();
            let text = text.trim_matches('\'');
            match key.value.to_lowercase().as_str() {
                "time_column" => parsed.time = Some(text.to_owned()),
                "tags" => {
                    let tags = text.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty());
                    parsed.tags = Some(tags.collect());
                }
                "retention" => parsed.retention = alter::retention(text)?,
                other => {
                    let text =
                        format!("unrecognized table option \"{other}\": juno knows time_column, tags and retention");
                    return Err(Error::InvalidDefinition(text));
                }
            }
        }
        Ok(parsed)
    }

    fn refuse_for_keyed(&self) -> Result<()> {
        if self.time.is_some() || self.tags.is_some() || self.retention.is_some() {
            let text = "time_column, tags and retention are options of telemetry tables: they need a timestamp column \
                        and no PRIMARY KEY";
            return Err(Error::InvalidDefinition(text.into()));
        }
        Ok(())
    }
}

fn time_column(columns: &[Column], wanted: Option<&str>) -> Result<Option<usize>> {
    let name = wanted.unwrap_or("time");
    let found = columns.iter().position(|column| column.name == name);
    match found {
        Some(index) if matches!(columns[index].data_type, DataType::Timestamp(..)) => Ok(Some(index)),
        _ if wanted.is_some() => {
            Err(Error::InvalidDefinition(format!("time_column \"{name}\" must be a TIMESTAMPTZ or TIMESTAMP column")))
        }
        _ => Ok(None),
    }
}

fn telemetry(name: String, mut columns: Vec<Column>, time: usize, tags: Option<Vec<String>>) -> Result<Definition> {
    let is_text = |column: &Column| column.data_type == DataType::Utf8 && types_as_text(column);
    let mut notices = Vec::new();
    let tags = match tags {
        Some(tags) => tags,
        None => {
            let all: Vec<String> =
                columns.iter().filter(|column| is_text(column)).map(|column| column.name.clone()).collect();
            if !all.is_empty() {
                notices.push(format!(
                    "text columns {} are tags of \"{name}\": rows with the same tags and time are one; \
                     choose others with WITH (tags = '…')",
                    all.join(", ")
                ));
            }
            all
        }
    };
    let mut key = Vec::with_capacity(tags.len() + 1);
    for tag in &tags {
        let index = columns.iter().position(|column| column.name == *tag);
        let index =
            index.ok_or_else(|| Error::UndefinedColumn(format!("tag \"{tag}\" is not a column of \"{name}\"")))?;
        if !is_text(&columns[index]) || key.contains(&index) {
            return Err(Error::InvalidDefinition(format!("tag \"{tag}\" must be a TEXT column, named once")));
        }
        key.push(index);
    }
    for &index in &key {
        columns[index].data_type = types::tag();
    }
    columns[time].nullable = false;
    key.push(time);
    Ok(Definition {
        table: TableSchema { name, columns, key, kind: TableKind::Telemetry { time }, retention: None },
        notices,
    })
}

/// Text, not a UUID or JSON that is only stored as text.
fn types_as_text(column: &Column) -> bool {
    column.metadata.get(types::TYPE_KEY).is_none_or(|name| types::varchar_limit(name).is_some())
}

fn keyed(name: String, mut columns: Vec<Column>, key_names: &[String]) -> Result<Definition> {
    let mut key = Vec::with_capacity(key_names.len());
    for part in key_names {
        let index = columns.iter().position(|column| column.name == *part);
        let index =
            index.ok_or_else(|| Error::UndefinedColumn(format!("column \"{part}\" named in key does not exist")))?;
        if matches!(columns[index].data_type, DataType::Float32 | DataType::Float64 | DataType::Binary)
            || key.contains(&index)
        {
            let text = format!(
                "column \"{part}\" cannot be part of the PRIMARY KEY: use a text, number, time or UUID column, once"
            );
            return Err(Error::InvalidDefinition(text));
        }
        columns[index].nullable = false;
        key.push(index);
    }
    Ok(Definition {
        table: TableSchema { name, columns, key, kind: TableKind::Keyed, retention: None },
        notices: Vec::new(),
    })
}
