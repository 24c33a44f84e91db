//! `time_bucket(width, time [, origin])`: the start of the bucket that a time falls into.
//!
//! **Invariant:** buckets are cut in UTC and in whole microseconds; a time maps to the same bucket wherever it is computed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, Months, Utc};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use crate::Error;
use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};

/// Where buckets of fixed width are counted from: Monday 2000-01-03, so that weeks start on Mondays, as in TimescaleDB.
const ORIGIN_US: i64 = 946_857_600_000_000;
/// Where buckets of months are counted from: 2000-01-01, as in TimescaleDB.
const MONTH_ORIGIN_US: i64 = 946_684_800_000_000;
const DAY_US: i64 = 86_400_000_000;

/// `SELECT time_bucket('5 minutes', time) AS t, avg(usage_user) FROM cpu GROUP BY t`.
///
/// The width is an interval or its text, of months or of days and less, not of both. The time is a timestamp with or without
/// zone, of any unit, or a date; the result is microseconds. Null gives null. Without an origin, buckets count from Monday
/// 2000-01-03, buckets of months from 2000-01-01. Immutable.
pub(super) fn time_bucket() -> ScalarUDF {
    let signature = Signature::one_of(vec![TypeSignature::Any(2), TypeSignature::Any(3)], Volatility::Immutable)
        .with_parameter_names(vec!["width", "time", "origin"])
        .expect("three names for up to three arguments");
    ScalarUDF::new_from_impl(TimeBucket { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeBucket {
    signature: Signature,
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        return_type(self.name(), types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_field.data_type();
        let ColumnarValue::Scalar(width) = &args.args[0] else {
            return Err(invalid("argument width of time_bucket must be a constant"));
        };
        let origin = match args.args.get(2) {
            Some(ColumnarValue::Scalar(origin)) => Some(origin.cast_to(data_type)?),
            Some(ColumnarValue::Array(_)) => return Err(invalid("argument origin of time_bucket must be a constant")),
            None => None,
        };
        let is_scalar = matches!(args.args[1], ColumnarValue::Scalar(_));
        let times = args.args[1].to_array(if is_scalar { 1 } else { args.number_rows })?;
        let times = cast(&times, data_type)?;
        let buckets = if width.is_null() || origin.as_ref().is_some_and(ScalarValue::is_null) {
            arrow::array::new_null_array(data_type, times.len())
        } else {
            Width::parse(width)?.starts(&times, micros_of(origin), data_type)?
        };
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&buckets, 0)?)
        } else {
            ColumnarValue::Array(buckets)
        })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let constant = |input: &ExprProperties| input.sort_properties == SortProperties::Singleton;
        let ordered = constant(&inputs[0]) && inputs.get(2).is_none_or(constant);
        Ok(if ordered { inputs[1].sort_properties } else { SortProperties::Unordered })
    }
}

/// The type of the buckets, once the types of width, time and origin are found right.
pub(super) fn return_type(function: &str, types: &[DataType]) -> Result<DataType> {
    if !(types[0].is_string() || types[0].is_null() || matches!(types[0], DataType::Interval(_))) {
        return Err(mismatch(format!(
            "argument width of {function} must be an interval like '5 minutes', not {}",
            name_of(&types[0])
        )));
    }
    for (name, given) in ["time", "origin"].into_iter().zip(&types[1..]) {
        let text = name == "origin" && given.is_string();
        if !(matches!(given, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null) || text) {
            return Err(mismatch(format!("argument {name} of {function} must be a timestamp, not {}", name_of(given))));
        }
    }
    Ok(micros(&types[1]))
}

/// Width and origin, in microseconds, of buckets that are all of one width; none for buckets of months and wrong widths.
pub(crate) fn fixed_bucket(width: &ScalarValue, origin: Option<i64>) -> Option<(i64, i64)> {
    match Width::parse(width) {
        Ok(Width::Micros(width)) => Some((width, origin.unwrap_or(ORIGIN_US))),
        _ => None,
    }
}

/// The type of the buckets: the time's own zone, in microseconds.
fn micros(time: &DataType) -> DataType {
    match time {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        _ => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}

fn micros_of(origin: Option<ScalarValue>) -> Option<i64> {
    match origin {
        Some(ScalarValue::TimestampMicrosecond(micros, _)) => micros,
        _ => None,
    }
}

/// How wide a bucket is; above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Micros(i64),
    Months(u32),
}

impl Width {
    /// Reads an interval or its text.
    pub(super) fn parse(width: &ScalarValue) -> Result<Self> {
        let interval = match width.try_as_str() {
            Some(text) => parse_interval_month_day_nano(text.unwrap_or_default()).map_err(|_| {
                invalid(format!("argument width of time_bucket: '{width}' is no interval like '5 minutes'"))
            })?,
            None => match width.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano))? {
                ScalarValue::IntervalMonthDayNano(Some(interval)) => interval,
                _ => return Err(mismatch("argument width of time_bucket must be an interval like '5 minutes'")),
            },
        };
        let IntervalMonthDayNano { months, days, nanoseconds } = interval;
        let micros = i64::from(days).checked_mul(DAY_US).and_then(|day| day.checked_add(nanoseconds / 1_000));
        match (u32::try_from(months), micros) {
            (Ok(0), Some(micros)) if micros > 0 => Ok(Width::Micros(micros)),
            (Ok(months), Some(0)) if months > 0 && nanoseconds == 0 => Ok(Width::Months(months)),
            _ => Err(invalid(format!(
                "argument width of time_bucket: '{width}' must be above zero, and months cannot be mixed with days and less"
            ))),
        }
    }

    /// The start of the bucket that a time in microseconds falls into; none where it is out of range.
    pub(super) fn start(self, time: i64) -> Option<i64> {
        match self {
            Width::Micros(width) => fixed(time, width, ORIGIN_US),
            Width::Months(width) => monthly(time, width, MONTH_ORIGIN_US),
        }
    }

    /// The start of the bucket after the one that starts here.
    pub(super) fn next(self, start: i64) -> Option<i64> {
        match self {
            Width::Micros(width) => start.checked_add(width),
            Width::Months(width) => {
                let at = DateTime::<Utc>::from_timestamp_micros(start)?;
                Some(at.checked_add_months(Months::new(width))?.timestamp_micros())
            }
        }
    }

    /// The start of every time's bucket.
    fn starts(&self, times: &ArrayRef, origin: Option<i64>, data_type: &DataType) -> Result<ArrayRef> {
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let out_of_range = |time: i64| {
            DataFusionError::from(Error::DatetimeOutOfRange(format!(
                "time_bucket: {time} µs since 1970 has no bucket in range"
            )))
        };
        let starts: TimestampMicrosecondArray = match self {
            Width::Micros(width) => {
                let origin = origin.unwrap_or(ORIGIN_US);
                times.try_unary(|time| fixed(time, *width, origin).ok_or_else(|| out_of_range(time)))?
            }
            Width::Months(width) => {
                let origin = origin.unwrap_or(MONTH_ORIGIN_US);
                times.try_unary(|time| monthly(time, *width, origin).ok_or_else(|| out_of_range(time)))?
            }
        };
        Ok(Arc::new(starts.with_data_type(data_type.clone())))
    }
}

fn fixed(time: i64, width: i64, origin: i64) -> Option<i64> {
    let (time, width, origin) = (i128::from(time), i128::from(width), i128::from(origin));
    i64::try_from(time - (time - origin).rem_euclid(width)).ok()
}

fn monthly(time: i64, width: u32, origin: i64) -> Option<i64> {
    let (at, origin) = (DateTime::<Utc>::from_timestamp_micros(time)?, DateTime::<Utc>::from_timestamp_micros(origin)?);
    let months = i64::from(at.year() - origin.year()) * 12 + i64::from(at.month()) - i64::from(origin.month());
    let start = |months: i64| {
        let by = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
        if months < 0 { origin.checked_sub_months(by) } else { origin.checked_add_months(by) }
    };
    let whole = months - months.rem_euclid(i64::from(width));
    let bucket = start(whole)?;
    let bucket = if bucket > at { start(whole - i64::from(width))? } else { bucket };
    Some(bucket.timestamp_micros())
}
