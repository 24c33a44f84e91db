//! `threat_score(model, columns…)`: how likely a row is an attack, by a model that CALL train_threat_model made.
//!
//! **Invariant:** reads no table: the model is in memory; a score depends on its own row and the model alone.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use juno_kernels::Device;
use juno_kernels::threat_model::ThreatModel;

use super::launches;
use super::refusal::{invalid, mismatch};
use crate::functions::name_of;
use crate::model::Models;
use crate::model::rows::{Column, Shape, fitted, refused, shape, with_values};

/// `SELECT time, src_ip, threat_score('web', method, bytes, path) AS score FROM requests WHERE …`.
///
/// DOUBLE PRECISION 0 to 1: 1 − p among ordinary rows, so that a threshold of 0.98 alarms on 2 % of them. Stable. The
/// model is `name`, `name@version`, `name@latest` or `latest`; the method is the kernel `threat_model`.
pub(super) fn threat_score(models: &Arc<Models>, device: &Device) -> ScalarUDF {
    ScalarUDF::new_from_impl(ThreatScore { chosen: Chosen::new(models, device), signature: signature() })
}

/// A model by name and any columns.
pub(super) fn signature() -> Signature {
    Signature::variadic_any(Volatility::Stable)
}

/// What the functions with models share.
pub(super) struct Chosen {
    models: Arc<Models>,
    device: Device,
}

impl Chosen {
    pub(super) fn new(models: &Arc<Models>, device: &Device) -> Self {
        Self { models: Arc::clone(models), device: device.clone() }
    }

    /// The model that the first argument names, and the others as its columns.
    pub(super) fn of(&self, function: &str, args: &ScalarFunctionArgs) -> Result<(Arc<ThreatModel>, Vec<Column>)> {
        let name = match &args.args[0] {
            ColumnarValue::Scalar(name) => name.try_as_str().flatten().map(str::to_owned),
            ColumnarValue::Array(_) => None,
        };
        let name = name.ok_or_else(|| {
            invalid(format!("{function} needs the model's name as a text that is the same for all rows"))
        })?;
        let stored = self.models.find(&name)?;
        let model = stored.model()?;
        let title = format!("\"{}\" version {}", stored.name, stored.version);
        let given = &args.args[1..];
        let arrays = given.iter().map(|value| value.to_array(args.number_rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let names: Vec<&str> = args.arg_fields[1..].iter().map(|field| field.name().as_str()).collect();
        let columns = fitted(&model, &title, &names, &arrays)?;
        Ok((model, columns))
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }
}

/// Refuses types that no model takes.
pub(super) fn check(function: &str, types: &[DataType]) -> Result<()> {
    match types.first().map(shape) {
        Some(Some(Shape::Text | Shape::Nothing)) if types.len() > 1 => {}
        Some(Some(Shape::Text | Shape::Nothing)) => {
            return Err(mismatch(format!("{function} takes a model and the columns that it was trained on")));
        }
        Some(_) => {
            return Err(mismatch(format!("argument model of {function} must be text, not {}", name_of(&types[0]))));
        }
        None => return Err(mismatch(format!("{function} takes a model and the columns that it was trained on"))),
    }
    match types.iter().enumerate().find(|(_, given)| shape(given).is_none()) {
        Some((at, given)) => {
            let text = format!("column {at} of {function} must be a number or text, not {}", name_of(given));
            Err(mismatch(text))
        }
        None => Ok(()),
    }
}

/// The result for rows, or for the one row that constants are.
pub(super) fn returned(args: &ScalarFunctionArgs, result: ArrayRef) -> Result<ColumnarValue> {
    let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) && result.len() == 1;
    Ok(match is_scalar {
        true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
        false => ColumnarValue::Array(result),
    })
}

struct ThreatScore {
    chosen: Chosen,
    signature: Signature,
}

impl std::fmt::Debug for ThreatScore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ThreatScore")
    }
}

impl PartialEq for ThreatScore {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for ThreatScore {}

impl Hash for ThreatScore {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for ThreatScore {
    fn name(&self) -> &str {
        "threat_score"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        check(self.name(), types)?;
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (model, columns) = self.chosen.of(self.name(), &args)?;
        let scored = with_values(&columns, |values| model.score(self.chosen.device(), values));
        let scored = scored.map_err(|error| refused(&error))?;
        launches::count(scored.launches, scored.scores.len());
        returned(&args, Arc::new(Float64Array::from(scored.scores)))
    }
}
