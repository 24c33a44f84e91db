//! Casts in plans that PostgreSQL makes otherwise than DataFusion: fractions to integers round and are not cut off, and texts to
//! bytes read `\x00ff`.
//!
//! **Invariant:** changes these alone, where they are asked for and where a row is stored; a value out of range stays the error
//! that it is.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, Float32Type, Float64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

/// Puts a function in the place of each such cast, or below it.
#[derive(Debug)]
pub(crate) struct Rule;

impl AnalyzerRule for Rule {
    fn name(&self) -> &str {
        "postgresql_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(node)?.data)
    }
}

fn node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if matches!(node, LogicalPlan::TableScan(_)) {
        return Ok(Transformed::no(node));
    }
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(|expr| changed(expr, &schema))?.update_data(|expr| name.restore(expr)))
    })
}

fn changed(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::Cast(Cast { expr: inner, field }) = expr else { return Ok(Transformed::no(expr)) };
    match (inner.get_type(schema), field.data_type()) {
        (Ok(from), to) if is_fraction(&from) && to.is_integer() => rounded(*inner, field),
        (Ok(from), DataType::Binary) if from.is_string() => {
            let bytes = ScalarFunction::new_udf(super::to_bytes(), vec![*inner]);
            Ok(Transformed::yes(Expr::ScalarFunction(bytes)))
        }
        _ => Ok(Transformed::no(Expr::Cast(Cast { expr: inner, field }))),
    }
}

fn is_fraction(from: &DataType) -> bool {
    match from {
        DataType::Float32 | DataType::Float64 => true,
        DataType::Decimal128(_, scale) => *scale > 0,
        _ => false,
    }
}

fn rounded(inner: Expr, field: FieldRef) -> Result<Transformed<Expr>> {
    let inner = match inner {
        // A number as it is written is numeric in PostgreSQL.
        Expr::Literal(ScalarValue::Float64(Some(value)), metadata) => {
            Expr::Literal(ScalarValue::Float64(Some(value.round())), metadata)
        }
        // Rounded already, in an earlier pass.
        Expr::ScalarFunction(call) if call.func.name() == NAME => {
            return Ok(Transformed::no(Expr::Cast(Cast { expr: Box::new(Expr::ScalarFunction(call)), field })));
        }
        inner => {
            let signature = Signature::any(1, Volatility::Immutable);
            let function = Arc::new(ScalarUDF::new_from_impl(Round { signature }));
            Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![inner]))
        }
    };
    Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(inner), field })))
}

const NAME: &str = "round_to_integer";

/// The nearest whole number: of two, the even one for doubles and the one further from zero for decimals.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Round {
    signature: Signature,
}

impl ScalarUDFImpl for Round {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(args.arg_fields[0].as_ref().clone().with_name(NAME)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(array) => ColumnarValue::Array(round(array)?),
            ColumnarValue::Scalar(value) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&round(&value.to_array()?)?, 0)?)
            }
        })
    }
}

fn round(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Float32 => {
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round_ties_even))
        }
        DataType::Float64 => {
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even))
        }
        DataType::Decimal128(precision, scale) => {
            let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
            let nearest = |value: i128| {
                let (whole, rest) = (value / unit, value % unit);
                let away = if rest.unsigned_abs() * 2 >= unit.unsigned_abs() { value.signum() } else { 0 };
                (whole + away) * unit
            };
            let rounded: Decimal128Array = array.as_primitive::<Decimal128Type>().unary(nearest);
            Arc::new(rounded.with_precision_and_scale(*precision, *scale)?)
        }
        _ => Arc::clone(array),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    #[test]
    fn halves_of_doubles_go_to_the_even_number_and_those_of_decimals_away_from_zero() {
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5, 2.5, -2.5, 2.4, -0.6]));
        let rounded = round(&doubles).expect("doubles");
        assert_eq!(rounded.as_primitive::<Float64Type>().values(), &[0.0, 2.0, 2.0, -2.0, 2.0, -1.0]);
        let decimals = Decimal128Array::from(vec![50, 150, 250, -250, 249, -60]);
        let decimals: ArrayRef = Arc::new(decimals.with_precision_and_scale(10, 2).expect("they fit"));
        let rounded = round(&decimals).expect("decimals");
        assert_eq!(rounded.as_primitive::<Decimal128Type>().values(), &[100, 200, 300, -300, 200, -100]);
    }
}
