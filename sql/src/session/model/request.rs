//! What the procedures about models are called with.
//!
//! **Invariant:** every refusal names the argument and what it may be.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use datafusion::scalar::ScalarValue;
use juno_kernels::threat_model::{Params, ThreatModel};

use crate::model::rows::{Shape, shape};
use crate::procedure::text;
use crate::{Error, Result};

/// The longest name of a model, in characters.
const NAME_CHARS_MAX: usize = 63;
/// Labels that mean an ordinary row, where the call names none.
const ORDINARY: [&str; 8] = ["", "0", "normal", "norm", "benign", "legit", "false", "f"];

/// Texts that a procedure cannot do without.
pub(super) fn words<const N: usize>(
    arguments: &[Option<ScalarValue>],
    procedure: &str,
    names: [&str; N],
) -> Result<[String; N]> {
    let mut words = [const { String::new() }; N];
    for (at, (word, name)) in words.iter_mut().zip(names).enumerate() {
        *word = text(arguments, at, name)?
            .filter(|text| !text.trim().is_empty())
            .ok_or_else(|| Error::InvalidArgument(format!("{procedure} needs a {name}: {name} => '…'")))?;
    }
    Ok(words)
}

/// Which rows are attacks.
pub(super) struct Labels {
    pub(super) column: String,
    /// The label of ordinary rows, where it is none of the usual ones.
    pub(super) ordinary: Option<String>,
}

impl Labels {
    /// Whether each row is an attack: a number other than 0, a truth, or a text that is no word for an ordinary row.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<Vec<bool>> {
        let name = &self.column;
        if rows.column_by_name(name).is_some_and(|array| array.null_count() > 0) {
            let text = format!("label column \"{name}\" has nulls: leave rows out whose label is not known");
            return Err(Error::InvalidArgument(text));
        }
        self.attacks(rows)
    }

    /// The same; a row without a label is none.
    pub(super) fn attacks(&self, rows: &RecordBatch) -> Result<Vec<bool>> {
        let name = &self.column;
        let array = rows
            .column_by_name(name)
            .ok_or_else(|| Error::UndefinedColumn(format!("label column \"{name}\" does not exist in the source")))?;
        match (shape(array.data_type()), &self.ordinary) {
            (Some(Shape::Number), None) => {
                let numbers = cast(array, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>().iter();
                Ok(numbers.map(|number| number.is_some_and(|number| number != 0.0)).collect())
            }
            (Some(Shape::Number | Shape::Text), ordinary) => {
                let texts = cast(array, &DataType::Utf8)?;
                let is_ordinary = |text: &str| match ordinary {
                    Some(ordinary) => text == ordinary,
                    None => ORDINARY.contains(&text.trim().to_lowercase().as_str()),
                };
                let texts = texts.as_string::<i32>().iter();
                Ok(texts.map(|text| text.is_some_and(|text| !is_ordinary(text))).collect())
            }
            _ => Err(Error::TypeMismatch(format!("label column \"{name}\" must be a number, a truth or text"))),
        }
    }
}

/// A call of `train_threat_model`.
pub(super) struct Training {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) label: Option<Labels>,
    pub(super) features: Option<Vec<String>>,
    pub(super) params: Params,
}

impl Training {
    pub(super) fn new(arguments: &[Option<ScalarValue>]) -> Result<Self> {
        let [name, source] = words(arguments, "train_threat_model", ["name", "source"])?;
        check_name(&name)?;
        let ordinary = text(arguments, 4, "ordinary")?;
        let label = text(arguments, 2, "label")?.map(|column| Labels { column, ordinary });
        let features = text(arguments, 3, "features")?.map(|list| {
            list.split(',')
                .map(|name| name.trim().trim_matches('"').to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        });
        let mut params = Params::default();
        if let Some(trees) = number(arguments, 5, "trees")? {
            params.trees.trees = whole(trees, "trees")?;
        }
        if let Some(novelty) = number(arguments, 6, "novelty")? {
            params.novelty = novelty;
        }
        if let Some(calibration) = number(arguments, 7, "calibration")? {
            params.calibration = calibration;
        }
        if let Some(seed) = number(arguments, 8, "seed")? {
            params.trees.seed = whole(seed, "seed")? as u64;
        }
        Ok(Self { name, source, label, features, params })
    }

    /// What the table keeps of the training.
    pub(super) fn metrics(&self, model: &ThreatModel) -> serde_json::Value {
        let detectors: serde_json::Map<String, serde_json::Value> =
            model.detectors().into_iter().map(|(name, share)| (name, share.into())).collect();
        serde_json::json!({
            "calibrated_rows": model.calibrated_rows(),
            "detectors": detectors,
            "seed": self.params.trees.seed,
            "trees": self.params.trees.trees,
        })
    }
}

/// Refuses names that `threat_score` could not be asked for.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name == "latest" || name.contains('@') || name.chars().count() > NAME_CHARS_MAX {
        let text =
            format!("\"{name}\" cannot be the name of a model: at most {NAME_CHARS_MAX} characters, no @, not latest");
        return Err(Error::InvalidArgument(text));
    }
    Ok(())
}

fn number(arguments: &[Option<ScalarValue>], at: usize, name: &str) -> Result<Option<f64>> {
    match arguments.get(at).and_then(Option::as_ref) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) if value.data_type().is_numeric() => match value.cast_to(&DataType::Float64)? {
            ScalarValue::Float64(number) => Ok(number),
            _ => Ok(None),
        },
        Some(value) => Err(Error::InvalidArgument(format!("argument \"{name}\" must be a number, not {value}"))),
    }
}

fn whole(value: f64, name: &str) -> Result<usize> {
    let fits = value >= 0.0 && value.fract() == 0.0 && value < 9e15;
    match fits {
        true => Ok(value as usize),
        false => {
            Err(Error::InvalidArgument(format!("argument \"{name}\" must be a whole number from 0 on, not {value}")))
        }
    }
}
