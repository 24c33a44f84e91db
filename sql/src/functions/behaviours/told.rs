//! The rows that a behaviour tells: who, when, how strong, how improbable, which technique, and the evidence.
//!
//! **Invariant:** the strongest come first; equal ones in order of time and names.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, ScalarValue};

use super::Behaviour;
use crate::jsonb::Json;
use crate::types::{TYPE_KEY, timestamptz};

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// In the order of the behaviour's entities.
    pub(super) entities: Vec<Option<String>>,
    /// Seconds since 1970.
    pub(super) span: (f64, f64),
    pub(super) score: f64,
    pub(super) p_value: Option<f64>,
    /// Of MITRE ATT&CK.
    pub(super) technique: &'static str,
    pub(super) evidence: Json,
}

/// The columns of a row.
pub(super) fn fields(behaviour: &Behaviour) -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let time = |name: &str| Field::new(name, timestamptz(), true);
    let evidence = text("evidence").with_metadata([(TYPE_KEY.to_owned(), "jsonb".to_owned())].into());
    let rest =
        [time("window_start"), time("window_end"), number("score"), number("p_value"), text("technique"), evidence];
    behaviour.entities.iter().map(|name| text(name)).chain(rest).collect()
}

pub(super) fn list_type(behaviour: &Behaviour) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields(behaviour)), true)))
}

/// One list of rows.
pub(super) fn list(behaviour: &Behaviour, mut told: Vec<Told>) -> Result<ScalarValue> {
    told.sort_by(|a, b| {
        let (strength, start) = (b.score.total_cmp(&a.score), a.span.0.total_cmp(&b.span.0));
        strength.then(start).then_with(|| a.entities.cmp(&b.entities))
    });
    let time = |of: fn(&Told) -> f64| -> ArrayRef {
        let us = told.iter().map(|told| (of(told) * 1e6).round() as i64);
        Arc::new(TimestampMicrosecondArray::from_iter_values(us).with_timezone("+00:00"))
    };
    let entity = |index: usize| told.iter().map(move |told| told.entities[index].as_deref());
    let entities =
        (0..behaviour.entities.len()).map(|index| -> ArrayRef { Arc::new(entity(index).collect::<StringArray>()) });
    let rest: [ArrayRef; 6] = [
        time(|told| told.span.0),
        time(|told| told.span.1),
        Arc::new(told.iter().map(|told| Some(told.score)).collect::<Float64Array>()),
        Arc::new(told.iter().map(|told| told.p_value).collect::<Float64Array>()),
        Arc::new(told.iter().map(|told| Some(told.technique)).collect::<StringArray>()),
        Arc::new(told.iter().map(|told| Some(told.evidence.to_string())).collect::<StringArray>()),
    ];
    let fields = fields(behaviour);
    let rows = StructArray::try_new(fields.clone(), entities.chain(rest).collect(), None)?;
    let item = Arc::new(Field::new_list_field(DataType::Struct(fields), true));
    let list = ListArray::try_new(item, OffsetBuffer::from_lengths([told.len()]), Arc::new(rows), None)?;
    Ok(ScalarValue::List(Arc::new(list)))
}

/// Evidence by name.
pub(super) fn evidence<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::object(members.into_iter().map(|(name, value)| (name.to_owned(), value)))
}

/// A number of six digits that count; null where it is none.
pub(super) fn number(number: impl Into<f64>) -> Json {
    let number = number.into();
    if !number.is_finite() {
        return Json::Null;
    }
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Json::Number(format!("{number:.0}"));
    }
    let rounded: f64 = format!("{number:.5e}").parse().unwrap_or(number);
    Json::Number(rounded.to_string())
}

/// A text, or null.
pub(super) fn text(text: Option<&str>) -> Json {
    text.map_or(Json::Null, |text| Json::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_prints_as_jsonb_does() {
        let evidence = evidence([
            ("km_per_hour", number(1_234.567_891)),
            ("km", number(16_095.0)),
            ("p", number(1.5e-9)),
            ("to", text(Some("AU"))),
            ("none", number(f64::NAN)),
        ]);
        let printed = r#"{"p": 0.0000000015, "km": 16095, "to": "AU", "none": null, "km_per_hour": 1234.57}"#;
        assert_eq!(evidence.to_string(), printed);
        assert_eq!(crate::jsonb::canonical(printed).expect("JSON"), printed);
    }
}
