//! `version()`: which PostgreSQL juno speaks like, and which juno it is.
//!
//! **Invariant:** starts as PostgreSQL's own does, because clients read their feature set out of it.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// What clients are told.
const VERSION: &str = concat!("PostgreSQL 16.6 (juno ", env!("CARGO_PKG_VERSION"), ")");

/// `SELECT version()` gives text such as `PostgreSQL 16.6 (juno 0.1.0) on x86_64-linux`. Stable, no arguments.
pub(crate) fn version() -> ScalarUDF {
    ScalarUDF::new_from_impl(Version { signature: Signature::nullary(Volatility::Stable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Version {
    signature: Signature,
}

impl ScalarUDFImpl for Version {
    fn name(&self) -> &str {
        "version"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let text = format!("{VERSION} on {}-{}", std::env::consts::ARCH, std::env::consts::OS);
        Ok(ColumnarValue::Scalar(ScalarValue::from(text)))
    }
}
