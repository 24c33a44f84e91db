//! What `operations_status` says of the history tables, kept so that nobody waits for a scan of long ones.
//!
//! Commits to the tables, and half a minute, make it stale. Where the tables are short it is worked out anew before it is told;
//! where they are long it is told as it was, and worked out beside.
//!
//! **Invariant:** at most one works it out at a time; what is told was true at some moment after the last that was told.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use juno_engine::Follower;
use parking_lot::Mutex;

use crate::session::{Session, Shared};
use crate::types::timestamptz;
use crate::{Error, Result};

/// The view.
pub(crate) const VIEW: &str = "operations_history";
/// The tables that it is about.
const TABLES: [&str; 4] = ["healing_incidents", "threat_events", "scaling_events", "governance_adaptations"];
/// So many rows are read while somebody waits.
const SHORT_ROWS: i64 = 50_000;
/// Whoever measures juno lets it be worked out again no sooner.
const COUNTED_US: u64 = 5_000_000;
/// Deletions and the passing of time make it stale too.
const KEPT_US: u64 = 30_000_000;

#[derive(Default)]
struct State {
    known: Option<RecordBatch>,
    at_us: u64,
}

/// The view's rows.
pub(crate) struct History {
    shared: OnceLock<Weak<Shared>>,
    followers: Mutex<Vec<Follower>>,
    is_stale: Arc<AtomicBool>,
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

impl History {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shared: OnceLock::new(),
            followers: Mutex::default(),
            is_stale: Arc::new(AtomicBool::new(true)),
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Begins to follow the tables.
    pub(super) fn open(&self, shared: &Arc<Shared>) -> Result<()> {
        for table in TABLES {
            let is_stale = Arc::clone(&self.is_stale);
            let follower = shared.db.follow(table, move || is_stale.store(true, Ordering::Release))?;
            self.followers.lock().push(follower);
        }
        let _ = self.shared.set(Arc::downgrade(shared));
        Ok(())
    }

    /// The view.
    pub(crate) fn view(self: &Arc<Self>) -> Result<Arc<dyn TableProvider>> {
        let rows = Rows { schema: schema(), history: Arc::clone(self) };
        Ok(Arc::new(StreamingTable::try_new(schema(), vec![Arc::new(rows)])?))
    }

    /// What was worked out last, and whether it is time to do so again.
    pub(super) fn known(&self, now_us: u64) -> (Option<RecordBatch>, bool) {
        let state = self.state.lock();
        let kept_us = if self.is_stale.load(Ordering::Acquire) { COUNTED_US } else { KEPT_US };
        (state.known.clone(), state.known.is_none() || now_us.saturating_sub(state.at_us) > kept_us)
    }

    pub(super) async fn rows(self: Arc<Self>) -> Result<RecordBatch> {
        let shared = self.shared.get().and_then(Weak::upgrade);
        let shared = shared.ok_or_else(|| Error::Internal("the database is closed".into()))?;
        let now_us = shared.db.system().clock().monotonic_us();
        let (known, at_us) = {
            let state = self.state.lock();
            (state.known.clone(), state.at_us)
        };
        let is_stale = self.is_stale.load(Ordering::Acquire) || now_us.saturating_sub(at_us) > KEPT_US;
        match known {
            Some(known) if !is_stale => Ok(known),
            Some(known) if count(&known) > SHORT_ROWS => {
                tokio::spawn(async move {
                    // Somebody who works it out already will be asked again.
                    let Ok(_turn) = self.turn.try_lock() else { return };
                    if let Err(error) = self.work_out(&shared).await {
                        tracing::warn!(%error, "the state of the history tables cannot be worked out");
                    }
                });
                Ok(known)
            }
            _ => {
                let _turn = self.turn.lock().await;
                self.work_out(&shared).await
            }
        }
    }

    async fn work_out(&self, shared: &Arc<Shared>) -> Result<RecordBatch> {
        // What is committed from here on makes it stale again; the rows themselves are not needed.
        self.is_stale.store(false, Ordering::Release);
        for follower in self.followers.lock().iter() {
            follower.take()?;
        }
        let at_us = shared.db.system().clock().monotonic_us();
        let session = Session::over(Arc::clone(shared));
        let batches = Box::pin(session.collect("SELECT * FROM operations_history_now")).await?;
        let found = batches.into_iter().find(|batch| batch.num_rows() == 1);
        let found = found.ok_or_else(|| Error::Internal("there is no row of the history tables".into()))?;
        let known = RecordBatch::try_new(schema(), found.columns().to_vec())?;
        *self.state.lock() = State { known: Some(known.clone()), at_us };
        Ok(known)
    }
}

/// How many rows the tables had.
fn count(known: &RecordBatch) -> i64 {
    let last = known.column(known.num_columns() - 1);
    last.as_primitive::<Int64Type>().values().first().copied().unwrap_or_default()
}

fn schema() -> SchemaRef {
    let number = |name| Field::new(name, DataType::Int64, true);
    let share = |name| Field::new(name, DataType::Float64, true);
    let time = |name| Field::new(name, timestamptz(), true);
    Arc::new(Schema::new(vec![
        number("open_incidents"),
        number("critical_incidents"),
        time("last_incident_at"),
        number("resolved_30d"),
        number("judged_30d"),
        share("success_rate"),
        number("critical_s_30d"),
        share("remediation_p50"),
        share("remediation_p95"),
        number("open_threats"),
        time("last_threat_at"),
        time("last_scaling_at"),
        time("last_adaptation_at"),
        number("rows"),
    ]))
}

struct Rows {
    schema: SchemaRef,
    history: Arc<History>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = Arc::clone(&self.history).rows();
        let rows = async move { rows.await.map_err(DataFusionError::from) };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::once(rows)))
    }
}
