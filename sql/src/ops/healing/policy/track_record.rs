//! What a runbook has achieved against a cause, and whether that lets it act alone.
//!
//! **Formula.** Successes and failures update a uniform prior to a Beta(1 + s, 1 + f) distribution of the chance of success.
//! Autonomy is earned when its lower 5 % bound is above 0.95: after 58 successes without a failure. It is lost on a failure,
//! and then needs as many successes in a row anew.
//!
//! **Papers.** Bound: inverse of the regularised incomplete beta function by bisection, the function by Lentz's continued
//! fraction (Press et al., *Numerical Recipes*, 6.4). Logarithm of the gamma function: Lanczos (1964).
//!
//! **Invariant:** a failure never raises a bound.

use serde::{Deserialize, Serialize};

/// The bound that autonomy needs.
pub const AUTONOMY_MIN: f64 = 0.95;
/// How sure the bound is: it is wrong in so many cases.
pub const DOUBT: f64 = 0.05;

/// What a runbook has achieved against a cause.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TrackRecord {
    /// How often it was verified.
    pub successes: u64,
    /// How often not.
    pub failures: u64,
    /// Successes since the last failure.
    pub in_a_row: u64,
}

impl TrackRecord {
    /// With one more outcome.
    pub fn after(self, success: bool) -> Self {
        match success {
            true => Self { successes: self.successes + 1, in_a_row: self.in_a_row + 1, ..self },
            false => Self { failures: self.failures + 1, in_a_row: 0, ..self },
        }
    }

    /// The parameters of the posterior.
    pub fn beta(&self) -> (f64, f64) {
        (1.0 + self.successes as f64, 1.0 + self.failures as f64)
    }

    /// The expected chance of success.
    pub fn expected(&self) -> f64 {
        let (a, b) = self.beta();
        a / (a + b)
    }

    /// The chance of success that it has at least, but for a doubt of 5 %.
    pub fn lower(&self) -> f64 {
        let (a, b) = self.beta();
        beta_quantile(DOUBT, a, b)
    }

    /// Whether it may act alone.
    pub fn is_autonomous(&self) -> bool {
        let since = Self { successes: self.in_a_row, failures: 0, in_a_row: self.in_a_row };
        self.lower() > AUTONOMY_MIN && since.lower() > AUTONOMY_MIN
    }
}

/// The lower end of the two-sided 95 % interval of a share (Wilson's score), which figures of success are given with.
pub fn wilson_lower(successes: u64, tries: u64) -> f64 {
    const Z: f64 = 1.959_964;
    if tries == 0 {
        return 0.0;
    }
    let (n, share) = (tries as f64, successes as f64 / tries as f64);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((share + Z * Z / (2.0 * n) - spread) / (1.0 + Z * Z / n)).max(0.0)
}

/// Below which number a Beta(a, b) distribution has the share `share`.
fn beta_quantile(share: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if incomplete_beta(middle, a, b) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const STEPS_MAX: usize = 300;
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut whole = d;
    for step in 1..STEPS_MAX {
        let m = step as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        whole *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        whole *= d * c;
        if (d * c - 1.0).abs() < 1e-14 {
            break;
        }
    }
    whole
}

fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 6] = [
        76.180_091_729_471_46,
        -86.505_320_329_416_77,
        24.014_098_240_830_91,
        -1.231_739_572_450_155,
        0.001_208_650_973_866_179,
        -0.000_005_395_239_384_953,
    ];
    let base = x + 5.5 - (x + 0.5) * (x + 5.5).ln();
    let sum = TERMS.iter().zip(1..).fold(1.000_000_000_190_015, |sum, (term, i)| sum + term / (x + f64::from(i)));
    -base + (2.506_628_274_631_000_5 * sum / x).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(successes: u64, failures: u64) -> TrackRecord {
        TrackRecord { successes, failures, in_a_row: if failures == 0 { successes } else { 0 } }
    }

    #[test]
    fn bounds_meet_closed_forms() {
        // Beta(n + 1, 1) has the quantile q^(1/(n + 1)).
        for n in [0, 1, 10, 100, 10_000] {
            let wanted = DOUBT.powf(1.0 / (n as f64 + 1.0));
            assert!((of(n, 0).lower() - wanted).abs() < 1e-9, "{n} {}", of(n, 0).lower());
        }
        // Beta(2, 2): x²(3 − 2x).
        let x = of(1, 1).lower();
        assert!((x * x * (3.0 - 2.0 * x) - DOUBT).abs() < 1e-9, "{x}");
    }

    #[test]
    fn autonomy_takes_58_successes_and_is_lost_on_a_failure() {
        assert!(!of(57, 0).is_autonomous() && of(58, 0).is_autonomous());
        let mut record = of(2_000, 0).after(false);
        assert!(record.lower() > AUTONOMY_MIN && !record.is_autonomous(), "lost although the bound is high");
        for _ in 0..57 {
            record = record.after(true);
        }
        assert!(!record.is_autonomous() && record.after(true).is_autonomous());
    }

    #[test]
    fn a_failure_never_raises_a_bound() {
        for successes in 0..50 {
            assert!(of(successes, 3).lower() < of(successes, 2).lower());
            assert!(of(successes, 2).lower() < of(successes + 1, 2).lower());
        }
    }

    #[test]
    fn wilson_needs_74_tries_without_a_failure_for_95_percent() {
        assert!(wilson_lower(72, 72) < 0.95 && wilson_lower(74, 74) > 0.95);
        assert!((wilson_lower(81, 263) - 0.255).abs() < 1e-3, "{}", wilson_lower(81, 263));
        assert_eq!(wilson_lower(0, 0), 0.0);
    }
}
