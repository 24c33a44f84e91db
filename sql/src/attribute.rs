//! `pg_attribute` with the types that columns were declared with: uuid, jsonb, varchar(20), numeric(5,2).
//!
//! The catalog library derives types from Arrow, where these are text or have no modifier; here its rows are corrected.
//!
//! **Invariant:** adds and removes no row; only `atttypid`, `atttypmod`, `attlen` and `atthasdef` differ from the library's.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int16Array, Int32Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use juno_engine::{Column, Db};

use crate::types::{DEFAULT_KEY, TYPE_KEY, varchar_limit};

/// PostgreSQL's own numbers for types, from its `pg_type.dat`.
const JSON: i32 = 114;
const VARCHAR: i32 = 1043;
const UUID: i32 = 2950;
const JSONB: i32 = 3802;
/// Type modifiers count from here.
const MODIFIER_OFFSET: i32 = 4;

/// The library's `pg_catalog` schema with its `pg_attribute` corrected.
#[derive(Debug)]
pub(crate) struct PgCatalog {
    pub(crate) base: Arc<dyn SchemaProvider>,
    pub(crate) columns: Columns,
}

/// Where declared columns are looked up.
#[derive(Clone)]
pub(crate) struct Columns(pub(crate) Db);

impl std::fmt::Debug for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Columns")
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        self.base.table_names()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.base.table(name).await? else { return Ok(None) };
        if name != "pg_attribute" {
            return Ok(Some(table));
        }
        // Only a promise here: the library asks every table for its schema while it holds the lock that reading it needs.
        let corrected =
            Corrected { schema: table.schema(), table, base: Arc::clone(&self.base), columns: self.columns.clone() };
        let schema = Arc::clone(&corrected.schema);
        Ok(Some(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(corrected)])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.base.table_exist(name)
    }
}

/// The corrected rows, computed when they are read.
#[derive(Debug)]
struct Corrected {
    schema: SchemaRef,
    table: Arc<dyn TableProvider>,
    base: Arc<dyn SchemaProvider>,
    columns: Columns,
}

impl PartitionStream for Corrected {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (table, base, columns) = (Arc::clone(&self.table), Arc::clone(&self.base), self.columns.clone());
        let rows = async move {
            let class = base.table("pg_class").await?;
            let class = class.ok_or_else(|| DataFusionError::Internal("pg_class is missing".into()))?;
            columns.correct(&relation_names(&read(class).await?)?, &read(table).await?)
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::once(rows)))
    }
}

/// All rows of a catalog table.
async fn read(table: Arc<dyn TableProvider>) -> DataFusionResult<RecordBatch> {
    let schema = table.schema();
    let batches = SessionContext::new().read_table(table)?.collect().await?;
    Ok(concat_batches(&schema, &batches)?)
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> DataFusionResult<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| DataFusionError::Internal(format!("the catalog has no column {name}")))
}

fn texts(rows: &RecordBatch, name: &str) -> DataFusionResult<ArrayRef> {
    Ok(arrow::compute::cast(column(rows, name)?, &DataType::Utf8)?)
}

fn relation_names(class: &RecordBatch) -> DataFusionResult<HashMap<i32, String>> {
    let names = texts(class, "relname")?;
    let names = names.as_string::<i32>().iter().map(|name| name.unwrap_or_default().to_owned());
    let numbers = column(class, "oid")?.as_primitive::<Int32Type>().values().iter().copied();
    Ok(numbers.zip(names).collect())
}

impl Columns {
    fn correct(&self, relations: &HashMap<i32, String>, rows: &RecordBatch) -> DataFusionResult<RecordBatch> {
        let catalog = self.0.catalog();
        let numbers =
            |name: &str| Ok::<_, DataFusionError>(column(rows, name)?.as_primitive::<Int32Type>().values().to_vec());
        let relids = numbers("attrelid")?;
        let (mut kinds, mut modifiers) = (numbers("atttypid")?, numbers("atttypmod")?);
        let mut lengths: Vec<Option<i16>> =
            column(rows, "attlen")?.as_primitive::<arrow::datatypes::Int16Type>().iter().collect();
        let mut defaults: Vec<Option<bool>> = column(rows, "atthasdef")?.as_boolean().iter().collect();
        let names = texts(rows, "attname")?;
        for (row, name) in names.as_string::<i32>().iter().enumerate() {
            let table = relations.get(&relids[row]).and_then(|relation| catalog.table(relation));
            let Some((table, index)) = table.and_then(|table| Some((table, table.column(name?)?))) else { continue };
            let declared = &table.columns[index];
            defaults[row] = Some(declared.metadata.contains_key(DEFAULT_KEY));
            let Some((kind, modifier, length)) = declared_type(declared) else { continue };
            modifiers[row] = modifier;
            if let Some(kind) = kind {
                (kinds[row], lengths[row]) = (kind, Some(length));
            }
        }
        let replaced: HashMap<&str, ArrayRef> = HashMap::from([
            ("atttypid", Arc::new(Int32Array::from(kinds)) as ArrayRef),
            ("atttypmod", Arc::new(Int32Array::from(modifiers))),
            ("attlen", Arc::new(Int16Array::from(lengths))),
            ("atthasdef", Arc::new(BooleanArray::from(defaults))),
        ]);
        let schema = rows.schema();
        let arrays = schema.fields().iter().zip(rows.columns());
        let arrays =
            arrays.map(|(field, array)| replaced.get(field.name().as_str()).unwrap_or(array).clone()).collect();
        Ok(RecordBatch::try_new(schema, arrays)?)
    }
}

/// Type number where Arrow does not tell it, modifier, and length.
fn declared_type(column: &Column) -> Option<(Option<i32>, i32, i16)> {
    if let DataType::Decimal128(precision, scale) = column.data_type {
        return Some((None, (i32::from(precision) << 16 | i32::from(scale)) + MODIFIER_OFFSET, -1));
    }
    let name = column.metadata.get(TYPE_KEY)?;
    match name.as_str() {
        "uuid" => Some((Some(UUID), -1, 16)),
        "json" => Some((Some(JSON), -1, -1)),
        "jsonb" => Some((Some(JSONB), -1, -1)),
        other => Some((Some(VARCHAR), i32::try_from(varchar_limit(other)?).ok()? + MODIFIER_OFFSET, -1)),
    }
}
