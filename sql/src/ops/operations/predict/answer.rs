//! What a prediction answers with.
//!
//! **Invariant:** declarations only.

use crate::operation::{Form, Member};

const TRAINED_ON: &[Member] = &[
    Member::new("from", Form::Time, "The first point."),
    Member::new("to", Form::Time, "The last point."),
    Member::new("n", Form::Integer, "How many points."),
];
const POINT: &[Member] =
    &[Member::new("t", Form::Time, "The time."), Member::new("mean", Form::Number, "What is expected.").or_null()];
const RISK: &[Member] = &[
    Member::new("probability", Form::Number, "How probable it is."),
    Member::new("at", Form::Time, "Where it is most probable.").or_null().sometimes(),
    Member::new("band", Form::Number, "The share of points that the band is for.").sometimes(),
    Member::new("expected", Form::Number, "The share that would lie outside of the band if it were right.").sometimes(),
];
const BACKTEST: &[Member] = &[
    Member::new("model", Form::Text, "The forecaster that was tested."),
    Member::new("origins", Form::Integer, "How many past forecasts were looked back on.").or_null(),
    Member::new("season", Form::Integer, "The steps of the season.").or_null(),
    Member::new("mase", Form::Number, "Their error over that of the seasonal naive within the past.").or_null(),
    Member::new("smape", Form::Number, "Their symmetric error in percent.").or_null(),
    Member::new("wape", Form::Number, "Their error as a share of the values.").or_null(),
    Member::new("coverage90", Form::Number, "The share of values in their 90 % interval.").or_null(),
    Member::new("naive_mase", Form::Number, "The same of the seasonal naive.").or_null(),
    Member::new("naive_smape", Form::Number, "The same of the seasonal naive.").or_null(),
    Member::new("naive_wape", Form::Number, "The same of the seasonal naive.").or_null(),
];
/// A quantile of a point, such as q05.
const QUANTILE: Form = Form::Either(&[Form::Number, Form::Null]);
const SERIES: &[Member] = &[
    Member::new("metric", Form::Text, "The metric.").sometimes(),
    Member::new("labels", Form::Map(&Form::Any), "The tags that chose its rows.").sometimes(),
    Member::new("sql", Form::Text, "The query in place of a metric.").sometimes(),
    Member::new("model", Form::Text, "The forecaster."),
    Member::new("warnings", Form::List(&Form::Text), "What deserves caution."),
    Member::new("anomaly_risk", Form::Object(RISK), "That a point lies outside of its band.").or_null().sometimes(),
    Member::new("failure_risk", Form::Object(RISK), "That the capacity is reached.").or_null().sometimes(),
    Member::new("forecast_id", Form::Id, "The row of juno_forecasts that keeps it.").sometimes(),
    Member::new("trained_on", Form::Object(TRAINED_ON), "What it learned from."),
    Member::new("capacity", Form::Number, "The value that is not to be reached.").sometimes(),
    Member::new("exhaustion_at", Form::Time, "When the mean reaches it.").or_null().sometimes(),
    Member::new("exhaustion_earliest_at", Form::Time, "When the highest quantile does.").or_null().sometimes(),
    Member::new("points", Form::List(&Form::Extended(POINT, &QUANTILE)), "The forecast, with a member a quantile.")
        .sometimes(),
    Member::new("backtest", Form::Object(BACKTEST), "How such forecasts did before.").sometimes(),
];

/// What is forecast of every series.
pub(super) const ANSWER: &[Member] = &[
    Member::new("as_of", Form::Time, "The time from which was forecast."),
    Member::new("step_s", Form::Number, "The distance of two points, in seconds."),
    Member::new("series", Form::List(&Form::Object(SERIES)), "The series, in the order of the targets."),
];
