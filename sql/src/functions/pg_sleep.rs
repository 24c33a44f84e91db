//! `pg_sleep(seconds)`: what one tries a cancel or a timeout with.
//!
//! **Invariant:** a waiting statement holds no thread, and stops when its client cancels it or goes away.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// `SELECT pg_sleep(0.5)` waits half a second for each row and gives an empty text, as PostgreSQL's `void` is sent. Volatile;
/// less than zero, null and what is no number do not wait.
pub(super) fn pg_sleep() -> ScalarUDF {
    let signature = Signature::exact(vec![DataType::Float64], Volatility::Volatile);
    AsyncScalarUDF::new(Arc::new(PgSleep { signature })).into_scalar_udf()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PgSleep {
    signature: Signature,
}

impl ScalarUDFImpl for PgSleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("pg_sleep waits and is never called at once")
    }
}

#[async_trait::async_trait]
impl AsyncScalarUDFImpl for PgSleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let seconds = args.args[0].to_array(args.number_rows)?;
        for seconds in seconds.as_primitive::<Float64Type>().iter().flatten() {
            // What a duration cannot hold is longer than anybody waits.
            let wait = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
            tokio::time::sleep(wait).await;
        }
        let empty = ScalarValue::from("").to_array_of_size(args.number_rows)?;
        Ok(ColumnarValue::Array(empty))
    }
}
