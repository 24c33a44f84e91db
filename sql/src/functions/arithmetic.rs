//! Operators that DataFusion types another way than PostgreSQL: on times and intervals, on integers, and `extract`.
//!
//! **Invariant:** looks at types only; no value is computed here.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::{any_of, checked, date_part, interval_multiply};
use crate::spelling::{ANY_OF, with_seconds};

/// Plans `date + interval` as a timestamp, `interval * number`, integers that may overflow, comparisons of times with texts, and
/// `extract`.
#[derive(Debug)]
pub(super) struct Arithmetic;

impl ExprPlanner for Arithmetic {
    fn plan_binary_op(&self, mut call: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator as Op;
        let (Ok(left), Ok(right)) = (call.left.get_type(schema), call.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(call));
        };
        let is_date = |data_type: &DataType| matches!(data_type, DataType::Date32 | DataType::Date64);
        let is_interval = |data_type: &DataType| matches!(data_type, DataType::Interval(_));
        match call.op {
            Op::Custom(ref name) if name == ANY_OF => {
                return Ok(PlannerResult::Planned(any_of::planned(call, schema)?));
            }
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo
                if left.is_signed_integer() && right.is_signed_integer() =>
            {
                return Ok(of_integers(call));
            }
            Op::Plus | Op::Minus if is_date(&left) && is_interval(&right) => call.left = timestamp(call.left),
            Op::Plus if is_interval(&left) && is_date(&right) => call.right = timestamp(call.right),
            Op::Multiply if is_interval(&left) && right.is_numeric() => {
                return Ok(multiply(call.left, call.right, false));
            }
            Op::Multiply if left.is_numeric() && is_interval(&right) => {
                return Ok(multiply(call.right, call.left, false));
            }
            Op::Divide if is_interval(&left) && right.is_numeric() => return Ok(multiply(call.left, call.right, true)),
            Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => {
                if is_time(&left) {
                    complete(&mut call.right);
                } else if is_time(&right) {
                    complete(&mut call.left);
                }
            }
            _ => {}
        }
        Ok(PlannerResult::Original(call))
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let call = ScalarFunction::new_udf(Arc::new(date_part::date_part()), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// A number as it is written is an integer where it fits one; a result that does not fit is an error.
fn of_integers(mut call: RawBinaryExpr) -> PlannerResult<RawBinaryExpr> {
    for side in [&mut call.left, &mut call.right] {
        if let Expr::Literal(value @ ScalarValue::Int64(Some(_)), _) = side
            && let ScalarValue::Int64(Some(number)) = *value
            && let Ok(number) = i32::try_from(number)
        {
            *value = ScalarValue::Int32(Some(number));
        }
    }
    let op = match call.op {
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        _ => return PlannerResult::Original(call),
    };
    match checked::function(op) {
        Some(function) => {
            let arguments = vec![call.left, call.right];
            PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), arguments)))
        }
        None => PlannerResult::Original(call),
    }
}

fn timestamp(expr: Expr) -> Expr {
    cast(expr, DataType::Timestamp(TimeUnit::Microsecond, None))
}

fn multiply(interval: Expr, by: Expr, divide: bool) -> PlannerResult<RawBinaryExpr> {
    let function = Arc::new(interval_multiply::interval_multiply(divide));
    PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![interval, by])))
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32)
}

/// Adds the seconds that a text of a time leaves out.
fn complete(expr: &mut Expr) {
    if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = expr
        && let Some(changed) = with_seconds(text)
    {
        *text = changed;
    }
}
