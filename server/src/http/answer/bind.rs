//! JSON values as the parameters of a statement.
//!
//! **Invariant:** values are bound, never pasted into SQL; a value that does not fit its parameter's type is an error.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::scalar::ScalarValue;
use juno_sql::{Error, Result};
use serde_json::Value;

/// One scalar per `$n`, of the type that the plan found for it.
pub(crate) fn values(parameters: &[FieldRef], values: &[Value]) -> Result<Vec<ScalarValue>> {
    if parameters.len() != values.len() {
        let (wanted, given) = (parameters.len(), values.len());
        return Err(Error::InvalidParameter(format!("the statement takes {wanted} parameters, params has {given}")));
    }
    let each = parameters.iter().zip(values).enumerate();
    each.map(|(at, (parameter, value))| scalar(at + 1, parameter.data_type(), value)).collect()
}

fn scalar(number: usize, kind: &DataType, value: &Value) -> Result<ScalarValue> {
    let wrong = || Error::InvalidText(format!("invalid value for parameter ${number} of type {kind}: {value}"));
    let free = kind.is_null();
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let found = match value {
        Value::Null => return ScalarValue::try_from(kind).map_err(Error::from),
        Value::Bool(value) => ScalarValue::Boolean(Some(*value)),
        Value::Number(number) if free => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => ScalarValue::Int64(Some(value)),
            (None, Some(value), _) => ScalarValue::UInt64(Some(value)),
            (_, _, value) => ScalarValue::Float64(value),
        },
        // Through text, so that 1.5 is no integer and 0.1 is exactly a tenth as DECIMAL.
        Value::Number(number) => text(&number.to_string()),
        Value::String(value) => text(value),
        Value::Array(_) | Value::Object(_) if free || is_text(kind) => text(&value.to_string()),
        Value::Array(_) | Value::Object(_) => return Err(wrong()),
    };
    if free {
        return Ok(found);
    }
    let fits = !matches!(value, Value::Bool(_)) || matches!(kind, DataType::Boolean) || is_text(kind);
    let cast = found.cast_to(kind).map_err(|_| wrong())?;
    if cast.is_null() || !fits { Err(wrong()) } else { Ok(cast) }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => is_text(value),
        other => matches!(other, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, TimeUnit};
    use serde_json::json;

    use super::*;

    fn bound(kind: DataType, value: Value) -> Result<ScalarValue> {
        let parameter = Arc::new(Field::new("$1", kind, true));
        values(&[parameter], &[value]).map(|mut all| all.remove(0))
    }

    #[test]
    fn values_take_the_type_that_the_plan_found() {
        assert_eq!(bound(DataType::Int64, json!(7)).unwrap(), ScalarValue::Int64(Some(7)));
        assert_eq!(bound(DataType::Decimal128(5, 2), json!(0.1)).unwrap(), ScalarValue::Decimal128(Some(10), 5, 2));
        assert_eq!(bound(DataType::Utf8, json!({"a": 1})).unwrap(), ScalarValue::Utf8(Some(r#"{"a":1}"#.into())));
        assert_eq!(bound(DataType::Null, json!(1.5)).unwrap(), ScalarValue::Float64(Some(1.5)));
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
        let time = bound(micros, json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(time, ScalarValue::TimestampMicrosecond(Some(1_767_225_600_000_000), Some("+00:00".into())));
        assert!(bound(DataType::Int64, Value::Null).unwrap().is_null());
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_by_name() {
        for (kind, value) in [
            (DataType::Int64, json!(1.5)),
            (DataType::Int64, json!("x")),
            (DataType::Int64, json!([1])),
            (DataType::Int64, json!(true)),
            (DataType::Boolean, json!("perhaps")),
        ] {
            let text = bound(kind, value).unwrap_err().to_string();
            assert!(text.contains("$1"), "{text}");
        }
    }

    #[test]
    fn the_number_of_values_must_match() {
        assert!(matches!(values(&[], &[json!(1)]), Err(Error::InvalidParameter(_))));
    }
}
