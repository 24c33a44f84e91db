//! PostgreSQL's catalog over the public schema: the library's tables, corrected where they do not know juno's relations, and the
//! tables, views and functions that the library lacks.
//!
//! **Invariant:** everything is worked out when it is read, so that no DDL makes it stale; relations have the numbers of
//! `relation` in every table.

mod attribute;
mod function;
mod relation;
mod routine;
mod table;

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;

pub(crate) use self::function::functions;
pub(crate) use self::relation::Relations;
use self::table::{batch, retyped};
use crate::catalog::{PublicSchema, SCHEMA};

/// What the views of `information_schema` are called in this schema, which serves them too.
pub(crate) const INFORMATION_PREFIX: &str = "information_schema_";

/// The schema.
#[derive(Debug)]
pub(crate) struct PgCatalog {
    base: Arc<dyn SchemaProvider>,
    relations: Relations,
}

impl PgCatalog {
    pub(crate) fn new(base: Arc<dyn SchemaProvider>, public: &Arc<PublicSchema>) -> Self {
        PgCatalog { base, relations: Relations { public: Arc::clone(public) } }
    }
}

/// The tables that are worked out here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Attrdef,
    Attribute,
    Class,
    Constraint,
    Index,
    Proc,
    Settings,
}

impl Own {
    fn of(name: &str) -> Option<Own> {
        Some(match name {
            "pg_attrdef" => Own::Attrdef,
            "pg_attribute" => Own::Attribute,
            "pg_class" => Own::Class,
            "pg_constraint" => Own::Constraint,
            "pg_index" => Own::Index,
            "pg_proc" => Own::Proc,
            "pg_settings" => Own::Settings,
            _ => return None,
        })
    }

    fn schema(self, library: &SchemaRef) -> SchemaRef {
        let numbers = DataType::new_list(DataType::Int16, true);
        let texts = DataType::new_list(DataType::Utf8, true);
        match self {
            Own::Index => {
                let oids = DataType::new_list(DataType::Int32, true);
                let lists = [("indclass", oids.clone()), ("indcollation", oids)];
                retyped(&retyped(library, &lists), &[("indkey", numbers.clone()), ("indoption", numbers)])
            }
            Own::Constraint => retyped(library, &[("conkey", numbers.clone()), ("confkey", numbers)]),
            Own::Class => retyped(library, &[("relacl", texts.clone()), ("reloptions", texts)]),
            Own::Settings => table::texts(table::SETTINGS),
            Own::Attrdef | Own::Attribute | Own::Proc => Arc::clone(library),
        }
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        let own = ["pg_indexes", "pg_user"].into_iter().chain(table::EMPTY.iter().map(|(name, _)| *name));
        self.base.table_names().into_iter().chain(own.map(str::to_owned)).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(view) = name.strip_prefix(INFORMATION_PREFIX) {
            let Some((schema, _)) = table::information(&self.relations, view) else { return Ok(None) };
            return self.computed(schema, Source::Information(view.to_owned()));
        }
        if name == "pg_indexes" {
            return self.computed(table::indexes(&self.relations).0, Source::Indexes);
        }
        if let Some((_, columns)) = table::EMPTY.iter().find(|(empty, _)| *empty == name) {
            return self.computed(table::texts(columns), Source::Rows(Vec::new()));
        }
        if name == "pg_user" {
            let (schema, rows) = table::users();
            return self.computed(schema, Source::Rows(rows));
        }
        let Some(library) = self.base.table(name).await? else { return Ok(None) };
        if name == "pg_roles" {
            return self.computed(library.schema(), Source::Rows(table::roles()));
        }
        match Own::of(name) {
            Some(own) => self.computed(own.schema(&library.schema()), Source::Own(own, library)),
            None => Ok(Some(library)),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
            || name
                .strip_prefix(INFORMATION_PREFIX)
                .is_some_and(|view| table::information(&self.relations, view).is_some())
    }
}

impl PgCatalog {
    /// Only a promise: the library asks every table for its schema while it holds the lock that reading it needs.
    fn computed(&self, schema: SchemaRef, source: Source) -> Result<Option<Arc<dyn TableProvider>>> {
        let computed = Computed {
            schema: Arc::clone(&schema),
            source,
            base: Arc::clone(&self.base),
            relations: self.relations.clone(),
        };
        Ok(Some(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(computed)])?)))
    }
}

/// Where rows come from.
#[derive(Debug, Clone)]
enum Source {
    Own(Own, Arc<dyn TableProvider>),
    Information(String),
    Indexes,
    Rows(Vec<table::Row>),
}

/// Rows that are worked out when they are read.
#[derive(Debug, Clone)]
struct Computed {
    schema: SchemaRef,
    source: Source,
    base: Arc<dyn SchemaProvider>,
    relations: Relations,
}

impl PartitionStream for Computed {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let this = self.clone();
        let rows = async move { this.rows().await };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::once(rows)))
    }
}

impl Computed {
    async fn rows(&self) -> Result<RecordBatch> {
        let rows = match &self.source {
            Source::Rows(rows) => rows.clone(),
            Source::Information(view) => {
                table::information(&self.relations, view).map(|view| view.1).unwrap_or_default()
            }
            Source::Indexes => table::indexes(&self.relations).1,
            Source::Own(own, library) => return self.own(*own, library).await,
        };
        batch(&self.schema, &rows)
    }

    async fn own(&self, own: Own, library: &Arc<dyn TableProvider>) -> Result<RecordBatch> {
        let namespace = self.namespace().await?;
        let rows = match own {
            Own::Attrdef => table::attrdef(&self.relations),
            Own::Constraint => table::constraint(&self.relations, namespace),
            Own::Index => table::index(&self.relations),
            Own::Settings => table::settings(),
            Own::Proc => {
                let others = widened(&read(Arc::clone(library)).await?, &self.schema)?;
                let own = batch(&self.schema, &routine::rows(namespace))?;
                return Ok(concat_batches(&self.schema, [&others, &own])?);
            }
            Own::Class => {
                let others = read(Arc::clone(library)).await?;
                let of_public = column::<Int32Type>(&others, "relnamespace")?;
                let keep: BooleanArray = of_public.iter().map(|number| Some(*number != namespace)).collect();
                let others = widened(&filter_record_batch(&others, &keep)?, &self.schema)?;
                let own = batch(&self.schema, &table::class(&self.relations, namespace))?;
                return Ok(concat_batches(&self.schema, [&others, &own])?);
            }
            Own::Attribute => {
                let class = self.base.table("pg_class").await?.ok_or_else(|| missing("pg_class"))?;
                let class = read(class).await?;
                return attribute::corrected(&self.relations, &class, namespace, &read(Arc::clone(library)).await?);
            }
        };
        batch(&self.schema, &rows)
    }

    /// The number of the public schema, which is the library's.
    async fn namespace(&self) -> Result<i32> {
        let namespaces = self.base.table("pg_namespace").await?.ok_or_else(|| missing("pg_namespace"))?;
        let rows = read(namespaces).await?;
        let names =
            arrow::compute::cast(rows.column_by_name("nspname").ok_or_else(|| missing("nspname"))?, &DataType::Utf8)?;
        let place = names.as_string::<i32>().iter().position(|name| name == Some(SCHEMA));
        let numbers = column::<Int32Type>(&rows, "oid")?;
        place.map(|place| numbers[place]).ok_or_else(|| missing(SCHEMA))
    }
}

fn missing(what: &str) -> DataFusionError {
    DataFusionError::Internal(format!("the catalog has no {what}"))
}

/// All rows of a catalog table.
async fn read(table: Arc<dyn TableProvider>) -> Result<RecordBatch> {
    let schema = table.schema();
    let batches = SessionContext::new().read_table(table)?.collect().await?;
    Ok(concat_batches(&schema, &batches)?)
}

/// The values of a column that has no nulls.
fn column<T: arrow::datatypes::ArrowPrimitiveType>(rows: &RecordBatch, name: &str) -> Result<Vec<T::Native>> {
    let column = rows.column_by_name(name).ok_or_else(|| missing(name))?;
    Ok(column.as_primitive::<T>().values().to_vec())
}

/// The rows in a wider schema; what they do not have is null.
fn widened(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let arrays = schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(array) => Arc::clone(array),
        None => arrow::array::new_null_array(field.data_type(), rows.num_rows()),
    });
    let nullable: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let wide = RecordBatch::try_new(Arc::new(Schema::new(nullable)), arrays.collect())?;
    Ok(RecordBatch::try_new(Arc::clone(schema), wide.columns().to_vec())?)
}
