//! SQL columns as threat models take them: numbers or texts.
//!
//! **Invariant:** a null number is NaN and a null text is empty; nothing else changes a value.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use juno_kernels::threat_model::{Kind, ThreatModel, Values};

use crate::functions::name_of;
use crate::{Error, Result};

/// What a type is to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Number,
    Text,
    /// NULL alone: whatever is wanted.
    Nothing,
}

/// What a type is to a model; none for types that are neither numbers nor text.
pub(crate) fn shape(data_type: &DataType) -> Option<Shape> {
    match data_type {
        DataType::Null => Some(Shape::Nothing),
        DataType::Boolean => Some(Shape::Number),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Shape::Text),
        DataType::Dictionary(_, values) => shape(values),
        other => other.is_numeric().then_some(Shape::Number),
    }
}

/// The columns of some rows, as numbers or texts.
pub(crate) enum Column {
    Numbers(Float64Array),
    Texts(StringArray),
}

impl Column {
    /// A column of rows in the shape that a model wants.
    pub(crate) fn new(array: &ArrayRef, wanted: Shape) -> Result<Self> {
        Ok(match wanted {
            Shape::Text => Column::Texts(cast(array, &DataType::Utf8)?.as_string::<i32>().clone()),
            _ => {
                let numbers = cast(array, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>();
                Column::Numbers(match numbers.null_count() {
                    0 => numbers.clone(),
                    _ => numbers.iter().map(|value| Some(value.unwrap_or(f64::NAN))).collect(),
                })
            }
        })
    }

    /// The texts, where it has some.
    pub(crate) fn texts(&self) -> Vec<&str> {
        match self {
            Column::Numbers(_) => Vec::new(),
            Column::Texts(texts) => texts.iter().map(Option::unwrap_or_default).collect(),
        }
    }

    /// Its values; `texts` are its own.
    pub(crate) fn values<'a>(&'a self, texts: &'a [&'a str]) -> Values<'a> {
        match self {
            Column::Numbers(numbers) => Values::Numbers(numbers.values()),
            Column::Texts(_) => Values::Texts(texts),
        }
    }
}

/// Hands columns to a kernel as it takes them.
pub(crate) fn with_values<T>(columns: &[Column], run: impl FnOnce(&[Values]) -> T) -> T {
    let texts: Vec<Vec<&str>> = columns.iter().map(Column::texts).collect();
    let values: Vec<Values> = columns.iter().zip(&texts).map(|(column, texts)| column.values(texts)).collect();
    run(&values)
}

/// Columns for a model, checked against what it was trained on; `names` are the columns' own.
///
/// # Errors
/// [`Error::TypeMismatch`] where there are more or fewer, in another order, or of another type.
pub(crate) fn fitted(model: &ThreatModel, title: &str, names: &[&str], arrays: &[ArrayRef]) -> Result<Vec<Column>> {
    let features: Vec<(&str, Kind)> = model.features().collect();
    let listed = || features.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if features.len() != arrays.len() {
        let (wanted, given) = (features.len(), arrays.len());
        let text = format!("model {title} takes {wanted} columns and was given {given}; it takes {}", listed());
        return Err(Error::TypeMismatch(text));
    }
    let mut columns = Vec::with_capacity(arrays.len());
    for (at, ((feature, kind), (name, array))) in features.iter().zip(names.iter().zip(arrays)).enumerate() {
        if name != feature && features.iter().any(|(other, _)| other == name) {
            let text = format!(
                "column {} given to model {title} is \"{name}\" where it takes \"{feature}\"; it takes {}",
                at + 1,
                listed()
            );
            return Err(Error::TypeMismatch(text));
        }
        let wanted = if *kind == Kind::Number { Shape::Number } else { Shape::Text };
        let given = shape(array.data_type());
        if given != Some(wanted) && given != Some(Shape::Nothing) {
            let word = if wanted == Shape::Number { "a number" } else { "text" };
            let text = format!("\"{feature}\" of model {title} is {word}, not {}", name_of(array.data_type()));
            return Err(Error::TypeMismatch(text));
        }
        columns.push(Column::new(array, wanted)?);
    }
    Ok(columns)
}

/// A kernel's error as SQL has it.
pub(crate) fn refused(error: &juno_kernels::Error) -> Error {
    match error {
        juno_kernels::Error::Shape(text) => Error::TypeMismatch(text.clone()),
        other => Error::InvalidArgument(other.to_string()),
    }
}
