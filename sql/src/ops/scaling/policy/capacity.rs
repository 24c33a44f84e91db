//! The capacity plan of the hours to come: what to change when, over several resources, by a strategy, at what cost.
//!
//! Each resource has forecast quantiles; what one unit carries of it turns demand into units, and the resource that asks for most
//! of them binds. One margin over all steps keeps the expected loss at half of the error budget (`tail`); where the money of a
//! day does not suffice, the margin shrinks until it does. Orders come a start-up early; there are fewer units only once nothing
//! within a start-up needs them.
//!
//! **Invariant:** plans, never acts; the same request gives the same plan. A plan is never outside of its bounds, and says so in a
//! warning when the bounds, the changes allowed or the money cost it the objective.

mod geographic;
mod path;
mod tail;
mod temporal;
mod vertical;

use serde::{Deserialize, Serialize};

use super::{Bounds, PolicyError, UNITS_MAX};
use path::Path;

/// The most steps of a horizon.
pub const POINTS_MAX: usize = 20_160;
/// The most regions of a request.
pub const REGIONS_MAX: usize = 64;
/// The most sizes of a request.
pub const SIZES_MAX: usize = 64;
/// Share of the error budget that a plan aims at.
const AIM: f64 = 0.5;
/// Utilisation that the reactive autoscaler holds whose cost stands beside the plan.
const REACTIVE_UTILISATION: f64 = 0.7;
/// Seconds that it looks back on before it shrinks.
const REACTIVE_HOLD_S: u32 = 300;
/// Margins in standard deviations that a plan may have.
const MARGINS: (f64, f64) = (-3.0, 6.0);
/// A plan is good for so many seconds, if its horizon is no shorter.
const EXPIRES_S: i64 = 3_600;

/// What demand is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// Network throughput.
    Network,
    /// Disk space; it is never given back within a plan.
    Storage,
    /// Requests.
    Requests,
}

/// How capacity is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// More or fewer units.
    Horizontal,
    /// Larger or smaller units.
    Vertical,
    /// Shares of the load move between regions by cost and room.
    Geographic,
    /// A schedule by the hour of the day that repeats over the horizon.
    Temporal,
    /// The cheapest of those that keep the objective.
    Auto,
}

/// Forecast of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// Median.
    pub q50: f64,
    /// 95 % quantile.
    pub q95: f64,
    /// 99 % quantile.
    pub q99: f64,
}

/// Demand of one resource over the horizon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Of what.
    pub resource: Resource,
    /// What one unit carries of it.
    pub capacity: f64,
    /// One forecast a step.
    pub points: Vec<Quantiles>,
}

/// A size that units may have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Capacity in multiples of a usual unit.
    pub factor: f64,
    /// Cost of one and hour.
    pub cost_per_hour: f64,
}

/// Where units may run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Cost of a unit and hour.
    pub cost_per_hour: f64,
    /// Room.
    pub units_max: u32,
    /// Share of the load that it has now; over all regions 1.
    pub share: f64,
}

/// What a plan is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// How capacity may be changed.
    pub strategy: Strategy,
    /// Start of the first step, in seconds since 1970.
    pub from_s: i64,
    /// Seconds of a step.
    pub step_s: u32,
    /// Share of the demand that must be within capacity.
    pub capacity_share: f64,
    /// Seconds from an order until it serves.
    pub startup_s: u32,
    /// Cost of a unit and hour.
    pub cost_per_hour: f64,
    /// How many units there may be.
    pub bounds: Bounds,
    /// The most that a day may cost.
    pub budget_per_day: Option<f64>,
    /// Units now.
    pub units: u32,
    /// Demand of every resource, all over the same steps.
    pub loads: Vec<Load>,
    /// Sizes of units, the present one first; needed by [`Strategy::Vertical`].
    pub sizes: Vec<Size>,
    /// Regions; two or more are needed by [`Strategy::Geographic`].
    pub regions: Vec<Region>,
    /// How far the forecast may be trusted.
    pub confidence: f64,
    /// Below this the plan is advisory.
    pub confidence_threshold: f64,
}

/// Why a step of a plan is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Demand is expected to grow.
    DemandRises,
    /// Nothing within a start-up needs as much.
    DemandFalls,
    /// The hour of the day.
    Schedule,
    /// The same load costs less there, or finds room.
    CheaperRegion,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When to order it, in seconds since 1970.
    pub at_s: i64,
    /// The resource that binds then.
    pub resource: Resource,
    /// What changes: `units`, `size`, or `region:` and a name.
    pub target: String,
    /// Units, multiple of a usual unit, or share of the load; before.
    pub from: f64,
    /// The same, afterwards.
    pub to: f64,
    /// Why.
    pub reason: Why,
    /// The quantile of demand that it is meant to carry.
    pub q: f64,
}

/// What a plan is expected to cost and to keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Units times hours, from the order on.
    pub replica_hours: f64,
    /// Their cost.
    pub cost: f64,
    /// Cost of a reactive autoscaler at 70 % over the median.
    pub reactive_cost: f64,
    /// How much less, in per cent of that.
    pub saving_pct: f64,
    /// Share of the demand within capacity, of the resource where it is least.
    pub sla: f64,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The strategy, the chosen one for [`Strategy::Auto`].
    pub strategy: Strategy,
    /// Changes, in order of time.
    pub steps: Vec<Step>,
    /// Cost and share within capacity.
    pub expected: Expected,
    /// How far the forecast may be trusted.
    pub confidence: f64,
    /// Not to be executed without consent.
    pub advisory: bool,
    /// The resource that binds at most steps.
    pub binding_dimension: Resource,
    /// When it is too old to be executed, in seconds since 1970.
    pub expires_at_s: i64,
    /// What did not fit.
    pub warnings: Vec<String>,
}

/// Makes the plan of a request.
///
/// # Errors
/// The request holds nothing to plan from, or something that makes no sense; the message says what to give.
pub fn plan(request: &Request) -> Result<Plan, PolicyError> {
    check(request)?;
    let one = |strategy| planned(request, strategy);
    if request.strategy != Strategy::Auto {
        return Ok(one(request.strategy));
    }
    let mut open = vec![Strategy::Horizontal, Strategy::Temporal];
    if !request.sizes.is_empty() {
        open.push(Strategy::Vertical);
    }
    if request.regions.len() > 1 {
        open.push(Strategy::Geographic);
    }
    // Those that keep the objective by cost, then the others by what they keep.
    let rank = |plan: &Plan| {
        let kept = plan.expected.sla >= request.capacity_share;
        if kept { (0, plan.expected.cost) } else { (1, -plan.expected.sla) }
    };
    let best = open.into_iter().map(one).min_by(|a, b| rank(a).partial_cmp(&rank(b)).expect("costs are numbers"));
    Ok(best.expect("horizontal is always open"))
}

/// The plan by one strategy: with the margin of the objective, or the largest that the money allows.
fn planned(request: &Request, strategy: Strategy) -> Plan {
    let at = |margin: f64| match strategy {
        Strategy::Vertical => vertical::path(request, margin),
        Strategy::Geographic => geographic::path(request, margin),
        Strategy::Temporal => temporal::path(request, margin),
        Strategy::Horizontal | Strategy::Auto => path::horizontal(request, margin),
    };
    let lost_max = AIM * (1.0 - request.capacity_share);
    let margin = least(|margin| path::lost(request, &at(margin)) <= lost_max);
    let mut path = at(margin);
    let mut warnings = Vec::new();
    let mut used = margin;
    if let Some(money) = request.budget_per_day.filter(|&money| path.cost_per_day(request) > money) {
        let wanted = path.cost_per_day(request);
        used = least(|margin| at(margin).cost_per_day(request) > money).min(margin);
        used = if at(used).cost_per_day(request) > money { (used - 0.05).max(MARGINS.0) } else { used };
        path = at(used);
        warnings.push(format!("the objective costs {wanted:.2} a day, the budget is {money:.2}: capacity was cut"));
        if path.cost_per_day(request) > money {
            warnings
                .push(format!("the least plan costs {:.2} a day: raise budget_per_day", path.cost_per_day(request)));
        }
    }
    finished(request, strategy, path, used, warnings)
}

fn finished(request: &Request, strategy: Strategy, path: Path, margin: f64, mut warnings: Vec<String>) -> Plan {
    let sla = 1.0 - path::lost(request, &path);
    if sla < request.capacity_share {
        let wanted = request.capacity_share;
        warnings
            .push(format!("{sla:.5} of the demand is expected within capacity, {wanted} was asked for: widen bounds"));
    }
    let horizon_s = i64::from(request.step_s) * request.loads[0].points.len() as i64;
    let hours = f64::from(request.step_s) / 3_600.0;
    let (cost, reactive_cost) = (path.cost.iter().sum::<f64>() * hours, path::reactive_cost(request));
    let saving_pct = if reactive_cost > 0.0 { (1.0 - cost / reactive_cost) * 100.0 } else { 0.0 };
    let replica_hours = path.units.iter().sum::<f64>() * hours;
    Plan {
        strategy,
        expected: Expected { replica_hours, cost, reactive_cost, saving_pct, sla },
        confidence: request.confidence,
        advisory: request.confidence < request.confidence_threshold,
        binding_dimension: path::most_binding(request, margin),
        expires_at_s: request.from_s + horizon_s.min(EXPIRES_S),
        steps: path.steps,
        warnings,
    }
}

/// The smallest margin for which something holds that holds for all larger ones; the largest where it never does.
fn least(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = MARGINS;
    if holds(low) {
        return low;
    }
    for _ in 0..12 {
        let middle = (low + high) / 2.0;
        if holds(middle) { high = middle } else { low = middle }
    }
    high
}

/// A request must make sense.
fn check(request: &Request) -> Result<(), PolicyError> {
    let refuse = |text: &str| Err(PolicyError::Setting(text.into()));
    let Some(first) = request.loads.first() else { return refuse("no resource: give the demand of one at least") };
    let (points, Bounds { min, max, .. }) = (first.points.len(), request.bounds);
    let amount = |value: f64| value.is_finite() && value >= 0.0;
    let ordered = |at: &Quantiles| amount(at.q50) && at.q50 <= at.q95 && at.q95 <= at.q99 && at.q99.is_finite();
    if points == 0 || points > POINTS_MAX {
        return refuse(&format!("{points} steps: give a horizon of 1 to {POINTS_MAX} steps"));
    }
    if request.loads.iter().any(|load| load.points.len() != points) {
        return refuse("resources differ in their steps: give every resource the same horizon");
    }
    if request.loads.iter().any(|load| !(load.capacity.is_finite() && load.capacity > 0.0)) {
        return refuse("a unit carries nothing: give a capacity above 0 for every resource");
    }
    if !request.loads.iter().all(|load| load.points.iter().all(ordered)) {
        return refuse("a forecast is no demand: give 0 ≤ q50 ≤ q95 ≤ q99");
    }
    if min > max || max == 0 || max > UNITS_MAX {
        return refuse(&format!("bounds {min} to {max}: give min ≤ max, max 1 to {UNITS_MAX}"));
    }
    if !(0.5..1.0).contains(&request.capacity_share) || request.step_s == 0 || !amount(request.cost_per_hour) {
        return refuse(
            "give a capacity share of 0.5 or more and less than 1, a step above 0 s and a cost of 0 or more",
        );
    }
    if request.budget_per_day.is_some_and(|money| !amount(money)) {
        return refuse("give a budget per day of 0 or more");
    }
    let sized = |size: &Size| size.factor.is_finite() && size.factor > 0.0 && amount(size.cost_per_hour);
    if (request.strategy == Strategy::Vertical && request.sizes.is_empty())
        || request.sizes.len() > SIZES_MAX
        || !request.sizes.iter().all(sized)
    {
        return refuse(&format!("give 1 to {SIZES_MAX} sizes with a factor above 0 and a cost of 0 or more"));
    }
    let placed = |region: &Region| amount(region.cost_per_hour) && amount(region.share) && region.share <= 1.0;
    if (request.strategy == Strategy::Geographic && request.regions.len() < 2)
        || request.regions.len() > REGIONS_MAX
        || !request.regions.iter().all(placed)
    {
        return refuse(&format!("give 2 to {REGIONS_MAX} regions with a cost of 0 or more and a share of 0 to 1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
