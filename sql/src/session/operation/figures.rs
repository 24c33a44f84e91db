//! Figures of operations for whoever measures juno: kept in memory as things happen, and read from there alone.
//!
//! **Invariant:** to read them asks no table; what has expired counts no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parking_lot::Mutex;

use crate::Result;
use crate::operation::{Component, time_us};
use crate::session::Session;

/// What came of operations that act on other systems: how many of each name and outcome.
type Outcomes = BTreeMap<(&'static str, &'static str), u64>;

/// How operations stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OperationFigures {
    /// Incidents that are not resolved, as they were counted last; none where they were not yet.
    pub open_incidents: Option<u64>,
    /// Threats that are neither resolved nor false, likewise.
    pub open_threats: Option<u64>,
    /// Whether it is time to count both again.
    pub is_stale: bool,
    /// Approvals that are waited for.
    pub pending_approvals: u64,
    /// Jobs that are queued or run.
    pub running_jobs: u64,
    /// Whether the kill switch is engaged.
    pub kill_switch: bool,
    /// Since the start: the operation, `succeeded`, `failed` or `refused`, and how often.
    pub actions: Vec<(&'static str, &'static str, u64)>,
    /// Seconds since the last run of each component that ran.
    pub since_run_s: Vec<(&'static str, f64)>,
}

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// The newest row of the kill switch: its id, and whether it is engaged.
    switch: Mutex<(String, bool)>,
    /// When each approval expires that is waited for, in microseconds since 1970.
    approvals: Mutex<BTreeMap<String, i64>>,
    outcomes: Mutex<Outcomes>,
}

impl Figures {
    /// The kill switch was used; rows that come late do not count.
    pub(crate) fn switched(&self, id: &str, engaged: bool) {
        let mut switch = self.switch.lock();
        if *switch.0 < *id {
            *switch = (id.to_owned(), engaged);
        }
    }

    /// An approval is waited for.
    pub(super) fn awaits(&self, approval: &str, expires_us: i64) {
        self.approvals.lock().insert(approval.to_owned(), expires_us);
    }

    /// It is no more.
    pub(super) fn decided(&self, approval: &str) {
        self.approvals.lock().remove(approval);
    }

    /// An operation ended.
    pub(super) fn ended(&self, operation: &'static str, outcome: &'static str) {
        *self.outcomes.lock().entry((operation, outcome)).or_default() += 1;
    }

    fn pending(&self, now_us: i64) -> u64 {
        self.approvals.lock().values().filter(|expires_us| **expires_us > now_us).count() as u64
    }

    /// Whether an approval has expired that was not swept.
    pub(super) fn is_due(&self, now_us: i64) -> bool {
        self.approvals.lock().values().any(|expires_us| *expires_us <= now_us)
    }

    /// What had expired by then was swept.
    pub(super) fn swept(&self, now_us: i64) {
        self.approvals.lock().retain(|_, expires_us| *expires_us > now_us);
    }
}

impl Session {
    /// How operations stand, as it is known in memory.
    pub fn operation_figures(&self) -> OperationFigures {
        let (operations, system) = (self.operations(), self.shared.db.system());
        let now_us = system.clock().now_us();
        let (known, is_stale) = operations.history.known(system.clock().monotonic_us());
        let outcomes = operations.figures.outcomes.lock().clone();
        let since_run = |component: &Component| {
            let at_us = operations.last_run(*component).at_us?;
            Some((component.name(), (now_us - at_us).max(0) as f64 / 1e6))
        };
        OperationFigures {
            open_incidents: known.as_ref().and_then(|known| number(known, "open_incidents")),
            open_threats: known.as_ref().and_then(|known| number(known, "open_threats")),
            is_stale,
            pending_approvals: operations.figures.pending(now_us),
            running_jobs: operations.jobs.running() as u64,
            kill_switch: operations.figures.switch.lock().1,
            actions: outcomes.into_iter().map(|((operation, outcome), count)| (operation, outcome, count)).collect(),
            since_run_s: Component::ALL.iter().filter_map(since_run).collect(),
        }
    }

    /// Counts again what is open.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn count_open(&self) -> Result<()> {
        Arc::clone(&self.operations().history).rows().await.map(drop)
    }

    /// When the database is opened: what was left.
    pub(super) async fn open_figures(&self) -> Result<()> {
        let figures = &self.operations().figures;
        if let Some(row) = self.kill_switch().await? {
            figures.switched(row["id"].as_str().unwrap_or_default(), row["engaged"] == true);
        }
        let pending = "SELECT id, expires_at FROM juno_approvals WHERE state = 'pending'";
        for row in self.objects(pending, &[]).await? {
            let expires_us = row["expires_at"].as_str().and_then(time_us).unwrap_or_default();
            figures.awaits(row["id"].as_str().unwrap_or_default(), expires_us);
        }
        Ok(())
    }
}

/// A number of the one row.
fn number(known: &RecordBatch, name: &str) -> Option<u64> {
    let column = known.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
    u64::try_from(*column.values().first()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ops::actuator::fake::World;
    use crate::ops::scaling::execute::OPERATION;
    use crate::role::Role;

    #[test]
    fn the_newest_row_of_the_switch_counts_and_approvals_expire() {
        let figures = Figures::default();
        figures.switched("b", true);
        figures.switched("a", false);
        assert!(figures.switch.lock().1);
        figures.awaits("one", 10);
        figures.awaits("two", 20);
        assert_eq!((figures.pending(5), figures.pending(10)), (2, 1));
        assert!(!figures.is_due(5) && figures.is_due(10), "what was counted is still to be swept");
        figures.swept(10);
        assert!(!figures.is_due(10) && figures.is_due(20));
        figures.decided("two");
        assert_eq!(figures.pending(5), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_happens_is_counted_and_what_was_left_is_found_again() {
        const ADA: (&str, Role) = ("ada", Role::Responder);
        let world = World::open().await;
        assert_eq!(world.own.operation_figures(), OperationFigures { is_stale: true, ..OperationFigures::default() });
        world.own.query("CALL kill_switch(true, 'drill')").await.expect("engaged");
        let scale = || json!({ "target": { "name": "shop" }, "to": 3, "reason": "a test" });
        assert!(world.ask(&OPERATION, ADA, scale()).await.is_err());
        let figures = world.own.operation_figures();
        assert_eq!((figures.kill_switch, figures.actions), (true, vec![("scaling_execute", "refused", 1)]));
        let insert = "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) \
                      VALUES (gen_random_uuid(), now(), 'crash', 'low', '{}')";
        world.own.query(insert).await.expect("an incident");
        let proposal = "INSERT INTO juno_approvals (id, requested_at, requested_by, operation, arguments, reason, state, \
                        expires_at) VALUES (gen_random_uuid(), now(), 'ada', 'x', '{}', 'y', 'pending', now() + INTERVAL '1 hour')";
        world.own.query(proposal).await.expect("an approval");
        world.own.component_ran(Component::Rl, None);
        world.own.count_open().await.expect("a count");
        let figures = world.own.operation_figures();
        assert_eq!((figures.open_incidents, figures.open_threats, figures.is_stale), (Some(1), Some(0), false));
        assert_eq!((figures.since_run_s.len(), figures.since_run_s[0].0), (1, "rl"));
        let world = world.reopened().await;
        let figures = world.own.operation_figures();
        assert_eq!((figures.kill_switch, figures.pending_approvals), (true, 1), "{figures:?}");
    }
}
