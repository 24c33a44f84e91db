//! Units step by step: what demand asks for, what the pace allows, what it costs and what it cannot carry.
//!
//! **Invariant:** everything is counted from the order on; a unit carries demand a start-up after its order, and no sooner.

use super::tail;
use super::{REACTIVE_HOLD_S, REACTIVE_UTILISATION, Request, Resource, Step, Why};

/// What a strategy makes of a request.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// Units of each step that are paid for.
    pub(super) units: Vec<f64>,
    /// Capacity of each step that is ready, in usual units.
    pub(super) ready: Vec<f64>,
    /// Cost per hour of each step.
    pub(super) cost: Vec<f64>,
    /// Changes.
    pub(super) steps: Vec<Step>,
}

impl Path {
    /// Mean cost of a day.
    pub(super) fn cost_per_day(&self, request: &Request) -> f64 {
        debug_assert_eq!(self.cost.len(), request.loads[0].points.len());
        self.cost.iter().sum::<f64>() / self.cost.len() as f64 * 24.0
    }
}

/// Usual units that each step needs `margin` standard deviations above the median, and the resource that binds.
pub(super) fn needed(request: &Request, margin: f64) -> Vec<(f64, Resource)> {
    let mut needed = vec![(0.0, request.loads[0].resource); request.loads[0].points.len()];
    for load in &request.loads {
        let mut stored: f64 = 0.0;
        for (most, at) in needed.iter_mut().zip(&load.points) {
            let demand = (at.q50 + margin * tail::deviation(at.q50, at.q95, at.q99)).max(0.0);
            // What is on a disk stays there.
            stored = if load.resource == Resource::Storage { stored.max(demand) } else { demand };
            let units = stored / load.capacity;
            if units > most.0 {
                *most = (units, load.resource);
            }
        }
    }
    needed
}

/// The resource that binds at most steps; of equals the one named first.
pub(super) fn most_binding(request: &Request, margin: f64) -> Resource {
    let needed = needed(request, margin);
    let times = |resource| needed.iter().filter(|(_, binding)| *binding == resource).count();
    let first = request.loads[0].resource;
    request
        .loads
        .iter()
        .map(|load| load.resource)
        .fold(first, |best, next| if times(next) > times(best) { next } else { best })
}

/// Share of demand that is expected beyond what is ready, of the resource where it is largest.
pub(super) fn lost(request: &Request, path: &Path) -> f64 {
    let share = |load: &super::Load| {
        let of = |(at, ready): (&super::Quantiles, &f64)| {
            tail::beyond(ready * load.capacity, at.q50, tail::deviation(at.q50, at.q95, at.q99))
        };
        let lost = load.points.iter().zip(&path.ready).map(of).sum::<f64>();
        let demand = load.points.iter().map(|at| at.q50).sum::<f64>();
        if demand > 0.0 { lost / demand } else { 0.0 }
    };
    request.loads.iter().map(share).fold(0.0, f64::max).min(1.0)
}

/// Whole units by demand alone: the most that a step within the next start-up needs, within bounds and pace.
pub(super) fn horizontal(request: &Request, margin: f64) -> Path {
    let needed = needed(request, margin);
    let units = ordered(request, &needed.iter().map(|(units, _)| units.ceil()).collect::<Vec<_>>());
    let steps = unit_steps(request, &units, &needed, margin);
    let cost = units.iter().map(|units| units * request.cost_per_hour).collect();
    Path { ready: ready(request, &units), units, cost, steps }
}

/// The changes of a row of units.
pub(super) fn unit_steps(request: &Request, units: &[f64], needed: &[(f64, Resource)], margin: f64) -> Vec<Step> {
    changes(f64::from(request.units), units, |place, from, to| Step {
        at_s: at_s(request, place),
        resource: needed[(place + lead(request)).min(needed.len() - 1)].1,
        target: "units".into(),
        from,
        to,
        reason: if to > from { Why::DemandRises } else { Why::DemandFalls },
        q: tail::below(margin),
    })
}

/// Orders for what steps need: a start-up ahead, in bounds, in changes that are allowed.
pub(super) fn ordered(request: &Request, needed: &[f64]) -> Vec<f64> {
    let (bounds, lead) = (request.bounds, lead(request));
    let most = |place: usize| needed[place..(place + lead + 1).min(needed.len())].iter().copied().fold(0.0, f64::max);
    let mut orders: Vec<f64> =
        (0..needed.len()).map(|place| most(place).clamp(f64::from(bounds.min), f64::from(bounds.max))).collect();
    if bounds.max_step > 0 {
        let change = f64::from(bounds.max_step);
        // Backwards, to begin early enough; forwards, from what there is.
        for place in (1..orders.len()).rev() {
            orders[place - 1] = orders[place - 1].max(orders[place] - change);
        }
        let mut before = f64::from(request.units);
        for order in &mut orders {
            *order = order.clamp(before - change, before + change).clamp(f64::from(bounds.min), f64::from(bounds.max));
            before = *order;
        }
    }
    orders
}

/// Units that serve in each step: the fewest of the last start-up.
pub(super) fn ready(request: &Request, orders: &[f64]) -> Vec<f64> {
    let lead = lead(request);
    let least = |place: usize| {
        let before = if place < lead { f64::from(request.units) } else { f64::INFINITY };
        orders[place.saturating_sub(lead)..=place].iter().copied().fold(before, f64::min)
    };
    (0..orders.len()).map(least).collect()
}

/// A step for every change of a row of numbers.
pub(super) fn changes(now: f64, row: &[f64], step: impl Fn(usize, f64, f64) -> Step) -> Vec<Step> {
    let mut before = now;
    let mut steps = Vec::new();
    for (place, &to) in row.iter().enumerate() {
        if (to - before).abs() > 1e-9 {
            steps.push(step(place, before, to));
            before = to;
        }
    }
    steps
}

/// Start of a step, in seconds since 1970.
pub(super) fn at_s(request: &Request, place: usize) -> i64 {
    request.from_s + i64::from(request.step_s) * place as i64
}

/// Steps of a start-up.
pub(super) fn lead(request: &Request) -> usize {
    request.startup_s.div_ceil(request.step_s) as usize
}

/// What a reactive autoscaler at 70 % would cost over the median.
pub(super) fn reactive_cost(request: &Request) -> f64 {
    let hold = REACTIVE_HOLD_S.div_ceil(request.step_s) as usize;
    let asked: Vec<f64> = needed(request, 0.0).iter().map(|(units, _)| (units / REACTIVE_UTILISATION).ceil()).collect();
    let (min, max) = (f64::from(request.bounds.min), f64::from(request.bounds.max));
    let held =
        |place: usize| asked[place.saturating_sub(hold)..=place].iter().copied().fold(0.0, f64::max).clamp(min, max);
    let unit_cost = mean_cost(request);
    (0..asked.len()).map(|place| held(place) * unit_cost).sum::<f64>() * f64::from(request.step_s) / 3_600.0
}

/// Cost of a unit and hour where the load runs now.
fn mean_cost(request: &Request) -> f64 {
    let shares: f64 = request.regions.iter().map(|region| region.share).sum();
    if shares <= 0.0 {
        return request.cost_per_hour;
    }
    request.regions.iter().map(|region| region.share * region.cost_per_hour).sum::<f64>() / shares
}
