//! The table of models: rows that are added, promoted and taken away, and what is in memory of them.
//!
//! **Invariant:** the table is written first; what is in memory follows it.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use juno_engine::{OnConflict, Write};
use juno_kernels::threat_model::{Kind, ThreatModel};

use super::request::check_name;
use crate::model::{Stored, THREAT, checksum};
use crate::role::MODELS;
use crate::session::{Session, blocking};
use crate::{Error, Result, change};

/// Versions of a name that are kept; older ones must be dropped first.
const VERSIONS_MAX: usize = 100;

/// What is stored of a new version besides the model.
pub(super) struct Fresh<'a> {
    pub(super) name: &'a str,
    pub(super) window: Option<(i64, i64)>,
    pub(super) rows: Option<i64>,
    pub(super) attacks: Option<i64>,
    pub(super) metrics: serde_json::Value,
}

/// Names and kinds of a model's columns.
pub(super) fn features_json(model: &ThreatModel) -> String {
    let kind = |kind| match kind {
        Kind::Number => "number",
        Kind::Category => "category",
        Kind::Text => "text",
    };
    let list = model.features().map(|(name, of)| serde_json::json!({ "name": name, "kind": kind(of) }));
    serde_json::Value::from(list.collect::<Vec<_>>()).to_string()
}

impl Session {
    /// Reads the models from their table: when the database is opened, and after each change.
    pub(in crate::session) async fn load_models(&self) -> Result<()> {
        let query = format!("SELECT name, version, created_at, promoted_at, checksum, artefact FROM {MODELS}");
        let mut all = Vec::new();
        for batch in self.connect().collect(&query).await? {
            let micros = |at: usize| cast(batch.column(at), &DataType::Timestamp(TimeUnit::Microsecond, None));
            let (created, promoted) = (micros(2)?, micros(3)?);
            let created = created.as_primitive::<TimestampMicrosecondType>();
            let promoted = promoted.as_primitive::<TimestampMicrosecondType>();
            let text = |at: usize| cast(batch.column(at), &DataType::Utf8);
            let (names, checksums) = (text(0)?, text(4)?);
            let artefacts = cast(batch.column(5), &DataType::Binary)?;
            let versions = batch.column(1).as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                let mut stored = Stored::new(
                    names.as_string::<i32>().value(row).to_owned(),
                    versions.value(row),
                    created.value(row),
                    checksums.as_string::<i32>().value(row).to_owned(),
                    artefacts.as_binary::<i32>().value(row).to_vec(),
                );
                stored.promoted_us = promoted.is_valid(row).then(|| promoted.value(row));
                all.push(stored);
            }
        }
        self.shared.planner.public.models().replace(all);
        Ok(())
    }

    /// Stores a new version, which is active where it is the first; its number.
    pub(super) async fn insert_version(&self, fresh: Fresh<'_>, model: &ThreatModel) -> Result<i32> {
        check_name(fresh.name)?;
        let versions = self.shared.planner.public.models().versions(fresh.name);
        if versions.len() >= VERSIONS_MAX {
            let text = format!("model \"{}\" has {VERSIONS_MAX} versions: drop some with CALL drop_model", fresh.name);
            return Err(Error::InUse(text));
        }
        let version = versions.last().map_or(0, |last| last.version) + 1;
        let now = self.shared.db.system().clock().now_us();
        let artefact = model.to_bytes();
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let time = |time: Option<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(vec![time]).with_timezone("+00:00"))
        };
        let count = |count: Option<i64>| -> ArrayRef { Arc::new(Int64Array::from(vec![count])) };
        let columns: [(&str, ArrayRef); 14] = [
            ("name", text(fresh.name)),
            ("version", Arc::new(Int32Array::from(vec![version]))),
            ("kind", text(THREAT)),
            ("created_at", time(Some(now))),
            ("promoted_at", time(versions.is_empty().then_some(now))),
            ("window_start", time(fresh.window.map(|window| window.0))),
            ("window_end", time(fresh.window.map(|window| window.1))),
            ("training_rows", count(fresh.rows)),
            ("attack_rows", count(fresh.attacks)),
            ("features", text(&features_json(model))),
            ("schema_hash", text(&format!("{:016x}", model.schema_hash()))),
            ("metrics", text(&fresh.metrics.to_string())),
            ("checksum", text(&checksum(&artefact))),
            ("artefact", Arc::new(BinaryArray::from(vec![artefact.as_slice()]))),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        self.write_models(Some(rows), None).await?;
        Ok(version)
    }

    /// Sets when a version was promoted, or that it is not.
    pub(super) async fn set_promoted(&self, stored: &Stored, at_us: Option<i64>) -> Result<()> {
        let quoted = stored.name.replace('\'', "''");
        let query = format!("SELECT * FROM {MODELS} WHERE name = '{quoted}' AND version = {}", stored.version);
        let batches = self.connect().collect(&query).await?;
        let row = batches.into_iter().find(|batch| batch.num_rows() == 1);
        let row = row.ok_or_else(|| Error::Internal(format!("model {} is not stored", stored.name)))?;
        let place = row.schema().index_of("promoted_at")?;
        let mut columns = row.columns().to_vec();
        // Two promotions in one microsecond would both be the last.
        let newest = self.shared.planner.public.models().versions(&stored.name);
        let newest = newest.iter().filter_map(|stored| stored.promoted_us).max();
        let at_us = at_us.map(|at| newest.map_or(at, |newest| at.max(newest + 1)));
        columns[place] = Arc::new(TimestampMicrosecondArray::from(vec![at_us]).with_timezone("+00:00"));
        let fields: Vec<Field> =
            row.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        self.write_models(Some(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?), None).await
    }

    /// Takes a version away.
    pub(super) async fn delete_version(&self, stored: &Stored) -> Result<()> {
        let fields = vec![Field::new("name", DataType::Utf8, false), Field::new("version", DataType::Int32, false)];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![stored.name.as_str()])),
            Arc::new(Int32Array::from(vec![stored.version])),
        ];
        self.write_models(None, Some(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)).await
    }

    async fn write_models(&self, rows: Option<RecordBatch>, deletes: Option<RecordBatch>) -> Result<()> {
        let catalog = self.shared.db.catalog();
        let table = catalog.table(MODELS).ok_or_else(|| Error::Internal(format!("table {MODELS} is missing")))?;
        let rows = rows.map(|rows| change::inserted(table, &self.shared.db, rows)).transpose()?;
        let write = Write { table: MODELS.into(), rows, deletes, on_conflict: OnConflict::Replace };
        let db = self.shared.db.clone();
        blocking(move || Ok(db.commit(vec![write])?)).await?;
        self.load_models().await
    }
}
