//! The hot paths, each alone: `cargo bench --workspace --bench hot -- --save-baseline NAME` before a change and
//! `… --baseline NAME` after it. A word behind the flags runs only the paths with that word in their names.
//!
//! **Invariant:** disks are in memory, so that no device is measured.

mod doors;
mod engine;
mod kernels;
mod query;

use criterion::{BatchSize, Criterion, Throughput};

/// Measures one path after the other.
pub(crate) struct Hot {
    criterion: Criterion,
}

fn main() {
    let mut hot = Hot { criterion: Criterion::default().configure_from_args() };
    engine::commits(&mut hot);
    engine::parts(&mut hot);
    query::queries(&mut hot);
    doors::doors(&mut hot);
    kernels::kernels(&mut hot);
    hot.criterion.final_summary();
}

impl Hot {
    /// Runs `work` on what `given` makes, which does not count; a run treats so many items.
    pub(crate) fn run<I, O>(
        &mut self,
        name: &str,
        items: usize,
        mut given: impl FnMut() -> I,
        mut work: impl FnMut(I) -> O,
    ) {
        let mut group = self.criterion.benchmark_group("hot");
        group.throughput(Throughput::Elements(items as u64));
        group.bench_function(name, |bencher| bencher.iter_batched(&mut given, &mut work, BatchSize::PerIteration));
        group.finish();
    }
}
