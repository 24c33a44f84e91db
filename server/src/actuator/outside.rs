//! What an actuator that reaches other machines needs of this one.
//!
//! **Invariant:** time and randomness come from the database's own system, so that they can be simulated.

use std::sync::Arc;

use juno_sql::engine::system::System;

/// Time and randomness.
#[derive(Clone)]
pub struct Outside {
    /// Microseconds since 1970.
    pub now_us: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// 64 random bits.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Outside {
    /// Those of a system.
    pub fn of(system: &System) -> Self {
        let (clock, dice) = (system.clone(), system.clone());
        Self { now_us: Arc::new(move || clock.clock().now_us()), random: Arc::new(move || dice.random().next_u64()) }
    }
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outside")
    }
}
