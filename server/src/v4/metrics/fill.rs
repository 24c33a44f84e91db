//! Fills the empty buckets of a series.
//!
//! **Invariant:** pure; never moves or changes a bucket that has a value, never fills before the first value.

/// What stands in an empty bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Nothing, but the bucket is there.
    Null,
    /// The value before it.
    Previous,
    /// The straight line between its neighbours; nothing after the last.
    Linear,
}

impl Fill {
    /// `null`, `prev` or `linear`.
    pub(super) fn read(text: &str) -> Option<Fill> {
        match text {
            "null" => Some(Fill::Null),
            "prev" => Some(Fill::Previous),
            "linear" => Some(Fill::Linear),
            _ => None,
        }
    }
}

/// Puts the points, in time order and whole steps apart, on every bucket of `[from_us, to_us)`.
pub(super) fn fill(
    points: &[(i64, Option<f64>)],
    from_us: i64,
    to_us: i64,
    step_us: i64,
    fill: Fill,
) -> Vec<(i64, Option<f64>)> {
    let Some((anchor, _)) = points.first() else {
        return vec![];
    };
    // The bucket that holds `from`: as many whole steps in front of the first one as it takes to reach it.
    let steps_back = ((anchor - from_us).max(0) + step_us - 1) / step_us;
    let start = anchor - steps_back * step_us;
    let mut known = points.iter().filter_map(|(time, value)| Some((*time, (*value)?))).peekable();
    let mut before: Option<(i64, f64)> = None;
    let mut out = Vec::with_capacity(usize::try_from((to_us - start) / step_us + 1).unwrap_or(0));
    let mut time = start;
    while time < to_us || known.peek().is_some_and(|(next, _)| *next >= time) {
        while let Some(point) = known.next_if(|(at, _)| *at <= time) {
            before = Some(point);
        }
        let value = match (before, known.peek()) {
            (Some((at, value)), _) if at == time => Some(value),
            (Some((_, value)), _) if fill == Fill::Previous => Some(value),
            (Some((a, from)), Some((b, to))) if fill == Fill::Linear => {
                Some(from + (to - from) * (time - a) as f64 / (b - a) as f64)
            }
            _ => None,
        };
        out.push((time, value));
        time += step_us;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [(i64, Option<f64>); 2] = [(20, Some(1.0)), (40, Some(3.0))];

    #[test]
    fn null_keeps_the_bucket_and_previous_repeats() {
        let null = fill(&POINTS, 10, 60, 10, Fill::Null);
        assert_eq!(null, [(10, None), (20, Some(1.0)), (30, None), (40, Some(3.0)), (50, None)]);
        let previous: Vec<_> = fill(&POINTS, 10, 60, 10, Fill::Previous).into_iter().map(|(_, value)| value).collect();
        assert_eq!(previous, [None, Some(1.0), Some(1.0), Some(3.0), Some(3.0)]);
    }

    #[test]
    fn linear_draws_between_values_and_ends_with_the_last() {
        let linear: Vec<_> = fill(&POINTS, 10, 60, 10, Fill::Linear).into_iter().map(|(_, value)| value).collect();
        assert_eq!(linear, [None, Some(1.0), Some(2.0), Some(3.0), None]);
    }

    #[test]
    fn a_range_that_starts_inside_a_bucket_loses_no_point() {
        let filled = fill(&POINTS, 23, 45, 10, Fill::Null);
        assert_eq!(filled, [(20, Some(1.0)), (30, None), (40, Some(3.0))]);
        assert_eq!(fill(&[], 0, 10, 1, Fill::Null), []);
    }
}
