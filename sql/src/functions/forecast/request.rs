//! What is asked of a forecast: how far, how sure, by which model.
//!
//! **Invariant:** constants only; an argument that depends on rows is refused.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, IntervalMonthDayNanoArray};
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::{DataType, Field, Float64Type, IntervalMonthDayNano, IntervalUnit, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::array_value_to_string;
use chrono::{DateTime, Months};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use juno_kernels::seasonal_ar::{HORIZON_STEPS_MAX, INTERVAL_LEVELS_MAX};
use juno_kernels::seasonal_ensemble::{Model, ORIGINS_MAX};

use super::task::Task;
use crate::functions::refusal::invalid;

const DAY_US: i64 = 86_400_000_000;
const LEVEL: f64 = 0.95;
const ORIGINS: usize = 5;

/// A call's constant arguments.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Request {
    pub(super) task: Task,
    /// None for a task that looks back only.
    pub(super) horizon: Option<Horizon>,
    pub(super) levels: Levels,
    pub(super) model: Model,
    pub(super) origins: usize,
}

impl Request {
    /// Reads the request out of the physical arguments: time, value, then the task's constants.
    pub(super) fn of(task: Task, args: &[Arc<dyn PhysicalExpr>]) -> Result<Self> {
        let mut request = Request::new(task);
        for (name, arg) in task.constants().iter().zip(args.iter().skip(2)) {
            request.set(name, &constant(&format!("{name} of {}", task.name()), arg)?)?;
        }
        match request.horizon {
            None if !task.constants().is_empty() => {
                Err(invalid(format!("{} needs a horizon, like '24 hours'", task.name())))
            }
            _ => Ok(request),
        }
    }

    fn new(task: Task) -> Self {
        Request { task, horizon: None, levels: Levels::One(LEVEL), model: Model::Auto, origins: ORIGINS }
    }

    fn set(&mut self, name: &str, value: &ScalarValue) -> Result<()> {
        let argument = format!("{name} of {}", self.task.name());
        match name {
            "horizon" => self.horizon = Some(Horizon::of(&argument, value)?),
            "level" => self.levels = Levels::of(&argument, value)?,
            "model" => self.model = model_of(&argument, value)?,
            _ => self.origins = origins_of(&argument, value)?,
        }
        Ok(())
    }

    /// Refuses a bad constant as soon as it is known, which for a parameter such as `$1` is later.
    pub(in super::super) fn check<'a>(task: Task, constants: impl Iterator<Item = Option<&'a Expr>>) -> Result<()> {
        let mut request = Request::new(task);
        for (name, expr) in task.constants().iter().zip(constants) {
            if let Some(value) = expr.and_then(known) {
                request.set(name, &value)?;
            }
        }
        Ok(())
    }

    /// What an argument that was left out stands for, where one after it is given.
    pub(super) fn default_of(name: &str) -> ScalarValue {
        match name {
            "level" => LEVEL.into(),
            "model" => "auto".into(),
            _ => (ORIGINS as i64).into(),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(horizon) = &self.horizon else { return f.write_str(self.task.name()) };
        write!(f, "horizon={horizon}, level={}", self.levels)?;
        if let Some((name, _)) = MODELS.iter().skip(1).find(|(_, model)| *model == self.model) {
            write!(f, ", model={name}")?;
        }
        if self.task == Task::Accuracy { write!(f, ", origins={}", self.origins) } else { Ok(()) }
    }
}

/// The value of a constant expression; none where it needs rows or parameters.
fn known(expr: &Expr) -> Option<ScalarValue> {
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    // The elements of an array have one type only once they are coerced, which the analysis of the plan does later.
    let expr = simplifier.coerce(expr.clone(), &DFSchema::empty()).ok()?;
    match simplifier.simplify(expr).ok()? {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

fn constant(name: &str, expr: &Arc<dyn PhysicalExpr>) -> Result<ScalarValue> {
    if !collect_columns(expr).is_empty() {
        return Err(invalid(format!("argument {name} must be a constant, not {expr}")));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    match expr.evaluate(&row) {
        Ok(ColumnarValue::Scalar(value)) => Ok(value),
        Ok(ColumnarValue::Array(values)) => ScalarValue::try_from_array(&values, 0),
        Err(_) => Err(invalid(format!("argument {name} must be a constant, not {expr}"))),
    }
}

/// The models by name.
const MODELS: [(&str, Model); 5] =
    [("auto", Model::Auto), ("full", Model::Full), ("lean", Model::Lean), ("ar", Model::Ar), ("naive", Model::Naive)];

fn model_of(argument: &str, value: &ScalarValue) -> Result<Model> {
    let name = value.try_as_str().flatten().map(str::trim);
    let found = MODELS.iter().find(|(known, _)| name.is_some_and(|name| name.eq_ignore_ascii_case(known)));
    found.map(|(_, model)| *model).ok_or_else(|| {
        let known: Vec<String> = MODELS.iter().map(|(name, _)| format!("'{name}'")).collect();
        invalid(format!("argument {argument}: there is no model '{value}', use {}", known.join(", ")))
    })
}

fn origins_of(argument: &str, value: &ScalarValue) -> Result<usize> {
    let number = match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(number))) => usize::try_from(number).ok(),
        _ => None,
    };
    number.filter(|number| (1..=ORIGINS_MAX).contains(number)).ok_or_else(|| {
        invalid(format!("argument {argument} must be a number of origins from 1 to {ORIGINS_MAX}, not {value}"))
    })
}

/// How sure intervals shall be; each level is between 0 and 1, and none is there twice.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Levels {
    /// A number: rows do not name it.
    One(f64),
    /// An array, if only of one: each row names its level.
    Several(Vec<f64>),
}

impl Levels {
    fn of(argument: &str, value: &ScalarValue) -> Result<Self> {
        if !value.data_type().is_list() {
            return Ok(Levels::One(level_of(argument, value)?));
        }
        let numbers = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
        let list = match value.cast_to(&numbers) {
            Ok(ScalarValue::List(list)) if !list.is_null(0) => list.value(0),
            _ => return Err(invalid(format!("argument {argument} must hold shares between 0 and 1, not {value}"))),
        };
        let numbers = list.as_primitive::<Float64Type>().iter();
        let levels = numbers.map(|level| level_of(argument, &level.into())).collect::<Result<Vec<_>>>()?;
        if !(1..=INTERVAL_LEVELS_MAX).contains(&levels.len()) {
            let text = format!("argument {argument} has {} levels: name 1 to {INTERVAL_LEVELS_MAX}", levels.len());
            return Err(invalid(text));
        }
        match levels.iter().enumerate().find(|(place, level)| levels[..*place].contains(level)) {
            Some((_, level)) => Err(invalid(format!("argument {argument} names {level} twice"))),
            None => Ok(Levels::Several(levels)),
        }
    }

    /// All of them, in the order of the rows.
    pub(super) fn as_slice(&self) -> &[f64] {
        match self {
            Levels::One(level) => std::slice::from_ref(level),
            Levels::Several(levels) => levels,
        }
    }

    /// Whether rows name their level.
    pub(super) fn are_named(&self) -> bool {
        matches!(self, Levels::Several(_))
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Levels::One(level) => write!(f, "{level}"),
            Levels::Several(levels) => write!(f, "{levels:?}"),
        }
    }
}

fn level_of(argument: &str, value: &ScalarValue) -> Result<f64> {
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(level))) if level > 0.0 && level < 1.0 => Ok(level),
        _ => Err(invalid(format!(
            "argument {argument} must be a share between 0 and 1, like 0.95, or several as ARRAY[0.5, 0.95], not {value}"
        ))),
    }
}

/// How far a forecast reaches; above zero.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Horizon {
    Steps(usize),
    Span(IntervalMonthDayNano),
}

impl Horizon {
    fn of(argument: &str, value: &ScalarValue) -> Result<Self> {
        let bad = || {
            invalid(format!(
                "argument {argument} must be a number of steps like 24 or an interval like '24 hours', \
                 above zero, not '{value}'"
            ))
        };
        if value.is_null() {
            return Err(bad());
        }
        let text = value.try_as_str().flatten().map(str::trim);
        let steps = match text {
            Some(text) => text.parse::<i64>().ok(),
            None if value.data_type().is_integer() => match value.cast_to(&DataType::Int64).map_err(|_| bad())? {
                ScalarValue::Int64(steps) => steps,
                _ => None,
            },
            None => None,
        };
        if let Some(steps) = steps {
            return Self::checked_steps(steps).ok_or_else(|| {
                invalid(format!("argument {argument} must be 1 to {HORIZON_STEPS_MAX} steps, not {steps}"))
            });
        }
        let span = match text {
            Some(text) => parse_interval_month_day_nano(text).map_err(|_| bad())?,
            None => match value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano)).map_err(|_| bad())? {
                ScalarValue::IntervalMonthDayNano(Some(span)) => span,
                _ => return Err(bad()),
            },
        };
        let horizon = Horizon::Span(span);
        if horizon.span_us(0).is_some_and(|span| span > 0) { Ok(horizon) } else { Err(bad()) }
    }

    fn checked_steps(steps: i64) -> Option<Self> {
        let steps = usize::try_from(steps).ok()?;
        (1..=HORIZON_STEPS_MAX).contains(&steps).then_some(Horizon::Steps(steps))
    }

    /// How many steps of `step_us` the horizon is from `last_us` on, to the nearest step; 0 where it is less than half a step.
    pub(super) fn steps(&self, task: Task, last_us: i64, step_us: i64) -> Result<usize> {
        if let Horizon::Steps(steps) = self {
            return Ok(*steps);
        }
        let span = self.span_us(last_us).unwrap_or(i64::MAX);
        let steps = (i128::from(span) + i128::from(step_us) / 2) / i128::from(step_us.max(1));
        match usize::try_from(steps) {
            Ok(steps) if steps <= HORIZON_STEPS_MAX => Ok(steps),
            _ => Err(invalid(format!(
                "argument horizon of {}: {self} is {steps} steps of {}, and a forecast has at most \
                 {HORIZON_STEPS_MAX}: ask for less, or average the values first with GROUP BY time_bucket('5 minutes', time)",
                task.name(),
                Step(step_us)
            ))),
        }
    }

    /// The length in microseconds from a time on; months have the length that the calendar gives them there.
    fn span_us(&self, from_us: i64) -> Option<i64> {
        let Horizon::Span(span) = self else { return None };
        let fixed = i64::from(span.days).checked_mul(DAY_US)?.checked_add(span.nanoseconds / 1_000)?;
        if span.months == 0 {
            return Some(fixed);
        }
        let from = DateTime::from_timestamp_micros(from_us)?;
        let months = Months::new(span.months.unsigned_abs());
        let to = if span.months < 0 { from.checked_sub_months(months)? } else { from.checked_add_months(months)? };
        (to.timestamp_micros() - from_us).checked_add(fixed)
    }
}

impl fmt::Display for Horizon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Horizon::Steps(steps) => write!(f, "{steps} steps"),
            Horizon::Span(span) => {
                let one = IntervalMonthDayNanoArray::from(vec![*span]);
                f.write_str(&array_value_to_string(&one, 0).map_err(|_| fmt::Error)?)
            }
        }
    }
}

/// A step's length in the largest unit that is whole.
struct Step(i64);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units =
            [(DAY_US, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms"), (1, "µs")];
        let (unit, name) = units.into_iter().find(|(unit, _)| self.0 % unit == 0).expect("everything is whole µs");
        write!(f, "{} {name}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn horizon(value: impl Into<ScalarValue>) -> Result<Horizon> {
        Horizon::of("horizon of forecast", &value.into())
    }

    #[test]
    fn horizons_are_steps_or_intervals() {
        const HOUR_US: i64 = 3_600_000_000;
        assert_eq!(horizon(24_i64).expect("steps"), Horizon::Steps(24));
        assert_eq!(horizon("24").expect("steps"), Horizon::Steps(24));
        for text in ["24 hours", "1 day", "23 hours 60 minutes", "P1D"] {
            let Ok(horizon) = horizon(text) else { continue };
            assert_eq!(horizon.steps(Task::Forecast, 0, HOUR_US).expect("in range"), 24, "{text}");
        }
        assert_eq!(horizon("10 minutes").expect("interval").steps(Task::Forecast, 0, HOUR_US).expect("in range"), 0);
        assert_eq!(horizon("1 day").expect("interval").steps(Task::Forecast, 0, 10_000_037).expect("in range"), 8_640);
    }

    #[test]
    fn a_month_is_as_long_as_the_calendar_says() {
        let month = horizon("1 month").expect("interval");
        let first_of_february_2024 = 1_706_745_600_000_000;
        assert_eq!(month.steps(Task::Forecast, first_of_february_2024, DAY_US).expect("in range"), 29);
        assert_eq!(month.steps(Task::Forecast, 0, DAY_US).expect("in range"), 31);
    }

    #[test]
    fn horizons_out_of_range_are_refused_by_name() {
        let bad =
            [ScalarValue::from("soon"), "".into(), "-1 hour".into(), "0 hours".into(), 0_i64.into(), (-3_i64).into()];
        for value in bad.into_iter().chain([ScalarValue::Null, (1_i64 << 40).into(), ScalarValue::from("-1 month")]) {
            let error = Horizon::of("horizon of forecast", &value).expect_err("out of range").to_string();
            assert!(error.contains("argument horizon of forecast"), "{value}: {error}");
        }
        let error = horizon("24 hours")
            .expect("interval")
            .steps(Task::Forecast, 0, 1_000_000)
            .expect_err("too many")
            .to_string();
        assert!(error.contains("86400 steps of 1 s"), "{error}");
        assert!(
            horizon("1000000 years").is_err()
                || horizon("1000000 years").expect("big").steps(Task::Forecast, 0, 1).is_err()
        );
    }

    #[test]
    fn levels_out_of_range_are_refused_by_name() {
        assert_eq!(level_of("level of forecast", &ScalarValue::from(0.8)).expect("a share"), 0.8);
        assert_eq!(level_of("level of forecast", &ScalarValue::from("0.8")).expect("a share"), 0.8);
        for bad in [ScalarValue::from(0.0), 1.0.into(), f64::NAN.into(), 95_i64.into(), "x".into(), ScalarValue::Null] {
            let error = level_of("level of forecast", &bad).expect_err("out of range").to_string();
            assert!(error.contains("argument level of forecast"), "{error}");
        }
    }

    #[test]
    fn several_levels_are_an_array_of_shares_without_repetition() {
        let array = |levels: &[Option<f64>]| {
            let levels: Vec<ScalarValue> = levels.iter().map(|level| ScalarValue::from(*level)).collect();
            ScalarValue::List(ScalarValue::new_list_nullable(&levels, &DataType::Float64))
        };
        let of = |value: &ScalarValue| Levels::of("level of forecast", value);
        let two = of(&array(&[Some(0.95), Some(0.5)])).expect("two shares");
        assert_eq!((two.as_slice(), two.are_named()), ([0.95, 0.5].as_slice(), true));
        let text = ScalarValue::List(ScalarValue::new_list_nullable(&["0.5".into()], &DataType::Utf8));
        assert_eq!(of(&text).expect("one share"), Levels::Several(vec![0.5]));
        assert!(!of(&0.5.into()).expect("a share").are_named());
        let many: Vec<_> = (1..=INTERVAL_LEVELS_MAX + 1).map(|level| Some(level as f64 / 100.0)).collect();
        for (bad, says) in [
            (array(&[]), "0 levels"),
            (array(&many), "21 levels"),
            (array(&[Some(0.5), Some(0.5)]), "0.5 twice"),
            (array(&[Some(0.5), None]), "a share"),
            (array(&[Some(0.5), Some(95.0)]), "a share"),
            (ScalarValue::List(ScalarValue::new_list_nullable(&["x".into()], &DataType::Utf8)), "shares"),
            (ScalarValue::new_null_list(DataType::Float64, true, 1), "shares"),
        ] {
            let error = of(&bad).expect_err("out of range").to_string();
            assert!(error.contains("argument level of forecast") && error.contains(says), "{error}");
        }
    }
}
