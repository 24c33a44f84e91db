//! Launches and series counted, for one plan node and for the whole process.
//!
//! **Invariant:** only counts; who launches reports here once per kernel call.

use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};

static LAUNCHES: AtomicU64 = AtomicU64::new(0);
static SERIES: AtomicU64 = AtomicU64::new(0);

/// Kernel launches and series handed to kernels since the process started.
#[must_use]
pub fn kernel_counters() -> (u64, u64) {
    (LAUNCHES.load(Ordering::Relaxed), SERIES.load(Ordering::Relaxed))
}

/// Adds kernel calls to the process-wide counters.
pub(super) fn count(launches: u64, series: usize) {
    LAUNCHES.fetch_add(launches, Ordering::Relaxed);
    SERIES.fetch_add(series as u64, Ordering::Relaxed);
}

/// What EXPLAIN ANALYZE shows of one partition of a batching node.
#[derive(Clone)]
pub(super) struct Launches {
    launches: Count,
    series: Count,
}

impl Launches {
    pub(super) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name| MetricBuilder::new(metrics).counter(name, partition);
        Launches { launches: counter("launches"), series: counter("series") }
    }

    pub(super) fn add(&self, launches: u64, series: usize) {
        self.launches.add(usize::try_from(launches).unwrap_or(usize::MAX));
        self.series.add(series);
    }
}
