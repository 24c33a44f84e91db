//! Values on their way into a table: cast to the column's type and held to its constraints.
//!
//! **Invariant:** pure: batches in, batches out. What it lets through, the column's declaration allows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;
use juno_engine::{Column, TableSchema};
use uuid::Uuid;

use crate::types::{TYPE_KEY, varchar_limit};
use crate::{Error, Result, jsonb};

/// The rows as the table stores them.
///
/// # Errors
/// [`Error::UndefinedColumn`], [`Error::NotNullViolation`], [`Error::StringTooLong`], [`Error::NumericOutOfRange`] and
/// [`Error::InvalidText`], each naming the column.
pub(crate) fn conform(table: &TableSchema, rows: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(rows.num_columns());
    let mut arrays = Vec::with_capacity(rows.num_columns());
    for (field, array) in rows.schema().fields().iter().zip(rows.columns()) {
        let index = table.column(field.name()).ok_or_else(|| {
            Error::UndefinedColumn(format!("column \"{}\" of relation \"{}\" does not exist", field.name(), table.name))
        })?;
        let column = &table.columns[index];
        let array = checked(table, column, cast(column, array)?)?;
        fields.push(Field::new(&column.name, column.data_type.clone(), column.nullable));
        arrays.push(array);
    }
    for column in table.columns.iter().filter(|column| !column.nullable) {
        if rows.num_rows() > 0 && !fields.iter().any(|field| *field.name() == column.name) {
            return Err(Error::NotNullViolation { table: table.name.clone(), column: column.name.clone() });
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// Keys, for deletes: the table's key columns in the types it stores.
pub(crate) fn conform_keys(table: &TableSchema, keys: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(table.key.len());
    let mut arrays = Vec::with_capacity(table.key.len());
    for &index in &table.key {
        let column = &table.columns[index];
        let array = keys
            .column_by_name(&column.name)
            .ok_or_else(|| Error::Internal(format!("key column \"{}\" is missing", column.name)))?;
        arrays.push(cast(column, array)?);
        fields.push(Field::new(&column.name, column.data_type.clone(), column.nullable));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// The array in the column's own Arrow type.
fn cast(column: &Column, array: &ArrayRef) -> Result<ArrayRef> {
    if *array.data_type() == column.data_type {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    cast_with_options(array, &column.data_type, &options).map_err(|error| {
        let text = |detail: String| format!("column \"{}\": {detail}", column.name);
        match Error::from(error) {
            Error::NumericOutOfRange(detail) => Error::NumericOutOfRange(text(detail)),
            Error::DatetimeOutOfRange(detail) => Error::DatetimeOutOfRange(text(detail)),
            Error::InvalidDatetime(detail) => Error::InvalidDatetime(text(detail)),
            Error::InvalidText(detail) => Error::InvalidText(text(detail)),
            other => other,
        }
    })
}

fn checked(table: &TableSchema, column: &Column, array: ArrayRef) -> Result<ArrayRef> {
    if !column.nullable && array.null_count() > 0 {
        return Err(Error::NotNullViolation { table: table.name.clone(), column: column.name.clone() });
    }
    let Some(name) = column.metadata.get(TYPE_KEY) else { return Ok(array) };
    if column.data_type != DataType::Utf8 {
        return Ok(array);
    }
    let texts = array.as_string::<i32>();
    if let Some(limit) = varchar_limit(name) {
        return within(column, texts, limit);
    }
    match name.as_str() {
        "uuid" => each(texts, uuid),
        "json" => each(texts, |text| jsonb::validate(text).map(|()| text.to_owned())),
        "jsonb" => each(texts, jsonb::canonical),
        _ => Ok(array),
    }
}

/// The UUID in its one spelling.
pub(crate) fn uuid(text: &str) -> Result<String> {
    let parsed = Uuid::try_parse(text.trim());
    parsed
        .map(|uuid| uuid.to_string())
        .map_err(|_| Error::InvalidText(format!("invalid input syntax for type uuid: \"{text}\"")))
}

fn each(texts: &StringArray, check: impl Fn(&str) -> Result<String>) -> Result<ArrayRef> {
    let checked = texts.iter().map(|text| text.map(&check).transpose()).collect::<Result<StringArray>>()?;
    Ok(Arc::new(checked))
}

/// PostgreSQL's rule: what is too long is an error, but spaces past the limit are cut.
fn within(column: &Column, texts: &StringArray, limit: usize) -> Result<ArrayRef> {
    each(texts, |text| match text.char_indices().nth(limit) {
        None => Ok(text.to_owned()),
        Some((end, _)) if text[end..].chars().all(|c| c == ' ') => Ok(text[..end].to_owned()),
        Some(_) => Err(Error::StringTooLong { column: column.name.clone(), limit }),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use juno_engine::TableKind;

    use super::*;

    fn table(name: Option<&str>, data_type: DataType) -> TableSchema {
        let metadata: BTreeMap<_, _> = name.iter().map(|name| (TYPE_KEY.to_owned(), (*name).to_owned())).collect();
        let column = Column { name: "c".into(), data_type, nullable: false, metadata };
        TableSchema { name: "t".into(), columns: vec![column], key: vec![0], kind: TableKind::Keyed, retention: None }
    }

    fn conformed(table: &TableSchema, text: Option<&str>) -> Result<String> {
        let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let rows = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).expect("one column");
        let rows = conform(table, &rows)?;
        Ok(arrow::util::display::array_value_to_string(rows.column(0), 0).expect("printable"))
    }

    #[test]
    fn a_varchar_takes_characters_not_bytes_and_cuts_only_spaces() {
        let short = table(Some("varchar(3)"), DataType::Utf8);
        assert_eq!(conformed(&short, Some("äöü")).expect("three characters fit"), "äöü");
        assert_eq!(conformed(&short, Some("abc   ")).expect("spaces are cut"), "abc");
        assert!(matches!(conformed(&short, Some("abcd")), Err(Error::StringTooLong { limit: 3, .. })));
    }

    #[test]
    fn a_uuid_is_kept_in_its_one_spelling() {
        let id = table(Some("uuid"), DataType::Utf8);
        let upper = "0192F0C1-7B4E-7C3A-8D5E-0123456789AB";
        assert_eq!(conformed(&id, Some(upper)).expect("valid"), upper.to_lowercase());
        assert!(matches!(conformed(&id, Some("42")), Err(Error::InvalidText(_))));
    }

    #[test]
    fn a_decimal_out_of_range_and_a_null_are_refused() {
        let share = table(None, DataType::Decimal128(3, 2));
        assert_eq!(conformed(&share, Some("0.95")).expect("fits"), "0.95");
        assert!(matches!(conformed(&share, Some("10")), Err(Error::NumericOutOfRange(_))));
        assert!(matches!(conformed(&share, Some("ten")), Err(Error::InvalidText(_))));
        assert!(matches!(conformed(&share, None), Err(Error::NotNullViolation { .. })));
    }
}
