//! All rules at work: which of them an event matches, and what correlations have counted.
//!
//! **Invariant:** no clock and no table; an event counts at its own time. Rules of level `informational`, those whose status is
//! `deprecated` or `unsupported`, and those that a correlation only counts tell nothing of their own.

use std::collections::HashSet;

use rsigma_eval::event::JsonEvent;
use rsigma_eval::{
    CorrelationConfig, CorrelationEngine, CorrelationSnapshot, EvaluationResult, MatchDetailLevel, ResultBody,
};
use rsigma_parser::{Level, SigmaCollection, Status, parse_sigma_yaml};
use serde_json::{Map, Value, json};

use super::document::techniques;
use super::event::Event;

/// Groups that correlations count at a time, and events that one of them holds.
const GROUPS_MAX: usize = 100_000;
const GROUP_EVENTS_MAX: usize = 10_000;
/// Fields that a match tells of, and characters of each.
const FIELDS_MAX: usize = 20;
const VALUE_CHARS_MAX: usize = 500;

/// What an event matched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Match {
    /// The id of the rule, or its title where it has none.
    pub(crate) rule: String,
    pub(crate) title: String,
    pub(crate) severity: &'static str,
    pub(crate) confidence: f64,
    pub(crate) tags: Vec<String>,
    pub(crate) techniques: Vec<String>,
    /// The fields that matched, or what was counted.
    pub(crate) evidence: Value,
    /// What a correlation counted by, in the order of its rule.
    pub(crate) group: Vec<String>,
}

/// The rules.
pub(crate) struct Judge {
    engine: CorrelationEngine,
    silent: HashSet<String>,
}

impl Judge {
    /// Compiles documents, which were read one by one before.
    pub(crate) fn of<'a>(documents: impl IntoIterator<Item = &'a str>) -> Result<Judge, String> {
        let mut all = SigmaCollection::new();
        for yaml in documents {
            let mut parsed = parse_sigma_yaml(yaml).map_err(|error| error.to_string())?;
            if let Some(error) = parsed.errors.first() {
                return Err(error.clone());
            }
            all.rules.append(&mut parsed.rules);
            all.correlations.append(&mut parsed.correlations);
            all.filters.append(&mut parsed.filters);
        }
        let config = CorrelationConfig {
            max_state_entries: GROUPS_MAX,
            max_group_entries: Some(GROUP_EVENTS_MAX),
            ..CorrelationConfig::default()
        };
        let mut engine = CorrelationEngine::new(config);
        engine.set_match_detail(MatchDetailLevel::Summary);
        engine.add_collection(&all).map_err(|error| error.to_string())?;
        Ok(Judge { engine, silent: silent(&all) })
    }

    /// Goes on with what an earlier judge has counted.
    pub(crate) fn go_on(&mut self, counted: CorrelationSnapshot) {
        self.engine.import_state(counted);
    }

    /// What correlations have counted.
    pub(crate) fn counted(&self) -> CorrelationSnapshot {
        self.engine.export_state()
    }

    /// Forgets what correlations have counted.
    pub(crate) fn forget(&mut self) {
        // By then all of it is too long ago; no event is later.
        self.engine.evict_expired(i64::MAX / 2);
    }

    /// The rules that a row of `security_events` matches.
    pub(crate) fn judge(&mut self, row: &Map<String, Value>, time_us: i64) -> Vec<Match> {
        let Event { value, sources } = Event::of(row);
        let event = JsonEvent::borrow(&value);
        let mut seen = HashSet::new();
        let mut matched: Vec<EvaluationResult> = Vec::new();
        for source in &sources {
            let found = self.engine.engine().evaluate_with_logsource(&event, source);
            matched.extend(found.into_iter().filter(|one| seen.insert(key(one))));
        }
        if matched.is_empty() {
            return Vec::new();
        }
        let told = self.engine.process_with_detections(&event, matched, time_us.div_euclid(1_000_000));
        told.iter().filter(|one| !self.silent.contains(&key(one))).filter_map(found).collect()
    }
}

fn key(result: &EvaluationResult) -> String {
    result.header.rule_id.clone().unwrap_or_else(|| result.header.rule_title.clone())
}

/// Rules that tell nothing of their own.
fn silent(all: &SigmaCollection) -> HashSet<String> {
    let key = |id: &Option<String>, title: &String| id.clone().unwrap_or_else(|| title.clone());
    let is_old = |status: Option<Status>| matches!(status, Some(Status::Deprecated | Status::Unsupported));
    let only_counted: HashSet<&String> =
        all.correlations.iter().filter(|rule| !rule.generate).flat_map(|rule| &rule.rules).collect();
    let counted = |id: &Option<String>, name: &Option<String>| {
        [id, name].into_iter().flatten().any(|name| only_counted.contains(name))
    };
    let rules = all.rules.iter().filter(|rule| is_old(rule.status) || counted(&rule.id, &rule.name));
    let correlations = all.correlations.iter().filter(|rule| is_old(rule.status) || counted(&rule.id, &rule.name));
    let rules = rules.map(|rule| key(&rule.id, &rule.title));
    rules.chain(correlations.map(|rule| key(&rule.id, &rule.title))).collect()
}

/// Severity and confidence of a level; a rule that has none is of `medium`.
fn weight(level: Option<Level>) -> Option<(&'static str, f64)> {
    match level.unwrap_or(Level::Medium) {
        Level::Informational => None,
        Level::Low => Some(("low", 0.5)),
        Level::Medium => Some(("medium", 0.7)),
        Level::High => Some(("high", 0.85)),
        Level::Critical => Some(("critical", 0.95)),
    }
}

fn found(result: &EvaluationResult) -> Option<Match> {
    let (severity, confidence) = weight(result.header.level)?;
    let (evidence, group) = match &result.body {
        ResultBody::Detection(body) => {
            let fields = body.matched_fields.iter().take(FIELDS_MAX);
            let fields: Vec<Value> =
                fields.map(|one| json!({ "field": one.field, "value": shortened(&one.value) })).collect();
            (json!({ "selections": body.matched_selections, "fields": fields }), Vec::new())
        }
        ResultBody::Correlation(body) => {
            let by: Map<String, Value> =
                body.group_key.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            let counted = json!({
                "correlation": body.correlation_type.as_str(), "by": by, "value": body.aggregated_value,
                "timespan_s": body.timespan_secs,
            });
            (counted, body.group_key.iter().map(|(_, value)| value.clone()).collect())
        }
    };
    Some(Match {
        rule: key(result),
        title: result.header.rule_title.clone(),
        severity,
        confidence,
        techniques: techniques(&result.header.tags),
        tags: result.header.tags.clone(),
        evidence,
        group,
    })
}

/// A value of bounded length.
fn shortened(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
        short => return short.clone(),
    };
    match text.chars().count() > VALUE_CHARS_MAX {
        true => text.chars().take(VALUE_CHARS_MAX).collect::<String>().into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests;
