//! `pg_advisory_unlock_all()`: what connection pools call before a connection goes back.
//!
//! **Invariant:** juno has no advisory locks, so that there is never one to let go.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// `SELECT pg_advisory_unlock_all()` gives an empty text, as PostgreSQL's `void` is sent. Volatile, no arguments.
pub(crate) fn pg_advisory_unlock_all() -> ScalarUDF {
    ScalarUDF::new_from_impl(UnlockAll { signature: Signature::nullary(Volatility::Volatile) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct UnlockAll {
    signature: Signature,
}

impl ScalarUDFImpl for UnlockAll {
    fn name(&self) -> &str {
        "pg_advisory_unlock_all"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::from("")))
    }
}
