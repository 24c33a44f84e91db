//! What can be asked of collected points: a forecast, its accuracy in the past, the seasons, the parts.
//!
//! **Invariant:** names and types only; the work is in `series.rs`.

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit};

use crate::types::timestamptz;

/// Which of the functions over points a call is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) enum Task {
    /// `forecast`.
    Forecast,
    /// `forecast_accuracy`.
    Accuracy,
    /// `detect_seasonality`.
    Seasons,
    /// `decompose`.
    Parts,
}

impl Task {
    /// All of them.
    pub(in super::super) const ALL: [Task; 4] = [Task::Forecast, Task::Accuracy, Task::Seasons, Task::Parts];

    /// The name that SQL knows both forms by.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Task::Forecast => "forecast",
            Task::Accuracy => "forecast_accuracy",
            Task::Seasons => "detect_seasonality",
            Task::Parts => "decompose",
        }
    }

    /// The name of the aggregate that only collects the points.
    pub(super) fn points_name(self) -> &'static str {
        match self {
            Task::Forecast => "forecast_points",
            Task::Accuracy => "forecast_accuracy_points",
            Task::Seasons => "detect_seasonality_points",
            Task::Parts => "decompose_points",
        }
    }

    /// The task of the function of that name.
    pub(in super::super) fn named(name: &str) -> Option<Task> {
        Task::ALL.into_iter().find(|task| task.name() == name)
    }

    /// Constants after time and value, in the aggregate's order; none of them, or at least the first.
    pub(in super::super) fn constants(self) -> &'static [&'static str] {
        match self {
            Task::Forecast => &["horizon", "level", "model"],
            Task::Accuracy => &["horizon", "level", "model", "origins"],
            Task::Seasons | Task::Parts => &[],
        }
    }

    /// The table function's arguments, in the order that they have without names.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Task::Forecast => &["relation", "value", "by", "horizon", "level", "time", "model"],
            Task::Accuracy => &["relation", "value", "by", "horizon", "level", "time", "model", "origins"],
            Task::Seasons | Task::Parts => &["relation", "value", "by", "time"],
        }
    }

    /// One row of the result; `by_level` where it says which of several levels it is of.
    pub(super) fn fields(self, by_level: bool) -> Fields {
        let number = |name: &str| Field::new(name, DataType::Float64, true);
        let count = |name: &str| Field::new(name, DataType::Int64, true);
        let time = || Field::new("time", timestamptz(), true);
        let level = by_level.then(|| number("level"));
        match self {
            Task::Forecast => {
                let numbers = [number("forecast"), number("lower"), number("upper")];
                std::iter::once(time()).chain(level).chain(numbers).collect::<Vec<_>>()
            }
            Task::Accuracy => [count("origins"), count("season")]
                .into_iter()
                .chain(level)
                .chain([
                    number("mase"),
                    number("smape"),
                    number("wape"),
                    number("coverage"),
                    number("naive_mase"),
                    number("naive_smape"),
                    number("naive_wape"),
                ])
                .collect(),
            Task::Seasons => vec![
                count("season"),
                Field::new("period", DataType::Interval(IntervalUnit::MonthDayNano), true),
                number("strength"),
            ],
            Task::Parts => vec![
                time(),
                number("value"),
                number("trend"),
                number("season"),
                number("outer_season"),
                number("remainder"),
            ],
        }
        .into()
    }

    /// The rows of one series: a list.
    pub(super) fn rows_type(self, by_level: bool) -> DataType {
        DataType::List(std::sync::Arc::new(Field::new_list_field(DataType::Struct(self.fields(by_level)), true)))
    }
}
