//! The pause after a failure of work in the background.
//!
//! **Invariant:** looks at the clock that it is given, and never waits itself.

use std::time::Duration;

use crate::system::Clock;

/// The shortest and the longest pause, in microseconds.
const PAUSE_MIN_US: u64 = 100_000;
const PAUSE_MAX_US: u64 = 30_000_000;

/// A pause that doubles with each further failure.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    pause_us: u64,
    until_us: u64,
}

impl Backoff {
    /// Takes down a failure.
    pub(crate) fn grow(&mut self, clock: &dyn Clock) {
        self.pause_us = (self.pause_us * 2).clamp(PAUSE_MIN_US, PAUSE_MAX_US);
        self.until_us = clock.monotonic_us() + self.pause_us;
    }

    /// How long to wait yet; none where it is time to try.
    pub(crate) fn left(&self, clock: &dyn Clock) -> Option<Duration> {
        let left = self.until_us.checked_sub(clock.monotonic_us()).filter(|&left| left > 0 && self.pause_us > 0)?;
        Some(Duration::from_micros(left))
    }
}
