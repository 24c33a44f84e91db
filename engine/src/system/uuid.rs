//! UUIDs of version 7 that never run backwards within one process.
//!
//! **Invariant:** takes clock and randomness from the caller.

use parking_lot::Mutex;
use uuid::{Builder, Uuid};

use super::{Clock, Random};

/// The bits of the counter after the millisecond (RFC 9562, section 6.2, method 1).
const COUNTER_BITS: u32 = 12;

/// Milliseconds and counter of the UUID made last, as one number.
#[derive(Debug, Default)]
pub(super) struct UuidSource {
    last: Mutex<u64>,
}

impl UuidSource {
    pub(super) fn next(&self, clock: &dyn Clock, random: &dyn Random) -> Uuid {
        let now_ms = u64::try_from(clock.now_us() / 1000).unwrap_or(0);
        let bits = random.next_u64();
        let fresh = (now_ms << COUNTER_BITS) | (bits & 0x3ff);
        let stamp = {
            let mut last = self.last.lock();
            *last = fresh.max(*last + 1);
            *last
        };
        let mut tail = [0; 10];
        let counter = u16::try_from(stamp & 0xfff).expect("twelve bits fit");
        tail[..2].copy_from_slice(&counter.to_be_bytes());
        tail[2..].copy_from_slice(&random.next_u64().to_be_bytes());
        Builder::from_unix_timestamp_millis(stamp >> COUNTER_BITS, &tail).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use crate::system::System;

    #[test]
    fn uuids_made_in_one_millisecond_still_ascend() {
        let system = System::real();
        let made: Vec<_> = (0..10_000).map(|_| system.uuid_v7()).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
        assert!(made.iter().all(|uuid| uuid.get_version_num() == 7));
    }
}
