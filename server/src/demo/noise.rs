//! Noise that is a function of where it is: the same series and step give the same value in every run.
//!
//! **Invariant:** no state, no clock; `hash` is SplitMix64's finaliser (Steele, Lea, Flood 2014).

fn hash(series: u64, step: i64, salt: u64) -> u64 {
    let mut z = (step as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ series.wrapping_mul(0xD1B5_4A32_D192_ED03) ^ salt;
    for multiplier in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        z = (z ^ (z >> 30)).wrapping_mul(multiplier);
        z ^= z >> 27;
    }
    z ^ (z >> 31)
}

/// Uniform in 0..1.
pub(super) fn uniform(series: u64, step: i64, salt: u64) -> f64 {
    (hash(series, step, salt) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Close to a standard normal: the sum of twelve uniforms less six.
pub(super) fn normal(series: u64, step: i64, salt: u64) -> f64 {
    (0..12).map(|draw| uniform(series, step, salt.wrapping_add(draw * 0x1_0001))).sum::<f64>() - 6.0
}

/// Normal noise that wanders: drawn every `every` steps and joined by straight lines.
pub(super) fn slow(series: u64, step: i64, every: i64, salt: u64) -> f64 {
    let (knot, share) = (step.div_euclid(every), step.rem_euclid(every) as f64 / every as f64);
    normal(series, knot, salt) * (1.0 - share) + normal(series, knot + 1, salt) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_repeats_and_has_mean_zero_and_deviation_one() {
        let draws: Vec<f64> = (0..20_000).map(|step| normal(3, step, 7)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert_eq!(normal(3, 5, 7), draws[5]);
        assert_ne!(normal(4, 5, 7), draws[5]);
    }

    #[test]
    fn slow_noise_moves_in_small_steps() {
        let jumps = (0..1000).map(|step| (slow(1, step + 1, 12, 0) - slow(1, step, 12, 0)).abs());
        assert!(jumps.fold(0.0, f64::max) < 8.0 / 12.0);
    }
}
