//! `date_part(field, time)` and `extract(field FROM time)` with the fields that DataFusion lacks or cuts off.
//!
//! **Invariant:** every other field is DataFusion's own.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// `SELECT extract(second FROM time)`: with its fraction; and `century`, `decade`, `millennium`. Immutable.
pub(super) fn date_part() -> ScalarUDF {
    let inner = datafusion::functions::datetime::date_part();
    ScalarUDF::new_from_impl(DatePart { signature: inner.signature().clone(), inner })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePart {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

/// How a field follows from one of DataFusion's.
#[derive(Clone, Copy)]
enum Derived {
    /// A share of the microseconds of the minute.
    Of(f64),
    /// A number of years.
    Years(i64),
    /// A decade.
    Tens,
}

impl Derived {
    fn of(field: &str) -> Option<Derived> {
        Some(match field.to_lowercase().as_str() {
            "second" | "seconds" | "sec" => Derived::Of(1_000_000.0),
            "millisecond" | "milliseconds" => Derived::Of(1_000.0),
            "decade" | "decades" => Derived::Tens,
            "century" | "centuries" => Derived::Years(100),
            "millennium" | "millenniums" | "millennia" => Derived::Years(1_000),
            _ => return None,
        })
    }

    /// The field of DataFusion's that it follows from.
    fn base(self) -> &'static str {
        match self {
            Derived::Of(_) => "microsecond",
            _ => "year",
        }
    }

    fn from(self, base: &ArrayRef) -> Result<ArrayRef> {
        let base = cast(base, &DataType::Int64)?;
        let base = base.as_primitive::<Int64Type>();
        let years = |from: fn(i64, i64) -> i64, by: i64| -> ArrayRef {
            let number = |year: i64| i32::try_from(from(year, by)).ok();
            Arc::new(base.iter().map(|year| year.and_then(number)).collect::<Int32Array>())
        };
        Ok(match self {
            Derived::Of(unit) => {
                Arc::new(base.iter().map(|micros| micros.map(|micros| micros as f64 / unit)).collect::<Float64Array>())
            }
            Derived::Tens => years(|year, by| year.div_euclid(by), 10),
            Derived::Years(by) => {
                years(|year, by| if year > 0 { (year + by - 1) / by } else { -((by - 1 - (year - 1)) / by) }, by)
            }
        })
    }

    fn data_type(self) -> DataType {
        match self {
            Derived::Of(_) => DataType::Float64,
            _ => DataType::Int32,
        }
    }
}

fn derived(field: Option<&ScalarValue>) -> Option<Derived> {
    Derived::of(field?.try_as_str().flatten()?)
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        "date_part"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match derived(args.scalar_arguments.first().copied().flatten()) {
            Some(derived) => Ok(Arc::new(Field::new(self.name(), derived.data_type(), true))),
            None => self.inner.return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let derived = match &args.args[0] {
            ColumnarValue::Scalar(field) => derived(Some(field)),
            ColumnarValue::Array(_) => None,
        };
        let Some(derived) = derived else { return self.inner.invoke_with_args(args) };
        args.args[0] = ColumnarValue::Scalar(ScalarValue::from(derived.base()));
        args.return_field = Arc::new(Field::new(self.name(), DataType::Int32, true));
        Ok(match self.inner.invoke_with_args(args)? {
            ColumnarValue::Array(base) => ColumnarValue::Array(derived.from(&base)?),
            ColumnarValue::Scalar(base) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&derived.from(&base.to_array()?)?, 0)?)
            }
        })
    }
}
