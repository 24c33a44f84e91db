//! A schedule: so many units in each hour of the day, the same every day of the horizon.
//!
//! **Invariant:** an hour of the schedule carries the same hour of every day that the horizon has.

use super::path::{self, Path};
use super::{Request, Why};

const HOUR_S: i64 = 3_600;
const DAY_HOURS: usize = 24;

/// Units by the hour of the day, in UTC.
pub(super) fn path(request: &Request, margin: f64) -> Path {
    let needed = path::needed(request, margin);
    let hour = |place: usize| (path::at_s(request, place).div_euclid(HOUR_S).rem_euclid(DAY_HOURS as i64)) as usize;
    let mut schedule = [0.0_f64; DAY_HOURS];
    for (place, (units, _)) in needed.iter().enumerate() {
        schedule[hour(place)] = schedule[hour(place)].max(units.ceil());
    }
    let by_hour: Vec<f64> = (0..needed.len()).map(|place| schedule[hour(place)]).collect();
    let units = path::ordered(request, &by_hour);
    let mut steps = path::unit_steps(request, &units, &needed, margin);
    steps.iter_mut().for_each(|step| step.reason = Why::Schedule);
    let cost = units.iter().map(|units| units * request.cost_per_hour).collect();
    Path { ready: path::ready(request, &units), units, cost, steps }
}
