//! `pg_attribute` with the types that columns were declared with: uuid, jsonb, varchar(20), numeric(5,2).
//!
//! The catalog library derives types from Arrow, where these are text or have no modifier; here its rows are corrected.
//!
//! **Invariant:** adds and removes no row; only `attrelid`, `atttypid`, `atttypmod`, `attlen` and `atthasdef` differ from the
//! library's.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int16Array, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Int16Type, Int32Type};
use datafusion::error::Result;

use super::relation::{Relations, oid};
use super::{column, missing};
use crate::types::{DEFAULT_KEY, TYPE_KEY, varchar_limit};

/// PostgreSQL's own numbers for types, from its `pg_type.dat`.
const JSON: i32 = 114;
const VARCHAR: i32 = 1043;
const UUID: i32 = 2950;
const JSONB: i32 = 3802;
/// Type modifiers count from here.
const MODIFIER_OFFSET: i32 = 4;

/// The library's rows, corrected; `class` and `namespace` say which of them are of the public schema.
pub(super) fn corrected(
    relations: &Relations,
    class: &RecordBatch,
    namespace: i32,
    rows: &RecordBatch,
) -> Result<RecordBatch> {
    let names = public_names(class, namespace)?;
    let mut relids = column::<Int32Type>(rows, "attrelid")?;
    let (mut kinds, mut modifiers) = (column::<Int32Type>(rows, "atttypid")?, column::<Int32Type>(rows, "atttypmod")?);
    let given = |name: &str| rows.column_by_name(name).ok_or_else(|| missing(name));
    let mut lengths: Vec<Option<i16>> = given("attlen")?.as_primitive::<Int16Type>().iter().collect();
    let mut defaults: Vec<Option<bool>> = given("atthasdef")?.as_boolean().iter().collect();
    let attributes = arrow::compute::cast(given("attname")?, &DataType::Utf8)?;
    let catalog = relations.public.catalog();
    let views: HashMap<_, _> = relations.public.views().into_iter().collect();
    for (row, attribute) in attributes.as_string::<i32>().iter().enumerate() {
        let (Some(relation), Some(attribute)) = (names.get(&relids[row]), attribute) else { continue };
        relids[row] = oid("relation", relation);
        let declared = match (catalog.table(relation), views.get(relation)) {
            (Some(table), _) => table.column(attribute).and_then(|index| {
                let column = &table.columns[index];
                defaults[row] = Some(column.metadata.contains_key(DEFAULT_KEY));
                declared_type(&column.data_type, column.metadata.get(TYPE_KEY))
            }),
            (None, Some(view)) => {
                let schema = view.schema();
                let field = schema.field_with_name(attribute).ok();
                field.and_then(|field| declared_type(field.data_type(), field.metadata().get(TYPE_KEY)))
            }
            (None, None) => None,
        };
        let Some((kind, modifier, length)) = declared else { continue };
        modifiers[row] = modifier;
        if let Some(kind) = kind {
            (kinds[row], lengths[row]) = (kind, Some(length));
        }
    }
    let replaced: HashMap<&str, ArrayRef> = HashMap::from([
        ("attrelid", Arc::new(Int32Array::from(relids)) as ArrayRef),
        ("atttypid", Arc::new(Int32Array::from(kinds))),
        ("atttypmod", Arc::new(Int32Array::from(modifiers))),
        ("attlen", Arc::new(Int16Array::from(lengths))),
        ("atthasdef", Arc::new(BooleanArray::from(defaults))),
    ]);
    let schema = rows.schema();
    let arrays = schema.fields().iter().zip(rows.columns());
    let arrays = arrays.map(|(field, array)| replaced.get(field.name().as_str()).unwrap_or(array).clone()).collect();
    Ok(RecordBatch::try_new(schema, arrays)?)
}

/// The relations of the public schema by the library's numbers.
fn public_names(class: &RecordBatch, namespace: i32) -> Result<HashMap<i32, String>> {
    let names =
        arrow::compute::cast(class.column_by_name("relname").ok_or_else(|| missing("relname"))?, &DataType::Utf8)?;
    let names = names.as_string::<i32>().iter().map(|name| name.unwrap_or_default().to_owned());
    let numbers = column::<Int32Type>(class, "oid")?.into_iter().zip(column::<Int32Type>(class, "relnamespace")?);
    let public = numbers.zip(names).filter(|((_, of), _)| *of == namespace);
    Ok(public.map(|((number, _), name)| (number, name)).collect())
}

/// Type number where Arrow does not tell it, modifier, and length.
fn declared_type(data_type: &DataType, name: Option<&String>) -> Option<(Option<i32>, i32, i16)> {
    if let DataType::Decimal128(precision, scale) = data_type {
        return Some((None, (i32::from(*precision) << 16 | i32::from(*scale)) + MODIFIER_OFFSET, -1));
    }
    match name?.as_str() {
        "uuid" => Some((Some(UUID), -1, 16)),
        "json" => Some((Some(JSON), -1, -1)),
        "jsonb" => Some((Some(JSONB), -1, -1)),
        other => Some((Some(VARCHAR), i32::try_from(varchar_limit(other)?).ok()? + MODIFIER_OFFSET, -1)),
    }
}
