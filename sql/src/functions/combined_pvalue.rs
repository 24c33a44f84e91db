//! `combined_pvalue(p)`: one p-value for several, as of the series of a group at one time: their harmonic mean.
//!
//! Small p-values of several series strengthen each other, a single very small one suffices, and series that move together do not
//! make it too small. Wilson, *The harmonic mean p-value for combining dependent tests*, PNAS 2019.
//!
//! **Invariant:** the order of rows does not matter beyond rounding; nulls and NaN count nowhere.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};

/// `SELECT time, combined_pvalue(p_value) FROM anomalies('cpu', 'usage', by => 'host') GROUP BY time`.
///
/// DOUBLE PRECISION from 0 to 1, null of no p-values. Immutable.
pub(super) fn combined_pvalue() -> AggregateUDF {
    AggregateUDF::new_from_impl(CombinedPValue { signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CombinedPValue {
    signature: Signature,
}

impl AggregateUDFImpl for CombinedPValue {
    fn name(&self) -> &str {
        "combined_pvalue"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [p] if p.is_numeric() || p.is_null() => Ok(DataType::Float64),
            [p] => Err(mismatch(format!("argument p of combined_pvalue must be a number, not {}", name_of(p)))),
            _ => Err(invalid("combined_pvalue takes one p-value")),
        }
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(State::default()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name| Arc::new(Field::new(format_state_name(args.name, name), DataType::Float64, true));
        Ok(vec![field("count"), field("inverses")])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// How many p-values, and the sum of their inverses.
#[derive(Debug, Default)]
struct State {
    count: f64,
    inverses: f64,
}

impl Accumulator for State {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = cast(&values[0], &DataType::Float64)?;
        for p in values.as_primitive::<Float64Type>().iter().flatten().filter(|p| !p.is_nan()) {
            if !(0.0..=1.0).contains(&p) {
                return Err(invalid(format!("argument p of combined_pvalue must be from 0 to 1, not {p}")));
            }
            self.count += 1.0;
            self.inverses += 1.0 / p;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let combined = (self.count > 0.0).then(|| (self.count / self.inverses).min(1.0));
        Ok(ScalarValue::Float64(combined))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Float64(Some(self.count)), ScalarValue::Float64(Some(self.inverses))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let sum = |state: &ArrayRef| state.as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
        self.count += sum(&states[0]);
        self.inverses += sum(&states[1]);
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}
