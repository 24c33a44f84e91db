//! What lies beyond a capacity, by the normal distribution.
//!
//! **Invariant:** formulas of one number; the distribution function is that of Abramowitz and Stegun, 7.1.26, to 1.5e-7.

/// Scales of the 95 % and of the 99 % quantile.
const Z_95: f64 = 1.644_853_626_951_472_7;
const Z_99: f64 = 2.326_347_874_040_840_8;

/// Standard deviation by the upper quantiles, the larger of both readings.
pub(super) fn deviation(q50: f64, q95: f64, q99: f64) -> f64 {
    ((q95 - q50) / Z_95).max((q99 - q50) / Z_99).max(0.0)
}

/// Probability below `z` standard deviations.
pub(super) fn below(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * z.abs() / std::f64::consts::SQRT_2);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let polynomial = series.iter().fold(0.0, |sum, factor| sum * t + factor) * t;
    let beyond = polynomial * (-z * z / 2.0).exp() / 2.0;
    if z >= 0.0 { 1.0 - beyond } else { beyond }
}

/// Expected demand beyond `capacity`.
pub(super) fn beyond(capacity: f64, mean: f64, deviation: f64) -> f64 {
    if deviation <= 0.0 {
        return (mean - capacity).max(0.0);
    }
    let z = (capacity - mean) / deviation;
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    (deviation * (density - z * (1.0 - below(z)))).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_and_losses_are_those_of_tables() {
        for (z, share) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.0, 0.158_655_3), (Z_95, 0.95), (Z_99, 0.99)] {
            assert!((below(z) - share).abs() < 1e-6, "{z}");
        }
        assert!((beyond(12.0, 10.0, 2.0) - 2.0 * 0.083_315_5).abs() < 1e-5, "unit normal loss at 1");
        assert_eq!((beyond(8.0, 10.0, 0.0), beyond(12.0, 10.0, 0.0)), (2.0, 0.0));
    }
}
