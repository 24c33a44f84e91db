//! Followers: those who are handed the rows of commits to one table, soon after each commit.
//!
//! Rows wait for their follower in memory, up to a limit; one that lags further behind loses what waits, is told so, and
//! can read the table instead.
//!
//! **Invariant:** a commit never waits for a follower; what a follower is handed is durable, and whatever a snapshot shows has
//! been handed on before. Rows that are imported past the log, and deletions, are not followed.

use std::sync::{Arc, Weak};

use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;

use crate::Result;
use crate::definition::Definition;
use crate::memtable::Run;
use crate::system::sync::Mutex;

/// Bytes of rows that wait for one follower.
const WAITING_BYTES_MAX: u64 = 16 << 20;

/// Follows the table of a name, whichever it is.
pub struct Follower {
    queue: Arc<Queue>,
}

/// What has been committed since it was last asked for.
#[derive(Debug, Default)]
pub struct Followed {
    /// Rows by commit: the key columns and those that the writer named, sorted by key.
    pub rows: Vec<RecordBatch>,
    /// Whether rows were lost before these.
    pub lost: bool,
}

impl Follower {
    /// Takes what waits; does not wait itself.
    ///
    /// # Errors
    /// Rows that cannot be filtered, which memory alone can be the reason of.
    pub fn take(&self) -> Result<Followed> {
        let Waiting { runs, lost, .. } = std::mem::take(&mut *self.queue.waiting.lock());
        let mut rows = runs.iter().map(|(definition, run)| rows(definition, run)).collect::<Result<Vec<_>>>()?;
        // Commits that only delete.
        rows.retain(|rows| rows.num_rows() > 0);
        Ok(Followed { rows, lost })
    }
}

/// The rows of a run that are there, under the names that their columns have by now.
fn rows(definition: &Definition, run: &Run) -> Result<RecordBatch> {
    let batch = match &run.marks.deleted {
        None => run.batch.clone(),
        Some(deleted) => filter_record_batch(&run.batch, &not(deleted)?)?,
    };
    let named = |field: &Field| match definition.stored.column(field.name()) {
        Some(index) => field.clone().with_name(&definition.table.columns[index].name),
        None => field.clone(),
    };
    let fields: Vec<Field> = batch.schema_ref().fields().iter().map(|field| named(field)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.columns().to_vec())?)
}

#[derive(Default)]
struct Waiting {
    runs: Vec<(Arc<Definition>, Arc<Run>)>,
    bytes: u64,
    lost: bool,
}

struct Queue {
    /// The name of the table.
    table: String,
    waiting: Mutex<Waiting>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Queue {
    fn push(&self, definition: &Arc<Definition>, run: &Arc<Run>) {
        let mut waiting = self.waiting.lock();
        if waiting.bytes + run.bytes > WAITING_BYTES_MAX && !waiting.runs.is_empty() {
            *waiting = Waiting { lost: true, ..Waiting::default() };
        }
        waiting.bytes += run.bytes;
        waiting.runs.push((Arc::clone(definition), Arc::clone(run)));
        drop(waiting);
        (self.wake)();
    }
}

/// All followers of a database.
#[derive(Default)]
pub(crate) struct Followers {
    queues: Mutex<Vec<Weak<Queue>>>,
}

impl Followers {
    /// A new follower of the table with this name; `wake` is called with each commit to it, and must be quick.
    pub(crate) fn follow(&self, table: String, wake: Box<dyn Fn() + Send + Sync>) -> Follower {
        let queue = Arc::new(Queue { table, waiting: Mutex::default(), wake });
        let mut queues = self.queues.lock();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        Follower { queue }
    }

    /// Hands a run that is about to become visible to those who follow its table.
    pub(crate) fn hand(&self, definition: &Arc<Definition>, run: &Arc<Run>) {
        let followers: Vec<_> = self.queues.lock().iter().filter_map(Weak::upgrade).collect();
        let table = &definition.table.name;
        followers.iter().filter(|queue| queue.table == *table).for_each(|queue| queue.push(definition, run));
    }
}
