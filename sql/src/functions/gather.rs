//! One piece of work over all partitions of a plan node, its results handed out partition by partition.
//!
//! A kernel serves the more series the more it gets at once, and a machine with many cores has many partitions. So the nodes
//! that launch kernels take in all partitions, launch once, and give each partition back what is its own.
//!
//! **Invariant:** the work runs once per execution of the plan, whichever partition asks first; it begins when polled and ends
//! early when no partition waits for it any more.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayData, RecordBatch};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::future::{BoxFuture, Shared, try_join_all};
use futures::{FutureExt, StreamExt};
use juno_kernels::Device;
use parking_lot::Mutex;

use super::refusal::invalid;
use crate::Error;

/// The batches of every partition.
pub(super) type Partitions = Vec<Vec<RecordBatch>>;

type Work = Shared<BoxFuture<'static, Result<Arc<Partitions>, Arc<DataFusionError>>>>;

/// Where the partitions of a node meet.
#[derive(Default)]
pub(super) struct Gather {
    current: Mutex<Option<Current>>,
}

struct Current {
    work: Work,
    /// Which partitions have asked.
    asked: Vec<bool>,
}

impl Gather {
    /// A partition's share of the work that `start` makes for all; `start` is called for the first partition that asks, and
    /// again when one asks a second time, because then the plan is executed anew.
    pub(super) fn share(
        &self,
        partition: usize,
        partitions: usize,
        start: impl FnOnce() -> Result<BoxFuture<'static, Result<Partitions>>>,
    ) -> Result<BoxFuture<'static, Result<Vec<RecordBatch>>>> {
        let mut current = self.current.lock();
        if current.as_ref().is_none_or(|current| current.asked[partition]) {
            let work = start()?.map(|done| done.map(Arc::new).map_err(Arc::new)).boxed().shared();
            *current = Some(Current { work, asked: vec![false; partitions] });
        }
        let current = current.as_mut().expect("filled above");
        current.asked[partition] = true;
        let work = current.work.clone();
        let share = async move {
            match work.await {
                Ok(all) => Ok(all[partition].clone()),
                Err(error) => Err(again(&error)),
            }
        };
        Ok(share.boxed())
    }
}

/// The error for one more partition. A refusal stays what it is; others are shared.
fn again(error: &Arc<DataFusionError>) -> DataFusionError {
    let own = match error.find_root() {
        DataFusionError::External(source) => source.downcast_ref::<Error>(),
        _ => None,
    };
    match own {
        Some(Error::InvalidArgument(text)) => invalid(text),
        _ => DataFusionError::Shared(Arc::clone(error)),
    }
}

/// Takes in all partitions of `input` at the same time: each into what `begin` gives for it, batch by batch with `push`.
pub(crate) fn take_in<T: Send + 'static>(
    input: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
    begin: impl Fn(usize) -> Result<T>,
    push: fn(&mut T, RecordBatch) -> Result<()>,
) -> Result<BoxFuture<'static, Result<Vec<T>>>> {
    let partitions = 0..input.output_partitioning().partition_count();
    let all = partitions.map(|partition| Ok((input.execute(partition, Arc::clone(context))?, begin(partition)?)));
    let all = all.collect::<Result<Vec<_>>>()?;
    let take_one = move |(mut batches, mut taken): (datafusion::execution::SendableRecordBatchStream, T)| async move {
        while let Some(batch) = batches.next().await {
            push(&mut taken, batch?)?;
        }
        Ok(taken)
    };
    Ok(async move { try_join_all(all.into_iter().map(|one| joined(SpawnedTask::spawn(take_one(one))))).await }.boxed())
}

/// Runs the work of a kernel where it blocks no other query. It ends soon when nobody waits for it any more.
pub(super) async fn blocking<T: Send + 'static>(
    device: &Device,
    work: impl FnOnce(&Device) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (device, _stop) = device.stoppable();
    joined(SpawnedTask::spawn_blocking(move || work(&device))).await
}

/// What a task gave. A panic in it is an error of this query and of no other.
async fn joined<T: 'static>(task: SpawnedTask<Result<T>>) -> Result<T> {
    task.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
}

/// Accounts for the memory that batches keep alive; a buffer that several batches share counts once.
pub(crate) struct Held {
    memory: MemoryReservation,
    /// Addresses of the buffers counted.
    buffers: HashSet<usize>,
}

impl Held {
    pub(crate) fn new(name: &str, partition: usize, context: &TaskContext) -> Self {
        let memory = MemoryConsumer::new(format!("{name}[{partition}]")).register(context.memory_pool());
        Held { memory, buffers: HashSet::new() }
    }

    /// Accounts for one more batch and for what will be made of it.
    ///
    /// # Errors
    /// When that is more than the query may have.
    pub(crate) fn hold(&mut self, batch: &RecordBatch, made_bytes: usize) -> Result<()> {
        let own: usize = batch.columns().iter().map(|array| self.unseen_bytes(&array.to_data())).sum();
        self.memory.try_grow(own + made_bytes)
    }

    /// Accounts for bytes that are no batch's.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<()> {
        self.memory.try_grow(bytes)
    }

    fn unseen_bytes(&mut self, data: &ArrayData) -> usize {
        let nulls = data.nulls().map(|nulls| nulls.buffer());
        let own = data.buffers().iter().chain(nulls);
        let own: usize = own
            .map(|buffer| if self.buffers.insert(buffer.data_ptr().addr().get()) { buffer.capacity() } else { 0 })
            .sum();
        own + data.child_data().iter().map(|child| self.unseen_bytes(child)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use arrow::array::{ArrayRef, Float64Array};

    use super::*;

    fn start(count: &AtomicUsize) -> Result<BoxFuture<'static, Result<Partitions>>> {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(async { Ok(vec![Vec::new(), Vec::new()]) }.boxed())
    }

    #[tokio::test]
    async fn all_partitions_share_one_run_and_a_second_execution_runs_again() {
        let (gather, count) = (Gather::default(), AtomicUsize::new(0));
        for runs in 1..=2 {
            for partition in [1, 0] {
                let share = gather.share(partition, 2, || start(&count)).expect("starts");
                assert!(share.await.expect("succeeds").is_empty());
                assert_eq!(count.load(Ordering::Relaxed), runs);
            }
        }
    }

    #[tokio::test]
    async fn every_partition_hears_of_a_refusal() {
        let gather = Gather::default();
        let shares = [0, 1].map(|partition| {
            gather.share(partition, 2, || Ok(async { Err(invalid("too far")) }.boxed())).expect("starts")
        });
        for share in shares {
            let error = Error::from(share.await.expect_err("refused"));
            assert!(matches!(error, Error::InvalidArgument(text) if text == "too far"));
        }
    }

    #[test]
    fn a_buffer_that_batches_share_is_accounted_once() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 1_000]));
        let batch = RecordBatch::try_from_iter([("value", values)]).expect("one column");
        let mut held = Held::new("test", 0, &TaskContext::default());
        for _ in 0..3 {
            held.hold(&batch.slice(10, 100), 5).expect("no limit");
        }
        assert_eq!(held.memory.size(), 8_000 + 3 * 5);
    }
}
