//! Arguments that several operations of this room take, and what they mean to judgement.
//!
//! **Invariant:** an aim laxer than the policy `rl` allows is refused.

use serde_json::Value;

use super::policy::reward::{Goal, Objective, Weights};
use super::work::refused;
use crate::operation::{Kind, Parameter, Refusal, Refused, time_us};
use crate::ops::governance::stored;
use crate::session::Invocation;
use crate::{Error, Result};

/// The longest window, in days.
const WINDOW_DAYS_MAX: i64 = 400;
const DAY_US: i64 = 86_400_000_000;

pub(crate) const GOALS: &[&str] = &["resource_utilization", "response_time", "cost", "reliability", "balanced"];
pub(crate) const WEIGHTS: &[Parameter] = &[
    Parameter::new("performance", Kind::Number(0.0, 100.0), "Of slowness; that of the type where it is left out."),
    Parameter::new("cost", Kind::Number(0.0, 100.0), "Of cost; that of the type where it is left out."),
    Parameter::new("reliability", Kind::Number(0.0, 100.0), "Of violations; that of the type where it is left out."),
];
pub(crate) const WINDOW: &[Parameter] = &[
    Parameter::new("from", Kind::Time, "Its begin."),
    Parameter::new("to", Kind::Time, "Its end; now where it is left out."),
];

/// The argument `window`: from the begin, up to before the end, in microseconds. Where its begin is left out, so many days.
pub(crate) fn window(invocation: &Invocation, days: i64) -> Result<(i64, i64)> {
    let end =
        |name: &str| invocation.arguments.get("window").and_then(|window| window[name].as_str()).and_then(time_us);
    let to_us = end("to").unwrap_or_else(|| invocation.now_us());
    let from_us = end("from").unwrap_or(to_us.saturating_sub(days * DAY_US));
    let refused = |text: String, at: &str| -> Error { Refusal::new(Refused::InvalidValue, text).at(at).into() };
    if to_us <= from_us {
        return Err(refused("the window must end after it begins".to_owned(), "/window/to"));
    }
    if to_us.saturating_sub(from_us) > WINDOW_DAYS_MAX * DAY_US {
        return Err(refused(format!("a window spans {WINDOW_DAYS_MAX} days at most"), "/window/from"));
    }
    Ok((from_us, to_us))
}

/// What is to be reached: a goal, weights in the place of its own, and the most violation, that of the policy `rl` where none is
/// given. `at` points to the argument that gives it.
pub(crate) async fn objective(
    invocation: &Invocation,
    goal: &str,
    weights: &Value,
    (violation_max, at): (Option<f64>, &str),
) -> Result<Objective> {
    let goal = Goal::parse(goal).map_err(refused)?;
    let weights = weighed(goal, weights);
    let rails = stored(&invocation.own, "rl").await?.policy;
    let most = rails.get("violation_max").and_then(Value::as_f64).unwrap_or_default();
    let violation_max = violation_max.unwrap_or(most);
    // Shares such as 1 - 0.999 are a hair off.
    if violation_max > most * (1.0 + 1e-9) {
        let text = format!("a violation of {violation_max} is more than the policy rl allows, {most}: aim at less");
        return Err(Refusal::new(Refused::PolicyDenied, text).at(at).into());
    }
    let objective = Objective { goal, weights, violation_max };
    objective.check().map_err(refused)?;
    Ok(objective)
}

/// The weights of a goal, those in their place that are given by name.
pub(crate) fn weighed(goal: Goal, given: &Value) -> Weights {
    let own = goal.weights();
    let weight = |name: &str, own: f64| given[name].as_f64().unwrap_or(own);
    Weights {
        performance: weight("performance", own.performance),
        cost: weight("cost", own.cost),
        reliability: weight("reliability", own.reliability),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goals_are_those_of_judgement() {
        assert_eq!(GOALS.to_vec(), Goal::ALL.map(Goal::name).to_vec());
    }
}
