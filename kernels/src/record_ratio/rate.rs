//! How often a series stands out so far: the calibrated tail probability of a strength.
//!
//! On calm series of very different make, strengths above s are told at h(s) points per warm-up: ratios to a series' own
//! record hardly depend on what the series measures. That table is the prior, worth [`PRIOR_WARM_UPS`] warm-ups; what the
//! series itself has told since, fading, is added.
//!
//! **Invariant:** a strength is ranked before it counts.

/// Strengths and how many points per warm-up reach them on calm series.
pub(super) const CALM: [(f64, f64); 12] = [
    (0.4, 2.9),
    (0.5, 2.65),
    (0.6, 2.2),
    (0.7, 1.65),
    (0.8, 0.93),
    (0.9, 0.4),
    (1.0, 0.18),
    (1.2, 0.12),
    (1.5, 0.07),
    (2.0, 0.032),
    (5.0, 0.004),
    (50.0, 0.000_1),
];
/// What the table is worth.
const PRIOR_WARM_UPS: f64 = 10.0;
/// The smallest probability that is given.
pub(super) const P_MIN: f64 = 1e-12;
/// Bins, eight to a power of two, from 1/4 to 64.
const BINS: usize = 64;
/// The bits of 1/4 without the lower 49 of the fraction: where the bins start.
const FIRST_BITS: u64 = (1_023 - 2) << 3;

/// What one series has told so far.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    warm_up: f64,
    fade: f64,
    exposure: f64,
    /// Points since the bins last faded.
    since: i32,
    told: [f64; BINS],
}

impl Rate {
    /// Before the first point after a warm-up of so many points.
    pub(super) fn new(warm_up: f64, fade: f64) -> Self {
        Self { warm_up, fade, exposure: 0.0, since: 0, told: [0.0; BINS] }
    }

    /// The probability that a calm point is told with this strength or more; 1 where `strength` is zero. Then counts it.
    pub(super) fn push(&mut self, strength: f64) -> f64 {
        let exposure = self.exposure;
        self.exposure = self.exposure * self.fade + 1.0;
        self.since = self.since.saturating_add(1);
        if strength <= 0.0 {
            return 1.0;
        }
        let faded = self.fade.powi(self.since);
        self.told.iter_mut().for_each(|told| *told *= faded);
        self.since = 0;
        let bin = bin(strength);
        let told = self.told[bin + 1..].iter().sum::<f64>() + 0.5 * self.told[bin];
        self.told[bin] += 1.0;
        let expected = PRIOR_WARM_UPS * calm(strength) + told;
        (expected / (PRIOR_WARM_UPS * self.warm_up + exposure)).clamp(P_MIN, 1.0)
    }
}

/// The bin of a strength.
fn bin(strength: f64) -> usize {
    let place = (strength.to_bits() >> 49).saturating_sub(FIRST_BITS);
    usize::try_from(place).map_or(BINS - 1, |place| place.min(BINS - 1))
}

/// How many points per warm-up reach a strength on calm series: [`CALM`], interpolated between logarithms.
fn calm(strength: f64) -> f64 {
    let (mut low, mut high) = (CALM[0], CALM[1]);
    for pair in CALM.windows(2) {
        (low, high) = (pair[0], pair[1]);
        if strength <= high.0 {
            break;
        }
    }
    let share = ((strength / low.0).ln() / (high.0 / low.0).ln()).clamp(0.0, 1.0);
    low.1 * (share * (high.1 / low.1).ln()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prior_falls_and_meets_its_table() {
        for (strength, rate) in CALM {
            assert!((calm(strength) / rate - 1.0).abs() < 1e-9);
        }
        let rates: Vec<f64> = (1..6_000).map(|i| calm(f64::from(i) * 0.01)).collect();
        assert!(rates.windows(2).all(|pair| pair[1] <= pair[0]));
    }

    #[test]
    fn a_series_that_tells_much_makes_a_strength_ordinary() {
        let (mut calm, mut busy) = (Rate::new(100.0, 0.999_9), Rate::new(100.0, 0.999_9));
        for at in 0..5_000 {
            calm.push(0.0);
            busy.push(if at % 50 == 0 { 3.0 } else { 0.0 });
        }
        let (calm, busy) = (calm.push(2.0), busy.push(2.0));
        assert!(calm < 1e-4 && busy > 0.01, "{calm} {busy}");
    }
}
