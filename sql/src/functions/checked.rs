//! `+`, `-` and `*` of integers that fail where the result does not fit its type.
//!
//! **Invariant:** types and values are those of DataFusion's operators wherever they do not overflow.

use std::sync::Arc;

use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::schema_name_from_exprs;
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::Error;
use crate::functions::name_of;

/// The function of an operator; none where that cannot overflow.
pub(super) fn function(op: Operator) -> Option<ScalarUDF> {
    let name = match op {
        Operator::Plus => "checked_add",
        Operator::Minus => "checked_subtract",
        Operator::Multiply => "checked_multiply",
        _ => return None,
    };
    Some(ScalarUDF::new_from_impl(Checked { name, op, signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    op: Operator,
    signature: Signature,
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let names = args.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(names.join(&format!(" {} ", self.op)))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names = args.iter().map(|arg| schema_name_from_exprs(std::slice::from_ref(arg)));
        Ok(names.collect::<std::result::Result<Vec<_>, _>>()?.join(&format!(" {} ", self.op)))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (left, right) = BinaryTypeCoercer::new(&types[0], &self.op, &types[1]).get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        BinaryTypeCoercer::new(&types[0], &self.op, &types[1]).get_result_type()
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let operate = match self.op {
            Operator::Plus => add,
            Operator::Minus => sub,
            _ => mul,
        };
        let result = match (&args.args[0], &args.args[1]) {
            (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => {
                let result =
                    operate(&left.to_scalar()?, &right.to_scalar()?).map_err(|error| self.error(error, &args))?;
                return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
            }
            (ColumnarValue::Array(left), ColumnarValue::Array(right)) => operate(left, right),
            (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => operate(left, &right.to_scalar()?),
            (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => operate(&left.to_scalar()?, right),
        };
        Ok(ColumnarValue::Array(result.map_err(|error| self.error(error, &args))?))
    }
}

impl Checked {
    fn error(&self, error: ArrowError, args: &ScalarFunctionArgs) -> datafusion::error::DataFusionError {
        match error {
            ArrowError::ArithmeticOverflow(_) => {
                Error::NumericOutOfRange(format!("{} out of range", name_of(args.return_field.data_type()))).into()
            }
            other => other.into(),
        }
    }
}
