//! What queries may hold in memory: each for itself, and all together.
//!
//! **Invariant:** what a query may not have it is refused; sorts and aggregates then go on in temporary files, anything else ends
//! with an error.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

/// Limits, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// For one query.
    pub query_bytes_max: usize,
    /// For all queries together.
    pub all_bytes_max: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { query_bytes_max: 2 << 30, all_bytes_max: 4 << 30 }
    }
}

/// The directory in a data directory for what sorts and aggregates put aside. What is left in it by a process that was killed may be
/// removed before a session is opened.
pub const TEMPORARY_DIR: &str = "tmp";

/// The surroundings of all queries, whose memory is bounded and whose temporary files are in a directory.
pub(crate) fn shared(memory: Memory, temporary: PathBuf) -> Result<RuntimeEnv> {
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![temporary]));
    let pool = Arc::new(GreedyMemoryPool::new(memory.all_bytes_max));
    RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(disk).build()
}

/// The same for one query, which has a limit of its own.
pub(crate) fn of_query(all: &RuntimeEnv, memory: Memory) -> RuntimeEnv {
    let limit = memory.query_bytes_max.min(memory.all_bytes_max);
    let pool = QueryPool { own: FairSpillPool::new(limit), limit, all: Arc::clone(&all.memory_pool) };
    RuntimeEnv { memory_pool: Arc::new(pool), ..all.clone() }
}

/// One query's memory: shared fairly between its operators, and counted among all.
#[derive(Debug)]
struct QueryPool {
    own: FairSpillPool,
    limit: usize,
    all: Arc<dyn MemoryPool>,
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query({})", self.own)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        let granted = self.all.try_grow(reservation, additional);
        if granted.is_err() {
            self.own.shrink(reservation, additional);
        }
        granted
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_held_to_its_own_limit_and_all_to_theirs() {
        let memory = Memory { query_bytes_max: 60, all_bytes_max: 100 };
        let directory = tempfile::tempdir().unwrap();
        let all = shared(memory, directory.path().join("tmp")).unwrap();
        let query = || of_query(&all, memory);
        let reserve = |env: &RuntimeEnv| MemoryConsumer::new("rows").register(&env.memory_pool);
        let (one, other) = (query(), query());
        let (first, second) = (reserve(&one), reserve(&other));
        assert!(first.try_grow(61).is_err() && first.try_grow(60).is_ok());
        assert!(second.try_grow(41).is_err() && second.try_grow(40).is_ok());
        drop(first);
        assert!(second.try_grow(20).is_ok());
        assert_eq!((all.memory_pool.reserved(), other.memory_pool.reserved(), one.memory_pool.reserved()), (60, 60, 0));
    }
}
