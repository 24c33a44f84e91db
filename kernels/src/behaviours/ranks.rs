//! Which share of the numbers so far was at least as large: p-values that hold for whatever distribution.
//!
//! **Formula.** Numbers x ≥ 0 are counted in bins of log₂(1 + x), 32 of them an octave. p(x) = (numbers in x's bin or above
//! + 1) / (all + 1). At 2²⁰ numbers all counts are halved, so that old ones fade.
//!
//! **Source.** Vovk, Gammerman and Shafer 2005 (conformal p-values).
//!
//! **Invariant:** a larger number never has a larger p-value; a NaN has p = 1 and is not counted.

/// Bins an octave.
const FINE: f64 = 32.0;
/// Bins in all: up to 2⁴⁰.
const BINS: usize = 1_280;
/// Numbers at which the counts are halved.
const NUMBERS_MAX: u32 = 1 << 20;

/// Counts of numbers.
#[derive(Clone, Debug)]
pub(super) struct Ranks {
    counts: Vec<u32>,
    all: u32,
}

impl Ranks {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BINS], all: 0 }
    }

    pub(super) fn learn(&mut self, x: f64) {
        if x.is_nan() {
            return;
        }
        self.counts[bin(x)] += 1;
        self.all += 1;
        if self.all >= NUMBERS_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.all = self.counts.iter().sum();
        }
    }

    /// Numbers at least as large.
    fn above(&self, x: f64) -> f64 {
        self.counts[bin(x)..].iter().map(|count| f64::from(*count)).sum()
    }

    pub(super) fn p_value(&self, x: f64) -> f64 {
        if x.is_nan() {
            return 1.0;
        }
        (self.above(x) + 1.0) / (f64::from(self.all) + 1.0)
    }
}

fn bin(x: f64) -> usize {
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "clamped to the bins")]
    let bin = ((1.0 + x.max(0.0)).log2() * FINE).clamp(0.0, BINS as f64 - 1.0) as usize;
    bin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splitmix::SplitMix;

    #[test]
    fn a_level_is_a_false_alarm_rate_on_any_distribution() {
        let (mut ranks, mut random) = (Ranks::new(), SplitMix::new(1, 1));
        let mut alarms = [0; 2];
        for _ in 0..40_000 {
            let x = (random.unit() * 6.0).exp();
            let p = ranks.p_value(x);
            alarms[0] += usize::from(p <= 0.1);
            alarms[1] += usize::from(p <= 0.01);
            ranks.learn(x);
        }
        assert!((3_200..=4_100).contains(&alarms[0]) && (250..=430).contains(&alarms[1]), "{alarms:?}");
        assert_eq!((ranks.p_value(f64::NAN), ranks.p_value(-1.0)), (1.0, 1.0));
        assert!(ranks.p_value(f64::INFINITY) < 1e-4);
    }

    #[test]
    fn old_numbers_fade() {
        let mut ranks = Ranks::new();
        (0..NUMBERS_MAX).for_each(|_| ranks.learn(3.0));
        assert_eq!(ranks.all, NUMBERS_MAX / 2);
    }
}
