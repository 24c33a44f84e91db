//! `x = ANY ($1)`: whether a value is among those of an array parameter.
//!
//! The parameter gets its type from the value beside it, and becomes a list like that of `IN` when its values are known, so that
//! it prunes as `IN` does.
//!
//! **Invariant:** null where the value is null, and where it is not found but the array has a null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::planner::RawBinaryExpr;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Plans the operator that `x = ANY ($1)` is spelt as.
pub(super) fn planned(call: RawBinaryExpr, schema: &DFSchema) -> Result<Expr> {
    let RawBinaryExpr { left, mut right, .. } = call;
    if let Expr::Placeholder(parameter) = &mut right
        && parameter.field.is_none()
    {
        let (_, value) = left.to_field(schema)?;
        let item = match value.data_type() {
            DataType::Dictionary(_, value) => value.as_ref().clone(),
            DataType::Null => DataType::Utf8,
            other => other.clone(),
        };
        let item = Field::new_list_field(item, true).with_metadata(value.metadata().clone());
        parameter.field = Some(Arc::new(Field::new(&parameter.id, DataType::List(Arc::new(item)), true)));
    }
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(any_of()), vec![left, right])))
}

fn any_of() -> ScalarUDF {
    ScalarUDF::new_from_impl(AnyOf { signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AnyOf {
    signature: Signature,
}

impl ScalarUDFImpl for AnyOf {
    fn name(&self) -> &str {
        "any_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn simplify(&self, mut args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let known = match &args[1] {
            Expr::Literal(list, _) => list.clone(),
            _ => return Ok(ExprSimplifyResult::Original(args)),
        };
        let Some(items) = items(&known)? else {
            return Ok(ExprSimplifyResult::Simplified(Expr::Literal(ScalarValue::Boolean(None), None)));
        };
        let wanted = info.get_data_type(&args[0])?;
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            list.extend(as_type(&item, &wanted).map(|item| Expr::Literal(item, None)));
        }
        let value = Box::new(args.swap_remove(0));
        Ok(ExprSimplifyResult::Simplified(Expr::InList(InList { expr: value, list, negated: false })))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let found = (0..arrays[0].len()).map(|row| {
            let value = ScalarValue::try_from_array(&arrays[0], row)?;
            is_among(&value, &ScalarValue::try_from_array(&arrays[1], row)?)
        });
        Ok(ColumnarValue::Array(Arc::new(found.collect::<Result<BooleanArray>>()?)))
    }
}

fn is_among(value: &ScalarValue, list: &ScalarValue) -> Result<Option<bool>> {
    let Some(items) = items(list)?.filter(|_| !value.is_null()) else { return Ok(None) };
    let kind = value.data_type();
    if items.iter().filter_map(|item| as_type(item, &kind)).any(|item| item == *value) {
        return Ok(Some(true));
    }
    Ok(if items.iter().any(ScalarValue::is_null) { None } else { Some(false) })
}

/// The items of a list; none where it is null.
fn items(list: &ScalarValue) -> Result<Option<Vec<ScalarValue>>> {
    if list.is_null() {
        return Ok(None);
    }
    let list: ArrayRef = list.to_array()?;
    let values = match list.data_type() {
        DataType::List(_) => list.as_list::<i32>().value(0),
        DataType::LargeList(_) => list.as_list::<i64>().value(0),
        other => {
            return Err(super::refusal::mismatch(format!(
                "op ANY/ALL (array) requires array on right side, not {other}"
            )));
        }
    };
    (0..values.len()).map(|place| ScalarValue::try_from_array(&values, place)).collect::<Result<_>>().map(Some)
}

/// An item as a value of another type; none where no such value can equal it.
fn as_type(item: &ScalarValue, wanted: &DataType) -> Option<ScalarValue> {
    let same = item.cast_to(wanted).ok()?;
    let whole = item.is_null() || same.cast_to(&item.data_type()).is_ok_and(|back| back == *item);
    (whole && same.is_null() == item.is_null()).then_some(same)
}
