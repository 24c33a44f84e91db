//! `GET /api/v4/events`: server-sent events of incidents, threats, scaling, jobs, approvals and policies.
//!
//! The id of an event is a UUID of version 7, by which events are ordered; `Last-Event-ID` goes on behind that one, out of the
//! tables, also after a restart. `type` (repeatable) chooses. A row whose id was made more than [`LATE_MS`] before it was committed
//! may be passed over.
//!
//! **Invariant:** an event is sent once per connection; a slow client holds back nobody.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use juno_sql::User;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Pairs;
use super::filter::invalid;
use super::route::Asked;
use crate::http::problem::Problem;
use crate::http::{identity, quota};
use crate::serve::Doors;

const TYPES: &[&str] = &["incident", "threat", "scaling", "job", "approval", "policy"];
const LAST_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Between two looks for events.
const LOOK: Duration = Duration::from_millis(500);
/// Events read at a time.
const PAGE: usize = 500;
/// How far back of the newest event a late one is looked for.
const LATE_MS: u64 = 5_000;
/// Silence after which a comment shows that the connection lives.
const ALIVE: Duration = Duration::from_secs(15);

/// Where one connection stands.
struct Reader {
    doors: Arc<Doors>,
    user: User,
    stop: watch::Receiver<bool>,
    types: Vec<String>,
    /// Events up to this id are of an earlier connection.
    start: String,
    /// Those sent that may be read again.
    sent: BTreeSet<String>,
    waiting: std::vec::IntoIter<Map<String, Value>>,
    _turn: OwnedSemaphorePermit,
}

/// The handler.
pub(super) async fn stream(asked: &Asked<'_>, pairs: &Pairs) -> Result<Response, Problem> {
    if let Some((name, _)) = pairs.iter().find(|(name, _)| name != "type") {
        return Err(Problem::unknown_parameter(name, &["type"]));
    }
    if let Some((_, kind)) = pairs.iter().find(|(_, kind)| !TYPES.contains(&kind.as_str())) {
        return Err(invalid("type", kind, &format!("one of {}", TYPES.join(", "))));
    }
    let now_ms = u64::try_from(asked.gate.now_us() / 1_000).unwrap_or_default();
    let start = match asked.headers.get(LAST_ID).map(|id| id.to_str().unwrap_or_default()) {
        None => floor(now_ms),
        Some(id) if uuid::Uuid::try_parse(id).is_ok() => id.to_lowercase(),
        Some(id) => return Err(Problem::new("bad-request", format!("Last-Event-ID \"{id}\" is the id of no event"))),
    };
    let reader = Reader {
        doors: asked.gate.doors()?,
        user: identity::user(),
        stop: asked.gate.stopping(),
        types: pairs.iter().map(|(_, kind)| kind.clone()).collect(),
        start,
        sent: BTreeSet::new(),
        waiting: Vec::new().into_iter(),
        _turn: asked.gate.stream_turn()?,
    };
    let left = asked.gate.streams_left();
    let events = futures::stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response();
    quota::tell(&left, response.headers_mut());
    Ok(response)
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(row) = self.waiting.next() {
                let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let event = Event::default().id(text("id")).event(text("type"));
                return Some(event.data(Value::Object(row).to_string()));
            }
            if *self.stop.borrow() {
                return None;
            }
            match self.look().await {
                Ok(rows) if rows.is_empty() => {
                    let _ = tokio::time::timeout(LOOK, self.stop.wait_for(|stop| *stop)).await;
                }
                Ok(rows) => self.waiting = rows.into_iter(),
                Err(error) => {
                    tracing::warn!(%error, "a stream of events ends");
                    return None;
                }
            }
        }
    }

    /// Events that were not sent yet, in order.
    async fn look(&mut self) -> Result<Vec<Map<String, Value>>, juno_sql::Error> {
        let newest = self.sent.last().and_then(|id| milliseconds(id));
        let late = newest.map_or_else(String::new, |ms| floor(ms.saturating_sub(LATE_MS)));
        let bound = late.max(self.start.clone());
        self.sent = self.sent.split_off(&bound);
        let mut values = vec![Value::from(bound)];
        values.extend(self.types.iter().map(|kind| Value::from(kind.as_str())));
        let types: Vec<String> = (2..=values.len()).map(|n| format!("${n}")).collect();
        let chosen = if types.is_empty() { String::new() } else { format!(" AND type IN ({})", types.join(", ")) };
        let sql = format!(
            "SELECT id, type, at, subject, data FROM operations_events WHERE id > $1 AND substr(id, 15, 1) = '7'{chosen} \
             ORDER BY id LIMIT {}",
            PAGE + self.sent.len()
        );
        let session = self.doors.session.connect_as(self.user.clone());
        let read = self.doors.query.spawn(async move { session.objects(&sql, &values).await }).await;
        let mut rows = read.map_err(|error| juno_sql::Error::Internal(error.to_string()))??;
        let id = |row: &Map<String, Value>| row["id"].as_str().unwrap_or_default().to_owned();
        rows.retain(|row| !self.sent.contains(&id(row)));
        self.sent.extend(rows.iter().map(id));
        Ok(rows)
    }
}

/// The least id of version 7 of a millisecond.
fn floor(ms: u64) -> String {
    let hex = format!("{:012x}", ms & 0xffff_ffff_ffff);
    format!("{}-{}-7000-8000-000000000000", &hex[..8], &hex[8..])
}

/// The millisecond of an id of version 7.
fn milliseconds(id: &str) -> Option<u64> {
    u64::from_str_radix(&format!("{}{}", id.get(..8)?, id.get(9..13)?), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_version_7_begin_with_their_millisecond() {
        let id = floor(1_767_225_600_123);
        assert_eq!((id.len(), milliseconds(&id)), (36, Some(1_767_225_600_123)));
        assert!(uuid::Uuid::try_parse(&id).is_ok() && floor(1) < floor(2));
    }
}
