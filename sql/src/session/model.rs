//! Procedures about models: training, calibrating and evaluating on rows that a query reads; promoting, rolling back,
//! exporting, importing and dropping versions.
//!
//! **Invariant:** a version never changes once it is stored; what is in memory is read back from the table after each
//! change.

mod request;
mod store;
mod watched;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use juno_kernels::threat_model::{self, ThreatModel, evaluate};
use serde_json::Value;

use self::request::{Labels, Training, words};
use self::store::Fresh;
pub(crate) use self::watched::Watched;
use super::{Session, blocking};
use crate::model::Stored;
use crate::model::rows::{Column, Shape, fitted, refused, shape, with_values};
use crate::procedure::{ModelWork, text};
use crate::role::MODELS;
use crate::statement::{Kind, Outcome};
use crate::{Error, Result};

/// The member of a version's metrics that says what is watched of it.
pub(crate) const WATCHED: &str = "watched";
/// Values that a model may be trained on, rows times columns.
const VALUES_MAX: usize = 100_000_000;

type Arguments<'a> = &'a [Option<ScalarValue>];

impl Session {
    /// Runs one of the procedures; the columns of its answer.
    pub(super) async fn model_call(&self, work: ModelWork, arguments: Arguments<'_>) -> Result<Vec<ArrayRef>> {
        let _held = self.lock(MODELS).await?;
        match work {
            ModelWork::Train => self.train(arguments).await,
            ModelWork::Calibrate => self.calibrate(arguments).await,
            ModelWork::Evaluate => self.evaluate(arguments).await,
            ModelWork::Promote => {
                let stored = self.version_of(arguments)?;
                self.set_promoted(&stored, Some(self.shared.db.system().clock().now_us())).await?;
                self.answer(&stored.name, stored.version).await
            }
            ModelWork::Rollback => self.rollback(arguments).await,
            ModelWork::Export => {
                let stored = self.version_of(arguments)?;
                stored.model()?;
                Ok(vec![
                    Arc::new(StringArray::from(vec![stored.name.as_str()])),
                    Arc::new(Int32Array::from(vec![stored.version])),
                    Arc::new(StringArray::from(vec![stored.checksum.as_str()])),
                    Arc::new(BinaryArray::from(vec![stored.artefact.as_slice()])),
                ])
            }
            ModelWork::Import => self.import_model(arguments).await,
            ModelWork::Drop => {
                let stored = self.version_of(arguments)?;
                let answer = self.answer(&stored.name, stored.version).await?;
                self.delete_version(&stored).await?;
                Ok(answer)
            }
        }
    }

    async fn train(&self, arguments: Arguments<'_>) -> Result<Vec<ArrayRef>> {
        let request = Training::new(arguments)?;
        let rows = self.source(&request.source).await?;
        let window = window(&rows)?;
        let labels = request.label.as_ref().map(|label| label.of(&rows)).transpose()?;
        let names = features(&rows, request.features.as_deref(), request.label.as_ref())?;
        let columns = columns(&rows, &names)?;
        let (device, params) = (self.shared.device.clone(), request.params);
        let (all, attacks) = counted(&labels, rows.num_rows());
        let watched = Watched::of(&request.source, &rows, request.label.as_ref());
        let trained = blocking(move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let trained = with_values(&columns, |values| {
                threat_model::train(&device, &names, values, labels.as_deref(), &params)
            });
            trained.map_err(|error| refused(&error))
        });
        let model = trained.await?;
        let mut metrics = request.metrics(&model);
        metrics[WATCHED] = serde_json::json!(watched);
        let fresh = Fresh { name: &request.name, window, rows: Some(all), attacks: Some(attacks), metrics };
        let version = self.insert_version(fresh, &model).await?;
        self.answer(&request.name, version).await
    }

    async fn calibrate(&self, arguments: Arguments<'_>) -> Result<Vec<ArrayRef>> {
        let [name, source] = words(arguments, "calibrate_threat_model", ["name", "source"])?;
        let stored = self.shared.planner.public.models().find(&name)?;
        let model = stored.model()?;
        let rows = self.source(&source).await?;
        let (window, count) = (window(&rows)?, rows.num_rows() as i64);
        let columns = model_columns(&model, &stored, &rows)?;
        let device = self.shared.device.clone();
        let calibrated = blocking(move || {
            let calibrated = with_values(&columns, |values| model.recalibrated(&device, values));
            calibrated.map_err(|error| refused(&error))
        });
        let model = calibrated.await?;
        let watched = match self.watched(&stored).await? {
            Value::Null => serde_json::json!(Watched::of(&source, &rows, None)),
            watched => watched,
        };
        let metrics =
            serde_json::json!({ "calibrated_rows": count, "calibration_of": stored.version, WATCHED: watched });
        let fresh = Fresh { name: &stored.name, window, rows: Some(count), attacks: Some(0), metrics };
        let version = self.insert_version(fresh, &model).await?;
        self.answer(&stored.name, version).await
    }

    async fn evaluate(&self, arguments: Arguments<'_>) -> Result<Vec<ArrayRef>> {
        let [name, source, label] = words(arguments, "evaluate_threat_model", ["name", "source", "label"])?;
        let labels = Labels { column: label, ordinary: text(arguments, 3, "ordinary")? };
        let stored = self.shared.planner.public.models().find(&name)?;
        let model = stored.model()?;
        let rows = self.source(&source).await?;
        let labels = labels.of(&rows)?;
        let columns = model_columns(&model, &stored, &rows)?;
        let device = self.shared.device.clone();
        let found = blocking(move || {
            let scored = with_values(&columns, |values| model.score(&device, values));
            let p_values = scored.map_err(|error| refused(&error))?.p_values;
            let ordinary: Vec<f64> =
                p_values.iter().zip(&labels).filter(|(_, attack)| !**attack).map(|(p, _)| *p).collect();
            let drift = model.drift_of(&ordinary);
            Ok((evaluate(&p_values, &labels), drift.map(|drift| drift.alarm)))
        });
        let (found, drift) = found.await?;
        let number =
            |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![(!value.is_nan()).then_some(value)])) };
        let count = |value: usize| -> ArrayRef { Arc::new(Int64Array::from(vec![value as i64])) };
        Ok(vec![
            Arc::new(StringArray::from(vec![stored.name.as_str()])),
            Arc::new(Int32Array::from(vec![stored.version])),
            count(found.rows),
            count(found.attacks),
            number(found.auc),
            number(found.found[0]),
            number(found.found[1]),
            number(found.found[2]),
            number(found.false_alarms),
            number(found.alarms),
            Arc::new(BooleanArray::from(vec![drift])),
        ])
    }

    async fn rollback(&self, arguments: Arguments<'_>) -> Result<Vec<ArrayRef>> {
        let [name] = words(arguments, "rollback_model", ["name"])?;
        let models = Arc::clone(self.shared.planner.public.models());
        let active = models.find(&name)?;
        let promoted = models.versions(&active.name).iter().filter(|stored| stored.promoted_us.is_some()).count();
        if promoted < 2 {
            let text = format!("model \"{name}\" has no version that was active before version {}", active.version);
            return Err(Error::UndefinedType(text));
        }
        self.set_promoted(&active, None).await?;
        let before = models.find(&active.name)?;
        self.answer(&before.name, before.version).await
    }

    async fn import_model(&self, arguments: Arguments<'_>) -> Result<Vec<ArrayRef>> {
        let [name] = words(&arguments[..1], "import_model", ["name"])?;
        let bytes = match arguments.get(1).and_then(Option::as_ref) {
            Some(ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes))) => bytes.clone(),
            Some(ScalarValue::BinaryView(Some(bytes))) => bytes.clone(),
            _ => {
                let text =
                    "import_model needs the bytes that export_model gave: CALL import_model('web', decode('…', 'hex'))";
                return Err(Error::InvalidArgument(text.into()));
            }
        };
        let model = ThreatModel::from_bytes(&bytes).map_err(|error| Error::InvalidArgument(error.to_string()))?;
        let metrics = serde_json::json!({ "imported": true, "calibrated_rows": model.calibrated_rows() });
        let fresh = Fresh { name: &name, window: None, rows: None, attacks: None, metrics };
        let version = self.insert_version(fresh, &model).await?;
        self.answer(&name, version).await
    }

    /// What is watched of a version, as its metrics have it; null where that is nothing.
    async fn watched(&self, stored: &Stored) -> Result<Value> {
        let metrics = "SELECT metrics FROM models WHERE name = $1 AND version = $2";
        let row = self.connect().objects(metrics, &[stored.name.as_str().into(), stored.version.into()]).await?.pop();
        Ok(row.map_or(Value::Null, |row| row["metrics"][WATCHED].clone()))
    }

    /// The version that the arguments name and number.
    fn version_of(&self, arguments: Arguments<'_>) -> Result<Arc<Stored>> {
        let [name] = words(&arguments[..1], "the procedure", ["name"])?;
        let word = match arguments.get(1).and_then(Option::as_ref) {
            Some(version) if !version.is_null() => format!("{name}@{version}"),
            _ => name,
        };
        self.shared.planner.public.models().find(&word)
    }

    /// The rows of a table or a query, as this user may read them.
    async fn source(&self, source: &str) -> Result<RecordBatch> {
        let is_query = source.trim().contains(char::is_whitespace);
        let query = if is_query { source.to_owned() } else { format!("SELECT * FROM {}", source.trim()) };
        let reader = self.connect_as(self.user.clone());
        let mut statements = reader.parse(&query)?;
        let (Some(statement), None) = (statements.pop(), statements.pop()) else {
            return Err(Error::InvalidArgument("source must be one table or one query".into()));
        };
        if !matches!(statement.kind, Kind::Query(..)) {
            return Err(Error::InvalidArgument(
                "source must be a table or a query, not a statement that changes something".into(),
            ));
        }
        let prepared = reader.prepare(statement, &[]).await?;
        let schema = prepared.schema.clone().ok_or_else(|| Error::Internal("a query must have columns".into()))?;
        let Outcome::Rows { mut stream, .. } = reader.execute(&prepared, Vec::new()).await? else {
            return Err(Error::Internal("a query must have rows".into()));
        };
        let (mut batches, mut values) = (Vec::new(), 0);
        while let Some(batch) = stream.try_next().await? {
            values += batch.num_rows() * batch.num_columns();
            if values > VALUES_MAX {
                let text = format!("source has more than {VALUES_MAX} values: take a sample or fewer columns");
                return Err(Error::OutOfMemory(text));
            }
            batches.push(batch);
        }
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        Ok(concat_batches(&schema, &batches)?)
    }

    /// What a procedure says of a version.
    async fn answer(&self, name: &str, version: i32) -> Result<Vec<ArrayRef>> {
        let quoted = name.replace('\'', "''");
        let query = format!(
            "SELECT name, version, active, training_rows, attack_rows, schema_hash, checksum FROM models \
             WHERE name = '{quoted}' AND version = {version}"
        );
        let batches = self.connect().collect(&query).await?;
        let batch = batches.iter().find(|batch| batch.num_rows() == 1);
        let batch = batch.ok_or_else(|| Error::Internal(format!("model {name} version {version} is not stored")))?;
        let types = [
            DataType::Utf8,
            DataType::Int32,
            DataType::Boolean,
            DataType::Int64,
            DataType::Int64,
            DataType::Utf8,
            DataType::Utf8,
        ];
        Ok(batch.columns().iter().zip(types).map(|(column, wanted)| cast(column, &wanted)).collect::<Result<_, _>>()?)
    }
}

/// Rows and attacks.
fn counted(labels: &Option<Vec<bool>>, rows: usize) -> (i64, i64) {
    let attacks = labels.as_ref().map_or(0, |labels| labels.iter().filter(|attack| **attack).count());
    (rows as i64, attacks as i64)
}

/// The features of the rows: those that are named, or all columns of numbers and text but the label.
fn features(rows: &RecordBatch, named: Option<&[String]>, label: Option<&Labels>) -> Result<Vec<String>> {
    let is_label = |name: &str| label.is_some_and(|label| label.column == name);
    if let Some(named) = named {
        return match named.iter().find(|name| is_label(name)) {
            Some(name) => Err(Error::InvalidArgument(format!("\"{name}\" is the label and can be no feature"))),
            None => Ok(named.to_vec()),
        };
    }
    let schema = rows.schema();
    let fits = schema.fields().iter().filter(|field| {
        !is_label(field.name()) && matches!(shape(field.data_type()), Some(Shape::Number | Shape::Text))
    });
    let names: Vec<String> = fits.map(|field| field.name().clone()).collect();
    match names.is_empty() {
        true => Err(Error::InvalidArgument("source has no column of numbers or text that could be a feature".into())),
        false => Ok(names),
    }
}

/// These columns of the rows.
fn columns(rows: &RecordBatch, names: &[String]) -> Result<Vec<Column>> {
    let column = |name: &String| {
        let array = rows
            .column_by_name(name)
            .ok_or_else(|| Error::UndefinedColumn(format!("column \"{name}\" does not exist in the source")))?;
        match shape(array.data_type()) {
            Some(Shape::Text) => Column::new(array, Shape::Text),
            Some(_) => Column::new(array, Shape::Number),
            None => Err(Error::TypeMismatch(format!(
                "feature \"{name}\" must be a number or text, not {}",
                crate::functions::name_of(array.data_type())
            ))),
        }
    };
    names.iter().map(column).collect()
}

/// The columns of the rows that the model was trained on.
fn model_columns(model: &ThreatModel, stored: &Stored, rows: &RecordBatch) -> Result<Vec<Column>> {
    let names: Vec<&str> = model.features().map(|(name, _)| name).collect();
    let array = |name: &&str| {
        let text = || {
            let (model, version) = (&stored.name, stored.version);
            Error::UndefinedColumn(format!(
                "the source has no column \"{name}\", which model \"{model}\" version {version} takes"
            ))
        };
        rows.column_by_name(name).cloned().ok_or_else(text)
    };
    let arrays = names.iter().map(array).collect::<Result<Vec<_>>>()?;
    fitted(model, &format!("\"{}\" version {}", stored.name, stored.version), &names, &arrays)
}

/// The first and last time of the rows, in microseconds, by their first timestamp column.
fn window(rows: &RecordBatch) -> Result<Option<(i64, i64)>> {
    let Some(times) = rows.columns().iter().find(|column| matches!(column.data_type(), DataType::Timestamp(..))) else {
        return Ok(None);
    };
    let times = cast(times, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    Ok(arrow::compute::min(times).zip(arrow::compute::max(times)))
}
