//! Rows of juno's own tables as JSON objects, and statements with JSON values bound to them.
//!
//! **Invariant:** values are bound, never pasted into SQL.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use serde_json::{Map, Value};

use super::rfc3339;
use crate::jsonb::Json;
use crate::session::Session;
use crate::statement::Outcome;
use crate::types::TYPE_KEY;
use crate::{Error, Result};

impl Session {
    /// The rows of one statement with values for its parameters, as JSON objects.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn objects(&self, sql: &str, values: &[Value]) -> Result<Vec<Map<String, Value>>> {
        let Outcome::Rows { stream, .. } = self.bound(sql, values).await? else { return Ok(Vec::new()) };
        let batches: Vec<RecordBatch> = stream.try_collect().await?;
        objects(&batches)
    }

    /// How many rows a statement changed.
    pub(crate) async fn changed_rows(&self, sql: &str, values: &[Value]) -> Result<u64> {
        match self.bound(sql, values).await? {
            Outcome::Done { tag, .. } => {
                Ok(tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default())
            }
            _ => Err(Error::Internal("a change gave rows".into())),
        }
    }

    /// Does all of it in one transaction, or nothing.
    pub(crate) async fn atomically<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.query("BEGIN").await?;
        match work.await {
            Ok(done) => self.query("COMMIT").await.map(|_| done),
            Err(error) => {
                self.query("ROLLBACK").await?;
                Err(error)
            }
        }
    }

    /// Runs one statement with values for its parameters.
    async fn bound(&self, sql: &str, values: &[Value]) -> Result<Outcome> {
        let statement = self.parse(sql)?.pop().ok_or_else(|| Error::Internal("there is no statement".into()))?;
        let prepared = Box::pin(self.prepare(statement, &[])).await?;
        let each = prepared.parameters.iter().zip(values);
        let scalars = each.map(|(field, value)| scalar(field.data_type(), value)).collect::<Result<Vec<_>>>()?;
        Box::pin(self.execute(&prepared, scalars)).await
    }
}

/// A JSON value as a parameter of this type.
fn scalar(kind: &DataType, value: &Value) -> Result<ScalarValue> {
    let text = match value {
        Value::Null => return Ok(ScalarValue::try_from(kind)?),
        Value::Bool(truth) => return Ok(ScalarValue::Boolean(Some(*truth)).cast_to(kind)?),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    Ok(ScalarValue::Utf8(Some(text)).cast_to(kind)?)
}

/// Rows as objects, as REST writes them.
pub(crate) fn objects(batches: &[RecordBatch]) -> Result<Vec<Map<String, Value>>> {
    let mut rows = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, array)| Ok((field, values(field, array)?))).collect::<Result<Vec<_>>>()?;
        let mut columns: Vec<_> =
            columns.into_iter().map(|(field, values)| (field.name(), values.into_iter())).collect();
        for _ in 0..batch.num_rows() {
            let cells = columns.iter_mut().map(|(name, values)| (name.to_string(), values.next().unwrap_or_default()));
            rows.push(cells.collect());
        }
    }
    Ok(rows)
}

/// JSON as a tree; a text where it is damaged.
fn tree(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Json::parse(text).map_or_else(|_| text.into(), Json::value))
}

fn values(field: &Field, array: &ArrayRef) -> Result<Vec<Value>> {
    let each = |of: &dyn Fn(usize) -> Value| {
        (0..array.len()).map(|row| if array.is_valid(row) { of(row) } else { Value::Null }).collect()
    };
    let is_json = field.metadata().get(TYPE_KEY).is_some_and(|name| name == "jsonb" || name == "json");
    Ok(match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => each(&|row| array.as_boolean().value(row).into()),
        kind if kind.is_integer() => {
            let wide = cast(array, &DataType::Int64)?;
            let wide = wide.as_primitive::<Int64Type>();
            each(&|row| wide.value(row).into())
        }
        kind if kind.is_numeric() => {
            let wide = cast(array, &DataType::Float64)?;
            let wide = wide.as_primitive::<Float64Type>();
            each(&|row| wide.value(row).into())
        }
        DataType::Timestamp(_, zone) => {
            let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            let micros = micros.as_primitive::<TimestampMicrosecondType>();
            each(&|row| rfc3339(micros.value(row)).into())
        }
        _ => {
            let texts = cast(array, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            each(&|row| match is_json {
                true => tree(texts.value(row)),
                false => texts.value(row).into(),
            })
        }
    })
}
