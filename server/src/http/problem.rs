//! Errors over HTTP: RFC 9457 `application/problem+json`, and the page behind each problem's `type`.
//!
//! **Invariant:** says what went wrong and what to do; never shows a path of the machine, a backtrace or a row.

use std::ops::{Deref, DerefMut};

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use juno_sql::Quota;
use serde::Serialize;

use super::quota;

/// A request that ended without its answer. The request middleware adds `instance` and `trace_id` and writes the body.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Members>);

/// The members of the JSON object.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Members {
    /// `/problems/<slug>`, a page that this server serves.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The same for every problem of this type.
    pub(crate) title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What happened this time.
    pub(crate) detail: String,
    /// PostgreSQL's code, where SQL was at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sqlstate: Option<&'static str>,
    /// Which parts of the request are at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<Fault>,
    /// The path that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    /// What to quote when asking for help: the id of the request's trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
    /// When to try again, in seconds: a header of the answer.
    #[serde(skip)]
    pub(crate) retry_after_s: Option<u64>,
    /// What there is too little of: headers of the answer.
    #[serde(skip)]
    pub(crate) quota: Option<Quota>,
}

/// One part of a request that is at fault.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fault {
    /// A query parameter as `?name`, or a JSON pointer into the body.
    pub(crate) pointer: String,
    /// What is wrong with it.
    pub(crate) detail: String,
}

impl Deref for Problem {
    type Target = Members;

    fn deref(&self) -> &Members {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Members {
        &mut self.0
    }
}

impl Problem {
    /// A problem of a kind that [`KINDS`] knows.
    pub(crate) fn new(slug: &'static str, detail: impl Into<String>) -> Problem {
        let (_, status, title, _) = KINDS.iter().find(|kind| kind.0 == slug).unwrap_or(&KINDS[0]);
        Problem::with(
            slug,
            StatusCode::from_u16(*status).expect("the table holds valid statuses"),
            title,
            detail.into(),
        )
    }

    /// A query parameter that the endpoint does not take.
    pub(crate) fn unknown_parameter(name: &str, known: &[&str]) -> Problem {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let detail = format!("there is no parameter \"{name}\" here; parameters are: {known}");
        Problem::new("unknown-parameter", detail).at(format!("?{name}"))
    }

    /// A statement's error.
    pub(crate) fn sql(error: &juno_sql::Error) -> Problem {
        let slug = crate::error::slug(error);
        let title = KINDS.iter().find(|kind| kind.0 == slug).map_or("The statement failed", |kind| kind.2);
        let mut problem = Problem::with(slug, crate::error::http_status(error), title, error.to_string());
        problem.sqlstate = Some(crate::error::sqlstate(error));
        if let juno_sql::Error::Refused(refusal) = error {
            let fault =
                |(pointer, detail): &(String, String)| Fault { pointer: pointer.clone(), detail: detail.clone() };
            problem.errors = refusal.faults.iter().map(fault).collect();
            problem.retry_after_s = refusal.retry_after_s;
            problem.quota = refusal.quota.as_deref().copied();
        }
        problem
    }

    fn with(slug: &str, status: StatusCode, title: &'static str, detail: String) -> Problem {
        let kind = format!("/problems/{slug}");
        Problem(Box::new(Members {
            kind,
            title,
            status: status.as_u16(),
            detail,
            sqlstate: None,
            errors: vec![],
            instance: None,
            trace_id: None,
            retry_after_s: None,
            quota: None,
        }))
    }

    /// Names a part of the request that is at fault.
    pub(crate) fn at(mut self, pointer: impl Into<String>) -> Problem {
        let detail = self.detail.clone();
        self.errors.push(Fault { pointer: pointer.into(), detail });
        self
    }

    /// The answer, written out.
    pub(crate) fn render(&self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("the table holds valid statuses");
        let mut response = (status, Json(&*self.0)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let soon = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        if let Some(seconds) = self.retry_after_s.or(soon.then_some(1)) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(quota) = &self.quota {
            quota::tell(quota, response.headers_mut());
        }
        response
    }
}

/// An error as the document of a problem: what a failed job shows.
pub(crate) fn document(error: &juno_sql::Error) -> serde_json::Value {
    serde_json::to_value(&*Problem::sql(error)).unwrap_or_default()
}

impl From<juno_sql::Error> for Problem {
    fn from(error: juno_sql::Error) -> Problem {
        Problem::sql(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render();
        response.extensions_mut().insert(self);
        response
    }
}

/// `GET /problems/{slug}`: what the problem is and what to do about it.
pub(crate) async fn page(Path(slug): Path<String>) -> Result<Response, Problem> {
    let kind = KINDS.iter().find(|kind| kind.0 == slug);
    let (slug, status, title, text) =
        kind.ok_or_else(|| Problem::new("not-found", format!("there is no problem \"{slug}\"")))?;
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>\
         <h1>{title}</h1><p><code>/problems/{slug}</code>, HTTP status {status}</p><p>{text}</p></html>\n"
    );
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
}

/// Every problem: slug, status, title, and the page's text.
#[rustfmt::skip]
pub(crate) const KINDS: &[(&str, u16, &str, &str)] = &[
    ("internal-error", 500, "The server failed", "Nothing in the request is at fault. The server's log has an entry under the trace id."),
    ("bad-request", 400, "The request cannot be read", "The detail names the part that is malformed."),
    ("unknown-parameter", 400, "Unknown query parameter", "The endpoint does not take this parameter; the detail lists those that it takes."),
    ("invalid-parameter-value", 400, "A query parameter has no valid value", "The detail says what values the parameter takes."),
    ("invalid-cursor", 400, "The cursor is not valid", "Cursors come from next_cursor of an earlier page of the same list, with the same order. Start again without one."),
    ("cursor-expired", 410, "The cursor has expired", "A cursor may be used for 24 hours. Start anew without one: the list begins at its newest row again."),
    ("not-found", 404, "It does not exist", "The path names no endpoint of this server, or the request names something that is not there; the detail says what."),
    ("method-not-allowed", 405, "The method is not allowed here", "The Allow header lists the methods that this path takes."),
    ("not-acceptable", 406, "No acceptable format", "The Accept header allows none of the formats that this endpoint can write; the detail lists them."),
    ("too-large", 413, "The body is too large", "Send it in several requests. The limit holds for the bytes sent and for the bytes after decompression."),
    ("unsupported-media-type", 415, "The format cannot be read", "The Content-Type or Content-Encoding is not one that this endpoint reads; the detail lists them."),
    ("unreadable-body", 400, "The body is not what its type says", "The body is truncated, damaged or not of the format that Content-Type names. Nothing of it was stored."),
    ("unstorable-rows", 422, "The rows do not fit a telemetry table", "A column has a type that telemetry tables do not hold, or a row has no valid time. Nothing of the body was stored."),
    ("range-too-large", 422, "The time range is too large", "Ask for a shorter range or a larger step."),
    ("unknown-metric", 404, "There is no such metric", "Metrics are named table.column; information_schema.columns lists them."),
    ("overloaded", 503, "The server has its hands full", "Try again after the time in Retry-After; nothing of the request was stored."),
    ("starting", 503, "The server is starting", "The log is being replayed. Try again in a moment."),
    ("syntax-error", 400, "The SQL cannot be parsed", "The detail names the place."),
    ("undefined-table", 404, "The table does not exist", "information_schema.tables lists the tables."),
    ("undefined-column", 422, "The column does not exist", "information_schema.columns lists the columns."),
    ("undefined-function", 422, "The function does not exist", "No function of this name takes these arguments."),
    ("undefined-type", 422, "The type does not exist", "The detail lists the types that there are."),
    ("ambiguous-column", 422, "The column name is ambiguous", "Qualify it with its table's name."),
    ("duplicate-table", 409, "The table exists already", "Drop it first, or say IF NOT EXISTS."),
    ("invalid-definition", 422, "The table definition is not valid", "The detail says what is wrong with it."),
    ("unique-violation", 409, "A row with this key exists", "Update it, or choose another key."),
    ("not-null-violation", 422, "A value is missing", "The column does not take NULL."),
    ("string-too-long", 422, "A text is too long for its column", "The detail names the limit."),
    ("numeric-out-of-range", 422, "A number is out of range", "The column's type cannot hold it."),
    ("datetime-out-of-range", 422, "A time is out of range", "The column's type cannot hold it."),
    ("invalid-text", 422, "A text is not a value of the type", "The detail quotes it."),
    ("type-mismatch", 422, "Types do not fit", "Cast one of them."),
    ("division-by-zero", 422, "Division by zero", "Guard the divisor with NULLIF."),
    ("invalid-argument", 422, "An argument is not valid", "The detail says what the function takes."),
    ("invalid-parameter", 400, "The statement's parameters do not fit", "params must have one value for each $n."),
    ("not-supported", 422, "juno does not have this", "PostgreSQL has it and juno does not; the detail may name another way."),
    ("failed-transaction", 409, "The transaction has failed", "Roll it back and start again."),
    ("uncommitted-read", 409, "The table was written in this transaction", "Commit before reading it again."),
    ("bad-copy-format", 422, "The input of COPY is not in its format", "Its line and column are named."),
    ("file-unusable", 422, "A file of the server cannot be read or written", "The detail names it; see the rules for paths of COPY."),
    ("unauthorized", 401, "Who asks is not known", "Send Authorization: Basic with a user's name and password, or Bearer with a token."),
    ("forbidden", 403, "The user may not do this", "The detail names the role that is missing. An admin grants it: GRANT operator TO name."),
    ("blocked", 403, "Refused at the door", "In response to a threat, this address or user is refused for a while. A responder may take that back: POST /api/v4/threats/responses/{id}:undo."),
    ("duplicate-role", 409, "A user of this name exists", "Choose another name, or change the user by ALTER USER."),
    ("in-use", 409, "This must stay as it is", "The detail says what depends on it."),
    ("lock-timeout", 409, "The table is being changed", "Another statement changes it. Try again."),
    ("copy-failed", 422, "The client ended the COPY", "Nothing of it was stored."),
    ("query-cancelled", 503, "The statement was cancelled", "It was asked to stop."),
    ("statement-timeout", 504, "The statement ran too long", "Raise statement_timeout, or ask for less."),
    ("out-of-memory", 503, "The statement needs too much memory", "Ask for fewer rows or groups at a time."),
    ("read-only", 503, "The database is read-only", "A write to disk failed; the log and the detail say why. Mend it and start again."),
    ("disk-full", 507, "The disk is full", "Nothing of the request was kept. Free space on the disk of the data directory and try again; the server needs no restart."),
    ("disk-failed", 500, "The disk failed", "Nothing of the request was kept. The detail and the log say what the disk said."),
    ("shutting-down", 503, "The server is shutting down", "Try again when it is back."),
    ("data-corrupted", 500, "Stored data is damaged", "The detail names the file. Restore it from a copy."),
    ("more-than-one-row", 422, "More than one row", "A sub-query in the place of a value gave several rows: add a condition or LIMIT 1."),
    ("changed-twice", 422, "A row would change twice", "The rows of one INSERT … ON CONFLICT DO UPDATE must have different keys."),
    ("no-such-constraint", 422, "There is no such constraint", "ON CONFLICT must name the primary key."),
    ("duplicate-column", 422, "A column is named twice", "Name it once."),
    ("ungrouped-column", 422, "A column is not grouped", "Add it to GROUP BY, or put it into an aggregate."),
    ("invalid-datetime", 422, "A text is no time", "Write times as 2026-01-02 10:00:00+00 and intervals as '5 minutes'."),
    ("duplicate-object", 409, "An object of this name exists", "Choose another name, or drop it first."),
    ("read-only-transaction", 409, "The transaction only reads", "Begin one that writes."),
    ("no-transaction", 409, "There is no transaction", "Begin one first."),
    ("active-transaction", 409, "A transaction is open", "This runs by itself: commit first."),
    ("undefined-savepoint", 409, "The savepoint does not exist", "The detail names it."),
    ("undefined-cursor", 409, "The cursor does not exist", "Declare it in the same transaction."),
    ("duplicate-cursor", 409, "The cursor exists already", "Close it first."),
    ("forward-only", 409, "The cursor goes forward only", "Declare another one to begin anew."),
    ("dependent-objects", 409, "Others depend on it", "Drop them first, or say CASCADE."),
    ("wrong-kind", 409, "It is of another kind", "A view is no table: the detail names it."),
    ("serialization-failure", 409, "Another transaction was first", "Run the transaction again."),
    ("deadlock", 409, "Transactions wait for each other", "Run the transaction again."),
    ("unknown-field", 400, "The body has an unknown member", "errors points to it; the detail lists the members that there are. /openapi.json describes them."),
    ("missing-field", 400, "The body lacks a member", "errors points to it and says what it takes."),
    ("invalid-field", 400, "A member has the wrong type", "errors points to it and says what it takes."),
    ("invalid-value", 422, "A member has no valid value", "errors points to it and says what it takes."),
    ("idempotency-key-required", 400, "An Idempotency-Key is required", "What acts on other systems takes a header Idempotency-Key, so that a request that is sent twice acts once; dry_run does without."),
    ("idempotency-key-reused", 422, "The Idempotency-Key was used for something else", "A key stands for one request. Take a new one for another body."),
    ("in-flight", 409, "The first request still runs", "A request with this Idempotency-Key is being handled. Ask again in a moment."),
    ("interrupted", 409, "The server ended meanwhile", "What it had done by then is in the audit. Look, and then take a new key."),
    ("component-disabled", 409, "The component is switched off", "The detail names the setting. What it did before can still be read."),
    ("phase-too-low", 409, "The server does not act at this phase", "JUNO_PHASE below 4 reads and plans only."),
    ("kill-switch-engaged", 423, "The kill switch is engaged", "Nothing acts until an approver releases it by POST /api/v4/kill-switch."),
    ("maintenance-window", 423, "A maintenance window freezes this", "Wait until it is over, or cancel it: GET /api/v4/maintenance-windows."),
    ("cooldown-active", 409, "Too soon after the last one", "The detail says when it may be done again."),
    ("circuit-open", 409, "It failed too often lately", "The circuit breaker closes by itself after a while; see what failed first."),
    ("concurrent-operation", 409, "Another one acts on the same target", "Wait for it to end: GET /api/v4/operations/jobs."),
    ("already-resolved", 409, "It is resolved already", "There is nothing left to do."),
    ("already-contained", 409, "It is contained already", "The detail says by what and until when."),
    ("already-at-target", 409, "It is where it should be", "There is nothing left to do."),
    ("plan-expired", 409, "The plan is too old", "Make a new one."),
    ("low-confidence", 409, "The forecast is not sure enough", "An approver may force it."),
    ("policy-denied", 403, "Guard rails deny it", "The detail names the rule. GET /api/v4/governance/policies shows the limits."),
    ("protected-target", 403, "The target is protected", "It is never acted on."),
    ("own-request", 403, "Who asked cannot approve", "Another approver must decide."),
    ("approval-expired", 409, "Nobody approved it in time", "An approval is waited for a day. Ask for the operation anew."),
    ("budget-exhausted", 429, "All actions of the budget are used", "Try again after the time in Retry-After."),
    ("target-timeout", 504, "The target did not answer in time", "The audit says what was done."),
    ("unknown-target", 422, "No actuator knows the target", "The detail names it."),
    ("insufficient-history", 422, "Too little to forecast from", "The detail says how many more points are needed."),
    ("insufficient-experience", 422, "Too little to learn from", "The detail says how many more decisions are needed."),
    ("no-propensities", 422, "Decisions were logged without their probabilities", "Only decisions with a propensity can be evaluated."),
    ("low-overlap", 422, "The logged decisions say too little", "The policy does what was hardly ever tried. Take a longer window."),
    ("no-telemetry", 422, "There are no rows to look at", "The detail says which rows are needed."),
    ("no-model", 422, "There is no such model", "CALL train_threat_model(…) makes one; the view models lists them."),
    ("too-many-streams", 429, "Too many streams are open", "Close one, or try again after the time in Retry-After."),
    ("state-conflict", 409, "It is in another state", "The detail says in which."),
    ("precondition-required", 428, "If-Match is required", "Read it first, and send its ETag as If-Match, so that nobody's change is overwritten."),
    ("precondition-failed", 412, "It was changed meanwhile", "Read it again."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slug_of_an_sql_error_has_its_page_and_its_status() {
        let text = || "x".to_owned();
        let errors = [
            juno_sql::Error::Syntax(text()),
            juno_sql::Error::UndefinedTable(text()),
            juno_sql::Error::UniqueViolation { table: text(), key: text() },
            juno_sql::Error::StringTooLong { column: text(), limit: 1 },
            juno_sql::Error::InvalidText(text()),
            juno_sql::Error::Unsupported(text()),
            juno_sql::Error::Timeout,
            juno_sql::Error::ReadOnly(text()),
            juno_sql::Error::DiskFull(text()),
            juno_sql::Error::Disk(text()),
            juno_sql::Error::Corrupt(text()),
            juno_sql::Error::Internal(text()),
        ];
        for error in errors {
            let problem = Problem::sql(&error);
            let kind = KINDS.iter().find(|kind| problem.kind.ends_with(kind.0));
            assert_eq!(kind.map(|kind| kind.1), Some(problem.status), "{}", problem.kind);
        }
    }

    #[test]
    fn every_slug_that_an_error_can_have_has_a_page() {
        let source = include_str!("../error.rs");
        let (slugs, refusals) =
            source.split_once("pub fn slug(").and_then(|(_, rest)| rest.split_once("pub fn refused(")).unwrap();
        let refusals = refusals.split_once("pub fn needs_operator(").unwrap().0;
        let quoted = |text: &'static str, mark: &'static str| {
            text.split(mark).skip(1).filter_map(|rest| rest.split('"').next()).collect::<Vec<_>>()
        };
        let all = [quoted(slugs, "=> \""), quoted(refusals, "=> (\"")].concat();
        assert!(all.len() > 90, "{all:?}");
        let missing: Vec<_> = all.iter().filter(|slug| !KINDS.iter().any(|kind| kind.0 == **slug)).collect();
        assert!(missing.is_empty(), "no page for {missing:?}");
    }

    #[test]
    fn slugs_are_unique_and_statuses_are_errors() {
        for (at, kind) in KINDS.iter().enumerate() {
            assert!((400..600).contains(&kind.1) && !KINDS[..at].iter().any(|other| other.0 == kind.0), "{}", kind.0);
        }
    }

    #[test]
    fn a_problem_names_the_part_at_fault() {
        let problem = Problem::new("unknown-parameter", "there is no parameter \"x\"").at("?x");
        let json = serde_json::to_value(&*problem).unwrap();
        assert_eq!(json["type"], "/problems/unknown-parameter");
        assert_eq!(json["errors"][0]["pointer"], "?x");
        assert_eq!(json["status"], 400);
    }
}
