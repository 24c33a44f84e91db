//! What a request for a diagnosis means: which incident, whose symptoms, and when.
//!
//! **Invariant:** reads only.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::Result;
use crate::operation::{Refusal, Refused, duration_us, time_us};
use crate::ops::healing::incident::of_loop;
use crate::ops::healing::policy::diagnosis::Diagnosis;
use crate::session::Invocation;

/// How long before it was detected an incident may have begun, and how long after it is looked at.
const AROUND_US: (i64, i64) = (10 * 60_000_000, 20 * 60_000_000);

/// The incident that is asked about.
pub(super) struct Asked {
    pub(super) incident: Option<Map<String, Value>>,
    pub(super) service: Option<String>,
    /// Service and metric of each.
    pub(super) symptoms: Vec<(String, String)>,
    /// From when on everything was normal.
    pub(super) since_us: i64,
    pub(super) from_us: i64,
    pub(super) to_us: i64,
}

impl Asked {
    pub(super) async fn of(invocation: &Invocation) -> Result<Self> {
        let incident = match invocation.text("incident_id") {
            None => None,
            Some(id) => Some(incident(invocation, id).await?),
        };
        let own = incident.as_ref().and_then(|row| row["symptoms"]["service"].as_str());
        let service = invocation.text("service").or(own).map(str::to_owned);
        let detected_us = incident.as_ref().and_then(|row| row["detected_at"].as_str()).and_then(time_us);
        let window = invocation.arguments.get("window");
        let end = |name: &str| window.and_then(|window| window[name].as_str()).and_then(time_us);
        let from_us = end("from").or(detected_us.map(|at| at - AROUND_US.0)).ok_or_else(|| {
            Refusal::new(Refused::MissingField, "name an incident_id, or a service and a window").at("/window")
        })?;
        let latest = detected_us.map_or(i64::MAX, |at| at + AROUND_US.1).min(invocation.now_us());
        let to_us = end("to").unwrap_or(latest);
        if to_us <= from_us {
            let text = "the window must end after it begins";
            return Err(Refusal::new(Refused::InvalidValue, text).at("/window/to").into());
        }
        let baseline_us = invocation.text("baseline").and_then(duration_us).unwrap_or_default();
        let symptoms = symptoms(invocation, service.as_deref())?;
        Ok(Self { incident, service, symptoms, since_us: from_us.saturating_sub(baseline_us), from_us, to_us })
    }

    /// The id of the incident, where there is one already.
    pub(super) fn incident_id(&self) -> Option<&str> {
        self.incident.as_ref().and_then(|row| row["id"].as_str())
    }

    /// The services that it is about.
    pub(super) fn services(&self) -> BTreeSet<&str> {
        let symptoms = self.symptoms.iter().map(|(service, _)| service.as_str());
        symptoms.chain(self.service.as_deref()).collect()
    }

    /// What the loop that heals made of the incident: it knows of processes what no metric tells.
    pub(super) fn loop_diagnosis(&self) -> Option<Diagnosis> {
        let diagnosis = of_loop(&self.incident.as_ref()?["diagnosis"])?;
        serde_json::from_value(diagnosis.clone()).ok()
    }
}

async fn incident(invocation: &Invocation, id: &str) -> Result<Map<String, Value>> {
    let found = "SELECT id, detected_at, resolved_at, symptoms, diagnosis FROM healing_incidents WHERE id = $1";
    let row = invocation.own.objects(found, &[id.into()]).await?.pop();
    let missing = || Refusal::new(Refused::NotFound, format!("there is no incident {id}")).at("/incident_id");
    let row = row.ok_or_else(missing)?;
    if !row["resolved_at"].is_null() {
        return Err(Refusal::new(Refused::AlreadyResolved, "the incident is resolved").at("/incident_id").into());
    }
    Ok(row)
}

fn symptoms(invocation: &Invocation, service: Option<&str>) -> Result<Vec<(String, String)>> {
    let one = |(at, symptom): (usize, &Value)| -> Result<(String, String)> {
        let whose = symptom["service"].as_str().or(service).ok_or_else(|| {
            let text = "name the service of the symptom, or one for the whole request";
            Refusal::new(Refused::MissingField, text).at(&format!("/symptoms/{at}/service"))
        })?;
        Ok((whose.to_owned(), symptom["metric"].as_str().unwrap_or_default().to_owned()))
    };
    invocation.list("symptoms").iter().enumerate().map(one).collect()
}
