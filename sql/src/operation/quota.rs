//! How much of something a caller may have, and what is left of it: what an answer tells of, and a refusal where nothing is left.
//!
//! **Invariant:** plain figures; who counts them is who refuses.

/// A quota as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Its name: a plain word.
    pub name: &'static str,
    /// How much it is.
    pub most: u64,
    /// What is left of it.
    pub left: u64,
    /// The time that it is for, in seconds; none where it is how many there may be at a time.
    pub window_s: Option<u64>,
    /// When more of it is there, in seconds.
    pub reset_s: Option<u64>,
}

impl Quota {
    /// A quota for any hour of which so much is used, first at that time.
    pub(crate) fn hourly(name: &'static str, (most, used): (u64, u64), first_us: Option<i64>, now_us: i64) -> Self {
        const HOUR_S: u64 = 3_600;
        let left_us =
            |first_us: i64| first_us.saturating_add(3_600_000_000).saturating_sub(now_us).max(0).unsigned_abs();
        let reset_s = first_us.map(|first_us| left_us(first_us).div_ceil(1_000_000).clamp(1, HOUR_S));
        Self { name, most, left: most.saturating_sub(used), window_s: Some(HOUR_S), reset_s }
    }

    /// The same after one more of it is used.
    pub(crate) fn less_one(self) -> Self {
        Self { left: self.left.saturating_sub(1), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_ends_where_the_first_use_is_an_hour_old() {
        let now_us = 10_000_000_000;
        let quota = Quota::hourly("a", (10, 4), Some(now_us - 600_000_001), now_us);
        assert_eq!((quota.left, quota.window_s, quota.reset_s), (6, Some(3_600), Some(3_000)));
        assert_eq!(quota.less_one().left, 5);
        let over = Quota::hourly("a", (10, 12), Some(now_us - 3_600_000_000), now_us);
        assert_eq!((over.left, over.reset_s), (0, Some(1)));
        assert_eq!(Quota::hourly("a", (10, 0), None, now_us).reset_s, None);
    }
}
