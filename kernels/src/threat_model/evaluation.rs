//! How well p-values tell attacks from ordinary rows.
//!
//! **Invariant:** ties count as what they are: half in the area, and as alarms on both sides of a threshold that they meet.

/// Shares of ordinary rows that alarms are looked at.
pub const FALSE_ALARMS: [f64; 3] = [0.01, 0.02, 0.05];

/// What came of a comparison; NaN where one of the classes is missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Rows.
    pub rows: usize,
    /// Those that are attacks.
    pub attacks: usize,
    /// The chance that an attack has a smaller p-value than an ordinary row.
    pub auc: f64,
    /// The share of attacks found where at most so many of the ordinary rows alarm, for each of [`FALSE_ALARMS`].
    pub found: [f64; 3],
    /// The share of ordinary rows with p ≤ 0.02: what a nominal 2 % really is.
    pub false_alarms: f64,
    /// The share of attacks with p ≤ 0.02.
    pub alarms: f64,
}

/// Compares p-values with what the rows are.
#[must_use]
pub fn evaluate(p_values: &[f64], labels: &[bool]) -> Evaluation {
    let of = |class: bool| {
        let mut of: Vec<f64> =
            p_values.iter().zip(labels).filter(|(_, label)| **label == class).map(|(p, _)| *p).collect();
        of.sort_unstable_by(f64::total_cmp);
        of
    };
    let (ordinary, attacks) = (of(false), of(true));
    let share = |of: &[f64], is: &dyn Fn(f64) -> bool| of.iter().filter(|p| is(**p)).count() as f64 / of.len() as f64;
    let found = FALSE_ALARMS.map(|rate| {
        // The first ordinary row that would be one alarm too many.
        let limit = ordinary.get((rate * ordinary.len() as f64).floor() as usize).copied().unwrap_or(f64::NAN);
        if limit.is_nan() { f64::NAN } else { share(&attacks, &|p| p < limit) }
    });
    let above = |p: &f64| {
        let (below, upto) = (ordinary.partition_point(|other| other < p), ordinary.partition_point(|other| other <= p));
        ordinary.len() as f64 - (below + upto) as f64 / 2.0
    };
    Evaluation {
        rows: p_values.len(),
        attacks: attacks.len(),
        auc: attacks.iter().map(above).sum::<f64>() / (attacks.len() as f64 * ordinary.len() as f64),
        found,
        false_alarms: share(&ordinary, &|p| p <= 0.02),
        alarms: share(&attacks, &|p| p <= 0.02),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_agree_with_a_case_worked_by_hand() {
        let p = [0.01, 0.3, 0.5, 0.02, 0.5];
        let found = evaluate(&p, &[true, true, false, false, false]);
        assert!((found.auc - (3.0 + 2.0) / 6.0).abs() < 1e-12, "{found:?}");
        assert_eq!((found.rows, found.attacks, found.found), (5, 2, [0.5; 3]));
        assert!((found.false_alarms - 1.0 / 3.0).abs() < 1e-12 && found.alarms == 0.5);
        let ties = evaluate(&[0.5; 6], &[true, false, true, false, true, false]);
        assert_eq!((ties.auc, ties.found), (0.5, [0.0; 3]));
        assert!(evaluate(&[0.5], &[false]).auc.is_nan() && evaluate(&[], &[]).false_alarms.is_nan());
    }
}
