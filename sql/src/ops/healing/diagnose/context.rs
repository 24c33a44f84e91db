//! What else speaks for a service: changes of it, events about it and its neighbours, and the calls by which it is felt.
//!
//! Each item has a `score` from 0 to 1. That of a change or an event is how near in time it was: 1 at the first deviation of the
//! service, 0 an hour away. That of topology is 1 by the number of calls from where the incident was felt. An incident of a
//! service that calls it counts half: what is felt above seldom makes what is below ill.
//!
//! **Changes**, before the first deviation: remediations, changes of units, knobs of scaling, other orders; creations, updates and
//! deletions in `security_events` whose `resource_name` is the service, or `namespace/service`; rows of a telemetry table
//! `deployments` or `changes` with a column `service`, told by `version`, `what`, `description` or `message`. **Events**: threats whose
//! entity it is, classes of `security_events` whose `device_hostname` it is, incidents of services that it calls or that call it.
//!
//! **Invariant:** tells, and weighs nothing: no probability changes by what is found here. That something changed shortly before
//! makes it a suspect, and by how much more probable nobody has measured here.

use std::collections::{BTreeMap, BTreeSet};

use juno_engine::Catalog;
use serde_json::{Map, Value, json};

use super::asked::Asked;
use crate::Result;
use crate::operation::time_us;
use crate::ops::healing::policy::graph::Graph;
use crate::ops::operations::predict::quoted;
use crate::session::{Invocation, Session, rfc3339};

/// How long before a service first deviated changes and events are looked for.
const BEFORE_US: i64 = 3_600_000_000;
/// Items of one source.
const ITEMS_MAX: usize = 5;
/// Incidents of others that are looked at.
const INCIDENTS_MAX: usize = 200;
/// Events of security.
const SECURITY: &str = "security_events";
/// Tables in which others write down what they change.
const TOLD: [&str; 2] = ["deployments", "changes"];
/// The columns that say what was changed.
const WHAT: [&str; 4] = ["version", "what", "description", "message"];
/// How operations on resources begin that change them.
const CHANGING: [&str; 7] = ["create", "update", "patch", "put", "modify", "replace", "delete"];

/// Where juno writes down what it changes: tables, and what of them is about a service ($1) between two times ($2, $3).
const OWN: [(&str, &str); 4] = [
    (
        "juno_remediations",
        "SELECT CAST(id AS TEXT) AS id, began_at AS happened_at, runbook || ' by ' || actor AS what FROM juno_remediations \
         WHERE target = $1 AND began_at >= $2 AND began_at <= $3",
    ),
    (
        "juno_scaling_executions",
        "SELECT CAST(event_id AS TEXT) AS id, ordered_at AS happened_at, \
         'from ' || CAST(from_units AS TEXT) || ' to ' || CAST(to_units AS TEXT) || ' units' AS what FROM juno_scaling_executions \
         WHERE (service = $1 OR target = $1) AND ordered_at >= $2 AND ordered_at <= $3",
    ),
    (
        "juno_scaling_knobs",
        "SELECT CAST(optimization_id AS TEXT) AS id, applied_at AS happened_at, 'knobs of scaling by ' || applied_by AS what \
         FROM juno_scaling_knobs WHERE service = $1 AND applied_at >= $2 AND applied_at <= $3",
    ),
    (
        "juno_intents",
        "SELECT CAST(id AS TEXT) AS id, at AS happened_at, action || ' by ' || actor AS what FROM juno_intents \
         WHERE target = $1 AND operation NOT IN ('healing_remediate', 'scaling_execute') AND at >= $2 AND at <= $3",
    ),
];

/// A service, and when it first deviated.
struct Begun<'a> {
    service: &'a str,
    at_us: i64,
}

impl Begun<'_> {
    /// The rows of a query about it that stand nearest to the beginning.
    async fn rows(&self, session: &Session, sql: &str, until_us: i64) -> Result<Vec<Map<String, Value>>> {
        let times = [self.at_us.saturating_sub(BEFORE_US), until_us].map(|us| Value::from(rfc3339(us)));
        let [from, until] = times;
        let sql = format!("{sql} ORDER BY happened_at DESC LIMIT {ITEMS_MAX}");
        session.objects(&sql, &[self.service.into(), from, until]).await
    }

    /// 1 for what happened when it began, 0 for what did an hour away.
    fn nearness(&self, at: &Value) -> f64 {
        let away_us = at.as_str().and_then(time_us).map_or(BEFORE_US, |at_us| (self.at_us - at_us).abs());
        (1.0 - away_us as f64 / BEFORE_US as f64).clamp(0.0, 1.0)
    }

    fn item(&self, kind: &str, place: &str, row: &Map<String, Value>) -> Value {
        let at = &row["happened_at"];
        json!({ "kind": kind, "ref": place, "score": self.nearness(at), "at": at, "what": row["what"] })
    }
}

/// What there is about each service, by when it first deviated.
pub(super) async fn of(
    invocation: &Invocation,
    asked: &Asked,
    graph: &Graph,
    begun: &BTreeMap<&str, i64>,
) -> Result<BTreeMap<String, Vec<Value>>> {
    let mut context = BTreeMap::new();
    for (service, at_us) in begun {
        let one = Begun { service, at_us: *at_us };
        let mut evidence = changes(invocation, &one).await?;
        evidence.extend(events(invocation, asked, graph, &one).await?);
        evidence.extend(topology(asked, graph, service, begun));
        context.insert((*service).to_owned(), evidence);
    }
    Ok(context)
}

async fn changes(invocation: &Invocation, begun: &Begun<'_>) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for (table, sql) in OWN {
        for row in begun.rows(&invocation.own, sql, begun.at_us).await? {
            let id = row["id"].as_str().unwrap_or_default();
            found.push(begun.item("change", &format!("{table}/{id}"), &row));
        }
    }
    let told = told_changes(&invocation.session.db().catalog());
    for (table, sql) in told {
        for row in begun.rows(&invocation.session, &sql, begun.at_us).await? {
            let at = row["happened_at"].as_str().unwrap_or_default();
            found.push(begun.item("change", &format!("{table}/{at}"), &row));
        }
    }
    Ok(found)
}

/// The tables in which others tell of changes, with queries as those of [`OWN`].
fn told_changes(catalog: &Catalog) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for name in TOLD {
        let Some(table) = catalog.table(name).filter(|table| table.column("service").is_some()) else { continue };
        let Some(time) = table.time().map(|time| quoted(&table.columns[time].name)) else { continue };
        let what = WHAT.into_iter().find(|column| table.column(column).is_some());
        let what = what.map_or_else(|| "''".to_owned(), |column| format!("CAST({} AS TEXT)", quoted(column)));
        let sql = format!(
            "SELECT {time} AS happened_at, {what} AS what FROM {name} \
             WHERE CAST(service AS TEXT) = $1 AND {time} >= $2 AND {time} <= $3"
        );
        found.push((name, sql));
    }
    if has_security(catalog, &["resource_name", "api_operation", "actor_user"]) {
        let changing: Vec<String> =
            CHANGING.iter().map(|begin| format!("lower(api_operation) LIKE '{begin}%'")).collect();
        let sql = format!(
            "SELECT time AS happened_at, concat(api_operation, ' by ', actor_user) AS what FROM {SECURITY} \
             WHERE (resource_name = $1 OR split_part(resource_name, '/', 2) = $1) AND ({}) AND time >= $2 AND time <= $3",
            changing.join(" OR ")
        );
        found.push((SECURITY, sql));
    }
    found
}

/// Whether there are events of security with these columns.
fn has_security(catalog: &Catalog, columns: &[&str]) -> bool {
    catalog.table(SECURITY).is_some_and(|table| {
        let time = table.time().map(|time| table.columns[time].name.as_str());
        time == Some("time") && columns.iter().all(|column| table.column(column).is_some())
    })
}

async fn events(invocation: &Invocation, asked: &Asked, graph: &Graph, begun: &Begun<'_>) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    let threats = "SELECT CAST(id AS TEXT) AS id, detected_at AS happened_at, threat_type || ', ' || severity AS what \
                   FROM threats_history WHERE entity = $1 AND detected_at >= $2 AND detected_at <= $3";
    for row in begun.rows(&invocation.own, threats, asked.to_us).await? {
        let id = row["id"].as_str().unwrap_or_default();
        found.push(begun.item("event", &format!("threat_events/{id}"), &row));
    }
    let has_hosts = has_security(&invocation.session.db().catalog(), &["device_hostname", "class_uid"]);
    if has_hosts {
        let classes = format!(
            "SELECT class_uid, max(time) AS happened_at, CAST(count(*) AS TEXT) || ' events' AS what FROM {SECURITY} \
             WHERE device_hostname = $1 AND time >= $2 AND time <= $3 GROUP BY class_uid"
        );
        for row in begun.rows(&invocation.session, &classes, begun.at_us).await? {
            found.push(begun.item("event", &format!("{SECURITY}/class_uid={}", row["class_uid"]), &row));
        }
    }
    found.extend(incidents(invocation, asked, graph, begun).await?);
    Ok(found)
}

/// Incidents of the services that it calls, and of those that call it.
async fn incidents(invocation: &Invocation, asked: &Asked, graph: &Graph, begun: &Begun<'_>) -> Result<Vec<Value>> {
    let below: BTreeSet<&str> = graph.callees(begun.service).collect();
    let above: BTreeSet<&str> = graph.callers(begun.service).collect();
    if below.is_empty() && above.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT id, service, detected_at AS happened_at, incident_type || ' of ' || service AS what FROM healing_incidents_list \
         WHERE service <> $1 AND detected_at >= $2 AND detected_at <= $3 ORDER BY happened_at DESC LIMIT {INCIDENTS_MAX}"
    );
    let from = rfc3339(begun.at_us.saturating_sub(BEFORE_US));
    let values = [begun.service.into(), from.into(), rfc3339(asked.to_us).into()];
    let mut found = Vec::new();
    for row in invocation.own.objects(&sql, &values).await? {
        let (id, service) = (row["id"].as_str().unwrap_or_default(), row["service"].as_str().unwrap_or_default());
        let share = match () {
            () if asked.incident_id() == Some(id) => continue,
            () if below.contains(service) => 1.0,
            () if above.contains(service) => 0.5,
            () => continue,
        };
        let mut item = begun.item("event", &format!("healing_incidents/{id}"), &row);
        item["score"] = (share * begun.nearness(&row["happened_at"])).into();
        found.push(item);
    }
    found.truncate(ITEMS_MAX);
    Ok(found)
}

/// The calls by which a service is felt where the incident was: at the services asked about, or else at those that deviate.
fn topology(asked: &Asked, graph: &Graph, service: &str, begun: &BTreeMap<&str, i64>) -> Vec<Value> {
    let mut felt = asked.services();
    if felt.is_empty() {
        felt = begun.keys().copied().collect();
    }
    let mut paths: Vec<Vec<&str>> = felt.into_iter().filter_map(|from| graph.path(from, service)).collect();
    paths.sort_by_key(Vec::len);
    paths.truncate(ITEMS_MAX);
    let item = |path: &Vec<&str>| {
        let calls = path.len().saturating_sub(1).max(1);
        json!({ "kind": "topology", "ref": path.join(" -> "), "score": 1.0 / calls as f64 })
    };
    paths.iter().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(services: &[&str]) -> Asked {
        let symptoms = services.iter().map(|service| ((*service).to_owned(), "latency".to_owned())).collect();
        Asked { incident: None, service: None, symptoms, since_us: 0, from_us: 1, to_us: 2 }
    }

    #[test]
    fn nearness_falls_within_an_hour() {
        let begun = Begun { service: "shop", at_us: 2 * BEFORE_US };
        let nearness = |at_us: i64| begun.nearness(&rfc3339(at_us).into());
        assert_eq!([2, 1, 0, 3].map(|hours| nearness(hours * BEFORE_US)), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!((nearness(3 * BEFORE_US / 2), begun.nearness(&Value::Null)), (0.5, 0.0));
    }

    #[test]
    fn topology_tells_the_way_from_where_it_is_felt() {
        let graph = Graph::new([("site", "shop"), ("shop", "store"), ("mail", "store")]);
        let begun: BTreeMap<&str, i64> = [("shop", 0), ("store", 0)].into();
        let told = topology(&asked(&["site", "mail"]), &graph, "store", &begun);
        let wanted = [
            json!({ "kind": "topology", "ref": "mail -> store", "score": 1.0 }),
            json!({ "kind": "topology", "ref": "site -> shop -> store", "score": 0.5 }),
        ];
        assert_eq!(told, wanted);
        assert_eq!(topology(&asked(&[]), &graph, "store", &begun)[0]["ref"], "shop -> store");
        assert!(topology(&asked(&["store"]), &graph, "store", &begun).is_empty());
    }
}
