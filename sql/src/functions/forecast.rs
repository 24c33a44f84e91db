//! `forecast`: what a series will do next, as an aggregate over its points and as a table function over a relation; and, the
//! same way, `forecast_accuracy`, `detect_seasonality` and `decompose`: how well forecasts would have done, and what a series
//! is made of ([`Task`]).
//!
//! Rows may come in any order. The values of equal times are averaged, null and NaN values are gaps, rows without a time are
//! left out. The points of a series are laid on an even grid whose step is their median distance; a series with fewer than
//! [`series::POINTS_MIN`] distinct times gives no rows. The methods are the kernels `seasonal_ensemble` and `seasonal_trend`.
//!
//! The aggregate only collects points. A plan rule ([`Batching`]) puts [`node::ForecastExec`] above it, which hands all series
//! of the query to one kernel call; where the rule does not reach, the aggregate calls the kernel itself.
//!
//! **Invariant:** a series' rows depend on its own points and on the arguments, not on the series beside it; only the model
//! 'auto' looks at how many points there are together.

mod batching;
mod node;
mod request;
mod rows;
mod series;
mod table;
mod task;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, TypeSignature, Volatility,
};
use juno_kernels::Device;

pub(super) use self::batching::Batching;
pub(super) use self::request::Request;
use self::series::Wanted;
pub(super) use self::table::Table;
pub(super) use self::task::Task;
use super::collecting::{Collecting, Finish};
use super::launches;
use super::points::points_type;
use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};

/// `SELECT host, forecast(time, usage_user, horizon => '24 hours', level => 0.95) FROM cpu GROUP BY host`, and one aggregate for
/// every other [`Task`].
///
/// The horizon is a number of steps, an interval or its text; the level, 0.95 unless given, is the share of outcomes that
/// `lower` to `upper` should hold; the model is 'auto' (the default), 'full' or 'lean'. Gives a list of (time timestamptz,
/// forecast, lower, upper double precision); `unnest` makes rows of it. With several levels, `ARRAY[0.5, 0.95]`, every step has
/// a row for each, and the rows have a column level behind the time. Immutable.
pub(super) fn aggregates(device: &Device) -> impl Iterator<Item = AggregateUDF> {
    let device = device.clone();
    Task::ALL.into_iter().map(move |task| aggregate(&device, task))
}

/// The aggregate of one task.
fn aggregate(device: &Device, task: Task) -> AggregateUDF {
    AggregateUDF::new_from_impl(Forecast::new(device, task, Output::Rows))
}

/// What the aggregate gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Output {
    Rows,
    /// The collected points, for [`node::ForecastExec`] to go on with.
    Points,
}

struct Forecast {
    device: Device,
    task: Task,
    output: Output,
    signature: Signature,
}

impl Forecast {
    fn new(device: &Device, task: Task, output: Output) -> Self {
        let names: Vec<&str> = ["time", "value"].into_iter().chain(task.constants().iter().copied()).collect();
        let fewest = names.len().min(3);
        let counts = (fewest..=names.len()).map(TypeSignature::Any).collect();
        let signature = Signature::one_of(counts, Volatility::Immutable)
            .with_parameter_names(names)
            .expect("as many names as there are arguments");
        Forecast { device: device.clone(), task, output, signature }
    }

    fn begin(&self, args: &AccumulatorArgs) -> Result<Work> {
        let request = Request::of(self.task, args.exprs)?;
        Ok(Work { request, device: self.device.clone(), output: self.output })
    }
}

impl std::fmt::Debug for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forecast").field("task", &self.task).field("output", &self.output).finish_non_exhaustive()
    }
}

impl PartialEq for Forecast {
    fn eq(&self, other: &Self) -> bool {
        (self.task, self.output) == (other.task, other.output)
    }
}

impl Eq for Forecast {}

impl Hash for Forecast {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.task, self.output).hash(state);
    }
}

impl AggregateUDFImpl for Forecast {
    fn name(&self) -> &str {
        match self.output {
            Output::Rows => self.task.name(),
            Output::Points => self.task.points_name(),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        check_types(self.task, types)?;
        let level = self.task.constants().iter().position(|name| *name == "level");
        let by_level = level.and_then(|place| types.get(2 + place)).is_some_and(DataType::is_list);
        Ok(match self.output {
            Output::Rows => self.task.rows_type(by_level),
            Output::Points => points_type(),
        })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Collecting::one(self.begin(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "points"), points_type(), true))])
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Collecting::groups(self.begin(&args)?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn check_types(task: Task, types: &[DataType]) -> Result<()> {
    let name = task.name();
    let [time, value, constants @ ..] = types else {
        return Err(invalid(format!("{name} takes time and value")));
    };
    let wrong = |argument: &str, what: &str, is: &DataType| {
        Err(mismatch(format!("argument {argument} of {name} must be {what}, not {}", name_of(is))))
    };
    if !matches!(time, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
        return wrong("time", "a timestamp", time);
    }
    if !value.is_numeric() && !value.is_null() {
        return wrong("value", "a number", value);
    }
    for (constant, is) in task.constants().iter().zip(constants) {
        let span = matches!(is, DataType::Interval(_));
        match *constant {
            "horizon" if !(is.is_integer() || is.is_string() || span || is.is_null()) => {
                return wrong("horizon", "an interval or a number of steps", is);
            }
            "level" if !(is.is_numeric() || is.is_string() || is.is_list() || is.is_null()) => {
                return wrong("level", "a number between 0 and 1 or an array of them", is);
            }
            "model" if !(is.is_string() || is.is_null()) => return wrong("model", "the name of a model", is),
            "origins" if !(is.is_integer() || is.is_string() || is.is_null()) => {
                return wrong("origins", "a whole number", is);
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is to be made of points.
struct Work {
    request: Request,
    device: Device,
    output: Output,
}

impl Finish for Work {
    fn finish(&mut self, points: ListArray) -> Result<ArrayRef> {
        if self.output == Output::Points {
            return Ok(Arc::new(points));
        }
        let wanted = Wanted { points: &points, request: &self.request };
        let mut done = series::work(&self.device, &[wanted], |_| Ok(()))?;
        Ok(Arc::new(done.lists.swap_remove(0)))
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("request", &self.request).field("output", &self.output).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
