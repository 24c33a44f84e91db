//! Watching: surveys all telemetry that names a service, opens incidents, has them diagnosed, and ends them when it is calm.
//!
//! Nothing is done about these: who runs their services is not known here. After the escalation timeout people are called.
//!
//! **Invariant:** a service has one open incident of the survey at most; what the fleet's loop heals is left to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use juno_sql::healing::alarm::Alarm;
use juno_sql::healing::budget::Budget;
use juno_sql::healing::group::{Group, Watch, groups};
use juno_sql::healing::severity::{Impact, Severity, severity};
use juno_sql::healing::status::Status;
use juno_sql::{AUTOPILOT, Error, IncidentChange, Operation, Request, Session, Survey, Surveyed, trace_of};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::{Result, as_autopilot, opening, operation, overdue, stored};

/// Alarms that are older are nobody's concern any more.
const RECENT_US: i64 = 600_000_000;
/// Alarms may be so far apart to belong together.
const GAP_US: i64 = 300_000_000;
/// Telemetry comes once a minute or less often; where it comes more often, fewer false alarms are let through than the budget has.
const STEP_US: i64 = 60_000_000;
/// Without an alarm for so long an incident is over.
const CALM_US: i64 = 900_000_000;

/// An incident of the survey.
struct Open {
    id: String,
    services: BTreeSet<String>,
    severity: Severity,
    opened_us: i64,
    last_us: i64,
}

/// The loop.
pub(super) struct Watching {
    session: Session,
    autopilot: Session,
    diagnose: &'static Operation,
    fleet: BTreeSet<String>,
    survey: Arc<Mutex<Survey>>,
    alarms: Vec<Alarm>,
    open: Vec<Open>,
}

impl Watching {
    /// Takes up the incidents that an earlier process left; `fleet` names services that others heal.
    pub(super) async fn open(session: Session, fleet: BTreeSet<String>) -> Result<Self> {
        let left = "SELECT id, detected_at, severity, symptoms FROM healing_incidents_list WHERE resolved_at IS NULL \
                    AND symptoms ->> 'reported_by' = $1 AND symptoms ->> 'source' = 'telemetry' \
                    AND status IN ('open', 'diagnosing')";
        let rows = session.objects(left, &[AUTOPILOT.into()]).await?;
        let open = rows.iter().map(left_open).collect::<Result<_>>()?;
        Ok(Self {
            autopilot: as_autopilot(&session),
            diagnose: operation("healing_diagnose")?,
            session,
            fleet,
            survey: Arc::default(),
            alarms: Vec::new(),
            open,
        })
    }

    fn now_us(&self) -> i64 {
        self.session.db().system().clock().now_us()
    }

    /// Judges what came, and what follows from it.
    pub(super) async fn tick(&mut self) -> Result<()> {
        let now_us = self.now_us();
        let (survey, db) = (Arc::clone(&self.survey), self.session.db().clone());
        let judged = tokio::task::spawn_blocking(move || survey.lock().alarms(&db, now_us - RECENT_US)).await;
        let (alarms, series) = judged.map_err(|error| Error::Internal(error.to_string()))??;
        self.alarms.extend(alarms.into_iter().filter(|alarm| !self.fleet.contains(&alarm.service)));
        self.alarms.retain(|alarm| alarm.at_us >= now_us - RECENT_US);
        if !self.alarms.is_empty() {
            self.judge(series, now_us).await?;
        }
        self.end(now_us).await
    }

    /// Opens incidents where calm days do not explain the alarms.
    async fn judge(&mut self, series: Surveyed, now_us: i64) -> Result<()> {
        let budget = Budget::of(self.session.operation_settings().anomaly_sensitivity);
        let budget = budget.map_err(Error::InvalidArgument)?;
        let watch = Watch { series, step_us: STEP_US };
        let graph = self.session.calls_graph().await?;
        for group in groups(&self.alarms, &graph, GAP_US) {
            let known = self.open.iter_mut().find(|open| !open.services.is_disjoint(&group.services));
            if let Some(open) = known {
                open.last_us = open.last_us.max(group.last_us);
                open.services.extend(group.services);
            } else if group.is_incident(&watch, &budget) {
                self.open_one(&group, &watch, &budget, now_us).await?;
            }
        }
        Ok(())
    }

    async fn open_one(&mut self, group: &Group, watch: &Watch, budget: &Budget, now_us: i64) -> Result<()> {
        let (decades, fleet) = (group.decades(watch, budget), watch.series.len());
        let severity = severity(&Impact { decades, services: group.services.len(), fleet, has_check: false });
        let opening = opening(group, &self.alarms, severity, now_us, "telemetry");
        let id = self.session.open_incident(&opening).await?;
        tracing::warn!(incident = id, severity = severity.name(), services = ?group.services, "an incident");
        let services = group.services.clone();
        self.open.push(Open { id: id.clone(), services, severity, opened_us: now_us, last_us: group.last_us });
        let arguments = Map::from_iter([("incident_id".to_owned(), json!(id))]);
        let request = Request { arguments, trace_id: Some(trace_of(&id)), ..Request::default() };
        match self.autopilot.operate(self.diagnose, request).await {
            // Without a past to compare with there is no diagnosis, and people can ask for one later.
            Ok(_) | Err(Error::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends incidents that are over, and calls people to those that last too long.
    async fn end(&mut self, now_us: i64) -> Result<()> {
        let mut lasting = Vec::new();
        let mut left = std::mem::take(&mut self.open).into_iter();
        while let Some(open) = left.next() {
            let change = match now_us - open.last_us > CALM_US {
                true => Some(IncidentChange { status: Some(Status::Resolved), ..IncidentChange::default() }),
                false => overdue(&self.session, open.severity, open.opened_us, now_us),
            };
            let Some(change) = change else {
                lasting.push(open);
                continue;
            };
            match self.session.change_incident(&open.id, change).await {
                // People have ended it.
                Ok(_) | Err(Error::Refused(_)) => {}
                Err(error) => {
                    lasting.push(open);
                    self.open = lasting.into_iter().chain(left).collect();
                    return Err(error);
                }
            }
        }
        self.open = lasting;
        Ok(())
    }
}

fn left_open(row: &Map<String, Value>) -> Result<Open> {
    let (id, severity, opened_us) = stored(row)?;
    let services = row["symptoms"]["services"].as_array().into_iter().flatten();
    let services = services.filter_map(|service| service.as_str().map(str::to_owned)).collect();
    Ok(Open { id, services, severity, opened_us, last_us: opened_us })
}
