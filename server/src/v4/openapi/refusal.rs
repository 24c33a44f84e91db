//! What is answered where something stands against it: problems by status, with the slugs that each may have.
//!
//! **Invariant:** statuses are those of the problems; what can happen here is not decided, but follows from the table.

use std::collections::{BTreeMap, BTreeSet};

use juno_sql::{Effect, Operation, Refused};
use serde_json::{Map, Value, json};

use crate::error;
use crate::http::problem::Problem;
use crate::v4::table::{Endpoint, Shape};

/// What any request may meet with.
const ANY: &[&str] = &[
    "unknown-parameter",
    "unauthorized",
    "forbidden",
    "blocked",
    "not-acceptable",
    "internal-error",
    "overloaded",
    "starting",
    "shutting-down",
    "out-of-memory",
    "statement-timeout",
];
/// What a body may meet with.
const BODY: &[&str] =
    &["bad-request", "unreadable-body", "unknown-field", "too-large", "unsupported-media-type", "in-flight"];
/// What arguments may meet with.
const ARGUMENTS: &[&str] = &["missing-field", "invalid-field", "invalid-value", "idempotency-key-reused"];
/// What writes may meet with.
const WRITES: &[&str] = &["read-only", "disk-failed", "disk-full"];
/// What stops operations that act on other systems.
const ACTS: &[Refused] = &[
    Refused::KeyRequired,
    Refused::Interrupted,
    Refused::PhaseTooLow,
    Refused::PolicyDenied,
    Refused::KillSwitch,
    Refused::Frozen,
];

/// The problems of a row by status, and any other one.
pub(super) fn responses(row: &Endpoint, operation: Option<&Operation>) -> Map<String, Value> {
    let mut by_status: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for slug in slugs(row, operation) {
        by_status.entry(Problem::new(slug, "").status).or_default().insert(slug);
    }
    let named = by_status.into_iter().map(|(status, slugs)| {
        let slugs: Vec<&str> = slugs.into_iter().collect();
        (status.to_string(), problem(&slugs.join(", ")))
    });
    named.chain([("default".to_owned(), problem("Any other problem."))]).collect()
}

fn problem(text: &str) -> Value {
    let schema = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
    json!({ "description": text, "content": { "application/problem+json": schema } })
}

fn slugs(row: &Endpoint, operation: Option<&Operation>) -> Vec<&'static str> {
    let mut all = ANY.to_vec();
    let own: &[&str] = match row.shape {
        Shape::One | Shape::All | Shape::Call { .. } => &[],
        Shape::Item => &["not-found"],
        Shape::List { .. } | Shape::History { .. } => {
            &["invalid-parameter-value", "invalid-cursor", "cursor-expired", "range-too-large"]
        }
        Shape::Steps(_) => &["invalid-parameter-value", "range-too-large"],
        Shape::Series => &["invalid-parameter-value", "unknown-metric", "range-too-large"],
        Shape::Events => &["invalid-parameter-value", "bad-request", "too-many-streams"],
        Shape::Computed => &["invalid-parameter-value"],
    };
    all.extend(own);
    let Some(operation) = operation else { return all };
    let mut refuses = operation.refuses.to_vec();
    if operation.component.is_some() {
        refuses.push(Refused::ComponentDisabled);
    }
    if operation.effect == Effect::Acts {
        refuses.extend(ACTS);
    }
    if operation.may_last() {
        refuses.push(Refused::BudgetExhausted);
    }
    if operation.matched {
        refuses.extend([Refused::PreconditionRequired, Refused::PreconditionFailed]);
    }
    all.extend(refuses.into_iter().map(|kind| error::refused(kind).0));
    if let Shape::Call { .. } = row.shape {
        all.extend(BODY.iter().chain(ARGUMENTS));
    }
    if operation.effect != Effect::Computes {
        all.extend(WRITES);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v4::table::ENDPOINTS;

    #[test]
    fn every_problem_that_is_named_has_a_page() {
        for row in ENDPOINTS {
            for slug in slugs(row, row.operation()) {
                // What is not known has the status of an internal error.
                let is_known =
                    Problem::new(slug, "").status != 500 || ["internal-error", "disk-failed"].contains(&slug);
                assert!(is_known, "{slug}");
            }
        }
    }

    #[test]
    fn statuses_follow_from_what_an_operation_is() {
        let statuses = |sql: &str| {
            let row = ENDPOINTS.iter().find(|row| row.sql == sql).expect(sql);
            responses(row, row.operation()).keys().cloned().collect::<Vec<_>>()
        };
        let acts = statuses("CALL scaling_execute");
        for status in ["401", "403", "404", "409", "412", "422", "423", "428", "429", "503", "504", "default"] {
            assert!(acts.iter().any(|one| one == status), "{status}: {acts:?}");
        }
        let reads = statuses("SELECT * FROM runbooks");
        assert_eq!(reads, ["400", "401", "403", "406", "500", "503", "504", "default"]);
    }
}
