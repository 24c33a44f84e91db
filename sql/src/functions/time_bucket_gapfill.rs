//! `time_bucket_gapfill(width, time [, start, finish])`: as `time_bucket` in GROUP BY, with a row for every bucket.
//!
//! **Invariant:** computes nothing itself: the rule of `gapfill` replaces it where it may stand, which is in GROUP BY.

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use crate::functions::refusal::invalid;
use crate::functions::time_bucket;

/// The name in SQL.
pub(super) const NAME: &str = "time_bucket_gapfill";

/// `SELECT time_bucket_gapfill('1 hour', time) AS t, host, locf(avg(usage_user)) FROM cpu
/// WHERE time >= '2026-01-01' AND time < '2026-01-02' GROUP BY t, host`.
///
/// Each group gets a row for every bucket from `start` to before `finish`, which are the bounds on the time in WHERE unless
/// given; without either, from the group's first bucket to its last. Aggregates of buckets without rows are null. Stable.
pub(super) fn time_bucket_gapfill() -> ScalarUDF {
    let takes = (2..=4).map(TypeSignature::Any).collect();
    let signature = Signature::one_of(takes, Volatility::Stable)
        .with_parameter_names(vec!["width", "time", "start", "finish"])
        .expect("four names for up to four arguments");
    ScalarUDF::new_from_impl(TimeBucketGapfill { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeBucketGapfill {
    signature: Signature,
}

impl ScalarUDFImpl for TimeBucketGapfill {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        time_bucket::return_type(NAME, &types[..2])
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(invalid("time_bucket_gapfill must stand alone in GROUP BY: for single rows use time_bucket"))
    }
}
