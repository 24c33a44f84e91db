//! The knobs that a policy turns, and the arms that it learns on: a small grid of knobs.
//!
//! A policy recommends knobs between the rungs of the grid. [`ActionSpace::spread`] expresses such knobs as chances of the
//! neighbouring arms whose mean they are, so that a recommendation can be judged by decisions logged on arms.
//!
//! **Invariant:** rungs ascend and are finite; what lies outside the grid is held at its edge.

use super::refusal::{Refusal, Result};

/// How many knobs there are.
pub const KNOBS: usize = 3;
/// Their names, in the order of every array of knobs.
pub const KNOB_NAMES: [&str; KNOBS] = ["k", "hold_s", "guard"];
/// Arms of a grid.
pub const ARMS_MAX: usize = 64;

/// What the rule on top of the forecast is set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knobs {
    /// How many spreads above its mean the forecast is taken at.
    pub k: f64,
    /// How long a replica is kept after the last command that asked for it, in seconds.
    pub hold_s: f64,
    /// The reactive guard: at least so many times the load of the last minute, whatever the forecast says.
    pub guard: f64,
}

impl Knobs {
    /// As numbers, in the order of [`KNOB_NAMES`].
    #[must_use]
    pub fn array(&self) -> [f64; KNOBS] {
        [self.k, self.hold_s, self.guard]
    }

    /// From numbers in that order.
    #[must_use]
    pub fn of(array: [f64; KNOBS]) -> Self {
        Self { k: array[0], hold_s: array[1], guard: array[2] }
    }
}

/// The grid: the rungs of every knob. An arm is one rung of each, the last knob's running fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionSpace {
    rungs: [Vec<f64>; KNOBS],
}

impl Default for ActionSpace {
    fn default() -> Self {
        Self { rungs: [vec![0.0, 1.0, 2.0, 3.0, 4.5], vec![60.0, 300.0], vec![1.0, 1.15, 1.4]] }
    }
}

impl ActionSpace {
    /// The grid of these rungs, for k, hold in seconds and guard.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] when a knob has no rung, rungs do not ascend or are out of range, or there are too many arms.
    pub fn new(rungs: [Vec<f64>; KNOBS]) -> Result<Self> {
        let limits = [(0.0, 10.0), (0.0, super::simulator::HOLD_MAX_S), (1.0, 4.0)];
        for ((name, rungs), (low, high)) in KNOB_NAMES.iter().zip(&rungs).zip(limits) {
            let in_range = rungs.iter().all(|rung| (low..=high).contains(rung));
            if rungs.is_empty() || !in_range || rungs.windows(2).any(|pair| pair[0] >= pair[1]) {
                let text = format!("the rungs of {name} are {rungs:?}: give ascending numbers from {low} to {high}");
                return Err(Refusal::Parameter(text));
            }
        }
        let space = Self { rungs };
        if space.arms() > ARMS_MAX {
            return Err(Refusal::Parameter(format!("{} arms are too many: at most {ARMS_MAX}", space.arms())));
        }
        Ok(space)
    }

    /// How many arms there are.
    #[must_use]
    pub fn arms(&self) -> usize {
        self.rungs.iter().map(Vec::len).product()
    }

    /// The rungs of every knob.
    #[must_use]
    pub fn rungs(&self) -> &[Vec<f64>; KNOBS] {
        &self.rungs
    }

    /// The knobs of an arm.
    #[must_use]
    pub fn knobs(&self, arm: usize) -> Knobs {
        let places = self.places(arm);
        Knobs::of(std::array::from_fn(|knob| self.rungs[knob][places[knob]]))
    }

    /// The knobs that chances of arms mean.
    #[must_use]
    pub fn mean(&self, chances: &[f64]) -> Knobs {
        let mut mean = [0.0; KNOBS];
        for (arm, chance) in chances.iter().enumerate() {
            for (total, value) in mean.iter_mut().zip(self.knobs(arm).array()) {
                *total += chance * value;
            }
        }
        Knobs::of(mean)
    }

    /// Chances of the arms around these knobs, whose mean they are.
    #[must_use]
    pub fn spread(&self, knobs: &Knobs) -> Vec<f64> {
        let positions = self.positions(knobs);
        let near = |place: usize, position: f64| (1.0 - (position - place as f64).abs()).max(0.0);
        let chance = |arm: usize| -> f64 {
            self.places(arm).iter().zip(positions).map(|(place, position)| near(*place, position)).product()
        };
        (0..self.arms()).map(chance).collect()
    }

    /// Knobs on the way to new ones, as far as one decision may go: so many percent of each knob's range.
    #[must_use]
    pub fn moved(&self, old: &Knobs, new: Knobs, change_pct: f64) -> Knobs {
        let (from, to) = (old.array(), new.array());
        Knobs::of(std::array::from_fn(|knob| {
            let rungs = &self.rungs[knob];
            let range = rungs.last().unwrap_or(&0.0) - rungs.first().unwrap_or(&0.0);
            let most = range * change_pct / 100.0;
            from[knob] + (to[knob] - from[knob]).clamp(-most, most)
        }))
    }

    /// Where knobs stand on their ladders: 0 is the first rung, 1 the second, and a half is halfway between.
    pub(super) fn positions(&self, knobs: &Knobs) -> [f64; KNOBS] {
        let values = knobs.array();
        std::array::from_fn(|knob| {
            let rungs = &self.rungs[knob];
            let above = rungs.partition_point(|rung| *rung <= values[knob]);
            match (above.checked_sub(1), rungs.get(above)) {
                (Some(below), Some(high)) => below as f64 + (values[knob] - rungs[below]) / (high - rungs[below]),
                (Some(below), None) => below as f64,
                (None, _) => 0.0,
            }
        })
    }

    /// The rung of every knob of an arm.
    pub(super) fn places(&self, arm: usize) -> [usize; KNOBS] {
        let mut rest = arm;
        let mut places = [0; KNOBS];
        for knob in (0..KNOBS).rev() {
            places[knob] = rest % self.rungs[knob].len();
            rest /= self.rungs[knob].len();
        }
        places
    }

    /// Where an arm stands, every ladder from −1 to 1; 0 for a ladder of one rung.
    pub(super) fn coordinates(&self, arm: usize) -> [f64; KNOBS] {
        let places = self.places(arm);
        std::array::from_fn(|knob| match self.rungs[knob].len() {
            1 => 0.0,
            rungs => 2.0 * places[knob] as f64 / (rungs - 1) as f64 - 1.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_decision_moves_a_knob_by_a_share_of_its_range() {
        let space = ActionSpace::default();
        let (old, new) = (Knobs { k: 1.0, hold_s: 300.0, guard: 1.0 }, Knobs { k: 4.5, hold_s: 60.0, guard: 1.05 });
        let found = space.moved(&old, new, 25.0);
        assert_eq!(found, Knobs { k: 1.0 + 4.5 / 4.0, hold_s: 240.0, guard: 1.05 });
        assert_eq!(space.moved(&old, new, 100.0), new);
    }

    #[test]
    fn chances_of_neighbouring_arms_mean_the_knobs() {
        let space = ActionSpace::default();
        for knobs in [Knobs { k: 1.7, hold_s: 200.0, guard: 1.05 }, space.knobs(5), space.knobs(space.arms() - 1)] {
            let chances = space.spread(&knobs);
            assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let mean = space.mean(&chances).array();
            assert!(mean.iter().zip(knobs.array()).all(|(a, b)| (a - b).abs() < 1e-9), "{mean:?} {knobs:?}");
            assert!(chances.iter().filter(|chance| **chance > 0.0).count() <= 8);
        }
        assert_eq!(space.spread(&space.knobs(5))[5], 1.0);
    }

    #[test]
    fn knobs_outside_the_grid_are_held_at_its_edge() {
        let space = ActionSpace::default();
        let chances = space.spread(&Knobs { k: 99.0, hold_s: 0.0, guard: 0.5 });
        assert_eq!(space.mean(&chances), Knobs { k: 4.5, hold_s: 60.0, guard: 1.0 });
    }

    #[test]
    fn rungs_that_do_not_ascend_or_are_out_of_range_are_refused() {
        let fine = || [vec![1.0, 2.0], vec![60.0], vec![1.0, 1.2]];
        assert_eq!(ActionSpace::new(fine()).unwrap().arms(), 4);
        for bad in [vec![], vec![2.0, 1.0], vec![f64::NAN], vec![-1.0]] {
            let mut rungs = fine();
            rungs[0] = bad;
            assert!(matches!(ActionSpace::new(rungs), Err(Refusal::Parameter(text)) if text.contains("of k")));
        }
        let many: Vec<f64> = (0..65).map(|i| f64::from(i) / 10.0).collect();
        assert!(matches!(ActionSpace::new([many, vec![60.0], vec![1.0]]), Err(Refusal::Parameter(_))));
    }
}
