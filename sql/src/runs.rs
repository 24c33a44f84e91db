//! A plan rule for aggregates over telemetry: whole runs of rows are folded at once instead of each row being hashed.
//!
//! A table's rows come sorted by tags and time, so that rows of one group stand together. The node finds where groups begin and
//! end, looks up a group once for each run of its rows, and folds the run's values in a loop that knows no groups.
//!
//! **Invariant:** right for rows in any order; the order only makes it fast. What is not recognised stays as DataFusion plans it.

mod cells;
mod groups;
mod node;
mod recognise;

pub(crate) use self::recognise::{bucket, first_phase, last_phase};

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

/// What names a group; columns are the input's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupBy {
    /// A column of dictionary strings.
    Tag { column: usize },
    /// The start of the bucket that a column of times, in microseconds, falls into. The result has `unit_ns` nanoseconds.
    Bucket { column: usize, width_us: i64, origin_us: i64, unit_ns: i64 },
}

/// Buckets of a column of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) column: usize,
    pub(crate) width_us: i64,
    /// Where one begins.
    pub(crate) origin_us: i64,
}

impl Bucket {
    /// Whether each time has a bucket of its own.
    pub(crate) fn is_each_time(self) -> bool {
        self.width_us == 1
    }

    /// Where the last bucket begins that begins at a time or before; none where no time is so early.
    pub(crate) fn begins_until(self, time_us: i64) -> Option<i64> {
        let behind = time_us.checked_sub(self.origin_us)?.rem_euclid(self.width_us);
        time_us.checked_sub(behind)
    }

    /// Where the first bucket begins that begins at a time or behind it; none where no time is so late.
    pub(crate) fn begins_from(self, time_us: i64) -> Option<i64> {
        match self.begins_until(time_us)? {
            begin if begin == time_us => Some(begin),
            begin => begin.checked_add(self.width_us),
        }
    }
}

/// The input of a node that groups rows by buckets of time, and the buckets, where these are one of its columns.
pub(crate) fn groups_of(plan: &Arc<dyn ExecutionPlan>, column: usize) -> Option<(&Arc<dyn ExecutionPlan>, Bucket)> {
    plan.downcast_ref::<node::RunsExec>()?.bucket(column)
}

/// What is worked out for each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Aggregate {
    measure: Measure,
    /// The input's column; of no meaning for [`Measure::Rows`].
    column: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Rows, nulls included.
    Rows,
    Count,
    Sum,
    Mean,
    Min,
    Max,
}

impl Measure {
    /// How many columns its state has.
    fn states(self) -> usize {
        if self == Measure::Mean { 2 } else { 1 }
    }
}

/// What a node takes in and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Rows in, results out.
    Whole,
    /// Rows in, states out, as the first phase of an aggregate gives them.
    First,
    /// States in, results out.
    Last,
}

/// Puts [`node::RunsExec`] in place of a pair of `AggregateExec` over a table.
#[derive(Debug)]
pub(crate) struct Runs;

impl PhysicalOptimizerRule for Runs {
    fn name(&self) -> &str {
        "juno_runs"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let swapped = plan.transform_down(|node| match recognise::aggregate(&node)? {
            Some(runs) => Ok(Transformed::yes(runs)),
            None => Ok(Transformed::no(node)),
        });
        swapped.map(|done| done.data)
    }
}
