//! The watch over security events: behaviours, indicators and Sigma rules, told once each as rows of `threat_events`.
//!
//! Logons are looked at as soon as there are new events, in the last hours, and rules are run over each new event; what needs days of
//! ordinary events is looked at less often.
//!
//! **Invariant:** the same entity alarms by the same behaviour or rule once while its threat is open, and never again by events that
//! a threat is on record for; what a behaviour calls ordinary is never told.

mod rules;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use juno_engine::Follower;
use serde_json::{Map, Value, json};

use self::rules::Rules;
use super::policy::recommended;
use super::recalibration;
use crate::ingest::Incoming;
use crate::operation::time_us;
use crate::session::{RefusedLogon, Session, rfc3339};
use crate::{Error, Result};

/// Where events are.
const EVENTS: &str = "security_events";
/// Between two looks at what needs days.
const SLOW_US: i64 = 300_000_000;
/// How long threats on record are remembered.
const KNOWN_US: i64 = 86_400_000_000;
/// The score from which on a finding without a p-value is told.
const SCORE_MIN: f64 = 0.9;
/// Findings of one look.
const FOUND_MAX: usize = 1_000;

/// What is looked for.
struct Behaviour {
    name: &'static str,
    /// The column of its result that the threat is about.
    entity: &'static str,
    columns: &'static [&'static str],
    filter: &'static str,
    /// Hours that it is judged by, and hours in which it must have ended.
    hours: (u32, u32),
    is_slow: bool,
}

/// The columns of logons.
const LOGON: &[&str] = &["time", "src_ip", "actor_user", "status_id", "device_hostname"];

const BEHAVIOURS: [Behaviour; 6] = [
    Behaviour {
        name: "brute_force",
        entity: "source",
        columns: LOGON,
        filter: "class_uid = 3002",
        hours: (6, 6),
        is_slow: false,
    },
    Behaviour {
        name: "password_spray",
        entity: "source",
        columns: LOGON,
        filter: "class_uid = 3002",
        hours: (24, 2),
        is_slow: true,
    },
    Behaviour {
        name: "beaconing",
        entity: "source",
        columns: &["time", "src_ip", "dst_ip", "bytes_out", "dst_port"],
        filter: "class_uid = 4001",
        hours: (24, 2),
        is_slow: true,
    },
    Behaviour {
        name: "lateral_movement",
        entity: "source",
        columns: &["time", "src_ip", "dst_ip"],
        filter: "class_uid = 4001",
        hours: (168, 2),
        is_slow: true,
    },
    Behaviour {
        name: "exfiltration",
        entity: "source",
        columns: &["time", "src_ip", "bytes_out", "dst_ip", "dst_port"],
        filter: "class_uid = 4001",
        hours: (168, 2),
        is_slow: true,
    },
    Behaviour {
        name: "dns_tunnelling",
        entity: "client",
        columns: &["time", "src_ip", "dns_query", "dns_type"],
        filter: "class_uid = 4003",
        hours: (24, 2),
        is_slow: true,
    },
];

/// A threat that was found, and how it can be contained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threat {
    /// Its row in `threat_events`.
    pub id: String,
    /// Actions of `threats_respond`, each with its target.
    pub responses: Vec<(&'static str, String)>,
}

/// The watch.
#[derive(Default)]
pub struct ThreatWatch {
    follower: Option<Follower>,
    is_new: Arc<AtomicBool>,
    slow_us: i64,
    rules: Rules,
}

impl ThreatWatch {
    /// Looks at what is new; gives the threats that were found now.
    ///
    /// # Errors
    /// As [`Session::query`]; then it is looked at again the next time.
    pub async fn look(&mut self, own: &Session) -> Result<Vec<Threat>> {
        keep_logons(own).await?;
        if own.db().catalog().table(EVENTS).is_none() {
            self.follower = None;
            self.rules = Rules::of_no_table();
            return Ok(Vec::new());
        }
        if self.follower.is_none() {
            let is_new = Arc::clone(&self.is_new);
            self.follower = Some(own.db().follow(EVENTS, move || is_new.store(true, Ordering::Release))?);
            self.is_new.store(true, Ordering::Release);
        }
        let now_us = own.db().system().clock().now_us();
        let is_slow_due = now_us - self.slow_us >= SLOW_US;
        if !self.is_new.swap(false, Ordering::AcqRel) && !is_slow_due && !self.rules.is_behind() {
            return Ok(Vec::new());
        }
        // Rules are run over the new events themselves; to behaviours it is enough that there are some.
        if let Some(follower) = &self.follower {
            self.rules.hear(follower.take()?);
        }
        let found = self.find(own, now_us, is_slow_due).await;
        match &found {
            Ok(_) if is_slow_due => self.slow_us = now_us,
            Ok(_) => {}
            Err(_) => {
                self.is_new.store(true, Ordering::Release);
                self.rules = Rules::default();
            }
        }
        found
    }

    /// Whether new events wait that the last look left to the next.
    pub fn is_behind(&self) -> bool {
        self.rules.is_behind()
    }

    async fn find(&mut self, own: &Session, now_us: i64, slow: bool) -> Result<Vec<Threat>> {
        let known = known(own, now_us).await?;
        let mut rows = Vec::new();
        for behaviour in BEHAVIOURS.iter().filter(|behaviour| slow || !behaviour.is_slow) {
            let of = findings(own, behaviour, now_us).await?;
            rows.extend(of.into_iter().map(|row| (behaviour, row)));
        }
        let mut found = Vec::new();
        // Labels are read where there is something to judge by them.
        if !rows.is_empty() {
            let set = own.operation_settings().threat_false_alarms();
            let limits = recalibration::limits(own, set, now_us).await?;
            let limit = |behaviour: &Behaviour| limits.get(behaviour.name).copied().unwrap_or(set);
            found.extend(rows.iter().filter_map(|(behaviour, row)| finding(behaviour, row, limit(behaviour))));
        }
        if own.operation_settings().threat_feeds {
            found.extend(indicated(own, now_us).await?);
        }
        found.extend(self.rules.find(own, now_us).await?);
        let mut threats = Vec::new();
        if found.is_empty() {
            return Ok(threats);
        }
        let targets: Vec<String> = own.targets().await.targets.into_iter().map(|(_, target)| target.name).collect();
        let mut told = known;
        for one in found {
            if !told.iter().any(|known| known.covers(&one)) {
                told.push(Known::of(&one));
                threats.push(one.keep(own, &targets).await?);
            }
        }
        Ok(threats)
    }
}

/// A threat on record.
struct Known {
    threat_type: String,
    /// The rule, where one found it.
    rule: Option<String>,
    entity: String,
    /// Until when its events go; what is open has no end.
    until_us: i64,
}

impl Known {
    fn of(finding: &Finding) -> Self {
        Self {
            threat_type: finding.threat_type.clone(),
            rule: finding.rule.clone(),
            entity: finding.entity.clone(),
            until_us: i64::MAX,
        }
    }

    /// Whether a finding is of the same events, or of more of them while the threat is open.
    fn covers(&self, finding: &Finding) -> bool {
        let is_same = self.threat_type == finding.threat_type && self.rule == finding.rule;
        is_same && self.entity == finding.entity && finding.until_us <= self.until_us
    }
}

/// A finding that may be a threat on record.
struct Finding {
    /// The last event that counts.
    until_us: i64,
    threat_type: String,
    /// The rule, where one found it.
    rule: Option<String>,
    entity: String,
    severity: &'static str,
    confidence: f64,
    /// The host that was got at.
    host: Option<String>,
    indicators: Value,
}

impl Finding {
    async fn keep(self, own: &Session, targets: &[String]) -> Result<Threat> {
        let id = own.db().system().uuid_v7().to_string();
        let insert = "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) \
                      VALUES ($1, $2, $3, $4, $5, $6)";
        let confidence = (self.confidence * 100.0).floor() / 100.0;
        let mut responses = Vec::new();
        if let Some(host) = self.host.filter(|host| targets.contains(host)) {
            responses.push(("isolate", host));
        }
        if self.entity.parse::<IpAddr>().is_ok() {
            responses.push(("block_ip", self.entity.clone()));
        } else if targets.contains(&self.entity) {
            responses.push(("isolate", self.entity.clone()));
        }
        let mut indicators = self.indicators;
        indicators["recommended_response"] = recommended(&responses, &self.entity);
        let values = [
            id.as_str().into(),
            own.now().into(),
            self.threat_type.into(),
            self.severity.into(),
            indicators,
            confidence.into(),
        ];
        own.changed_rows(insert, &values).await?;
        Ok(Threat { id, responses })
    }
}

/// Writes down the logons that juno's own doors refused.
async fn keep_logons(own: &Session) -> Result<()> {
    let logons = own.operations().take_refused_logons();
    if logons.is_empty() {
        return Ok(());
    }
    let text = |of: &dyn Fn(&RefusedLogon) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(logons.iter().map(of)))
    };
    let number = |value: i64| -> ArrayRef { Arc::new(Int64Array::from_value(value, logons.len())) };
    let times = TimestampMicrosecondArray::from_iter_values(logons.iter().map(|logon| logon.at_us));
    let rows = RecordBatch::try_from_iter([
        ("time", Arc::new(times.with_timezone("+00:00")) as ArrayRef),
        ("source_name", text(&|logon| format!("juno {}", logon.door))),
        ("event_uid", text(&|logon| logon.id.clone())),
        ("actor_user", text(&|logon| logon.user.clone())),
        ("device_hostname", text(&|_| "juno".to_owned())),
        ("src_ip", text(&|logon| logon.address.to_string())),
        ("class_uid", number(3002)),
        ("activity_id", number(1)),
        ("status_id", number(2)),
    ])?;
    let tags = vec!["source_name".to_owned(), "event_uid".to_owned()];
    own.ingest(vec![Incoming { table: EVENTS.into(), rows, time: "time".into(), tags }]).await.map(drop)
}

/// Threats that are on record, open or over. One that a rule found goes until it was resolved: who resolved it saw what had come by then.
async fn known(own: &Session, now_us: i64) -> Result<Vec<Known>> {
    let all = "SELECT threat_type, entity, detected_at, resolved_at IS NULL AND false_positive IS NOT TRUE AS is_open, resolved_at, \
               (indicators -> 'window') ->> 'to' AS until, indicators ->> 'rule_id' AS rule FROM threats_history \
               WHERE detected_at > $1 AND entity IS NOT NULL";
    let rows = own.objects(all, &[rfc3339(now_us - KNOWN_US).into()]).await?;
    let text = |row: &Map<String, Value>, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let time = |row: &Map<String, Value>, name: &str| row[name].as_str().and_then(time_us);
    let until_us = |row: &Map<String, Value>| match row["is_open"].as_bool() {
        Some(true) => i64::MAX,
        _ => {
            let resolved = time(row, "resolved_at").filter(|_| !row["rule"].is_null());
            time(row, "until").or(time(row, "detected_at")).max(resolved).unwrap_or(i64::MAX)
        }
    };
    let one = |row: &Map<String, Value>| Known {
        threat_type: text(row, "threat_type"),
        rule: row["rule"].as_str().map(str::to_owned),
        entity: text(row, "entity"),
        until_us: until_us(row),
    };
    Ok(rows.iter().map(one).collect())
}

/// Whether the table of events has these columns.
fn has(own: &Session, columns: &[&str]) -> bool {
    let catalog = own.db().catalog();
    let table = catalog.table(EVENTS);
    table.is_some_and(|table| columns.iter().all(|name| table.column(name).is_some()))
}

async fn findings(own: &Session, behaviour: &Behaviour, now_us: i64) -> Result<Vec<Map<String, Value>>> {
    if !has(own, behaviour.columns) || !has(own, &["class_uid"]) {
        return Ok(Vec::new());
    }
    let hours = |hours: u32| rfc3339(now_us - i64::from(hours) * 3_600_000_000);
    let sql = format!(
        "SELECT * FROM {}((SELECT {} FROM {EVENTS} WHERE {} AND time > TIMESTAMPTZ '{}')) WHERE window_end > TIMESTAMPTZ '{}' \
         LIMIT {FOUND_MAX}",
        behaviour.name,
        behaviour.columns.join(", "),
        behaviour.filter,
        hours(behaviour.hours.0),
        hours(behaviour.hours.1)
    );
    own.objects(&sql, &[]).await
}

/// A finding that alarms at this limit of p-values.
fn finding(behaviour: &Behaviour, row: &Map<String, Value>, limit: f64) -> Option<Finding> {
    let (p_value, score) = (row["p_value"].as_f64(), row["score"].as_f64().unwrap_or_default());
    let alarms = p_value.map_or(score >= SCORE_MIN, |p_value| p_value <= limit);
    let entity = row[behaviour.entity].as_str().filter(|_| alarms)?.to_owned();
    let succeeded = !row["evidence"]["succeeded"].is_null();
    let severity = match p_value {
        _ if succeeded => "critical",
        Some(p_value) if p_value <= 1e-6 => "high",
        _ => "medium",
    };
    let indicators = json!({
        "entity": entity,
        "behaviour": behaviour.name,
        "mitre": [row["technique"]],
        "window": { "from": row["window_start"], "to": row["window_end"] },
        "score": row["score"],
        "p_value": row["p_value"],
        "account": row.get("account"),
        "target": row.get("target"),
        "evidence": row["evidence"],
    });
    let host = row.get("target").and_then(Value::as_str).filter(|_| succeeded).map(str::to_owned);
    let confidence = p_value.map_or(score, |p_value| 1.0 - p_value).min(0.99);
    let until_us = row["window_end"].as_str().and_then(time_us)?;
    let threat_type = behaviour.name.to_owned();
    Some(Finding { until_us, threat_type, rule: None, entity, severity, confidence, host, indicators })
}

/// Events of the last hour that name what a feed knows.
async fn indicated(own: &Session, now_us: i64) -> Result<Vec<Finding>> {
    let named = [("ip", "src_ip"), ("ip", "dst_ip"), ("domain", "dst_domain"), ("domain", "dns_query")];
    let parts: Vec<String> = named
        .iter()
        .filter(|(_, column)| has(own, &[column]))
        .map(|(kind, column)| {
            format!(
                "SELECT '{kind}' AS kind, CAST({column} AS TEXT) AS value, time FROM {EVENTS} WHERE time > $1 AND {column} IS NOT NULL"
            )
        })
        .collect();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT i.kind, i.value, max(i.confidence) AS confidence, min(i.feed) AS feed, count(*) AS events, max(e.time) AS until \
         FROM juno_indicators AS i JOIN ({}) AS e ON e.kind = i.kind AND lower(e.value) = i.value \
         WHERE i.valid_until IS NULL OR i.valid_until > now() GROUP BY i.kind, i.value LIMIT {FOUND_MAX}",
        parts.join(" UNION ALL ")
    );
    let rows = own.objects(&sql, &[rfc3339(now_us - 3_600_000_000).into()]).await?;
    let one = |row: &Map<String, Value>| {
        let entity =
            row["value"].as_str().ok_or_else(|| Error::Corrupt("an indicator has no value".into()))?.to_owned();
        Ok(Finding {
            until_us: row["until"].as_str().and_then(time_us).unwrap_or(now_us),
            threat_type: "indicator".to_owned(),
            rule: None,
            severity: "high",
            confidence: row["confidence"].as_f64().unwrap_or_default().clamp(0.0, 0.99),
            host: None,
            indicators: json!({ "entity": entity, "kind": row["kind"], "feed": row["feed"], "events": row["events"] }),
            entity,
        })
    };
    rows.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
