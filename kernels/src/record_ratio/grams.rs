//! How new the last few levels of a series are: sequences of two to five levels, counted in a table of hashes.
//!
//! **Invariant:** bounded memory; levels are parts of the range of the warm-up, so none are known before it ends.

use super::rolling::Rolling;

/// Levels between the least and the largest value of the warm-up.
const LEVELS: f64 = 8.0;
/// Counters in the table.
const TABLE: usize = 8_192;
/// The longest sequence, in levels before the newest.
const ORDERS: usize = 4;
/// A counter fades by this factor whenever it counts.
const FADE: f32 = 0.999_5;

/// Sequences of levels seen so far.
#[derive(Clone, Debug)]
pub(super) struct Grams {
    low: f64,
    step: f64,
    levels: [u64; ORDERS + 1],
    seen: usize,
    table: Vec<f32>,
    mean: Rolling,
}

impl Grams {
    /// Levels by the range of `values`; the mean novelty over so many points is told.
    pub(super) fn new(values: &[f64], points: usize) -> Self {
        let (low, high) =
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
        Self {
            low,
            step: (high - low) / LEVELS + 1e-9 * high.abs().max(low.abs()) + f64::MIN_POSITIVE,
            levels: [0; ORDERS + 1],
            seen: 0,
            table: vec![0.0; TABLE],
            mean: Rolling::new(points),
        }
    }

    /// The mean novelty of the last points with one more value.
    pub(super) fn push(&mut self, value: f64) -> f64 {
        let level = ((value - self.low) / self.step).trunc().clamp(-3.0, LEVELS + 12.0) + 4.0;
        self.levels.rotate_right(1);
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "between 1 and 24")]
        {
            self.levels[0] = level as u64;
        }
        let mut novelty = 0.0;
        let mut hash = 1_469_598_103 ^ self.levels[0];
        for order in 1..=ORDERS.min(self.seen) {
            hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.levels[order];
            let mixed = (hash ^ order as u64).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 40;
            let count = &mut self.table[usize::try_from(mixed).expect("24 bits") % TABLE];
            novelty += 1.0 / (1.0 + f64::from(*count));
            *count = *count * FADE + 1.0;
        }
        self.seen += 1;
        self.mean.push(novelty / ORDERS as f64).0
    }
}
