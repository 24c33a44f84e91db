//! What a score is worth: its rank among the scores of ordinary rows, evidence of several detectors in one, and an alarm
//! when ordinary rows no longer score as they did.
//!
//! **Formula.** With n calibration scores, the p-value of s is (number of them ≥ s + 1) / (n + 1), with straight lines in
//! between, so that unequal scores have unequal p-values; above the largest it falls as an exponential whose scale is the
//! mean excess of the highest twentieth. A threshold p ≤ α alarms on at most α of ordinary rows, whatever the score's
//! distribution. The evidence of several detectors is max over them of −ln p + ln share, where the shares divide the
//! budget of false alarms between them (Bonferroni), plus the mean of −ln p; it is ranked again, which makes the whole
//! exact where the detectors depend on each other.
//!
//! **Drift.** Of n new p-values, the share below each of the levels 0.5, 0.2, 0.1, 0.05 and 0.02 is compared with the share e
//! that the calibration itself has there: the level, or less where many scores are equal. e is at least 1/(m + 1) and at most
//! m/(m + 1), m the calibration's size; z = (share − e) / √(e (1 − e) (1/n + 1/m)). The alarm is a |z| above 4 where the
//! shares also differ by more than a quarter of e. The p-value of a drift is that of its z from a normal distribution, two
//! sides and all levels (Bonferroni); rows that come in bursts make it too small.
//!
//! **Missing values.** A NaN score has p = 1, and is left out of a calibration.
//!
//! **Papers.** Vovk, Gammerman and Shafer 2005 (conformal p-values); Bates et al., *Testing for Outliers with Conformal
//! p-values*, 2023.
//!
//! **Invariant:** a larger score never has a larger p-value.

/// Scores that a calibration keeps; of more, every so many-th, but all of the highest.
const KEPT_MAX: usize = 8_192;
/// How many of the highest are kept in any case.
const HIGHEST: usize = 1_024;
/// How much of the mean evidence is added: with attack families left out of NSL-KDD's training part in turn, 1 gave a larger
/// area (.956 against .949) than 0.02 and about the same at few false alarms.
const MEAN_SHARE: f64 = 1.0;
/// The smallest p-value.
const P_MIN: f64 = 1e-300;
/// Levels that drift is looked for at.
const LEVELS: [f64; 5] = [0.5, 0.2, 0.1, 0.05, 0.02];

/// Scores of ordinary rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Kept scores, ascending and distinct, and how many of all scores are at least as high.
    points: Vec<(f64, u32)>,
    /// How many scores there were.
    count: u32,
    /// How fast p falls above the largest score.
    scale: f64,
}

impl Calibration {
    /// Ranks these scores; NaN is left out.
    #[must_use]
    pub fn new(scores: &[f64]) -> Self {
        let mut sorted: Vec<f64> = scores.iter().copied().filter(|score| !score.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let count = sorted.len();
        let step = (count.saturating_sub(HIGHEST)).div_ceil(KEPT_MAX - HIGHEST).max(1);
        let mut points: Vec<(f64, u32)> = Vec::new();
        for (at, score) in sorted.iter().enumerate() {
            let kept = at % step == 0 || at + HIGHEST >= count;
            if kept && points.last().is_none_or(|(last, _)| last < score) {
                let above = count - sorted.partition_point(|other| other < score);
                points.push((*score, above as u32));
            }
        }
        let tail = &sorted[count - count.div_ceil(20)..];
        let excess = tail.iter().map(|score| score - tail[0]).sum::<f64>() / tail.len().max(1) as f64;
        let scale = if excess.is_finite() && excess > 0.0 { excess } else { 1.0 };
        Self { points, count: count as u32, scale }
    }

    /// A calibration from its parts; `None` where they do not fit together.
    #[must_use]
    pub fn from_parts(points: Vec<(f64, u32)>, count: u32, scale: f64) -> Option<Self> {
        let ordered = points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 >= pair[1].1);
        let fits = ordered
            && points.iter().all(|(score, above)| !score.is_nan() && *above <= count)
            && (scale > 0.0 && scale.is_finite());
        fits.then_some(Self { points, count, scale })
    }

    /// Kept scores, ascending, each with the number of scores at least as high.
    #[must_use]
    pub fn points(&self) -> &[(f64, u32)] {
        &self.points
    }

    /// How many scores it was made of.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How fast p falls above the largest score.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The p-value of a score.
    #[must_use]
    pub fn p_value(&self, score: f64) -> f64 {
        let all = f64::from(self.count) + 1.0;
        if score.is_nan() {
            return 1.0;
        }
        let next = self.points.partition_point(|(point, _)| *point < score);
        let p = |at: usize| (f64::from(self.points[at].1) + 1.0) / all;
        match (next.checked_sub(1), self.points.get(next)) {
            (_, Some((point, _))) if *point == score => p(next),
            (None, _) => 1.0,
            (Some(last), None) => (1.0 / all * (-(score - self.points[last].0) / self.scale).exp()).max(P_MIN),
            (Some(last), Some((point, _))) => {
                let (from, to) = (self.points[last].0, *point);
                let share = if (to - from).is_finite() { (score - from) / (to - from) } else { 0.5 };
                p(last) + (p(next) - p(last)) * share
            }
        }
    }

    /// The share of its own scores whose p-value is at most this level.
    fn share(&self, level: f64) -> f64 {
        let (count, all) = (f64::from(self.count), f64::from(self.count) + 1.0);
        let within = |(_, above): &&(f64, u32)| (f64::from(*above) + 1.0) / all <= level;
        // Ascending scores have descending counts: the first within has the most above it.
        let share = self.points.iter().find(within).map_or(0.0, |(_, above)| f64::from(*above) / count);
        share.clamp(1.0 / all, count / all)
    }

    /// Compares p-values of new, mostly ordinary rows with those that this was made of. None for no rows, or none of its own.
    #[must_use]
    pub fn drift(&self, p_values: &[f64]) -> Option<Drift> {
        let n = p_values.len() as f64;
        if p_values.is_empty() || self.count == 0 {
            return None;
        }
        let at = |level: f64| {
            let share = p_values.iter().filter(|p| **p <= level).count() as f64 / n;
            let expected = self.share(level);
            let deviation = (expected * (1.0 - expected) * (1.0 / n + 1.0 / f64::from(self.count))).sqrt();
            let z = (share - expected) / deviation;
            let alarm = z.abs() > 4.0 && (share - expected).abs() > expected / 4.0;
            Drift { level, share, expected, z, alarm }
        };
        let key = |drift: &Drift| (drift.alarm, drift.z.abs());
        LEVELS.map(at).into_iter().reduce(|a, b| if key(&b) > key(&a) { b } else { a })
    }
}

/// The evidence of several detectors: `shares` divide the budget of false alarms, a detector of share 0 is not heard.
#[must_use]
pub fn fused(p_values: &[f64], shares: &[f64]) -> f64 {
    let heard = || p_values.iter().zip(shares).filter(|(_, share)| **share > 0.0);
    let all: f64 = shares.iter().sum();
    let evidence = |p: f64| -p.max(P_MIN).ln();
    let most = heard().map(|(p, share)| evidence(*p) + (share / all).ln()).fold(f64::NEG_INFINITY, f64::max);
    let count = heard().count().max(1) as f64;
    most + MEAN_SHARE * heard().map(|(p, _)| evidence(*p)).sum::<f64>() / count
}

/// Whether ordinary rows score as they did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The level whose share moved most.
    pub level: f64,
    /// The share of p-values at or below it.
    pub share: f64,
    /// The share that the calibration has there.
    pub expected: f64,
    /// How many standard deviations they are apart.
    pub z: f64,
    /// Whether that is too far to go on with this calibration.
    pub alarm: bool,
}

impl Drift {
    /// How likely a share at any of the levels is to be so far off by chance.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        (LEVELS.len() as f64 * erfc(self.z.abs() / std::f64::consts::SQRT_2)).min(1.0)
    }
}

/// The complementary error function of a number that is not negative, to seven digits (Press et al., *Numerical Recipes*, 6.2).
fn erfc(x: f64) -> f64 {
    const TERMS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let sum = TERMS.iter().rev().fold(0.0, |sum: f64, term| sum * t + term);
    t * (sum - x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::noise;

    #[test]
    fn a_level_is_a_false_alarm_rate_and_larger_scores_have_smaller_p_values() {
        let calibration = Calibration::new(&(0..5_000).map(|i| noise(i).powi(3)).collect::<Vec<_>>());
        let new: Vec<f64> = (5_000..15_000).map(|i| calibration.p_value(noise(i).powi(3))).collect();
        for level in [0.5, 0.1, 0.02] {
            let share = new.iter().filter(|p| **p <= level).count() as f64 / 10_000.0;
            assert!((share - level).abs() < 0.15 * level, "{share} at {level}");
        }
        let p: Vec<f64> = (-200..200).map(|i| calibration.p_value(f64::from(i) / 100.0)).collect();
        assert!(p.windows(2).all(|pair| pair[0] >= pair[1]) && p[399] < p[320] && p[0] == 1.0);
        assert_eq!(calibration.p_value(f64::NAN), 1.0);
        assert!(calibration.p_value(f64::INFINITY) >= 0.0);
    }

    #[test]
    fn a_thinned_calibration_agrees_with_the_whole_where_it_matters() {
        let scores: Vec<f64> = (0..100_000).map(noise).collect();
        let calibration = Calibration::new(&scores);
        assert!(calibration.points().len() <= KEPT_MAX + 1);
        let above = scores.iter().filter(|score| **score >= 0.97).count() as f64;
        assert!((calibration.p_value(0.97) - above / 100_000.0).abs() < 2e-4);
        let again = Calibration::from_parts(calibration.points().to_vec(), calibration.count(), calibration.scale());
        assert_eq!(again.unwrap(), calibration);
        assert!(Calibration::from_parts(vec![(2.0, 1), (1.0, 1)], 5, 1.0).is_none());
    }

    #[test]
    fn nothing_to_calibrate_on_makes_every_p_value_one() {
        let none = Calibration::new(&[f64::NAN]);
        assert_eq!((none.p_value(3.0), none.count()), (1.0, 0));
        let ties = Calibration::new(&[1.0; 99]);
        assert_eq!((ties.p_value(1.0), ties.p_value(0.5)), (1.0, 1.0));
        assert!(ties.p_value(1.5) <= 0.01);
    }

    #[test]
    fn the_strongest_detector_decides_and_a_silent_one_is_not_heard() {
        let strong = fused(&[1e-4, 0.9], &[1.0, 1.0]);
        assert!(strong > fused(&[1e-3, 0.9], &[1.0, 1.0]) && strong > fused(&[0.9, 0.9], &[1.0, 1.0]));
        assert_eq!(fused(&[0.5, 1e-9], &[1.0, 0.0]), fused(&[0.5, 0.5], &[1.0, 0.0]));
        assert!(fused(&[1e-3, 0.5], &[0.8, 0.2]) > fused(&[1e-3, 0.5], &[0.2, 0.8]));
    }

    #[test]
    fn drift_alarms_when_ordinary_rows_score_otherwise() {
        let calibration = Calibration::new(&(0..5_000).map(noise).collect::<Vec<_>>());
        let even: Vec<f64> = (5_000..8_000).map(|i| calibration.p_value(noise(i))).collect();
        let found = calibration.drift(&even).unwrap();
        assert!(!found.alarm && found.p_value() > 1e-4, "{found:?}");
        let moved: Vec<f64> = even.iter().map(|p| p * p).collect();
        let found = calibration.drift(&moved).unwrap();
        assert!(found.alarm && found.share > found.expected && found.p_value() < 1e-4, "{found:?}");
        assert_eq!((calibration.drift(&[]), Calibration::new(&[]).drift(&even)), (None, None));
    }

    #[test]
    fn equal_scores_are_held_against_equal_scores() {
        // Three of five ordinary rows are of one kind, two of another.
        let kind = |i: i32| f64::from(u8::from(i % 5 < 2));
        let calibration = Calibration::new(&(0..1_000).map(kind).collect::<Vec<_>>());
        let p_values = |kind: fn(i32) -> f64| (0..1_000).map(|i| calibration.p_value(kind(i))).collect::<Vec<f64>>();
        assert!(!calibration.drift(&p_values(|i| f64::from(u8::from(i % 5 < 2)))).unwrap().alarm);
        let other = calibration.drift(&p_values(|i| f64::from(u8::from(i % 5 < 3)))).unwrap();
        assert!(other.alarm && (other.level, other.share) == (0.5, 0.6), "{other:?}");
        let unseen = calibration.drift(&p_values(|i| f64::from(u8::from(i % 20 == 0)) * 2.0)).unwrap();
        assert!(unseen.alarm && unseen.share < 0.1, "{unseen:?}");
    }

    #[test]
    fn the_p_value_of_a_drift_is_that_of_a_normal_distribution() {
        for (x, expected) in [(0.0, 1.0), (0.5, 0.479_500_122), (1.0, 0.157_299_207), (3.0, 2.209_049_7e-5)] {
            assert!((erfc(x) / expected - 1.0).abs() < 1e-6, "{x}: {}", erfc(x));
        }
        let of = |z| Drift { level: 0.5, share: 0.5, expected: 0.5, z, alarm: false }.p_value();
        assert_eq!((of(0.0), of(-4.0)), (1.0, of(4.0)));
        assert!((of(4.0) / (5.0 * 6.334_2e-5) - 1.0).abs() < 1e-3);
    }
}
