//! The row of an incident: how it begins, moves on and ends.
//!
//! `remediation_actions` holds `{status, timeline: [{at, stage, …}], actions: […]}` from the first moment on, and `escalated_to`
//! once people were called; incidents that were only reported have none, and then their other columns say how they stand.
//!
//! **Invariant:** a status follows the one before as `policy/status.rs` allows, every move is in the timeline and in the stream of
//! events, what is escalated calls people, and one at a time changes rows.

use serde_json::{Map, Value, json};

use super::policy::cause::{CAUSE_NAMES, Cause};
use super::policy::severity::Severity;
use super::policy::status::Status;
use crate::operation::{Refusal, Refused, time_us};
use crate::session::{Session, rfc3339};
use crate::{Error, Result};

/// An incident as it is found.
#[derive(Clone, Debug)]
pub struct IncidentOpening {
    /// What kind of incident.
    pub incident_type: String,
    /// How bad it is.
    pub severity: Severity,
    /// The service that shows it most, the alarms, who reported it: an object.
    pub symptoms: Value,
}

/// What changes about an incident.
#[derive(Clone, Debug, Default)]
pub struct IncidentChange {
    /// Its status.
    pub status: Option<Status>,
    /// Its diagnosis.
    pub diagnosis: Option<Value>,
    /// Something that was done about it.
    pub action: Option<Value>,
    /// Its severity.
    pub severity: Option<Severity>,
    /// Whether what was done healed it.
    pub success: Option<bool>,
    /// Why, for the timeline.
    pub reason: Option<String>,
    /// Which person did it, for the timeline.
    pub actor: Option<String>,
}

/// What is known of an incident.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) service: Option<String>,
    pub(crate) detected_us: i64,
    /// Whether it was found in telemetry that is watched.
    pub(crate) is_of_telemetry: bool,
    is_over: bool,
    diagnosis: Value,
    actions: Map<String, Value>,
}

impl Incident {
    fn of(row: &Map<String, Value>) -> Result<Self> {
        let actions = row["remediation_actions"].as_object().cloned().unwrap_or_default();
        let told = actions.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
        let status = told.unwrap_or(match (&row["resolved_at"], &row["success"], &row["diagnosis"]) {
            (Value::Null, _, Value::Null) => Status::Open,
            (Value::Null, ..) => Status::Diagnosing,
            (_, Value::Bool(false), _) => Status::Failed,
            _ => Status::Resolved,
        });
        let detected_us = row["detected_at"].as_str().and_then(time_us);
        Ok(Self {
            id: row["id"].as_str().unwrap_or_default().to_owned(),
            status,
            service: row["symptoms"]["service"].as_str().map(str::to_owned),
            detected_us: detected_us.ok_or_else(|| Error::Corrupt("an incident has no time".into()))?,
            is_of_telemetry: row["symptoms"]["source"] == "telemetry",
            is_over: !row["resolved_at"].is_null(),
            diagnosis: row["diagnosis"].clone(),
            actions,
        })
    }

    /// The first cause that its diagnosis names for a service.
    pub(crate) fn cause(&self, service: &str) -> Option<String> {
        let mut named = self.candidates().filter(|candidate| candidate["component"] == service).filter_map(class);
        named.next().map(str::to_owned)
    }

    /// How probable its diagnosis called a cause of a service.
    pub(crate) fn probability(&self, service: &str, cause: Cause) -> Option<f64> {
        let is_meant = |candidate: &&Value| candidate["component"] == service && class(candidate) == Some(cause.name());
        self.candidates().find(is_meant)?["probability"].as_f64()
    }

    /// What the loop that heals found, where a diagnosis holds that.
    pub(crate) fn found_by_loop(&self) -> Option<&Value> {
        of_loop(&self.diagnosis)
    }

    /// The candidates of its diagnosis, and after them those that the loop had found before.
    fn candidates(&self) -> impl Iterator<Item = &Value> {
        let all = [&self.diagnosis["candidates"], &self.diagnosis["loop"]["candidates"]];
        all.into_iter().filter_map(Value::as_array).flatten()
    }

    fn note(&mut self, member: &str, value: Value) {
        match self.actions.get_mut(member).and_then(Value::as_array_mut) {
            Some(list) => list.push(value),
            None => {
                self.actions.insert(member.to_owned(), json!([value]));
            }
        }
    }
}

/// What runbooks call the cause of a candidate: the loop names it so, and other diagnoses beside what they call it in words.
fn class(candidate: &Value) -> Option<&str> {
    let named = candidate["cause_class"].as_str().or(candidate["cause"].as_str());
    named.filter(|name| CAUSE_NAMES.contains(name))
}

/// The diagnosis of the loop that heals: it is this one, or the one that this one took the place of.
pub(crate) fn of_loop(diagnosis: &Value) -> Option<&Value> {
    [diagnosis, &diagnosis["loop"]].into_iter().find(|one| one["method"] == "evidence")
}

impl Session {
    /// Writes down a new incident, detected now; gives its id.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn open_incident(&self, opening: &IncidentOpening) -> Result<String> {
        let (id, now) = (self.db().system().uuid_v7().to_string(), self.now());
        let actions = json!({ "status": "open", "timeline": [{ "at": now, "stage": "open" }], "actions": [] });
        let insert = "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms, remediation_actions) \
                      VALUES ($1, $2, $3, $4, $5, $6)";
        let values = [
            id.as_str().into(),
            now.into(),
            opening.incident_type.as_str().into(),
            opening.severity.name().into(),
            opening.symptoms.clone(),
            actions,
        ];
        self.changed_rows(insert, &values).await?;
        Ok(id)
    }

    /// An incident by its id.
    pub(crate) async fn incident(&self, id: &str) -> Result<Incident> {
        let found = "SELECT id, detected_at, symptoms, diagnosis, remediation_actions, resolved_at, success \
                     FROM healing_incidents WHERE id = $1";
        let row = self.objects(found, &[id.into()]).await?.pop();
        let row = row
            .ok_or_else(|| Refusal::new(Refused::NotFound, format!("there is no incident {id}")).at("/incident_id"))?;
        Incident::of(&row)
    }

    /// Writes down who was called to an incident; nothing where it is gone.
    pub(super) async fn note_called(&self, id: &str, whom: &str) -> Result<()> {
        let _turn = self.operations().incidents.lock().await;
        let mut incident = match self.incident(id).await {
            Ok(incident) => incident,
            Err(Error::Refused(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        incident.actions.insert("escalated_to".into(), whom.into());
        let update = "UPDATE healing_incidents SET remediation_actions = $2 WHERE id = $1";
        self.changed_rows(update, &[id.into(), Value::Object(incident.actions)]).await.map(drop)
    }

    /// Changes an incident; gives its status then.
    ///
    /// # Errors
    /// [`Refused::NotFound`]; [`Refused::Conflict`] where the status may not follow.
    pub async fn change_incident(&self, id: &str, change: IncidentChange) -> Result<Status> {
        let _turn = self.operations().incidents.lock().await;
        self.change_in_turn(id, change).await
    }

    /// The same for who has the turn to change incidents.
    pub(super) async fn change_in_turn(&self, id: &str, change: IncidentChange) -> Result<Status> {
        let mut incident = self.incident(id).await?;
        let now_us = self.db().system().clock().now_us();
        let next = change.status.filter(|next| *next != incident.status);
        if let Some(next) = next {
            let moved = incident.status.becoming(next);
            incident.status = moved.map_err(|text| Refusal::new(Refused::Conflict, text))?;
            let mut stage = json!({ "at": rfc3339(now_us), "stage": next.name() });
            if let Some(reason) = &change.reason {
                stage["reason"] = reason.as_str().into();
            }
            if let Some(actor) = &change.actor {
                stage["actor"] = actor.as_str().into();
            }
            incident.note("timeline", stage);
            incident.actions.insert("status".into(), next.name().into());
            let since_s = (now_us - incident.detected_us) as f64 / 1e6;
            let reached = match next {
                Status::Remediating => Some("diagnosis_s"),
                Status::Resolved if change.success == Some(true) => Some("remediation_s"),
                _ => None,
            };
            if let Some(reached) = reached {
                incident.actions.entry(reached).or_insert_with(|| since_s.into());
            }
        }
        if let Some(action) = change.action {
            incident.note("actions", action);
        }
        let mut columns = vec![("remediation_actions", Value::Object(incident.actions.clone()))];
        if incident.status == Status::Resolved && !incident.is_over {
            columns.push(("resolved_at", rfc3339(now_us).into()));
            columns.push(("resolution_time_seconds", ((now_us - incident.detected_us) / 1_000_000).into()));
        }
        columns.extend(change.diagnosis.map(|diagnosis| ("diagnosis", diagnosis)));
        columns.extend(change.severity.map(|severity| ("severity", severity.name().into())));
        // Whether it healed was said when it was resolved.
        let success = change.success.filter(|_| !incident.is_over);
        columns.extend(success.map(|success| ("success", success.into())));
        let set: Vec<String> = columns.iter().zip(2..).map(|((name, _), at)| format!("{name} = ${at}")).collect();
        let update = format!("UPDATE healing_incidents SET {} WHERE id = $1", set.join(", "));
        let values: Vec<Value> =
            std::iter::once(id.into()).chain(columns.into_iter().map(|(_, value)| value)).collect();
        if next == Some(Status::Escalated) {
            // In a transaction of its own, and not in one that the session may have.
            let own = self.connect();
            let written = async {
                own.changed_rows(&update, &values).await?;
                own.call_people(id, now_us, change.reason.as_deref()).await
            };
            own.atomically(written).await?;
        } else {
            self.changed_rows(&update, &values).await?;
        }
        if change.status.is_some() {
            let told =
                json!({ "status": incident.status.name(), "service": incident.service, "reason": change.reason });
            self.tell("incident", id, told).await?;
        }
        Ok(incident.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actuator::fake::World;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_list_tells_how_often_alarms_repeated_and_who_was_called() {
        let world = World::open().await;
        let opening = IncidentOpening {
            incident_type: "performance".into(),
            severity: Severity::Low,
            symptoms: json!({ "service": "shop", "repetitions": 3, "detection_s": "soon" }),
        };
        let id = world.own.open_incident(&opening).await.expect("an incident");
        let list = "SELECT status, dedup_count, escalated_to, detection_s FROM healing_incidents_list";
        let row = world.row(list).await;
        assert_eq!((&row["dedup_count"], &row["escalated_to"]), (&json!(3), &Value::Null));
        assert_eq!(row["detection_s"], Value::Null, "what is no number breaks nothing");
        let escalated = IncidentChange { status: Some(Status::Escalated), ..IncidentChange::default() };
        world.own.change_incident(&id, escalated).await.expect("a move");
        world.own.note_called(&id, "pager.example").await.expect("a note");
        let row = world.row(list).await;
        assert_eq!((&row["status"], &row["escalated_to"]), (&json!("escalated"), &json!("pager.example")));
        let gone = world.own.note_called("00000000-0000-7000-8000-0000000000ff", "pager.example").await;
        assert!(gone.is_ok(), "{gone:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cause_is_what_runbooks_call_it_whoever_found_it() {
        let world = World::open().await;
        let opening = IncidentOpening {
            incident_type: "performance".into(),
            severity: Severity::Low,
            symptoms: json!({ "service": "shop" }),
        };
        let id = world.own.open_incident(&opening).await.expect("an incident");
        let by_person = json!({
            "method": "explain_away",
            "candidates": [
                { "component": "shop", "cause": "web.visits of shop", "cause_class": null, "probability": 0.6 },
                { "component": "shop", "cause": "web.latency of shop", "cause_class": "slow", "probability": 0.3 },
            ],
            "loop": {
                "method": "evidence",
                "candidates": [{ "component": "shop", "cause": "saturation", "probability": 0.9 }],
            },
        });
        let change = IncidentChange { diagnosis: Some(by_person), ..IncidentChange::default() };
        world.own.change_incident(&id, change).await.expect("a diagnosis");
        let incident = world.own.incident(&id).await.expect("the incident");
        assert_eq!((incident.cause("shop").as_deref(), incident.cause("mail")), (Some("slow"), None));
        assert_eq!(incident.probability("shop", Cause::Slow), Some(0.3));
        assert_eq!(incident.probability("shop", Cause::Saturation), Some(0.9), "the loop found it before");
        assert_eq!(incident.probability("mail", Cause::Slow), None);
        assert!(incident.found_by_loop().is_some());
    }
}
