//! Predictive scaling, the judgement of it: from the demand so far, how many units a service shall have next.
//!
//! [`Planner`] goes on step by step: [`Planner::observe`] takes what a step brought and answers with a [`Decision`]. It forecasts
//! the largest demand until units that are ordered now are ready (`lead`), and picks the margin on top that would have kept the
//! error budget so far at the least cost (`budget`). A whole history is the same, one observation after the other
//! ([`Planner::replay`]). What a plan for the hours to come holds is in [`capacity`], what a step of it may do in [`verdict`], what comes of it in [`execution`].
//!
//! **Invariant:** no clock, no randomness, no tables, no I/O: equal observations give equal decisions. Memory does not grow with
//! the number of observations; the state can be written and read back between any two of them.

mod budget;
pub mod capacity;
mod confidence;
mod demand;
pub mod execution;
mod fleet;
mod guard;
mod lead;
mod ridge;
pub mod verdict;

use serde::{Deserialize, Serialize};

use budget::Budget;
use confidence::Confidence;
use demand::Demand;
use fleet::{Fleet, Pace};
use lead::{Forecast, Lead};

/// The finest and the coarsest step of observations, in seconds.
pub const STEP_S_MIN: u32 = 15;
/// See [`STEP_S_MIN`].
pub const STEP_S_MAX: u32 = 300;
/// The longest start-up that is planned for, in seconds.
pub const STARTUP_S_MAX: u32 = 3_600;
/// The most units of a service.
pub const UNITS_MAX: u32 = 1_000_000;
/// More demand than this is no demand but a broken counter.
const DEMAND_MAX: f64 = 1e18;
/// Commands of so many seconds are looked back on before there are fewer units.
const HOLD_S: u32 = 60;
/// A gap of so many steps is bridged with the last demand; after a longer one only what was learnt stays.
const GAP_STEPS_MAX: u64 = 40_320;

/// What was asked for cannot be planned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// A setting is outside of what makes sense.
    #[error("{0}")]
    Setting(String),
    /// Observations must be given oldest first, one a step.
    #[error(
        "observation at {at_s} s does not come a step after the one at {last_s} s: sort by time, one per step of {step_s} s"
    )]
    Unsorted {
        /// Time of the observation.
        at_s: i64,
        /// Time of the one before.
        last_s: i64,
        /// Length of a step.
        step_s: u32,
    },
}

/// What is scaled: one replica, one node, one gigabyte.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Demand that one unit carries within the objective.
    pub capacity: f64,
    /// Seconds from the order until it carries demand.
    pub startup_s: u32,
    /// Cost of a unit and hour, from the order on.
    pub cost_per_hour: f64,
}

/// How many units there may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// The most units that one decision adds or takes; 0 for no limit.
    pub max_step: u32,
}

/// Settings of a planner.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Seconds between observations, 15 to 300.
    pub step_s: u32,
    /// What is scaled.
    pub unit: Unit,
    /// How many there may be.
    pub bounds: Bounds,
    /// Share of the demand that must be within capacity, such as 0.999.
    pub capacity_share: f64,
    /// The least seconds between two decisions for fewer units; more units never wait.
    pub cooldown_s: u32,
    /// Below this confidence the reactive guard alone decides. 0 trusts the forecast from the first step.
    pub confidence_threshold: f64,
}

/// What a step brought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// End of the step, in seconds since 1970.
    pub at_s: i64,
    /// Mean demand per second over the step; not a number or negative where it is not known.
    pub demand: f64,
    /// Units that exist now, starting ones too; where nothing is said, those of the last decision.
    pub units: Option<u32>,
    /// Mean demand per second that was not served; where nothing is said, what the units of past decisions could not have.
    pub lost: Option<f64>,
}

/// Why a decision is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The forecast asks for so many.
    Forecast,
    /// Demand is there already, whatever the forecast says.
    ReactiveGuard,
    /// The forecast is not trusted yet; the reactive guard alone decides.
    LowConfidence,
    /// Fewer would do, but a recent command asked for more or the cool-down is not over.
    Held,
    /// The bounds allow no other number.
    Bounds,
    /// There are as many as needed.
    AtTarget,
}

/// How many units there shall be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Time of the observation.
    pub at_s: i64,
    /// Units before.
    pub from: u32,
    /// Units from now on.
    pub to: u32,
    /// Units by the forecast, whether trusted or not.
    pub planned: u32,
    /// Why.
    pub reason: Reason,
    /// Demand now: mean of the last minute.
    pub level: f64,
    /// Demand that the planned units are meant to carry.
    pub needed: f64,
    /// Share of past lead times that a margin like this one covered.
    pub q: f64,
    /// Median, 95 % and 99 % quantile of the largest demand until units ordered now are ready.
    pub quantiles: [f64; 3],
    /// How far the forecast may be trusted, 0 to 1.
    pub confidence: f64,
    /// The forecast is below the threshold.
    pub advisory: bool,
}

/// Plans one service. Main type of this module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planner {
    options: Options,
    last_s: Option<i64>,
    demand: Demand,
    lead: Lead,
    budget: Budget,
    confidence: Confidence,
    /// The units of its decisions.
    fleet: Fleet,
}

impl Planner {
    /// A planner that has seen nothing.
    ///
    /// # Errors
    /// A setting is outside of its range; the message names it.
    pub fn new(options: Options) -> Result<Self, PolicyError> {
        check(&options)?;
        let lead_steps = (options.unit.startup_s.div_ceil(options.step_s) + 1) as usize;
        let (pace, floor) = (options.pace(), options.floor());
        Ok(Self {
            options,
            last_s: None,
            demand: Demand::new(options.step_s, lead_steps, floor),
            lead: Lead::new(lead_steps, options.step_s, floor),
            budget: Budget::new(1.0 - options.capacity_share, pace, options.step_s, options.bounds.min),
            confidence: Confidence::new(options.step_s),
            fleet: Fleet::new(pace, options.bounds.min),
        })
    }

    /// Whether it has seen anything.
    pub fn has_seen(&self) -> bool {
        self.last_s.is_some()
    }

    /// Its settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes what a step brought and says how many units there shall be.
    ///
    /// # Errors
    /// The observation is not later than the one before; the planner is as it was then.
    pub fn observe(&mut self, seen: &Observation) -> Result<Decision, PolicyError> {
        let missed = self.missed(seen.at_s)?;
        let known = (0.0..=DEMAND_MAX).contains(&seen.demand);
        if missed > 0 || !known {
            self.bridge(missed);
        }
        let demand = if known { seen.demand } else { self.demand.last() };
        self.last_s = Some(seen.at_s);
        self.demand.push(demand);
        self.account(demand, seen, known);
        let forecast = self.lead.observe(&self.demand, seen.at_s, known);
        if let Some(z) = forecast.z {
            self.budget.covered(z);
            self.confidence.covered(z, self.budget.z_of(confidence::NOMINAL));
        }
        Ok(self.decide(seen, &forecast))
    }

    /// Observes a whole history; nothing more than [`Planner::observe`] for each.
    ///
    /// # Errors
    /// At the first observation that is not later than the one before.
    pub fn replay(&mut self, history: &[Observation]) -> Result<Vec<Decision>, PolicyError> {
        history.iter().map(|seen| self.observe(seen)).collect()
    }

    /// Steps that are missing before an observation.
    fn missed(&self, at_s: i64) -> Result<u64, PolicyError> {
        let Some(last_s) = self.last_s else { return Ok(0) };
        let step_s = self.options.step_s;
        let passed = at_s.saturating_sub(last_s);
        let steps = u64::try_from(passed).unwrap_or(0).saturating_add(u64::from(step_s) / 2) / u64::from(step_s);
        steps.checked_sub(1).ok_or(PolicyError::Unsorted { at_s, last_s, step_s })
    }

    /// Time goes on over a gap, but nothing is learnt from it.
    fn bridge(&mut self, missed: u64) {
        self.lead.forget_pending();
        if missed > GAP_STEPS_MAX {
            self.demand = Demand::new(self.options.step_s, self.lead.steps(), self.options.floor());
            return;
        }
        for _ in 0..missed {
            self.demand.push(self.demand.last());
        }
    }

    /// What the step cost the budget, really and by each margin.
    fn account(&mut self, demand: f64, seen: &Observation, known: bool) {
        let capacity = self.options.unit.capacity;
        self.fleet.advance();
        self.budget.advance();
        let modelled = (demand - f64::from(self.fleet.ready()) * capacity).max(0.0);
        let lost = seen.lost.filter(|lost| lost.is_finite() && *lost >= 0.0).unwrap_or(modelled);
        if known && self.lead.is_trained() {
            self.budget.spend(demand, lost.min(demand.max(modelled)), capacity);
        }
    }

    fn decide(&mut self, seen: &Observation, forecast: &Forecast) -> Decision {
        let Options { unit, bounds, .. } = self.options;
        let units_of = |demand: f64| (demand / unit.capacity).ceil().min(f64::from(UNITS_MAX)) as u32;
        let largest = self.demand.largest();
        let floor = units_of(guard::floor(&self.demand));
        let within = |units: u32| units.clamp(bounds.min, bounds.max);
        self.budget.command(|z| within(units_of(forecast.demand(z, largest)).max(floor)));
        let margin = self.budget.margin();
        let needed = forecast.demand(margin.z, largest);
        let wanted = units_of(needed).max(floor);
        let confidence = self.confidence.value();
        let advisory = confidence < self.options.confidence_threshold;
        let asked = if advisory { units_of(guard::demand(&self.demand)) } else { wanted };
        if let Some(units) = seen.units {
            self.fleet.correct(units);
        }
        let from = self.fleet.total();
        let to = self.fleet.command(within(asked));
        let reason = match (to, asked) {
            _ if to == from && within(asked) == to => Reason::AtTarget,
            _ if within(asked) != asked && to == within(asked) => Reason::Bounds,
            _ if to > within(asked) => Reason::Held,
            _ if advisory => Reason::LowConfidence,
            _ if wanted > units_of(needed) => Reason::ReactiveGuard,
            _ => Reason::Forecast,
        };
        let planned = within(wanted);
        Decision {
            at_s: seen.at_s,
            from,
            to,
            planned,
            reason,
            level: self.demand.mean(self.demand.steps_of(60), 0),
            needed,
            q: margin.q,
            quantiles: [0.5, 0.95, 0.99].map(|share| forecast.demand(self.budget.z_of(share), largest)),
            confidence,
            advisory,
        }
    }
}

impl Options {
    /// Demand below half a unit is all the same.
    fn floor(&self) -> f64 {
        self.unit.capacity / 2.0
    }

    fn pace(&self) -> Pace {
        Pace {
            lead_steps: self.unit.startup_s.div_ceil(self.step_s).max(1) as usize,
            hold_steps: HOLD_S.div_ceil(self.step_s).max(1) as usize,
            cooldown_steps: self.cooldown_s.div_ceil(self.step_s),
            max_step: if self.bounds.max_step == 0 { u32::MAX } else { self.bounds.max_step },
        }
    }
}

/// Settings must make sense together.
fn check(options: &Options) -> Result<(), PolicyError> {
    let Options { step_s, unit, bounds, capacity_share, confidence_threshold, .. } = options;
    let refuse = |text: String| Err(PolicyError::Setting(text));
    if !(STEP_S_MIN..=STEP_S_MAX).contains(step_s) {
        return refuse(format!("step of {step_s} s: give {STEP_S_MIN} to {STEP_S_MAX} s"));
    }
    if !(unit.capacity.is_finite() && unit.capacity > 0.0) {
        return refuse(format!("unit capacity {}: give the demand that one unit carries, above 0", unit.capacity));
    }
    if unit.startup_s > STARTUP_S_MAX {
        return refuse(format!("start-up of {} s: give at most {STARTUP_S_MAX} s", unit.startup_s));
    }
    if !(unit.cost_per_hour.is_finite() && unit.cost_per_hour >= 0.0) {
        return refuse(format!("cost per hour {}: give 0 or more", unit.cost_per_hour));
    }
    if bounds.min > bounds.max || bounds.max == 0 || bounds.max > UNITS_MAX {
        return refuse(format!("bounds {} to {}: give min ≤ max, max 1 to {UNITS_MAX}", bounds.min, bounds.max));
    }
    if !(0.5..1.0).contains(capacity_share) {
        return refuse(format!("capacity share {capacity_share}: give 0.5 or more and less than 1, such as 0.999"));
    }
    if !(0.0..=1.0).contains(confidence_threshold) {
        return refuse(format!("confidence threshold {confidence_threshold}: give 0 to 1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
