//! `healing_diagnose`: what made an incident, from all telemetry that names a service, and what can be done about it.
//!
//! Metrics are the numeric columns of telemetry tables with a tag `service`, named `table.column`; a table with a tag `metric` and
//! a column `value` names its own. A table `calls` or `service_calls` with the columns `caller` and `callee` says who calls whom.
//! The score of a metric as evidence is d/(1 + d), d being how many deviations it went from its mean.
//!
//! **Invariant:** reads what the caller may read; of the history it writes the diagnosis of one incident and nothing else.

mod ailment;
mod asked;
mod context;
mod ranking;
mod recommendation;
mod telemetry;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::asked::Asked;
use self::ranking::Ranked;
use crate::Result;
use crate::operation::{
    Component, Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused, answer, duration_us,
    time_us,
};
use crate::ops::healing::incident::IncidentChange;
use crate::ops::healing::policy::cause::{CAUSE_NAMES, Cause};
use crate::ops::healing::policy::graph::Graph;
use crate::ops::healing::policy::status::Status;
use crate::role::Role;
use crate::session::{Invocation, Session, rfc3339};

/// What asks for more telemetry than this, that of each symptom counted, becomes a job.
const SHORT_US: i64 = 48 * 3_600_000_000;
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

const EVIDENCE: &[Member] = &[
    Member::new("kind", Form::Choice(&["metric", "change", "event", "topology"]), "What it is."),
    Member::new("ref", Form::Text, "Its name."),
    Member::new("score", Form::Number, "How much it says, from 0 to 1."),
    Member::new("deviation", Form::Number, "How far a metric went from what it was.").or_null().sometimes(),
    Member::new("before", Form::Number, "What a metric was before.").sometimes(),
    Member::new("during", Form::Number, "What a metric was in the incident.").sometimes(),
    Member::new("correlation", Form::Number, "How a metric moved with the symptom.").or_null().sometimes(),
    Member::new("at", Form::Time, "When something happened.").sometimes(),
    Member::new("what", Form::Text, "What happened.").or_null().sometimes(),
];
const ACTION: &[Member] = &[
    Member::new("runbook", Form::Text, "The runbook."),
    Member::new("target", Form::Map(&Form::Any), "What it acts on."),
    Member::new("cause", Form::Choice(&CAUSE_NAMES), "Against what."),
    Member::new("params", Form::Any, "The parameters of its step."),
    Member::new("risk", Form::Text, "How risky it is."),
    Member::new("expected_success", Form::Number, "How probable it is that it heals, by what it has achieved."),
    Member::new("blast_radius", Form::Object(answer::BLAST_RADIUS), "How much it acts on."),
];
const CANDIDATE: &[Member] = &[
    Member::new("cause", Form::Text, "The cause, in words."),
    Member::new("cause_class", Form::Choice(&CAUSE_NAMES), "What runbooks call it, where the metric's name says so.")
        .or_null(),
    Member::new("component", Form::Text, "Whose it is.").or_null(),
    Member::new("metric", Form::Text, "The metric that shows it.").or_null(),
    Member::new("probability", Form::Number, "How probable it is.").or_null(),
    Member::new("score", Form::Number, "What the probability is made from.").or_null(),
    Member::new("evidence", Form::List(&Form::Object(EVIDENCE)), "What speaks for it."),
    Member::new("first_deviation_at", Form::Time, "When it first was halfway to what it became.").or_null(),
];
const ANSWER: &[Member] = &[
    Member::new("diagnosis_id", Form::Id, "The diagnosis."),
    Member::new("diagnosed_at", Form::Time, "When."),
    Member::new("method", Form::Text, "How the causes were found."),
    Member::new("window", Form::Object(answer::WINDOW), "When the incident was."),
    Member::new("candidates", Form::List(&Form::Object(CANDIDATE)), "The causes, the most probable first."),
    Member::new("recommended_actions", Form::List(&Form::Object(ACTION)), "What can be done."),
    Member::new("inconclusive", Form::Boolean, "Whether no cause is probable."),
    Member::new("warnings", Form::List(&Form::Text), "What deserves caution."),
    Member::new("took_ms", Form::Integer, "How long it took, in milliseconds."),
    Member::new("incident_id", Form::Id, "The incident that keeps it."),
    Member::new("created", Form::Boolean, "Whether the incident was made for it."),
];

/// `POST /healing/diagnose`.
pub(crate) const OPERATION: Operation = Operation {
    name: "healing_diagnose",
    does: "Ranks the causes of an incident, with evidence and what can be done, and keeps that with the incident.",
    parameters: &[
        Parameter::new("incident_id", Kind::Id, "The incident; a new one is made where it is left out."),
        Parameter::new("service", Kind::Text, "Whose symptoms they are."),
        Parameter::new("window", Kind::Object(WINDOW), "When the incident was."),
        Parameter::new("symptoms", Kind::List(&Kind::Object(SYMPTOM), 20), "What went wrong; all count alike."),
        Parameter::new("baseline", Kind::Duration, "How long before it everything was normal.").or("\"6h\""),
        Parameter::new("max_causes", Kind::Integer(1, 20), "How many causes.").or("5"),
        Parameter::new("method", Kind::Choice(&["auto"]), "How they are found.").or("\"auto\""),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: Some(Component::SelfHealing),
    lasts: Lasts::Depends(is_long),
    matched: false,
    answers: Form::Object(ANSWER),
    plans: &[],
    refuses: &[
        Refused::MissingField,
        Refused::InvalidValue,
        Refused::NotFound,
        Refused::AlreadyResolved,
        Refused::NoTelemetry,
        Refused::Conflict,
    ],
    decide: None,
    run: |invocation| run(invocation),
};

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(diagnose(invocation))
}

/// Whether the arguments ask for much; a window without an end counts as none.
fn is_long(arguments: &Map<String, Value>) -> bool {
    let end = |name: &str| arguments.get("window").and_then(|window| window[name].as_str()).and_then(time_us);
    let window_us = end("from").zip(end("to")).map_or(0, |(from, to)| to.saturating_sub(from));
    let baseline_us = arguments.get("baseline").and_then(Value::as_str).and_then(duration_us).unwrap_or_default();
    let symptoms = arguments.get("symptoms").and_then(Value::as_array).map_or(1, |symptoms| symptoms.len().max(1));
    let symptoms = i64::try_from(symptoms).unwrap_or(i64::MAX);
    window_us.saturating_add(baseline_us).saturating_mul(symptoms) > SHORT_US
}

async fn diagnose(invocation: &Invocation) -> Result<Value> {
    let began_us = invocation.own.db().system().clock().monotonic_us();
    let asked = Asked::of(invocation).await?;
    let graph = invocation.session.calls_graph().await?;
    let mut warnings = Vec::new();
    let Some(rows) = telemetry::rows(invocation, &asked, &graph, &mut warnings).await? else {
        let text = "no telemetry table has a tag service: diagnose('table', …) in SQL takes any table";
        return Err(Refusal::new(Refused::NoTelemetry, text).into());
    };
    let ranked = ranking::causes(invocation, &asked, &rows, &mut warnings).await?;
    let Some(top) = ranked.first() else {
        let text = "no service has at least four values before the window and one in it";
        return Err(Refusal::new(Refused::NoTelemetry, text).at("/window").into());
    };
    let inconclusive = top.probability < CONCLUSIVE;
    let told = invocation.arguments["max_causes"].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(5);
    let told = &ranked[..ranked.len().min(told)];
    let candidates = candidates(invocation, &asked, &graph, &rows, told).await?;
    invocation.progress(0.9).await?;
    let causes = recommendation::causes(&asked, &ranked);
    let actions = recommendation::actions(invocation, &asked, &causes, &mut warnings).await?;
    let took_ms = (invocation.own.db().system().clock().monotonic_us() - began_us) / 1_000;
    let mut diagnosis = json!({
        "diagnosis_id": invocation.new_id(),
        "diagnosed_at": invocation.now(),
        "method": "explain_away",
        "window": { "from": rfc3339(asked.from_us), "to": rfc3339(asked.to_us) },
        "candidates": candidates,
        "recommended_actions": actions,
        "inconclusive": inconclusive,
        "warnings": warnings,
        "took_ms": took_ms,
    });
    let (incident_id, created) = keep(invocation, &asked, &diagnosis).await?;
    diagnosis["incident_id"] = incident_id.into();
    diagnosis["created"] = created.into();
    Ok(diagnosis)
}

impl Session {
    /// The table that says which service calls which.
    pub(crate) fn calls_table(&self) -> Option<&'static str> {
        let catalog = self.db().catalog();
        let says = |name: &&str| {
            catalog
                .table(name)
                .is_some_and(|table| table.column("caller").is_some() && table.column("callee").is_some())
        };
        ["calls", "service_calls"].into_iter().find(says)
    }

    /// Who calls whom, where a table says so.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn calls_graph(&self) -> Result<Graph> {
        let Some(table) = self.calls_table() else { return Ok(Graph::default()) };
        let sql =
            format!("SELECT DISTINCT CAST(caller AS TEXT) AS caller, CAST(callee AS TEXT) AS callee FROM {table}");
        let rows = self.objects(&sql, &[]).await?;
        let pair =
            |row: &Map<String, Value>| Some((row["caller"].as_str()?.to_owned(), row["callee"].as_str()?.to_owned()));
        Ok(Graph::new(rows.iter().filter_map(pair)))
    }
}

/// The causes that are told, each with its evidence.
async fn candidates(
    invocation: &Invocation,
    asked: &Asked,
    graph: &Graph,
    rows: &str,
    told: &[Ranked],
) -> Result<Vec<Value>> {
    let mut firsts = Vec::with_capacity(told.len());
    for cause in told {
        firsts.push(first_deviation(invocation, asked, rows, cause).await?);
    }
    let mut begun: BTreeMap<&str, i64> = BTreeMap::new();
    for (cause, first) in told.iter().zip(&firsts) {
        let first_us = first.as_str().and_then(time_us).unwrap_or(asked.from_us);
        let known = begun.entry(cause.service.as_str()).or_insert(first_us);
        *known = first_us.min(*known);
    }
    invocation.progress(0.7).await?;
    let context = context::of(invocation, asked, graph, &begun).await?;
    let one = |(cause, first): (&Ranked, Value)| {
        candidate(cause, first, context.get(&cause.service).map(Vec::as_slice).unwrap_or_default())
    };
    Ok(told.iter().zip(firsts).map(one).collect())
}

/// When a metric first was halfway to what it was during the incident.
async fn first_deviation(invocation: &Invocation, asked: &Asked, rows: &str, cause: &Ranked) -> Result<Value> {
    let Ranked { before, during, .. } = cause;
    let first = format!(
        "SELECT min(time) AS first FROM ({rows}) AS points WHERE service = $1 AND metric = $2 AND time >= TIMESTAMPTZ '{}' \
         AND abs(value - {before:?}) >= abs({during:?} - {before:?}) / 2",
        rfc3339(asked.from_us)
    );
    let names = [cause.service.as_str().into(), cause.metric.as_str().into()];
    let first = invocation.session.objects(&first, &names).await?.pop();
    Ok(first.and_then(|mut row| row.remove("first")).unwrap_or_default())
}

fn candidate(cause: &Ranked, first: Value, context: &[Value]) -> Value {
    let Ranked { service, metric, before, during, .. } = cause;
    let mut evidence = vec![json!({
        "kind": "metric",
        "ref": metric,
        "score": cause.deviation.map_or(1.0, |deviation| deviation / (1.0 + deviation)),
        "deviation": cause.deviation,
        "before": before,
        "during": during,
        "correlation": cause.correlation,
    })];
    evidence.extend_from_slice(context);
    json!({
        "cause": format!("{metric} of {service}"),
        "cause_class": ailment::of(metric, *before, *during).map(Cause::name),
        "component": service,
        "metric": metric,
        "probability": cause.probability,
        "score": cause.score,
        "evidence": evidence,
        "first_deviation_at": first,
    })
}

/// Keeps the diagnosis with its incident, or with a new one. What the loop had found stays as its member `loop`: the loop writes
/// it down again only where it finds something else.
async fn keep(invocation: &Invocation, asked: &Asked, diagnosis: &Value) -> Result<(String, bool)> {
    if let Some(incident) = &asked.incident {
        let id = incident["id"].as_str().unwrap_or_default().to_owned();
        let _turn = invocation.own.operations().incidents.lock().await;
        let incident = invocation.own.incident(&id).await?;
        let status = (incident.status == Status::Open).then_some(Status::Diagnosing);
        let mut kept = diagnosis.clone();
        if let Some(found) = incident.found_by_loop() {
            kept["loop"] = found.clone();
        }
        let change = IncidentChange { status, diagnosis: Some(kept), ..IncidentChange::default() };
        invocation.own.change_in_turn(&id, change).await?;
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

#[cfg(test)]
mod tests;
