//! What is to be known before a forecast is relied upon.
//!
//! **Invariant:** pure; each warning is a sentence of its own, and none says what the numbers beside it do not.

use serde_json::{Map, Value};

/// Less than this share of the steps with a value is a gap that is told of.
const FILLED_MIN: f64 = 0.9;
/// A band of 90 % that held less than this was too narrow.
const COVERAGE_MIN: f64 = 0.8;

/// What is known of a series.
pub(super) struct Known<'a> {
    /// Steps with a value, and steps.
    pub(super) filled: (i64, i64),
    /// Steps that passed without a value before the forecast.
    pub(super) late_steps: i64,
    /// Whether past forecasts were looked at.
    pub(super) is_tested: bool,
    /// What they were like; none where there could be no such forecast.
    pub(super) backtest: Option<&'a Map<String, Value>>,
    /// The models that forecast and that were tested.
    pub(super) models: (&'a str, &'a str),
    /// Whether something was asked for that needs a capacity.
    pub(super) lacks_capacity: bool,
}

/// What there is to be told.
pub(super) fn warnings(known: &Known<'_>) -> Vec<String> {
    let mut all = Vec::new();
    let (n, slots) = known.filled;
    let share = n as f64 / slots.max(1) as f64;
    if share < FILLED_MIN {
        all.push(format!("{:.0} % of the steps of the history have a value", 100.0 * share));
    }
    if known.late_steps > 1 {
        all.push(format!("the newest value is {} steps old: the points begin behind it", known.late_steps));
    }
    if known.lacks_capacity {
        all.push("the target has no capacity that could be reached: give it one".to_owned());
    }
    if !known.is_tested {
        return all;
    }
    let number = |name: &str| known.backtest.and_then(|row| row.get(name)?.as_f64());
    let Some(coverage) = number("coverage90") else {
        all.push("the history is too short to tell how such forecasts did".to_owned());
        return all;
    };
    if coverage < COVERAGE_MIN {
        all.push(format!("the band of 90 % held {:.0} % of the past", 100.0 * coverage));
    }
    if number("season") == Some(1.0) {
        all.push("no season was found: the forecast follows level and trend".to_owned());
    }
    if let (Some(own), Some(naive)) = (number("mase"), number("naive_mase"))
        && own > naive
    {
        all.push("repeating the last season would have done better in the past".to_owned());
    }
    if known.models.0 != known.models.1 {
        all.push(format!("the backtest is of the model {}, as it takes many histories", known.models.1));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_relied_upon_has_no_warning_and_each_doubt_has_its_own() {
        let told = |row: &Value, change: fn(&mut Known<'_>)| {
            let mut known = Known {
                filled: (100, 100),
                late_steps: 0,
                is_tested: true,
                backtest: row.as_object(),
                models: ("full", "full"),
                lacks_capacity: false,
            };
            change(&mut known);
            warnings(&known).join("; ")
        };
        let good = json!({ "coverage90": 0.9, "season": 288, "mase": 0.5, "naive_mase": 1.0 });
        assert_eq!(told(&good, |_| {}), "");
        assert!(told(&good, |known| known.filled = (50, 100)).starts_with("50 %"));
        assert!(told(&good, |known| known.late_steps = 7).contains("7 steps old"));
        assert!(told(&good, |known| known.lacks_capacity = true).contains("no capacity"));
        assert!(told(&good, |known| known.models = ("full", "lean")).contains("lean"));
        let bad = json!({ "coverage90": 0.5, "season": 1, "mase": 2.0, "naive_mase": 1.0 });
        let bad = told(&bad, |_| {});
        assert!(bad.contains("held 50 %") && bad.contains("no season") && bad.contains("better"), "{bad}");
        assert!(told(&json!({ "coverage90": null }), |_| {}).contains("too short"));
        assert_eq!(told(&Value::Null, |known| known.is_tested = false), "");
    }
}
