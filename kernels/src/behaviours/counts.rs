//! What an entity's own past says of a count per window: Gamma–Poisson, with the peers as the prior.
//!
//! **Formula.** With s events in n windows of the past (older ones fade by half every 168 windows), a prior of m events a
//! window that weighs like two windows, the count of the next window is negative binomial with shape 2m + s and success
//! share (2 + n) / (3 + n). Its upper tail is the p-value. After the first twelve, a window teaches at most the mean plus three
//! deviations plus one, so that an attack does not soon become normal.
//!
//! **Source.** Gelman et al., *Bayesian Data Analysis*, section 2.6.
//!
//! **Invariant:** windows without events count as zeros from the first to the last one learned.

/// Windows until a count has half its weight.
const HALF_LIFE: f64 = 168.0;
/// Windows that the prior weighs like.
const PRIOR: f64 = 2.0;
/// Windows that teach whatever they hold.
const OPEN: f64 = 12.0;
/// The most terms of a tail.
const TERMS_MAX: usize = 100_000;

/// The past of an entity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    sum: f64,
    windows: f64,
    /// The next window that is not learned yet.
    next: i64,
}

impl Past {
    /// A past that begins with this window.
    pub(super) fn new(window: i64) -> Self {
        Self { sum: 0.0, windows: 0.0, next: window }
    }

    /// Events expected in a window, given those of the peers.
    pub(super) fn mean(&self, peers: f64) -> f64 {
        (PRIOR * peers + self.sum) / (PRIOR + self.windows)
    }

    /// The chance of at least so many events in a window.
    pub(super) fn p_value(&self, count: u32, peers: f64) -> f64 {
        tail(count, PRIOR * peers + self.sum, (PRIOR + self.windows) / (PRIOR + self.windows + 1.0))
    }

    /// Windows before this one in which nothing happened.
    pub(super) fn pass(&mut self, window: i64) {
        let passed = window.saturating_sub(self.next);
        if passed > 0 {
            let keep = 0.5f64.powf(1.0 / HALF_LIFE);
            let kept = keep.powf(passed as f64);
            self.sum *= kept;
            self.windows = self.windows * kept + (1.0 - kept) / (1.0 - keep);
            self.next = window;
        }
    }

    /// Learns the count of a window; gives what was learned, which is less where it was far too many.
    pub(super) fn learn(&mut self, window: i64, count: u32, peers: f64) -> f64 {
        self.pass(window);
        let mean = self.mean(peers);
        let most = if self.windows < OPEN { f64::INFINITY } else { mean + 3.0 * mean.sqrt() + 1.0 };
        let learned = f64::from(count).min(most);
        self.pass(window.saturating_add(1));
        self.sum += learned;
        learned
    }
}

/// The chance that a negative binomial of this shape is at least `count`; `share` is the chance that it goes no further.
fn tail(count: u32, shape: f64, share: f64) -> f64 {
    if count == 0 {
        return 1.0;
    }
    let go = 1.0 - share;
    let count = f64::from(count);
    let term =
        |x: f64| (ln_gamma(shape + x) - ln_gamma(shape) - ln_gamma(x + 1.0) + shape * share.ln() + x * go.ln()).exp();
    let sum_up = |from: f64, until: f64| {
        let (mut x, mut one, mut sum) = (from, term(from), 0.0);
        for _ in 0..TERMS_MAX {
            sum += one;
            one *= (shape + x) / (x + 1.0) * go;
            x += 1.0;
            if x >= until || (one < sum * 1e-12 && x > shape * go / share) {
                break;
            }
        }
        sum
    };
    let p = if count <= shape * go / share { 1.0 - sum_up(0.0, count) } else { sum_up(count, f64::INFINITY) };
    p.clamp(1e-300, 1.0)
}

/// The logarithm of the gamma function for numbers above 0 (Lanczos, g = 7, nine terms).
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = TERMS[1..].iter().enumerate().fold(TERMS[0], |sum, (i, term)| sum + term / (x + i as f64 + 1.0));
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviours::traffic::Traffic;

    #[test]
    fn tails_agree_with_sums_of_the_probabilities() {
        assert!(
            (ln_gamma(5.0) - 24.0f64.ln()).abs() < 1e-12 && (ln_gamma(0.5) - 0.572_364_942_924_700_1).abs() < 1e-12
        );
        // Shape 1 is geometric: P(X ≥ k) = (1 − share)^k.
        for k in [1, 3, 20, 200] {
            let p = tail(k, 1.0, 0.3);
            assert!((p / 0.7f64.powi(k as i32) - 1.0).abs() < 1e-9, "{p} at {k}");
        }
        let all: f64 = (0..2_000).map(|x| tail(x, 7.5, 0.1) - tail(x + 1, 7.5, 0.1)).sum();
        assert!((all - 1.0).abs() < 1e-9);
        assert!(tail(1_000_000, 0.1, 0.99) > 0.0);
    }

    #[test]
    fn counts_that_go_on_as_before_have_even_p_values() {
        let mut traffic = Traffic::new(3);
        let (mut below, mut windows) = ([0, 0], 0);
        for entity in 0..200 {
            let (mut past, rate) = (Past::new(0), 0.5 + f64::from(entity % 10));
            for window in 0..100 {
                let count = traffic.poisson(rate);
                past.pass(window);
                let p = past.p_value(count, 3.0);
                below[0] += usize::from(window > 20 && p <= 0.1);
                below[1] += usize::from(window > 20 && p <= 0.001);
                windows += usize::from(window > 20);
                past.learn(window, count, 3.0);
            }
        }
        let share = |count: usize| count as f64 / windows as f64;
        assert!(share(below[0]) <= 0.11 && share(below[0]) > 0.05, "{}", share(below[0]));
        assert!(share(below[1]) <= 0.002, "{}", share(below[1]));
    }

    #[test]
    fn idle_windows_are_zeros_and_an_attack_teaches_little() {
        let mut past = Past::new(0);
        past.learn(0, 10, 1.0);
        past.pass(168);
        assert!(past.mean(1.0) < 0.1);
        let before = past.mean(1.0);
        past.learn(168, 1_000, 1.0);
        assert!(past.mean(1.0) < before + 0.1);
    }
}
