//! `first(value, time)` and `last(value, time)`: the value at the earliest and at the latest time of a group; `min_by(value, by)`
//! and `max_by(value, by)`: the same where `by` is anything that has an order.
//!
//! **Invariant:** holds no state of its own; DataFusion's `first_value` and `last_value` work under the order that the time
//! argument names.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};
use datafusion::physical_expr::PhysicalSortExpr;

use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};

/// `SELECT host, first(usage_user, time) FROM cpu GROUP BY host`: the value of the row with the earliest time, null included.
/// Rows without a time count last; of equal times any row may win. Immutable.
pub(super) fn first() -> AggregateUDF {
    let options = SortOptions { descending: false, nulls_first: false };
    AggregateUDF::new_from_impl(Edge::new("first", "time", first_value_udaf(), options))
}

/// `SELECT min_by(host, usage_user) FROM cpu`: the value of the row where `by` is least, null included. Rows without a `by` count
/// last; of equal ones any row may win. Immutable.
pub(super) fn min_by() -> AggregateUDF {
    let options = SortOptions { descending: false, nulls_first: false };
    AggregateUDF::new_from_impl(Edge::new("min_by", "by", first_value_udaf(), options))
}

/// `SELECT max_by(host, usage_user) FROM cpu`: the value of the row where `by` is greatest, null included. Rows without a `by`
/// count last; of equal ones any row may win. Immutable.
pub(super) fn max_by() -> AggregateUDF {
    let options = SortOptions { descending: false, nulls_first: true };
    AggregateUDF::new_from_impl(Edge::new("max_by", "by", last_value_udaf(), options))
}

/// `SELECT host, last(usage_user, time) FROM cpu GROUP BY host`: the value of the row with the latest time, null included.
/// Rows without a time count last; of equal times any row may win. Immutable.
pub(super) fn last() -> AggregateUDF {
    let options = SortOptions { descending: false, nulls_first: true };
    AggregateUDF::new_from_impl(Edge::new("last", "time", last_value_udaf(), options))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Edge {
    name: &'static str,
    /// What the order is called: a time, or anything.
    order: &'static str,
    by_order: Arc<AggregateUDF>,
    options: SortOptions,
    signature: Signature,
}

impl Edge {
    fn new(name: &'static str, order: &'static str, by_order: Arc<AggregateUDF>, options: SortOptions) -> Self {
        let signature = Signature::any(2, Volatility::Immutable)
            .with_parameter_names(vec!["value", order])
            .expect("two names for two arguments");
        Edge { name, order, by_order, options, signature }
    }

    /// Calls the ordered aggregate with the value as its argument and the time as its order.
    fn ordered<T>(&self, args: &AccumulatorArgs, call: impl FnOnce(AccumulatorArgs) -> T) -> T {
        let order = [PhysicalSortExpr { expr: Arc::clone(&args.exprs[1]), options: self.options }];
        call(AccumulatorArgs {
            order_bys: &order,
            exprs: &args.exprs[..1],
            expr_fields: &args.expr_fields[..1],
            ..args.clone()
        })
    }
}

impl AggregateUDFImpl for Edge {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [value, _] if self.order != "time" => Ok(value.clone()),
            [value, time] if time.is_temporal() || time.is_numeric() || time.is_null() => Ok(value.clone()),
            [_, time] => {
                Err(mismatch(format!("argument time of {} must be a timestamp, not {}", self.name, name_of(time))))
            }
            _ => Err(invalid(format!("{} takes a value and {}", self.name, self.order))),
        }
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        let types: Vec<_> = fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name, self.return_type(&types)?, true);
        Ok(Arc::new(field.with_metadata(fields[0].metadata().clone())))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.ordered(&args, |args| self.by_order.accumulator(args))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let time = Field::new(format!("{}[time]", args.name), args.input_fields[1].data_type().clone(), true);
        self.by_order.state_fields(StateFieldsArgs {
            input_fields: &args.input_fields[..1],
            ordering_fields: &[Arc::new(time)],
            ..args
        })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.ordered(&args, |args| self.by_order.groups_accumulator_supported(args))
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.ordered(&args, |args| self.by_order.create_groups_accumulator(args))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
