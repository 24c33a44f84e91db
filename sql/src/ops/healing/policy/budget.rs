//! What a sensitivity means: how many false alarms a series may give in a day.
//!
//! **Invariant:** a budget never grows with the sensitivity.

/// Microseconds of a day.
pub const DAY_US: f64 = 86_400e6;

/// A budget of false alarms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// False alarms per series and day.
    pub per_series_day: f64,
}

impl Budget {
    /// The budget of a sensitivity s from 0 to 1: 10^(1 − 5s) false alarms per series and day.
    ///
    /// # Errors
    /// A text that says what to do, for a sensitivity out of range.
    pub fn of(sensitivity: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&sensitivity) {
            return Ok(Self { per_series_day: 10f64.powf(1.0 - 5.0 * sensitivity) });
        }
        Err(format!("a sensitivity of {sensitivity} is out of range: use 0 to 1"))
    }

    /// The p-value below which one point of a series is an alarm of its own, at so many points a day.
    pub fn p_limit(&self, points_per_day: f64) -> f64 {
        (self.per_series_day / points_per_day.max(1.0)).min(1.0)
    }

    /// The false alarms that so many series give in a time.
    pub fn expected(&self, series: usize, span_us: i64) -> f64 {
        self.per_series_day * series as f64 * span_us.max(0) as f64 / DAY_US
    }
}

#[cfg(test)]
mod tests {
    use juno_kernels::record_ratio::{Params, score};
    use juno_kernels::{Device, Series, SplitMix};

    use super::*;

    #[test]
    fn the_shipped_sensitivity_allows_one_false_alarm_in_a_thousand_series_days() {
        let budget = Budget::of(0.8).unwrap();
        assert!((budget.per_series_day - 1e-3).abs() < 1e-12);
        assert!((budget.p_limit(86_400.0) - 1e-3 / 86_400.0).abs() < 1e-15);
        assert!((budget.expected(500, 2 * 86_400_000_000) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn budgets_fall_with_the_sensitivity_and_others_are_refused() {
        let budgets: Vec<f64> = (0..=10).map(|s| Budget::of(f64::from(s) / 10.0).unwrap().per_series_day).collect();
        assert!(budgets.windows(2).all(|pair| pair[1] < pair[0]), "{budgets:?}");
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert!(Budget::of(wrong).unwrap_err().contains("use 0 to 1"));
        }
    }
    /// What the surveys judge with, on what only chance moves.
    #[test]
    fn measured_false_alarms_are_within_twice_the_budget() {
        let (series, points, per_day) = (60, 4_000, 288.0);
        let mut random = SplitMix::new(11, 0);
        let values: Vec<f64> = (0..series * points).map(|_| 50.0 + random.normal()).collect();
        let offsets: Vec<usize> = (0..=series).map(|at| at * points).collect();
        let all = Series::new(&values, &offsets).expect("series");
        let judged = score(&Device::cpu(), &all, None, &Params { warm_up: 100 }).expect("judgements");
        let days = (series * (points - 100)) as f64 / per_day;
        for sensitivity in [0.25, 0.3, 0.35] {
            let budget = Budget::of(sensitivity).unwrap();
            let limit = budget.p_limit(per_day);
            let alarms = judged.iter().filter(|point| point.p_value <= limit).count() as f64;
            let share = alarms / days / budget.per_series_day;
            assert!((0.5..=2.0).contains(&share), "{sensitivity}: {alarms} alarms are {share} of the budget");
        }
    }
}
