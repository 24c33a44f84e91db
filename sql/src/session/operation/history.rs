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

    fn shared(&self) -> Result<Arc<Shared>> {
        let shared = self.shared.get().and_then(Weak::upgrade);
        shared.ok_or_else(|| Error::Internal("the database is closed".into()))
    }

    /// A session over the same database, for other views that ask it.
    pub(crate) fn session(&self) -> Result<Session> {
        self.shared().map(Session::over)
    }

    pub(super) async fn rows(self: Arc<Self>) -> Result<RecordBatch> {
        let shared = self.shared()?;
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
        number("detected_30d"),
        share("detection_p50"),
        share("detection_p95"),
        number("diagnosed_30d"),
        share("diagnosis_p50"),
        share("diagnosis_p95"),
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

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use crate::actuator::fake::World;

    /// An incident: how long ago it was detected and resolved, its severity, its members, and its success.
    async fn incident(world: &World, (ago_s, resolved): (i64, bool), severity: &str, rest: (Value, Value, Value)) {
        let (symptoms, actions, success) = rest;
        let resolved = if resolved { "now()" } else { "NULL" };
        let insert = format!(
            "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms, remediation_actions, \
             resolved_at, resolution_time_seconds, success) VALUES (gen_random_uuid(), \
             now() - INTERVAL '{ago_s} seconds', 'availability', $1, $2, $3, {resolved}, 100, $4)"
        );
        let values = [severity.into(), symptoms, actions, success];
        world.own.changed_rows(&insert, &values).await.expect("an incident");
    }

    async fn status(world: &World) -> Map<String, Value> {
        world.row("SELECT slo_targets, error_budget FROM operations_status").await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn service_levels_count_detection_diagnosis_and_what_did_not_heal() {
        let world = World::open().await;
        let fresh = status(&world).await;
        let none = json!({ "target": 30, "p50": null, "p95": null, "n": 0 });
        assert_eq!(fresh["slo_targets"]["detection_s"], none);
        assert_eq!(fresh["slo_targets"]["success_rate"], json!({ "target": 0.95, "value": null, "n": 0 }));
        let seen = |detection_s: f64| json!({ "service": "shop", "detection_s": detection_s });
        let acted = |status: &str, diagnosis_s: f64| json!({ "status": status, "diagnosis_s": diagnosis_s });
        let healed = acted("resolved", 20.0);
        incident(&world, (600, true), "low", (seen(4.0), healed.clone(), json!(true))).await;
        incident(&world, (600, true), "low", (seen(4.0), healed, json!(true))).await;
        incident(&world, (600, false), "low", (seen(4.0), acted("failed", 20.0), json!(false))).await;
        incident(&world, (600, false), "low", (seen(4.0), acted("escalated", 20.0), Value::Null)).await;
        // What says nothing that is a number, what is under way, and what is too long ago count for nothing.
        incident(&world, (600, false), "low", (json!({ "detection_s": "soon" }), Value::Null, Value::Null)).await;
        let long_ago = (seen(999.0), acted("escalated", 999.0), Value::Null);
        incident(&world, (31 * 86_400, false), "low", long_ago).await;
        let told = status(&world).await;
        let targets = &told["slo_targets"];
        for (name, target, expected) in [("detection_s", 30, 4.0), ("diagnosis_s", 60, 20.0)] {
            let one = &targets[name];
            assert_eq!((&one["target"], &one["n"]), (&json!(target), &json!(4)), "{name}: {targets}");
            let is = |quantile: &str| one[quantile].as_f64().is_some_and(|value| (value - expected).abs() < 1e-9);
            assert!(is("p50") && is("p95"), "{name}: {targets}");
        }
        assert_eq!(targets["success_rate"]["n"], 4);
        assert!(targets["success_rate"]["value"].as_f64().is_some_and(|share| (share - 0.5).abs() < 1e-9), "{targets}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_error_budget_is_spent_by_what_is_critical_and_open_too() {
        let world = World::open().await;
        let remaining = async || status(&world).await["error_budget"]["remaining"].as_f64().expect("a share");
        assert_eq!(remaining().await, 1.0);
        let nothing = || (json!({}), Value::Null, Value::Null);
        incident(&world, (600, false), "high", nothing()).await;
        assert_eq!(remaining().await, 1.0);
        // Of 2592 s a closed one took 100, and an open one takes 1296 until now.
        incident(&world, (600, true), "critical", nothing()).await;
        incident(&world, (1_296, false), "critical", nothing()).await;
        let left = remaining().await;
        assert!((0.3..0.462).contains(&left), "{left}");
        incident(&world, (90 * 86_400, false), "critical", nothing()).await;
        let left = remaining().await;
        assert!((-1_001.0..-999.0).contains(&left), "no further back than the window: {left}");
    }
}
