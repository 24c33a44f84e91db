//! `threat_explain(model, columns…)`: which features moved the score of a row.
//!
//! **Invariant:** the same model and columns as `threat_score`; what it says is about that score.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use juno_kernels::Device;

use super::launches;
use super::threat_score::{Chosen, check, returned, signature};
use crate::model::Models;
use crate::model::rows::{refused, with_values};
use crate::types::TYPE_KEY;

/// Features that are named.
const NAMED: usize = 5;
/// Less evidence than this names no feature, in nats.
const LEAST: f64 = 0.05;

/// `SELECT threat_explain('web', method, bytes, path) FROM requests WHERE …`.
///
/// JSONB: `{"features": [{"nats": 7.2, "feature": "path"}, …], "score": 0.9993}`, the five features whose replacement by
/// an ordinary value takes away most evidence, in nats. Stable. Hundreds of times the work of `threat_score`: for the rows
/// that alarmed.
pub(super) fn threat_explain(models: &Arc<Models>, device: &Device) -> ScalarUDF {
    ScalarUDF::new_from_impl(ThreatExplain { chosen: Chosen::new(models, device), signature: signature() })
}

struct ThreatExplain {
    chosen: Chosen,
    signature: Signature,
}

impl std::fmt::Debug for ThreatExplain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ThreatExplain")
    }
}

impl PartialEq for ThreatExplain {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for ThreatExplain {}

impl Hash for ThreatExplain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for ThreatExplain {
    fn name(&self) -> &str {
        "threat_explain"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        check(self.name(), types)?;
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name(), self.return_type(&types)?, false);
        Ok(Arc::new(field.with_metadata([(TYPE_KEY.to_owned(), "jsonb".to_owned())].into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (model, columns) = self.chosen.of(self.name(), &args)?;
        let found = with_values(&columns, |values| {
            let scored = model.score(self.chosen.device(), values)?;
            Ok((scored, model.explain(self.chosen.device(), values)?))
        });
        let (scored, parts) = found.map_err(|error: juno_kernels::Error| refused(&error))?;
        launches::count(scored.launches, scored.scores.len());
        let names: Vec<&str> = model.features().map(|(name, _)| name).collect();
        let rows = scored.scores.iter().zip(parts.chunks_exact(names.len()));
        let texts: StringArray = rows.map(|(score, parts)| Some(row(*score, &names, parts))).collect();
        returned(&args, Arc::new(texts) as ArrayRef)
    }
}

/// What is said of one row, as JSONB prints it: shorter keys first.
fn row(score: f64, names: &[&str], parts: &[f64]) -> String {
    let mut most: Vec<(&str, f64)> = names.iter().copied().zip(parts.iter().copied()).collect();
    most.retain(|(_, nats)| *nats >= LEAST);
    most.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let named = most
        .iter()
        .take(NAMED)
        .map(|(name, nats)| format!("{{\"nats\": {nats:.2}, \"feature\": {}}}", serde_json::Value::from(*name)));
    format!("{{\"score\": {score}, \"features\": [{}]}}", named.collect::<Vec<_>>().join(", "))
}
