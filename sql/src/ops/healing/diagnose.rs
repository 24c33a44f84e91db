//! `healing_diagnose`: what made an incident, from all telemetry that names a service.
//!
//! Metrics are the numeric columns of telemetry tables with a tag `service`, named `table.column`; a table with a tag `metric` and
//! a column `value` names its own. A table `calls` or `service_calls` with the columns `caller` and `callee` says who calls whom.
//!
//! **Invariant:** reads what the caller may read; of the history it writes the diagnosis of one incident and nothing else.

use serde_json::{Map, Value, json};

use crate::operation::{
    Component, Doing, Effect, Kind, Lasts, Operation, Parameter, Refusal, Refused, duration_us, time_us,
};
use crate::ops::healing::incident::IncidentChange;
use crate::ops::healing::policy::status::Status;
use crate::ops::operations::predict::quoted;
use crate::role::Role;
use crate::session::{Invocation, Session, rfc3339};
use crate::{Error, Result};

/// Metrics that are looked at.
const METRICS_MAX: usize = 256;
/// How long before it was detected an incident may have begun, and how long after it is looked at.
const AROUND_US: (i64, i64) = (10 * 60_000_000, 20 * 60_000_000);
/// Below this the most probable cause is told as inconclusive.
const CONCLUSIVE: f64 = 0.3;

const WINDOW: &[Parameter] = &[
    Parameter::new("from", Kind::Time, "When it began.").required(),
    Parameter::new("to", Kind::Time, "When it ended; now where it is left out."),
];
const SYMPTOM: &[Parameter] = &[
    Parameter::new("metric", Kind::Text, "The metric that went wrong.").required(),
    Parameter::new("service", Kind::Text, "Whose it is; the service of the request where it is left out."),
];

/// `POST /healing/diagnose`.
pub(crate) const OPERATION: Operation = Operation {
    name: "healing_diagnose",
    does: "Ranks the causes of an incident with probability and evidence, and keeps that with the incident.",
    parameters: &[
        Parameter::new("incident_id", Kind::Id, "The incident; a new one is made where it is left out."),
        Parameter::new("service", Kind::Text, "Whose symptoms they are."),
        Parameter::new("window", Kind::Object(WINDOW), "When the incident was."),
        Parameter::new(
            "symptoms",
            Kind::List(&Kind::Object(SYMPTOM), 20),
            "What went wrong; the first one counts most.",
        ),
        Parameter::new("baseline", Kind::Duration, "How long before it everything was normal.").or("\"6h\""),
        Parameter::new("max_causes", Kind::Integer(1, 20), "How many causes.").or("5"),
        Parameter::new("method", Kind::Choice(&["auto"]), "How they are found.").or("\"auto\""),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: Some(Component::SelfHealing),
    lasts: Lasts::Short,
    matched: false,
    decide: None,
    run: |invocation| run(invocation),
};

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(diagnose(invocation))
}

/// The incident that is asked about.
struct Asked {
    incident: Option<Map<String, Value>>,
    service: Option<String>,
    symptom: Option<(String, String)>,
    from_us: i64,
    to_us: i64,
}

async fn diagnose(invocation: &Invocation) -> Result<Value> {
    let began_us = invocation.own.db().system().clock().monotonic_us();
    let asked = asked(invocation).await?;
    let since_us = asked.from_us.saturating_sub(invocation.text("baseline").and_then(duration_us).unwrap_or_default());
    let (metrics, rows) = telemetry(invocation, since_us, asked.to_us);
    if metrics == 0 {
        let text = "no telemetry table has a tag service: diagnose('table', …) in SQL takes any table";
        return Err(Refusal::new(Refused::NoTelemetry, text).into());
    }
    let causes = causes(invocation, &asked, &rows).await?;
    if causes.is_empty() {
        let text = "no service has at least four values before the window and one in it";
        return Err(Refusal::new(Refused::NoTelemetry, text).at("/window").into());
    }
    let mut candidates = Vec::with_capacity(causes.len());
    for cause in &causes {
        candidates.push(candidate(invocation, &asked, &rows, cause).await?);
    }
    let first = causes[0]["probability"].as_f64().unwrap_or_default();
    let id = invocation.new_id();
    let took_ms = (invocation.own.db().system().clock().monotonic_us() - began_us) / 1_000;
    let mut diagnosis = json!({
        "diagnosis_id": id,
        "diagnosed_at": invocation.now(),
        "method": "explain_away",
        "window": { "from": rfc3339(asked.from_us), "to": rfc3339(asked.to_us) },
        "candidates": candidates,
        "inconclusive": first < CONCLUSIVE,
        "took_ms": took_ms,
    });
    let (incident_id, created) = keep(invocation, &asked, &diagnosis).await?;
    diagnosis["incident_id"] = incident_id.into();
    diagnosis["created"] = created.into();
    Ok(diagnosis)
}

async fn asked(invocation: &Invocation) -> Result<Asked> {
    let incident = match invocation.text("incident_id") {
        None => None,
        Some(id) => {
            let found = "SELECT id, detected_at, resolved_at, symptoms FROM healing_incidents WHERE id = $1";
            let row = invocation.own.objects(found, &[id.into()]).await?.pop();
            let missing = || Refusal::new(Refused::NotFound, format!("there is no incident {id}")).at("/incident_id");
            Some(row.ok_or_else(missing)?)
        }
    };
    if incident.as_ref().is_some_and(|row| !row["resolved_at"].is_null()) {
        return Err(Refusal::new(Refused::AlreadyResolved, "the incident is resolved").at("/incident_id").into());
    }
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
        return Err(Refusal::new(Refused::InvalidValue, "the window must end after it begins").at("/window/to").into());
    }
    let symptom = invocation.list("symptoms").first().and_then(|symptom| {
        let whose = symptom["service"].as_str().or(service.as_deref())?;
        Some((whose.to_owned(), symptom["metric"].as_str()?.to_owned()))
    });
    Ok(Asked { incident, service, symptom, from_us, to_us })
}

/// How many metrics there are, and the query of their times, services, names and values.
fn telemetry(invocation: &Invocation, since_us: i64, until_us: i64) -> (usize, String) {
    let catalog = invocation.session.db().catalog();
    let mut parts = Vec::new();
    for (name, table) in &catalog.tables {
        let tag = |wanted: &str| table.tags().iter().any(|tag| table.columns[*tag].name == wanted);
        let (Some(time), true) = (table.time(), tag("service")) else { continue };
        let time = quoted(&table.columns[time].name);
        let own_names = tag("metric") && table.column("value").is_some();
        let numeric = table.columns.iter().filter(|column| column.data_type.is_numeric());
        for column in numeric.filter(|column| !own_names || column.name == "value") {
            let metric = match own_names {
                true => "CAST(metric AS TEXT)".to_owned(),
                false => format!("'{}.{}'", name.replace('\'', "''"), column.name.replace('\'', "''")),
            };
            parts.push(format!(
                "SELECT {time} AS time, CAST(service AS TEXT) AS service, {metric} AS metric, CAST({} AS DOUBLE PRECISION) AS value \
                 FROM {} WHERE {time} >= TIMESTAMPTZ '{}' AND {time} < TIMESTAMPTZ '{}'",
                quoted(&column.name),
                quoted(name),
                rfc3339(since_us),
                rfc3339(until_us)
            ));
        }
    }
    parts.truncate(METRICS_MAX);
    (parts.len(), parts.join(" UNION ALL "))
}

async fn causes(invocation: &Invocation, asked: &Asked, rows: &str) -> Result<Vec<Map<String, Value>>> {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut call = format!(
        "({rows}), 'value', service => 'service', metric => 'metric', since => '{}', until => '{}'",
        rfc3339(asked.from_us),
        rfc3339(asked.to_us)
    );
    if let Some(calls) = invocation.session.calls_table() {
        call.push_str(&format!(", calls => '{calls}'"));
    }
    if let Some((service, metric)) = &asked.symptom {
        call.push_str(&format!(", symptom_service => {}, symptom_metric => {}", text(service), text(metric)));
    }
    let limit = invocation.arguments["max_causes"].as_i64().unwrap_or(5);
    let sql = format!("SELECT * FROM diagnose({call}) ORDER BY rank LIMIT {limit}");
    invocation.session.objects(&sql, &[]).await.map_err(|error| match error {
        Error::InvalidArgument(text) => Refusal::new(Refused::NoTelemetry, text).at("/symptoms/0").into(),
        other => other,
    })
}

impl Session {
    /// The table that says which service calls which.
    pub fn calls_table(&self) -> Option<&'static str> {
        let catalog = self.db().catalog();
        let says = |name: &&str| {
            catalog
                .table(name)
                .is_some_and(|table| table.column("caller").is_some() && table.column("callee").is_some())
        };
        ["calls", "service_calls"].into_iter().find(says)
    }
}

/// A cause with its evidence, and when it first was halfway to what it was during the incident.
async fn candidate(invocation: &Invocation, asked: &Asked, rows: &str, cause: &Map<String, Value>) -> Result<Value> {
    let number = |name: &str| cause.get(name).and_then(Value::as_f64).unwrap_or_default();
    let (before, during) = (number("before"), number("during"));
    let first = format!(
        "SELECT min(time) AS first FROM ({rows}) AS points WHERE service = $1 AND metric = $2 AND time >= TIMESTAMPTZ '{}' \
         AND abs(value - {before:?}) >= abs({during:?} - {before:?}) / 2",
        rfc3339(asked.from_us)
    );
    let names = [cause["service"].clone(), cause["metric"].clone()];
    let first = invocation.session.objects(&first, &names).await?.pop();
    Ok(json!({
        "cause": format!("{} of {}", cause["metric"].as_str().unwrap_or_default(), cause["service"].as_str().unwrap_or_default()),
        "component": cause["service"],
        "metric": cause["metric"],
        "probability": cause["probability"],
        "score": cause["score"],
        "evidence": [{
            "kind": "metric",
            "ref": cause["metric"],
            "score": cause["deviation"],
            "before": before,
            "during": during,
            "correlation": cause["correlation"],
        }],
        "first_deviation_at": first.and_then(|mut row| row.remove("first")),
    }))
}

/// Keeps the diagnosis with its incident, or with a new one.
async fn keep(invocation: &Invocation, asked: &Asked, diagnosis: &Value) -> Result<(String, bool)> {
    if let Some(incident) = &asked.incident {
        let id = incident["id"].as_str().unwrap_or_default().to_owned();
        let is_open = invocation.own.incident(&id).await?.status == Status::Open;
        let status = is_open.then_some(Status::Diagnosing);
        let change = IncidentChange { status, diagnosis: Some(diagnosis.clone()), ..IncidentChange::default() };
        invocation.own.change_incident(&id, change).await?;
        return Ok((id, false));
    }
    let id = invocation.new_id();
    let symptoms = json!({
        "service": asked.service,
        "symptoms": invocation.list("symptoms"),
        "reported_by": invocation.actor(),
        "trace_id": invocation.trace_id(),
    });
    let insert = "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms, diagnosis) \
                  VALUES ($1, $2, 'reported', 'medium', $3, $4)";
    let values = [id.clone().into(), rfc3339(asked.from_us).into(), symptoms, diagnosis.clone()];
    invocation.own.changed_rows(insert, &values).await?;
    Ok((id, true))
}
