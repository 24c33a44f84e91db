//! Turns timestamped points into an evenly spaced series, which is what the kernels take.
//!
//! **Invariant:** knows no time zone and no calendar; invents no value (an empty slot is NaN); its length is bounded.

/// The longest grid, in slots. A longer history keeps its newest slots.
pub const GRID_POINTS_MAX: usize = 1 << 20;

/// An evenly spaced series.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Time of the first slot, in microseconds since the epoch.
    pub start_us: i64,
    /// Distance between slots, in microseconds; above zero.
    pub step_us: i64,
    /// One value per slot, oldest first; NaN where no point fell.
    pub values: Vec<f64>,
}

/// Lays points on an even grid. `times_us` is ascending and has one time for every value.
///
/// The step is the median difference between neighbours. The grid is anchored at the last point; each point goes to the
/// nearest slot, the later of two in one slot wins. Returns `None` for fewer than two distinct times, or when the
/// slices differ in length. Points more than [`GRID_POINTS_MAX`] slots before the last are left out.
#[must_use]
pub fn regular_grid(times_us: &[i64], values: &[f64]) -> Option<Grid> {
    let (first, last) = (*times_us.first()?, *times_us.last()?);
    if times_us.len() != values.len() {
        return None;
    }
    let step = median_step(times_us)?;
    let slots_back = |time: i64| (last.abs_diff(time) + step / 2) / step;
    let length = slots_back(first).saturating_add(1).min(GRID_POINTS_MAX as u64);
    let mut grid = vec![f64::NAN; usize::try_from(length).expect("at most GRID_POINTS_MAX")];
    for (time, value) in times_us.iter().zip(values) {
        let back = slots_back(*time);
        if back < length {
            grid[usize::try_from(length - 1 - back).expect("below the grid's length")] = *value;
        }
    }
    let reach = i128::from(length - 1) * i128::from(step);
    Some(Grid {
        start_us: i64::try_from(i128::from(last) - reach).unwrap_or(i64::MIN),
        step_us: i64::try_from(step).unwrap_or(i64::MAX),
        values: grid,
    })
}

/// The median distance between distinct neighbours, the lower one of two middles.
fn median_step(times_us: &[i64]) -> Option<u64> {
    let mut steps: Vec<u64> =
        times_us.windows(2).filter(|pair| pair[1] > pair[0]).map(|pair| pair[1].abs_diff(pair[0])).collect();
    if steps.is_empty() {
        return None;
    }
    let middle = (steps.len() - 1) / 2;
    Some(*steps.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_points_become_their_own_grid() {
        let grid = regular_grid(&[10, 20, 30], &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(grid, Grid { start_us: 10, step_us: 10, values: vec![1.0, 2.0, 3.0] });
    }

    #[test]
    fn jitter_snaps_to_the_nearest_slot_and_a_gap_is_missing() {
        let grid = regular_grid(&[0, 101, 199, 500, 600], &[0.0, 1.0, 2.0, 5.0, 6.0]).unwrap();
        assert_eq!((grid.step_us, grid.values.len()), (100, 7));
        assert_eq!((grid.values[0], grid.values[1], grid.values[2]), (0.0, 1.0, 2.0));
        assert!(grid.values[3].is_nan() && grid.values[4].is_nan());
        assert_eq!((grid.values[5], grid.values[6]), (5.0, 6.0));
    }

    #[test]
    fn one_far_outlier_does_not_change_the_step_nor_blow_up_the_grid() {
        let mut times: Vec<i64> = vec![i64::MIN];
        times.extend((0..50).map(|i| i * 1_000_000));
        let grid = regular_grid(&times, &vec![1.0; 51]).unwrap();
        assert_eq!((grid.step_us, grid.values.len()), (1_000_000, GRID_POINTS_MAX));
        assert_eq!(grid.values.iter().filter(|v| !v.is_nan()).count(), 50);
    }

    #[test]
    fn fewer_than_two_times_are_no_grid() {
        assert!(regular_grid(&[], &[]).is_none());
        assert!(regular_grid(&[1], &[1.0]).is_none());
        assert!(regular_grid(&[1, 1], &[1.0, 2.0]).is_none());
        assert!(regular_grid(&[1, 2], &[1.0]).is_none());
    }

    #[test]
    fn the_last_slot_is_the_last_time() {
        let times = [3, 1_004, 1_999, 3_001, 4_000, 5_002];
        let grid = regular_grid(&times, &[1.0; 6]).unwrap();
        let last = grid.start_us + grid.step_us * i64::try_from(grid.values.len() - 1).unwrap();
        assert_eq!(last, 5_002);
    }
}
