//! The operators on JSON and JSONB, and the functions beside them.
//!
//! **Invariant:** `->` and `->>` never fail on data: where there is nothing to get, or the text is no JSON, the answer is null.

mod call;
mod declared;
mod part;
mod value;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{ScalarFunction, schema_name_from_exprs};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

pub(super) use self::declared::all;
use self::declared::{AT_PATH, AT_PATH_TEXT, single};
use self::part::{Step, part, text};
use super::calls::typed;
use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::mismatch;
use crate::types::TYPE_KEY;

/// `SELECT symptoms -> 'latency' FROM healing_incidents`: a member by key or an element by index (negative from the end),
/// as JSONB. Immutable.
pub(super) fn get() -> ScalarUDF {
    ScalarUDF::new_from_impl(Get::new("json_get", "->", false))
}

/// `SELECT symptoms ->> 'service' FROM healing_incidents`: as `->`, but as text: a string without its quotes, JSON's null as
/// null. Immutable.
pub(super) fn get_text() -> ScalarUDF {
    ScalarUDF::new_from_impl(Get::new("json_get_text", "->>", true))
}

/// Plans the operators as calls.
#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, mut call: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let left = is_json(&call.left, schema);
        let either = left || is_json(&call.right, schema);
        let function = match call.op {
            BinaryOperator::Arrow => Some(get()),
            BinaryOperator::LongArrow => Some(get_text()),
            BinaryOperator::HashArrow => Some(AT_PATH.function()),
            BinaryOperator::HashLongArrow => Some(AT_PATH_TEXT.function()),
            BinaryOperator::Question => single("jsonb_exists"),
            BinaryOperator::QuestionPipe => single("jsonb_exists_any"),
            BinaryOperator::QuestionAnd => single("jsonb_exists_all"),
            BinaryOperator::HashMinus => single("jsonb_delete_path"),
            BinaryOperator::AtArrow if either => single("jsonb_contains"),
            BinaryOperator::ArrowAt if either => single("jsonb_contained"),
            // A text beside JSON makes text; a literal takes the other side's type.
            BinaryOperator::StringConcat
                if either && [&call.left, &call.right].into_iter().all(|side| joins(side, schema)) =>
            {
                single("jsonb_concat")
            }
            BinaryOperator::Minus if left => single("jsonb_delete"),
            _ => None,
        };
        let Some(function) = function else { return Ok(PlannerResult::Original(call)) };
        typed(Some(&mut call.left), &DataType::Utf8);
        typed(Some(&mut call.right), &DataType::Utf8);
        let call = ScalarFunction::new_udf(Arc::new(function), vec![call.left, call.right]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// Whether an expression is of type json or jsonb.
fn is_json(expr: &Expr, schema: &DFSchema) -> bool {
    let Ok((_, field)) = expr.to_field(schema) else { return false };
    matches!(field.metadata().get(TYPE_KEY).map(String::as_str), Some("json" | "jsonb"))
}

/// Whether an expression is JSON beside JSON: it is, or its type is open.
fn joins(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr, Expr::Literal(..) | Expr::Placeholder(_)) || is_json(expr, schema)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Get {
    name: &'static str,
    operator: &'static str,
    as_text: bool,
    signature: Signature,
}

impl Get {
    fn new(name: &'static str, operator: &'static str, as_text: bool) -> Self {
        Get { name, operator, as_text, signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Get {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let side = |index: usize| schema_name_from_exprs(&args[index..=index]);
        Ok(format!("{} {} {}", side(0)?, self.operator, side(1)?))
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [json, step] = types else {
            return Err(mismatch(format!("{} takes JSON and a key or an index", self.operator)));
        };
        if !is_text(json) {
            return Err(mismatch(format!(
                "the left side of {} must be json or jsonb, not {}",
                self.operator,
                name_of(json)
            )));
        }
        if !is_text(step) && !step.is_integer() {
            return Err(mismatch(format!(
                "the right side of {} must be a key or an index, not {}",
                self.operator,
                name_of(step)
            )));
        }
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name, self.return_type(&types)?, true);
        let json = [(TYPE_KEY.to_owned(), "jsonb".to_owned())];
        Ok(Arc::new(if self.as_text { field } else { field.with_metadata(json.into()) }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let json = cast(&arrays[0], &DataType::Utf8)?;
        let found: StringArray = json
            .as_string::<i32>()
            .iter()
            .zip(steps(&arrays[1])?)
            .map(|(json, step)| {
                let found = part(json?, &step?)?;
                if self.as_text { text(found) } else { Some(found.to_owned()) }
            })
            .collect();
        let found: ArrayRef = Arc::new(found);
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => value.is_string(),
        other => other.is_string() || other.is_null(),
    }
}

fn steps(array: &ArrayRef) -> Result<Vec<Option<Step>>> {
    if array.data_type().is_integer() {
        let indices = cast(array, &DataType::Int64)?;
        return Ok(indices.as_primitive::<Int64Type>().iter().map(|index| index.map(Step::Index)).collect());
    }
    let keys = cast(array, &DataType::Utf8)?;
    Ok(keys.as_string::<i32>().iter().map(|key| key.map(|key| Step::Key(key.to_owned()))).collect())
}
