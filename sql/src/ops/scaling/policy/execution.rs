//! What goes with a change of units: which step of a plan is due, what guard rails leave of its bounds, and what it brought.
//!
//! **Invariant:** pure. Guard rails only narrow what a plan allows; what was not seen is not made up.

use serde::{Deserialize, Serialize};

use super::Bounds;

/// Utilisation that the reactive autoscaler holds whose cost stands beside the change.
const REACTIVE_UTILISATION: f64 = 0.7;
/// A change is watched for an hour at most, in seconds.
pub const WATCHED_S_MAX: i64 = 3_600;
/// And for five minutes at least.
pub const WATCHED_S_MIN: i64 = 300;

/// The guard rails of scaling, as the policy `scaling` has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rails {
    /// Never fewer units.
    pub units_min: u32,
    /// Never more.
    pub units_max: u32,
    /// The largest change that nobody need agree to, in per cent of the units there are.
    pub step_pct: f64,
}

impl Rails {
    /// The bounds that remain of those of a plan; those of the rails where there is no plan.
    pub fn bounds(&self, plan: Option<Bounds>) -> Bounds {
        let plan = plan.unwrap_or(Bounds { min: 0, max: u32::MAX, max_step: 0 });
        Bounds { min: plan.min.max(self.units_min), max: plan.max.min(self.units_max), max_step: plan.max_step }
    }

    /// The most units that one change adds or takes without somebody else's consent; always one at least.
    pub fn step_max(&self, from: u32) -> u32 {
        let share = (f64::from(from) * self.step_pct / 100.0).ceil();
        (share as u32).max(1)
    }
}

/// A step of a plan that was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// When to order it, in seconds since 1970.
    pub at_s: i64,
    /// What changes: `units`, `size`, or `region:` and a name.
    pub target: String,
    /// How many there shall be.
    pub to: f64,
}

/// Why no step can be executed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoStep {
    /// The plan changes nothing.
    #[error("the plan has no steps: there is nothing to execute")]
    Empty,
    /// There are not so many.
    #[error("the plan has the steps 0 to {last}: there is no step {asked}")]
    Missing {
        /// The one asked for.
        asked: usize,
        /// The last one there is.
        last: usize,
    },
    /// Nothing is to be done yet.
    #[error("no step of the plan is due yet: the first is at {first_s} s; name a step to execute it before its time")]
    NotDue {
        /// When the first is due, in seconds since 1970.
        first_s: i64,
    },
    /// Actuators change the number of units, and nothing else.
    #[error("the step changes {target}: actuators change units only; do it by hand, or plan with another strategy")]
    Unable {
        /// What the step changes.
        target: String,
    },
}

/// The number of the step that is asked for; of the last one that is due where none is.
///
/// # Errors
/// Why there is none.
pub fn step(steps: &[Planned], asked: Option<usize>, now_s: i64) -> Result<usize, NoStep> {
    let Some(first) = steps.first() else { return Err(NoStep::Empty) };
    let found = match asked {
        Some(asked) if asked < steps.len() => asked,
        Some(asked) => return Err(NoStep::Missing { asked, last: steps.len() - 1 }),
        None => {
            let due = steps.iter().rposition(|step| step.at_s <= now_s);
            due.ok_or(NoStep::NotDue { first_s: first.at_s })?
        }
    };
    match steps[found].target.as_str() {
        "units" => Ok(found),
        target => Err(NoStep::Unable { target: target.to_owned() }),
    }
}

/// Until when a change is watched that was ordered now: until the next step of its plan, within [`WATCHED_S_MIN`] and
/// [`WATCHED_S_MAX`].
pub fn watched_until_s(now_s: i64, next_s: Option<i64>) -> i64 {
    let lasts_s = next_s.map_or(WATCHED_S_MAX, |next_s| next_s.saturating_sub(now_s));
    now_s.saturating_add(lasts_s.clamp(WATCHED_S_MIN, WATCHED_S_MAX))
}

/// What was seen of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Units before.
    pub from: u32,
    /// Units since.
    pub to: u32,
    /// Demand that one unit carries.
    pub capacity: f64,
    /// Mean demand of each step that was seen; not a number where a step was not.
    pub demand: Vec<f64>,
    /// The median that was forecast, as a mean over the steps.
    pub predicted: Option<f64>,
}

/// What a change brought to one resource.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Impact {
    /// Mean and largest demand.
    pub mean: f64,
    /// See [`Impact::mean`].
    pub max: f64,
    /// Steps that were seen.
    pub steps: usize,
    /// Share of the demand within the capacity that there was.
    pub sla_during: f64,
    /// The same, had nothing been changed.
    pub sla_without: f64,
    /// Share of the capacity that was used.
    pub utilisation: f64,
    /// How far the forecast was off, in per cent of what came.
    pub forecast_error_pct: Option<f64>,
    /// Unit hours less than a reactive autoscaler at 70 % would have had, in per cent of those.
    pub saving_vs_reactive_pct: Option<f64>,
}

/// What a change brought; none where nothing was seen.
pub fn impact(seen: &Seen) -> Option<Impact> {
    let demand: Vec<f64> =
        seen.demand.iter().copied().filter(|demand| demand.is_finite()).map(|demand| demand.max(0.0)).collect();
    if demand.is_empty() || seen.capacity <= 0.0 {
        return None;
    }
    let (steps, total) = (demand.len() as f64, demand.iter().sum::<f64>());
    let within = |units: u32| {
        let capacity = f64::from(units) * seen.capacity;
        let carried: f64 = demand.iter().map(|demand| demand.min(capacity)).sum();
        if total > 0.0 { carried / total } else { 1.0 }
    };
    let reactive: f64 =
        demand.iter().map(|demand| (demand / seen.capacity / REACTIVE_UTILISATION).ceil().max(1.0)).sum();
    let (mean, there) = (total / steps, f64::from(seen.to) * seen.capacity);
    Some(Impact {
        mean,
        max: demand.iter().copied().fold(0.0, f64::max),
        steps: demand.len(),
        sla_during: within(seen.to),
        sla_without: within(seen.from),
        utilisation: if there > 0.0 { mean / there } else { 0.0 },
        forecast_error_pct: seen
            .predicted
            .filter(|_| mean > 0.0)
            .map(|predicted| (predicted - mean).abs() / mean * 100.0),
        saving_vs_reactive_pct: Some((1.0 - f64::from(seen.to) * steps / reactive) * 100.0),
    })
}

/// What a change cost over so many seconds: less than 0 where it saved.
pub fn cost(from: u32, to: u32, cost_per_hour: f64, seconds: f64) -> f64 {
    (f64::from(to) - f64::from(from)) * cost_per_hour * seconds / 3_600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(at_s: i64, to: f64) -> Planned {
        Planned { at_s, target: "units".into(), to }
    }

    #[test]
    fn the_step_that_is_due_is_the_last_whose_time_has_come() {
        let steps = [units(100, 3.0), units(200, 5.0), units(300, 2.0)];
        assert_eq!((step(&steps, None, 250), step(&steps, None, 100), step(&steps, Some(2), 0)), (Ok(1), Ok(0), Ok(2)));
        assert_eq!(step(&steps, None, 99), Err(NoStep::NotDue { first_s: 100 }));
        assert_eq!(step(&steps, Some(3), 250), Err(NoStep::Missing { asked: 3, last: 2 }));
        assert_eq!(step(&[], None, 250), Err(NoStep::Empty));
        let sized = [Planned { target: "size".into(), ..units(100, 2.0) }];
        assert_eq!(step(&sized, None, 250), Err(NoStep::Unable { target: "size".into() }));
    }

    #[test]
    fn guard_rails_narrow_bounds_and_never_widen_them() {
        let rails = Rails { units_min: 2, units_max: 10, step_pct: 50.0 };
        let wide = Bounds { min: 0, max: 1_000, max_step: 7 };
        assert_eq!(rails.bounds(Some(wide)), Bounds { min: 2, max: 10, max_step: 7 });
        assert_eq!(rails.bounds(Some(Bounds { min: 4, max: 6, max_step: 0 })), Bounds { min: 4, max: 6, max_step: 0 });
        assert_eq!(rails.bounds(None), Bounds { min: 2, max: 10, max_step: 0 });
        assert_eq!([0, 1, 4, 5].map(|from| rails.step_max(from)), [1, 1, 2, 3]);
    }

    #[test]
    fn a_change_is_watched_until_the_next_step_within_limits() {
        assert_eq!(watched_until_s(1_000, Some(2_000)), 2_000);
        assert_eq!(watched_until_s(1_000, Some(1_001)), 1_300);
        assert_eq!((watched_until_s(1_000, Some(99_999)), watched_until_s(1_000, None)), (4_600, 4_600));
    }

    #[test]
    fn what_came_is_held_against_what_there_was_and_what_would_have_been() {
        let seen = Seen { from: 1, to: 2, capacity: 10.0, demand: vec![10.0, f64::NAN, 30.0], predicted: Some(15.0) };
        let found = impact(&seen).unwrap();
        assert_eq!((found.mean, found.max, found.steps, found.utilisation), (20.0, 30.0, 2, 1.0));
        assert_eq!((found.sla_during, found.sla_without), (30.0 / 40.0, 20.0 / 40.0));
        assert_eq!(found.forecast_error_pct, Some(25.0));
        // A reactive autoscaler has 2 and 5 units: 7 unit steps, and there were 4.
        assert!((found.saving_vs_reactive_pct.unwrap() - (1.0 - 4.0 / 7.0) * 100.0).abs() < 1e-9);
        assert_eq!(impact(&Seen { demand: vec![f64::NAN], ..seen }), None);
    }

    #[test]
    fn fewer_units_save() {
        assert_eq!((cost(4, 6, 0.5, 7_200.0), cost(6, 4, 0.5, 3_600.0)), (2.0, -1.0));
    }
}
