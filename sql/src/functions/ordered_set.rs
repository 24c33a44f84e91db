//! `percentile_disc(p) WITHIN GROUP (ORDER BY v)` and `mode() WITHIN GROUP (ORDER BY v)`, as in PostgreSQL.
//!
//! **Invariant:** the answer is one of the values, of their own type; nulls count nowhere.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, TypeSignature, Volatility};

use crate::functions::histogram::constant;
use crate::functions::refusal::invalid;

/// `SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY usage_user) FROM cpu`: the first value at or beyond that share of all, in
/// the order given. Immutable.
pub(super) fn percentile_disc() -> AggregateUDF {
    AggregateUDF::new_from_impl(OrderedSet {
        pick: Pick::Percentile,
        signature: Signature::any(2, Volatility::Immutable),
    })
}

/// `SELECT mode() WITHIN GROUP (ORDER BY host) FROM cpu`: the most frequent value, of equals the first in the order given.
/// Immutable.
pub(super) fn mode() -> AggregateUDF {
    let takes = vec![TypeSignature::Any(1), TypeSignature::Nullary];
    AggregateUDF::new_from_impl(OrderedSet {
        pick: Pick::Mode,
        signature: Signature::one_of(takes, Volatility::Immutable),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pick {
    Percentile,
    Mode,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderedSet {
    pick: Pick,
    signature: Signature,
}

impl AggregateUDFImpl for OrderedSet {
    fn name(&self) -> &str {
        match self.pick {
            Pick::Percentile => "percentile_disc",
            Pick::Mode => "mode",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let value = types.first().ok_or_else(|| invalid(format!("{} needs WITHIN GROUP (ORDER BY …)", self.name())))?;
        Ok(value.clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let share = match self.pick {
            Pick::Mode => None,
            Pick::Percentile => match constant(&args, 1)? {
                Some(share) if (0.0..=1.0).contains(&share) => Some(share),
                Some(share) => return Err(invalid(format!("percentile value {share} is not between 0 and 1"))),
                None => return Err(invalid("argument percentile of percentile_disc must not be null")),
            },
        };
        let descending = args.order_bys.first().is_some_and(|order| order.options.descending);
        let data_type = args.expr_fields[0].data_type().clone();
        Ok(Box::new(Values { share, descending, data_type, values: Vec::new() }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = DataType::new_list(args.input_fields[0].data_type().clone(), true);
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "values"), list, true))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The values of one group.
#[derive(Debug)]
struct Values {
    /// The share of a percentile; none for the mode.
    share: Option<f64>,
    descending: bool,
    data_type: DataType,
    values: Vec<ScalarValue>,
}

impl Values {
    fn add(&mut self, array: &ArrayRef) -> Result<()> {
        for row in 0..array.len() {
            let value = ScalarValue::try_from_array(array, row)?;
            if !value.is_null() {
                self.values.push(value);
            }
        }
        Ok(())
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.values.sort_by(|a, b| {
            let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
            if self.descending { order.reverse() } else { order }
        });
        let picked = match self.share {
            Some(share) => {
                let rank = (share * self.values.len() as f64).ceil() as usize;
                self.values.get(rank.max(1) - 1)
            }
            None => self.values.chunk_by(|a, b| a == b).rev().max_by_key(|run| run.len()).map(|run| &run[0]),
        };
        picked.cloned().map_or_else(|| ScalarValue::try_from(&self.data_type), Ok)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&self.values, &self.data_type))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = arrow::array::AsArray::as_list::<i32>(&states[0]).clone();
        lists.iter().flatten().try_for_each(|list| self.add(&list))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + ScalarValue::size_of_vec(&self.values)
    }
}
