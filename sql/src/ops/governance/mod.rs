//! Governance: the policies that guards read, how they may change, and how they did.
//!
//! **Invariant:** a policy changes with a row in `governance_adaptations` that says from what to what and why, or not at all.

pub(crate) mod adapt;
pub(crate) mod automate;
mod lesson;
pub(crate) mod policy;
pub(crate) mod propose;
pub(crate) mod rollback;

use serde_json::{Map, Value};

use self::policy::Limits;
use crate::operation::{Refusal, Refused, time_us};
use crate::session::Session;
use crate::{Error, Result};

/// A policy as it is stored.
pub(crate) struct Stored {
    pub(crate) version: i64,
    pub(crate) policy: Map<String, Value>,
    /// When it was changed last.
    pub(crate) changed_us: i64,
    /// The adaptation that made it so; none where it was rolled back, or never adapted.
    pub(crate) adaptation_id: Option<String>,
}

impl Stored {
    /// What `If-Match` compares.
    pub(crate) fn etag(&self) -> String {
        etag(self.version)
    }
}

/// The ETag of a version.
pub(crate) fn etag(version: i64) -> String {
    format!("v{version}")
}

/// The policy of this type as it is now.
pub(crate) async fn stored(own: &Session, policy_type: &str) -> Result<Stored> {
    let found = "SELECT version, policy, changed_at, adaptation_id FROM juno_policies WHERE policy_type = $1";
    let row = own.objects(found, &[policy_type.into()]).await?.pop();
    let row = row.ok_or_else(|| Refusal::new(Refused::NotFound, format!("there is no policy \"{policy_type}\"")))?;
    let policy = row["policy"].as_object().cloned();
    let policy = policy.ok_or_else(|| Error::Corrupt(format!("policy \"{policy_type}\" is no object")))?;
    Ok(Stored {
        version: row["version"].as_i64().unwrap_or_default(),
        policy,
        changed_us: row["changed_at"].as_str().and_then(time_us).unwrap_or_default(),
        adaptation_id: row["adaptation_id"].as_str().map(str::to_owned),
    })
}

/// How much may change without asking.
pub(crate) async fn limits(own: &Session) -> Result<Limits> {
    let governance = stored(own, "governance").await?.policy;
    let number = |key: &str| governance.get(key).and_then(Value::as_f64).unwrap_or_default();
    Ok(Limits { changes_per_day: number("changes_per_day"), step_pct: number("step_pct") })
}

/// Puts a policy in the place of its version, names the adaptation that can be rolled back then, and runs `with` in the same
/// transaction.
pub(crate) async fn replace(
    own: &Session,
    policy_type: &str,
    old: &Stored,
    new: &Map<String, Value>,
    (actor, now, adaptation): (&str, &str, Option<&str>),
    with: (&str, Vec<Value>),
) -> Result<()> {
    let changed = async {
        let update = "UPDATE juno_policies SET version = $2, policy = $3, changed_at = $4, changed_by = $5, adaptation_id = $6 \
                      WHERE policy_type = $1 AND version = $7";
        let values = [
            policy_type.into(),
            (old.version + 1).into(),
            Value::Object(new.clone()),
            now.into(),
            actor.into(),
            adaptation.into(),
            old.version.into(),
        ];
        if own.changed_rows(update, &values).await? == 0 {
            let text = format!("policy {policy_type} was changed meanwhile: read it again");
            return Err(Refusal::new(Refused::PreconditionFailed, text).into());
        }
        own.changed_rows(with.0, &with.1).await
    };
    own.atomically(changed).await.map(drop)
}
