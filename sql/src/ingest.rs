//! Telemetry on its way in, whatever protocol it came by: tables are created on first write and widened by new fields and
//! tags.
//!
//! **Invariant:** all batches of one call become durable together or not at all; tables and columns are made before that,
//! and stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use juno_engine::{Alteration, Column, Db, OnConflict, TableKind, TableSchema, Write};

use crate::catalog::PublicSchema;
use crate::types::{self, HIDDEN_PREFIX, TYPE_KEY};
use crate::{Error, Result, column};

/// Rows for one telemetry table.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The table; it is created when it is not there.
    pub table: String,
    /// The rows; other than the time and the tags, columns are fields: numbers, booleans, text.
    pub rows: RecordBatch,
    /// Which column is the time: any Arrow timestamp.
    pub time: String,
    /// Which columns are tags when the table must be created: text or dictionary.
    pub tags: Vec<String>,
}

/// Writes for all that came in, with the tables made ready; blocks on the engine.
pub(crate) fn commit(db: &Db, public: &PublicSchema, incoming: Vec<Incoming>) -> Result<u64> {
    let mut writes = Vec::with_capacity(incoming.len());
    let mut count = 0;
    for batch in incoming {
        if batch.rows.num_rows() == 0 {
            continue;
        }
        let table = ready(db, public, &batch)?;
        let rows = column::conform(&table, &fitted(&table, &batch)?)?;
        count += rows.num_rows() as u64;
        writes.push(Write {
            table: table.name.clone(),
            rows: Some(rows),
            deletes: None,
            on_conflict: OnConflict::Replace,
        });
    }
    if !writes.is_empty() {
        db.commit(writes)?;
    }
    Ok(count)
}

/// An error of whoever gives the rows, or of the engine.
struct Failure<E>(E);

impl<E: From<Error>> From<juno_engine::Error> for Failure<E> {
    fn from(error: juno_engine::Error) -> Self {
        Self(Error::from(error).into())
    }
}

/// All batches, which are of one table and have the columns of the first, past the log and in one step; blocks on the engine.
/// `permit` refuses tables that the user may not write.
pub(crate) fn import<E: From<Error>>(
    db: &Db,
    public: &PublicSchema,
    permit: impl FnOnce(&str) -> Result<()>,
    batches: impl IntoIterator<Item = Result<Incoming, E>>,
) -> Result<u64, E> {
    let mut batches = batches.into_iter();
    let Some(first) = batches.next().transpose()? else { return Ok(0) };
    permit(&first.table)?;
    let table = ready(db, public, &first)?;
    let conformed = std::iter::once(Ok(first)).chain(batches).map(|batch| {
        let rows = fitted(&table, &batch.map_err(Failure)?).and_then(|rows| column::conform(&table, &rows));
        rows.map_err(|error| Failure(error.into()))
    });
    let report = db.import(&table.name, conformed).map_err(|Failure(error)| error)?;
    Ok(report.rows)
}

/// The table with every column that the batch has.
fn ready(db: &Db, public: &PublicSchema, batch: &Incoming) -> Result<Arc<TableSchema>> {
    if public.has_view(&batch.table) {
        let text = format!("\"{}\" is a view: rows cannot be written to it", batch.table);
        return Err(Error::InvalidDefinition(text));
    }
    if db.catalog().table(&batch.table).is_none() {
        match db.create_table(new_table(batch)?) {
            // Another writer was first: the table is there, which is all that was wanted.
            Ok(()) | Err(juno_engine::Error::TableExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let table = current(db, &batch.table)?;
    if table.time().is_none() {
        let text = format!("\"{}\" is not a telemetry table: write it with INSERT", batch.table);
        return Err(Error::InvalidDefinition(text));
    }
    let fields = batch.rows.schema();
    let unknown: Vec<&Field> =
        fields.fields().iter().map(AsRef::as_ref).filter(|field| table.column(field.name()).is_none()).collect();
    if unknown.is_empty() {
        return Ok(table);
    }
    let (tags, fields): (Vec<&Field>, Vec<&Field>) =
        unknown.into_iter().partition(|field| batch.tags.contains(field.name()));
    if let Some(reserved) = tags.iter().find(|tag| tag.name().starts_with(HIDDEN_PREFIX)) {
        return Err(Error::InvalidDefinition(format!("tag name \"{}\" is reserved", reserved.name())));
    }
    let columns = fields.into_iter().map(|field| field_column(&batch.table, field)).collect::<Result<Vec<_>>>()?;
    if !tags.is_empty() {
        let tags = tags.into_iter().map(|tag| tag.name().clone()).collect();
        db.alter_table(&batch.table, Alteration::AddTags(tags))?;
    }
    if !columns.is_empty() {
        db.add_columns(&batch.table, columns)?;
    }
    current(db, &batch.table)
}

fn current(db: &Db, name: &str) -> Result<Arc<TableSchema>> {
    let catalog = db.catalog();
    catalog
        .table(name)
        .cloned()
        .ok_or_else(|| Error::UndefinedTable(format!("relation \"{name}\" does not exist any more")))
}

fn new_table(batch: &Incoming) -> Result<TableSchema> {
    let schema = batch.rows.schema();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        let plain = |data_type, nullable| Column { name: name.clone(), data_type, nullable, metadata: BTreeMap::new() };
        columns.push(if *name == batch.time {
            plain(types::timestamptz(), false)
        } else if batch.tags.contains(name) {
            plain(types::tag(), true)
        } else {
            field_column(&batch.table, field)?
        });
    }
    let place = |name: &String| {
        let place = columns.iter().position(|column| column.name == *name);
        place.ok_or_else(|| {
            Error::UndefinedColumn(format!("the rows for \"{}\" have no column \"{name}\"", batch.table))
        })
    };
    let mut key = batch.tags.iter().map(place).collect::<Result<Vec<_>>>()?;
    let time = place(&batch.time)?;
    key.push(time);
    Ok(TableSchema { name: batch.table.clone(), columns, key, kind: TableKind::Telemetry { time }, retention: None })
}

/// The column that a new field makes: narrow numbers become the wide ones, text stays text.
fn field_column(table: &str, field: &Field) -> Result<Column> {
    if field.name().starts_with(HIDDEN_PREFIX) || field.name().is_empty() {
        return Err(Error::InvalidDefinition(format!(
            "field name \"{}\" of \"{table}\" is reserved or empty",
            field.name()
        )));
    }
    use DataType as T;
    let data_type = match field.data_type() {
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => T::Int64,
        T::Float16 | T::Float32 | T::Float64 => T::Float64,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Dictionary(_, value) if matches!(**value, T::Utf8 | T::LargeUtf8 | T::Utf8View) => T::Utf8,
        T::Boolean | T::UInt64 | T::Date32 => field.data_type().clone(),
        T::Timestamp(_, Some(_)) => types::timestamptz(),
        T::Timestamp(_, None) => T::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
        T::Decimal128(..) => field.data_type().clone(),
        other => {
            let text = format!(
                "column \"{}\" of \"{table}\" has type {other}, which no column can hold: flatten or cast it",
                field.name()
            );
            return Err(Error::TypeMismatch(text));
        }
    };
    let metadata = field.metadata().get(TYPE_KEY).map(|name| (TYPE_KEY.to_owned(), name.clone()));
    Ok(Column { name: field.name().clone(), data_type, nullable: true, metadata: metadata.into_iter().collect() })
}

/// The rows with every column in the table's type; only what loses nothing is converted.
fn fitted(table: &TableSchema, batch: &Incoming) -> Result<RecordBatch> {
    let schema = batch.rows.schema();
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (field, array) in schema.fields().iter().zip(batch.rows.columns()) {
        let column = table.column(field.name()).map(|index| &table.columns[index]);
        let column =
            column.ok_or_else(|| Error::UndefinedColumn(format!("column \"{}\" does not exist", field.name())))?;
        if !converts(field.data_type(), &column.data_type) {
            return Err(Error::TypeMismatch(format!(
                "field \"{}\" of \"{}\" is {} and cannot take {}",
                field.name(),
                table.name,
                column.data_type,
                field.data_type()
            )));
        }
        arrays.push(if field.data_type() == &column.data_type {
            Arc::clone(array)
        } else {
            cast(array, &column.data_type)?
        });
    }
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(&arrays)
        .map(|(field, array)| Field::new(field.name(), array.data_type().clone(), true))
        .collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// Whether every value of one type is a value of the other.
fn converts(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let text = |data_type: &DataType| match data_type {
        T::Utf8 | T::LargeUtf8 | T::Utf8View => true,
        T::Dictionary(_, value) => matches!(**value, T::Utf8 | T::LargeUtf8 | T::Utf8View),
        _ => false,
    };
    match (from, to) {
        (from, to) if from == to => true,
        (T::Timestamp(..), T::Timestamp(..)) => true,
        (from, T::Int64) => from.is_signed_integer() || matches!(from, T::UInt8 | T::UInt16 | T::UInt32),
        (from, T::UInt64) => from.is_unsigned_integer(),
        (from, T::Float64) => from.is_integer() || from.is_floating(),
        (T::Null, _) => true,
        (from, to) => text(from) && text(to),
    }
}
