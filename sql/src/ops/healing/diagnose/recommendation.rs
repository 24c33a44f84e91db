//! What can be done about the causes of a diagnosis: the runbooks that the loop would take, in its order.
//!
//! A runbook is told where its service probably has a cause that it is for, and where a target of the service's name has what it
//! needs. Causes are those that the loop found, where the incident is its own; else those that names of metrics tell
//! ([`super::ailment`]), with the probabilities of these metrics together.
//!
//! **Invariant:** reads only; no runbook is told for a service whose cause is not known, or that failed in this incident already.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::ailment;
use super::asked::Asked;
use super::ranking::Ranked;
use crate::ops::healing::policy::cause::Cause;
use crate::ops::healing::policy::diagnosis::{Candidate, Diagnosis, PROBABLE};
use crate::ops::healing::policy::runbook::{Choice, Runbook, built_in};
use crate::session::{Found, Invocation};
use crate::{Error, Result};

/// The causes that are known, most probable first.
pub(super) fn causes(asked: &Asked, ranked: &[Ranked]) -> Diagnosis {
    if let Some(diagnosis) = asked.loop_diagnosis() {
        return diagnosis;
    }
    let mut sums: BTreeMap<(&str, Cause), f64> = BTreeMap::new();
    for one in ranked {
        if let Some(cause) = ailment::of(&one.metric, one.before, one.during) {
            *sums.entry((one.service.as_str(), cause)).or_default() += one.probability;
        }
    }
    let candidate = |((service, cause), probability): ((&str, Cause), f64)| Candidate {
        service: service.to_owned(),
        cause,
        probability,
        explained_by: None,
    };
    let mut candidates: Vec<Candidate> = sums.into_iter().map(candidate).collect();
    candidates.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let inconclusive = candidates.first().is_none_or(|first| first.probability < PROBABLE);
    Diagnosis { candidates, inconclusive }
}

/// What can be done about them.
pub(super) async fn actions(
    invocation: &Invocation,
    asked: &Asked,
    causes: &Diagnosis,
    warnings: &mut Vec<String>,
) -> Result<Vec<Value>> {
    let (runbooks, records) = (built_in(), invocation.own.runbook_records().await?);
    let choice = Choice { runbooks: &runbooks, records: &records };
    let probable: Vec<&Candidate> =
        causes.candidates.iter().filter(|one| runbooks.iter().any(|runbook| helps(causes, one, runbook))).collect();
    let services: BTreeSet<&str> = probable.iter().map(|candidate| candidate.service.as_str()).collect();
    let mut targets: BTreeMap<&str, Found> = BTreeMap::new();
    for service in services {
        if let Some(found) = target(invocation, service, warnings).await? {
            targets.insert(service, found);
        }
    }
    let (mut told, mut actions) = (BTreeSet::new(), Vec::new());
    for candidate in probable {
        let Some(found) = targets.get(candidate.service.as_str()) else { continue };
        let failed = failed(invocation, asked, candidate).await?;
        let mut tried: BTreeSet<&str> = failed.iter().map(String::as_str).collect();
        let place = (found.target.clone(), found.observed.clone());
        while let Some((runbook, chance)) = choice.choose(candidate.cause, &place, &tried) {
            tried.insert(runbook.name.as_str());
            let is_new = told.insert((candidate.service.as_str(), runbook.name.as_str()));
            if is_new && helps(causes, candidate, runbook) {
                actions.push(action(candidate, runbook, chance, found));
            }
        }
    }
    Ok(actions)
}

/// Whether a runbook is for a candidate's cause, and its service probably has one of those that it is for.
fn helps(causes: &Diagnosis, candidate: &Candidate, runbook: &Runbook) -> bool {
    runbook.causes.contains_key(&candidate.cause) && causes.answered_by(&candidate.service, runbook) >= PROBABLE
}

fn action(candidate: &Candidate, runbook: &Runbook, chance: f64, found: &Found) -> Value {
    let params = match runbook.steps.as_slice() {
        [step] => step.params.clone(),
        _ => Value::Null,
    };
    json!({
        "runbook": runbook.name,
        "target": { "executor": found.actuator.executor(), "name": found.target.name },
        "cause": candidate.cause,
        "params": params,
        "risk": runbook.risk,
        "expected_success": chance,
        "blast_radius": found.blast_radius(),
    })
}

/// The target that is the service; where there is none that may be healed, a warning says why.
async fn target(invocation: &Invocation, service: &str, warnings: &mut Vec<String>) -> Result<Option<Found>> {
    let reason = match invocation.own.target(None, service).await {
        Ok(found) if !found.observed.is_isolated => return Ok(Some(found)),
        Ok(_) => "it is isolated on purpose".to_owned(),
        Err(Error::Refused(refusal)) => refusal.detail,
        Err(error) => return Err(error),
    };
    warnings.push(format!("no runbook is recommended for {service}: {reason}"));
    Ok(None)
}

/// The runbooks that failed against a cause in this incident.
async fn failed(invocation: &Invocation, asked: &Asked, candidate: &Candidate) -> Result<Vec<String>> {
    let Some(incident) = asked.incident_id() else { return Ok(Vec::new()) };
    let sql = "SELECT DISTINCT runbook FROM juno_remediations \
               WHERE incident_id = $1 AND target = $2 AND cause = $3 AND state = 'failed'";
    let values = [incident.into(), candidate.service.as_str().into(), candidate.cause.name().into()];
    let rows = invocation.own.objects(sql, &values).await?;
    Ok(rows.iter().filter_map(|row| row["runbook"].as_str().map(str::to_owned)).collect())
}
