//! Idempotency keys: the same request twice is done once, and answered twice.
//!
//! A key belongs to who sent it and to the operation. It is kept for [`KEPT_US`].
//!
//! **Invariant:** of two requests with one key at most one begins, whatever connection they come by; a key is taken before anything
//! is done and answered after.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::{Invocation, rfc3339};
use crate::jsonb;
use crate::operation::{Answered, Refusal, Refused, time_us};
use crate::session::Session;
use crate::text::hex;
use crate::{Error, Result};

/// How long a key is kept: 24 hours.
const KEPT_US: i64 = 86_400_000_000;
/// After so many keys, those that are too old are taken away.
const PURGE_EVERY: u64 = 256;
/// How often a key that is too old is taken anew while others take it.
const ATTEMPTS_MAX: usize = 3;

/// Keys taken so far.
#[derive(Default)]
pub(super) struct Claims(AtomicU64);

/// What became of taking a key.
pub(super) enum Claim {
    /// It is taken: by this name.
    New(String),
    /// An earlier request has its answer.
    Stored(Answered),
}

fn hash(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

impl Invocation {
    /// Takes the key, or finds the answer of the first request with it.
    pub(super) async fn claim(&self, key: &str) -> Result<Claim> {
        let name = hash(&format!("{}\n{}\n{key}", self.actor(), self.operation.name));
        let arguments = Value::Object(self.arguments.clone()).to_string();
        let asked = format!("{}\n{}", jsonb::canonical(&arguments)?, self.if_match.as_deref().unwrap_or_default());
        let fingerprint = hash(&asked);
        if self.own.shared.operations.claims.0.fetch_add(1, Ordering::Relaxed) % PURGE_EVERY == PURGE_EVERY - 1 {
            self.own.purge_claims().await?;
        }
        for _ in 0..ATTEMPTS_MAX {
            match self.insert_claim(&name, &fingerprint).await {
                Ok(()) => return Ok(Claim::New(name)),
                Err(Error::UniqueViolation { .. }) => {}
                Err(error) => return Err(error),
            }
            let stored = "SELECT fingerprint, state, answer, expires_at FROM juno_idempotency WHERE name = $1";
            let Some(row) = self.own.objects(stored, &[name.clone().into()]).await?.pop() else { continue };
            let expires_us = row["expires_at"].as_str().and_then(time_us).unwrap_or_default();
            if expires_us <= self.now_us() {
                let old = "DELETE FROM juno_idempotency WHERE name = $1 AND expires_at <= $2";
                self.own.changed_rows(old, &[name.clone().into(), self.now().into()]).await?;
                continue;
            }
            return stored_answer(&row, &fingerprint).map(Claim::Stored);
        }
        Err(Refusal::new(Refused::InFlight, "another request takes this idempotency key now").into())
    }

    async fn insert_claim(&self, name: &str, fingerprint: &str) -> Result<()> {
        let insert = "INSERT INTO juno_idempotency (name, operation, actor, fingerprint, state, created_at, expires_at) \
                      VALUES ($1, $2, $3, $4, 'running', $5, $6)";
        let values = [
            name.into(),
            self.operation.name.into(),
            self.actor().into(),
            fingerprint.into(),
            self.now().into(),
            rfc3339(self.now_us() + KEPT_US).into(),
        ];
        self.own.changed_rows(insert, &values).await.map(drop)
    }
}

/// The answer of the first request, where this one is the same.
fn stored_answer(row: &Map<String, Value>, fingerprint: &str) -> Result<Answered> {
    if row["fingerprint"] != fingerprint {
        let text = "this idempotency key was used with other arguments: use a new key for a new request";
        return Err(Refusal::new(Refused::KeyReused, text).into());
    }
    let answer = &row["answer"];
    match row["state"].as_str() {
        Some("answered") => Ok(Answered {
            value: answer["value"].clone(),
            job: answer["job"].as_str().map(str::to_owned),
            pending: answer["pending"] == true,
            replayed: true,
            quota: None,
        }),
        Some("interrupted") => {
            let text = "the server ended while the first request with this key ran: see the audit for what it did, \
                        and use a new key";
            Err(Refusal::new(Refused::Interrupted, text).into())
        }
        _ => {
            let text = "the first request with this idempotency key still runs: ask again in a moment";
            Err(Refusal::new(Refused::InFlight, text).retry_after(1).into())
        }
    }
}

impl Session {
    /// Keeps the answer of a request; a refusal frees its key, since nothing was done.
    ///
    /// What acts on other systems and failed on the way keeps its key as one that was interrupted.
    pub(super) async fn settle_claim(&self, name: &str, done: &Result<Answered>, acts: bool) -> Result<()> {
        let (state, answer) = match done {
            Ok(answered) => {
                let Answered { value, job, pending, .. } = answered;
                ("answered", json!({ "value": value, "job": job, "pending": pending }))
            }
            Err(Error::Refused(_) | Error::Forbidden(_)) => return self.free_claim(name).await,
            Err(_) if !acts => return self.free_claim(name).await,
            Err(_) => ("interrupted", Value::Null),
        };
        let update = "UPDATE juno_idempotency SET state = $2, answer = $3 WHERE name = $1";
        self.changed_rows(update, &[name.into(), state.into(), answer]).await.map(drop)
    }

    async fn free_claim(&self, name: &str) -> Result<()> {
        self.changed_rows("DELETE FROM juno_idempotency WHERE name = $1", &[name.into()]).await.map(drop)
    }

    async fn purge_claims(&self) -> Result<()> {
        let now = self.now();
        self.changed_rows("DELETE FROM juno_idempotency WHERE expires_at <= $1", &[now.into()]).await.map(drop)
    }

    /// When the database is opened: keys that are too old go, requests that were cut off are marked.
    pub(super) async fn open_claims(&self) -> Result<()> {
        let cut = "SELECT name FROM juno_idempotency WHERE state = 'running' LIMIT 1";
        if !self.objects(cut, &[]).await?.is_empty() {
            let mark = "UPDATE juno_idempotency SET state = 'interrupted' WHERE state = 'running'";
            self.changed_rows(mark, &[]).await?;
        }
        let now = self.now();
        let old = "SELECT name FROM juno_idempotency WHERE expires_at <= $1 LIMIT 1";
        if self.objects(old, &[now.into()]).await?.is_empty() { Ok(()) } else { self.purge_claims().await }
    }
}
