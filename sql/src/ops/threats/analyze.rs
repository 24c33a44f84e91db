//! `threats_analyze`: whether events are suspicious, by a threat model; and whether indicators are in feeds, or were in threats before.
//!
//! Events of an entity are read from `security_events` where no other table is named, those of the last 24 hours where no window is. An
//! alarm has the ATT&CK techniques that the event names itself, and those of the Sigma rules that it matches.
//!
//! An event alarms when its p-value is within the share of false alarms that THREAT_DETECTION_SENSITIVITY allows. The whole is
//! malicious where one event would alarm even if that share were meant for all events together.
//!
//! **Invariant:** where no model was trained, nothing is judged: that is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use juno_kernels::threat_model::{Kind as Feature, ThreatModel};
use serde_json::{Map, Value, json};

use super::feed::normal;
use super::sigma;
use super::sigma::event::Subject;
use crate::model::rows::{fitted, refused, with_values};
use crate::operation::{
    Component, Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused, time_us,
};
use crate::ops::operations::predict::quoted;
use crate::role::Role;
use crate::session::{Invocation, Session, blocking, rfc3339};
use crate::{Error, Result};

/// Events of one request.
const EVENTS_MAX: usize = 10_000;
/// Alarms that are told of.
const ALARMS_MAX: usize = 50;
/// How far back events of an entity are read.
const READ_US: i64 = 86_400_000_000;
/// Features that are named of an alarm.
const FEATURES_MAX: usize = 5;

const INDICATOR: &[Parameter] = &[
    Parameter::new("type", Kind::Choice(&["ip", "domain", "sha256", "user"]), "What it is.").required(),
    Parameter::new("value", Kind::Text, "The indicator.").required(),
];
const WINDOW: &[Parameter] = &[
    Parameter::new("from", Kind::Time, "Its begin; 24 hours before its end where it is left out."),
    Parameter::new("to", Kind::Time, "Its end; now where it is left out."),
];

const FEATURE: &[Member] = &[
    Member::new("feature", Form::Text, "The column."),
    Member::new("nats", Form::Number, "How much evidence it brought."),
];
const ALARM: &[Member] = &[
    Member::new("event", Form::Integer, "The number of the event, from 0."),
    Member::new("threat_type", Form::Text, "The name of the model."),
    Member::new("severity", Form::Choice(&["medium", "high", "critical"]), "How bad it is."),
    Member::new("confidence_score", Form::Number, "How sure that is, 0 to 1."),
    Member::new("indicators", Form::Any, "The event."),
    Member::new("evidence", Form::List(&Form::Object(FEATURE)), "What brought most evidence."),
];
const MODEL: &[Member] =
    &[Member::new("name", Form::Text, "Its name."), Member::new("version", Form::Integer, "Its version.")];
const FOUND: &[Member] =
    &[Member::new("type", Form::Text, "What it is."), Member::new("value", Form::Text, "The indicator.")];
const SEEN: &[Member] = &[
    Member::new("threat_type", Form::Text, "What kind of threat."),
    Member::new("confidence_score", Form::Number, "How sure that is, 0 to 1.").or_null(),
    Member::new("indicators", Form::Object(FOUND), "The indicator that was found."),
    Member::new("id", Form::Id, "The threat that was seen before.").sometimes(),
    Member::new("severity", Form::Text, "How bad that was.").sometimes(),
    Member::new("detected_at", Form::Time, "When that was.").sometimes(),
    Member::new("feed", Form::Text, "The feed that names it.").sometimes(),
    Member::new("description", Form::Text, "What the feed says.").or_null().sometimes(),
    Member::new("valid_until", Form::Time, "Until when the feed says so.").or_null().sometimes(),
    Member::new("loaded_at", Form::Time, "When the feed was read.").or_null().sometimes(),
];
const VERDICT: Member =
    Member::new("verdict", Form::Choice(&["benign", "suspicious", "malicious"]), "What all of it is.");
const CONFIDENCE: Member = Member::new("confidence", Form::Number, "How sure that is, 0 to 1.");
const KEPT: Member = Member::new("threat_event_ids", Form::List(&Form::Id), "The threats that were written down.");
const JUDGED: &[Member] = &[
    VERDICT,
    CONFIDENCE,
    Member::new("events", Form::Integer, "How many events were judged."),
    Member::new("alarms", Form::Integer, "How many of them alarm."),
    Member::new("false_alarms_expected", Form::Number, "How many would alarm by chance."),
    Member::new("threats", Form::List(&Form::Object(ALARM)), "The alarms, the surest first."),
    Member::new("features_top", Form::List(&Form::Object(FEATURE)), "What brought most evidence of the surest."),
    Member::new("model", Form::Object(MODEL), "The model that judged."),
    KEPT,
];
const LOOKED_UP: &[Member] = &[
    VERDICT,
    CONFIDENCE,
    Member::new("threats", Form::List(&Form::Object(SEEN)), "Where the indicators were found."),
    Member::new("indicators", Form::Integer, "How many were looked for."),
    Member::new("model", Form::Text, "Where was looked."),
    KEPT,
];

/// `POST /threats/analyze`.
pub(crate) const OPERATION: Operation = Operation {
    name: "threats_analyze",
    does: "Judges events by a threat model, or looks for indicators in feeds and in the threats seen so far.",
    parameters: &[
        Parameter::new(
            "events",
            Kind::List(&Kind::Map, EVENTS_MAX),
            "Events, with the columns of the model as members.",
        ),
        Parameter::new("entity", Kind::Text, "Whose events are read from the source."),
        Parameter::new("source", Kind::Text, "The table of events of the entity.").or("\"security_events\""),
        Parameter::new("window", Kind::Object(WINDOW), "When they were; the last 24 hours where it is left out."),
        Parameter::new("indicators", Kind::List(&Kind::Object(INDICATOR), 1_000), "What to look for."),
        Parameter::new("model", Kind::Text, "The model, such as web or web@3; the newest where it is left out."),
        Parameter::new("persist", Kind::Boolean, "Whether an alarm becomes a row of threat_events.").or("false"),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: Some(Component::Threats),
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Either(&[Form::Object(JUDGED), Form::Object(LOOKED_UP)]),
    plans: &[],
    refuses: &[Refused::InvalidValue, Refused::MissingField, Refused::NoTelemetry, Refused::NoModel],
    decide: None,
    run: |invocation| run(invocation),
};

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(analyze(invocation))
}

async fn analyze(invocation: &Invocation) -> Result<Value> {
    let given = |name: &str| invocation.arguments.contains_key(name);
    match (given("events"), given("entity"), given("indicators")) {
        (true, false, false) => judge(invocation, invocation.list("events").to_vec()).await,
        (false, true, false) => {
            let events = events_of(invocation).await?;
            judge(invocation, events).await
        }
        (false, false, true) => look_up(invocation).await,
        _ => {
            let text = "give one of events, entity and indicators";
            Err(Refusal::new(Refused::MissingField, text).at("/events").into())
        }
    }
}

/// The rows of the source that name the entity in any of its text columns.
async fn events_of(invocation: &Invocation) -> Result<Vec<Value>> {
    let source = invocation.word("source");
    let catalog = invocation.session.db().catalog();
    let table = catalog.table(source).ok_or_else(|| {
        let text = format!("there is no table \"{source}\": send security logs, or name another source");
        Refusal::new(Refused::NoTelemetry, text).at("/source")
    })?;
    let is_text = |column: &&juno_engine::Column| column.data_type.to_string().contains("Utf8");
    // A parameter for each column: tags and texts are of different types.
    let names: Vec<String> = table
        .columns
        .iter()
        .filter(is_text)
        .enumerate()
        .map(|(at, column)| format!("{} = ${}", quoted(&column.name), at + 1))
        .collect();
    if names.is_empty() {
        let text = format!("\"{source}\" has no column of texts that could name an entity");
        return Err(Refusal::new(Refused::InvalidValue, text).at("/source").into());
    }
    let values = vec![Value::from(invocation.word("entity")); names.len()];
    let mut conditions = vec![format!("({})", names.join(" OR "))];
    if let Some(time) = table.time() {
        let (time, [from, to]) = (quoted(&table.columns[time].name), window(invocation).map(rfc3339));
        conditions.push(format!("{time} >= TIMESTAMPTZ '{from}' AND {time} < TIMESTAMPTZ '{to}'"));
    }
    let sql = format!("SELECT * FROM {} WHERE {} LIMIT {}", quoted(source), conditions.join(" AND "), EVENTS_MAX + 1);
    let rows = invocation.session.objects(&sql, &values).await?;
    if rows.is_empty() {
        let text = format!("\"{source}\" has no events of \"{}\" in this time", invocation.word("entity"));
        return Err(Refusal::new(Refused::NoTelemetry, text).at("/entity").into());
    }
    if rows.len() > EVENTS_MAX {
        let text = format!("there are more than {EVENTS_MAX} events: choose a shorter window");
        return Err(Refusal::new(Refused::InvalidValue, text).at("/window").into());
    }
    Ok(rows.into_iter().map(Value::Object).collect())
}

/// From when and until when events are read.
fn window(invocation: &Invocation) -> [i64; 2] {
    let window = invocation.arguments.get("window");
    let end = |name: &str| window.and_then(|window| window[name].as_str()).and_then(time_us);
    let to_us = end("to").unwrap_or_else(|| invocation.now_us());
    [end("from").unwrap_or_else(|| to_us.saturating_sub(READ_US)), to_us]
}

async fn judge(invocation: &Invocation, events: Vec<Value>) -> Result<Value> {
    if events.is_empty() {
        return Err(Refusal::new(Refused::InvalidValue, "there is no event").at("/events").into());
    }
    let stored =
        invocation.own.models().find(invocation.text("model").unwrap_or("latest")).map_err(|error| match error {
            Error::UndefinedType(text) => Refusal::new(Refused::NoModel, text).at("/model").into(),
            other => other,
        })?;
    let (model, title) = (stored.model()?, format!("\"{}\" version {}", stored.name, stored.version));
    let budget = invocation.settings.threat_false_alarms();
    let columns = columns(&model, &events)?;
    let names: Vec<String> = model.features().map(|(name, _)| name.to_owned()).collect();
    let device = invocation.own.device().clone();
    let work = move || -> Result<_> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let all = fitted(&model, &title, &names, &columns)?;
        let scores = with_values(&all, |values| model.score(&device, values)).map_err(|error| refused(&error))?;
        let mut alarms: Vec<(usize, f64)> =
            scores.p_values.iter().copied().enumerate().filter(|(_, p)| *p <= budget).collect();
        alarms.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let (count, least) = (alarms.len(), scores.p_values.iter().copied().fold(1.0, f64::min));
        alarms.truncate(ALARMS_MAX);
        let rows: Vec<usize> = alarms.iter().map(|(row, _)| *row).collect();
        let chosen = columns.iter().map(|column| taken(column, &rows)).collect::<Result<Vec<_>>>()?;
        let chosen = fitted(&model, &title, &names, &chosen)?;
        let parts = match rows.is_empty() {
            true => Vec::new(),
            false => with_values(&chosen, |values| model.explain(&device, values)).map_err(|error| refused(&error))?,
        };
        let named: Vec<Value> = parts.chunks(names.len().max(1)).map(|row| features(&names, row)).collect();
        Ok((alarms, named, count, least))
    };
    let (alarms, named, count, least) = blocking(work).await?;
    let together = (least * events.len() as f64).min(1.0);
    let verdict = match count {
        0 => "benign",
        _ if together <= budget => "malicious",
        _ => "suspicious",
    };
    let alarming = alarms.iter().map(|(row, _)| events[*row].as_object().cloned().unwrap_or_default());
    let mitre = techniques(&invocation.own, alarming.collect(), invocation.now_us()).await?;
    let threat = |(((row, p), features), mitre): ((&(usize, f64), &Value), &Vec<String>)| {
        json!({
            "event": row, "threat_type": stored.name, "severity": severity(p / budget), "confidence_score": 1.0 - p,
            "indicators": events[*row], "evidence": features, "mitre": mitre,
        })
    };
    let threats: Vec<Value> = alarms.iter().zip(&named).zip(&mitre).map(threat).collect();
    let mut answer = json!({
        "verdict": verdict,
        "confidence": 1.0 - together,
        "events": events.len(),
        "alarms": count,
        "false_alarms_expected": budget * events.len() as f64,
        "threats": threats,
        "features_top": named.first().cloned().unwrap_or_else(|| json!([])),
        "model": { "name": stored.name, "version": stored.version },
        "threat_event_ids": [],
    });
    if invocation.flag("persist") && count > 0 {
        answer["threat_event_ids"] = json!([persist(invocation, &answer).await?]);
    }
    Ok(answer)
}

/// How severe an alarm is whose p-value is this share of the limit.
fn severity(share: f64) -> &'static str {
    match share {
        share if share <= 0.01 => "critical",
        share if share <= 0.1 => "high",
        _ => "medium",
    }
}

/// The ATT&CK techniques of each event: those that it names itself, and those of the Sigma rules that it matches. Rules see the
/// events in the order of their times, as some count.
async fn techniques(own: &Session, events: Vec<Map<String, Value>>, now_us: i64) -> Result<Vec<Vec<String>>> {
    let mut rules = if events.is_empty() { None } else { sigma::borrow(own).await? };
    let work = move || -> Result<_> {
        let mut all: Vec<BTreeSet<String>> = events.iter().map(named_techniques).collect();
        if let Some(rules) = &mut rules {
            let at_us = |event: &Map<String, Value>| Subject::of(event).map_or(now_us, |subject| subject.time_us);
            let mut order: Vec<(i64, usize)> = events.iter().map(at_us).zip(0..).collect();
            order.sort_unstable();
            for (at_us, number) in order {
                let matched = rules.judge.judge(&events[number], at_us);
                all[number].extend(matched.into_iter().flat_map(|one| one.techniques));
            }
        }
        Ok((all, rules))
    };
    let (all, rules) = blocking(work).await?;
    if let Some(rules) = rules {
        rules.give_back(own);
    }
    Ok(all.into_iter().map(|techniques| techniques.into_iter().collect()).collect())
}

/// The techniques that an event names itself, in `mitre` or `technique`: T1110, T1110.001.
fn named_techniques(event: &Map<String, Value>) -> BTreeSet<String> {
    let values = ["mitre", "technique"].into_iter().filter_map(|name| event.get(name));
    let texts = values.flat_map(|value| match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<&str>>(),
        other => other.as_str().into_iter().collect(),
    });
    let is_one =
        |text: &&str| text.strip_prefix('T').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    texts.filter(is_one).map(str::to_owned).collect()
}

/// The columns of the model out of the events; a member that is missing is a null.
fn columns(model: &ThreatModel, events: &[Value]) -> Result<Vec<ArrayRef>> {
    let features: Vec<(&str, Feature)> = model.features().collect();
    for (at, event) in events.iter().enumerate() {
        if !features.iter().any(|(name, _)| !event[*name].is_null()) {
            let names = features.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let text = format!("the event has none of the model's columns: {names}");
            return Err(Refusal::new(Refused::InvalidValue, text).at(&format!("/events/{at}")).into());
        }
    }
    let number = |value: &Value| value.as_f64().or_else(|| value.as_bool().map(f64::from));
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let column = |(name, kind): &(&str, Feature)| -> ArrayRef {
        match kind {
            Feature::Number => Arc::new(events.iter().map(|event| number(&event[*name])).collect::<Float64Array>()),
            _ => Arc::new(events.iter().map(|event| text(&event[*name])).collect::<StringArray>()),
        }
    };
    Ok(features.iter().map(column).collect())
}

fn taken(column: &ArrayRef, rows: &[usize]) -> Result<ArrayRef> {
    let rows = arrow::array::UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
    Ok(arrow::compute::take(column, &rows, None)?)
}

/// The features that brought most evidence.
fn features(names: &[&str], nats: &[f64]) -> Value {
    let mut all: Vec<(&str, f64)> =
        names.iter().copied().zip(nats.iter().copied()).filter(|(_, nats)| *nats > 0.05).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.into_iter().take(FEATURES_MAX).map(|(name, nats)| json!({ "feature": name, "nats": nats })).collect()
}

/// One row of `threat_events` for what alarmed; its id.
async fn persist(invocation: &Invocation, answer: &Value) -> Result<String> {
    let id = invocation.new_id();
    let first = &answer["threats"][0];
    let entity = invocation.text("entity").map(str::to_owned);
    let threats = answer["threats"].as_array().into_iter().flatten();
    let mitre: BTreeSet<&str> =
        threats.flat_map(|threat| threat["mitre"].as_array().into_iter().flatten()).filter_map(Value::as_str).collect();
    let indicators = json!({
        "entity": entity, "alarms": answer["alarms"], "events": answer["events"], "verdict": answer["verdict"],
        "event": first["indicators"], "evidence": first["evidence"], "model": answer["model"],
        "mitre": mitre,
    });
    let confidence = (answer["confidence"].as_f64().unwrap_or_default().clamp(0.0, 1.0) * 100.0).floor() / 100.0;
    let kind: String = first["threat_type"].as_str().unwrap_or_default().chars().take(50).collect();
    let insert = "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) \
                  VALUES ($1, $2, $3, $4, $5, $6)";
    let values = [
        id.clone().into(),
        invocation.now().into(),
        kind.into(),
        first["severity"].clone(),
        indicators,
        confidence.into(),
    ];
    invocation.own.changed_rows(insert, &values).await?;
    Ok(id)
}

/// What the feeds say of an indicator, where they are read.
async fn in_feeds(invocation: &Invocation, indicator: &Value) -> Result<Vec<Map<String, Value>>> {
    if !invocation.settings.threat_feeds {
        return Ok(Vec::new());
    }
    let known = "SELECT 'known_indicator' AS threat_type, feed, confidence AS confidence_score, description, valid_until, loaded_at \
                 FROM juno_indicators WHERE kind = $1 AND value = $2 AND (valid_until IS NULL OR valid_until > $3) ORDER BY feed";
    let (kind, value) =
        (indicator["type"].as_str().unwrap_or_default(), indicator["value"].as_str().unwrap_or_default());
    let values = [kind.into(), normal(kind, value).into(), invocation.now().into()];
    let mut rows = invocation.own.objects(known, &values).await?;
    for row in &mut rows {
        row.insert("indicators".into(), indicator.clone());
        row.insert("mitre".into(), json!([]));
    }
    Ok(rows)
}

/// Indicators in the feeds, and in the threats seen so far that nobody called false.
async fn look_up(invocation: &Invocation) -> Result<Value> {
    let mut threats = Vec::new();
    let mut most: f64 = 0.0;
    let seen = "SELECT id, threat_type, severity, confidence_score, detected_at, mitre FROM threats_history \
                WHERE strpos(CAST(indicators AS TEXT), $1) > 0 AND false_positive IS NOT TRUE ORDER BY detected_at DESC LIMIT 20";
    for indicator in invocation.list("indicators") {
        for row in in_feeds(invocation, indicator).await? {
            most = most.max(row["confidence_score"].as_f64().unwrap_or_default());
            threats.push(Value::Object(row));
        }
        let quoted = indicator["value"].to_string();
        for row in invocation.own.objects(seen, &[quoted.into()]).await? {
            most = most.max(row["confidence_score"].as_f64().unwrap_or_default());
            let mut threat: Map<String, Value> = row;
            threat.insert("indicators".into(), indicator.clone());
            threats.push(Value::Object(threat));
        }
    }
    let verdict = match threats.len() {
        0 => "benign",
        _ if most >= 0.9 => "malicious",
        _ => "suspicious",
    };
    Ok(json!({
        "verdict": verdict,
        "confidence": most,
        "threats": threats,
        "indicators": invocation.list("indicators").len(),
        "model": "feeds and threats seen before",
        "threat_event_ids": [],
    }))
}

#[cfg(test)]
mod tests;
