//! The table of policies: versions that are added, and stages that they go through.
//!
//! **Invariant:** an artefact never changes once it is stored, and is not used where it is not what was stored; at most one version
//! of a name is active.

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::policy::Policy;
use super::policy::stage::Stage;
use super::policy::state::schema_hash;
use super::scene::space_json;
use crate::operation::{Form, Member, Refusal, Refused, time_us};
use crate::session::{Invocation, Session};
use crate::text::hex;
use crate::{Error, Result};

const COLUMNS: &str = "id, name, version, state, revision, scope, metrics, replaced, checksum, \
                       encode(artefact, 'hex') AS artefact";

/// How answers name a version.
pub(crate) const TOLD: &[Member] = &[
    Member::new("id", Form::Id, "Its id."),
    Member::new("name", Form::Text, "Its name."),
    Member::new("version", Form::Integer, "Its version."),
];

/// A stored version.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) stage: Stage,
    pub(crate) scope: Option<String>,
    pub(crate) metrics: Value,
    pub(crate) policy: Policy,
    /// The version that was active before this one.
    pub(crate) replaced: Option<String>,
    revision: i64,
}

impl Stored {
    /// What `If-Match` compares.
    pub(crate) fn etag(&self) -> String {
        format!("r{}", self.revision)
    }

    /// The first moment after what it learned from; the first of all times where that was made up.
    pub(crate) fn learned_until_us(&self) -> i64 {
        let until = self.metrics["learned_until"].as_str().and_then(time_us);
        until.map_or(i64::MIN, |until_us| until_us + 1)
    }

    /// How answers name it.
    pub(crate) fn told(&self) -> Value {
        json!({ "id": self.id, "name": self.name, "version": self.version })
    }
}

/// What is stored of a new version.
pub(crate) struct Fresh<'a> {
    pub(crate) name: &'a str,
    pub(crate) scope: Option<&'a str>,
    pub(crate) policy: &'a Policy,
    pub(crate) hyperparameters: Value,
    pub(crate) reward: Value,
    pub(crate) parent: Option<&'a str>,
    pub(crate) metrics: Value,
}

/// The version with this id; `at` points to the argument that names it.
pub(crate) async fn found(own: &Session, id: &str, at: &str) -> Result<Stored> {
    let sql = format!("SELECT {COLUMNS} FROM juno_rl_policies WHERE CAST(id AS TEXT) = $1");
    match own.objects(&sql, &[id.to_lowercase().into()]).await?.pop() {
        Some(row) => decoded(row),
        None => Err(Refusal::new(Refused::NotFound, format!("there is no policy {id}")).at(at).into()),
    }
}

/// The active version of a name.
pub(crate) async fn active(own: &Session, name: &str) -> Result<Option<Stored>> {
    in_stage(own, name, Stage::Active).await
}

/// The newest version of a name in a stage.
pub(crate) async fn in_stage(own: &Session, name: &str, stage: Stage) -> Result<Option<Stored>> {
    let sql =
        format!("SELECT {COLUMNS} FROM juno_rl_policies WHERE name = $1 AND state = $2 ORDER BY version DESC LIMIT 1");
    own.objects(&sql, &[name.into(), stage.name().into()]).await?.pop().map(decoded).transpose()
}

/// The active version that decides for a service: its own one, or one for any; of several the last promoted.
pub(crate) async fn active_for(own: &Session, service: &str) -> Result<Option<Stored>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM juno_rl_policies WHERE state = 'active' AND (scope = $1 OR scope IS NULL) \
         ORDER BY CASE WHEN scope IS NULL THEN 1 ELSE 0 END, promoted_at DESC LIMIT 1"
    );
    own.objects(&sql, &[service.into()]).await?.pop().map(decoded).transpose()
}

fn decoded(mut row: Map<String, Value>) -> Result<Stored> {
    let text = |row: &Map<String, Value>, name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| row.get(name).and_then(Value::as_i64).unwrap_or_default();
    let (name, version) = (text(&row, "name").unwrap_or_default(), number("version"));
    let corrupt = |why: String| {
        Error::Corrupt(format!("policy \"{name}\" version {version} cannot be used: {why}; train it anew"))
    };
    let artefact = bytes(row["artefact"].as_str().unwrap_or_default());
    let artefact = artefact.ok_or_else(|| corrupt("its artefact is no bytes".to_owned()))?;
    let (own, wanted) = (checksum(&artefact), text(&row, "checksum").unwrap_or_default());
    if own != wanted {
        return Err(corrupt(format!("its checksum is {own} and should be {wanted}")));
    }
    let policy = Policy::from_bytes(&artefact).map_err(|error| corrupt(error.to_string()))?;
    let stage = text(&row, "state").and_then(|name| Stage::parse(&name));
    Ok(Stored {
        id: text(&row, "id").unwrap_or_default(),
        stage: stage.ok_or_else(|| corrupt("its state is unknown".to_owned()))?,
        revision: number("revision"),
        scope: text(&row, "scope"),
        replaced: text(&row, "replaced"),
        metrics: row.remove("metrics").unwrap_or_default(),
        policy,
        version,
        name,
    })
}

/// The SHA-256 of an artefact. An artefact ends in its own CRC-32, so that the CRC-32 of all of it is the same for every one.
pub(crate) fn checksum(artefact: &[u8]) -> String {
    hex(digest(&SHA256, artefact).as_ref())
}

/// Bytes of hexadecimal digits.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(byte).collect())?
}

/// Stores a new version as a candidate; its id.
pub(crate) async fn insert(invocation: &Invocation, fresh: Fresh<'_>) -> Result<String> {
    let (own, id) = (&invocation.own, invocation.new_id());
    let last = "SELECT coalesce(max(version), 0) AS last FROM juno_rl_policies WHERE name = $1";
    let last = own.objects(last, &[fresh.name.into()]).await?.pop();
    let version = last.and_then(|row| row["last"].as_i64()).unwrap_or_default() + 1;
    let artefact = fresh.policy.to_bytes();
    let insert = "INSERT INTO juno_rl_policies (id, name, version, algorithm, state, revision, scope, features_schema_hash, \
                  action_space, hyperparameters, reward, trained_at, trained_by, training_job, parent, metrics, checksum, \
                  artefact) VALUES ($1, $2, $3, $4, 'candidate', 1, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
                  decode(CAST($16 AS TEXT), 'hex'))";
    let values = [
        id.clone().into(),
        fresh.name.into(),
        version.into(),
        fresh.policy.algorithm().name().into(),
        fresh.scope.into(),
        format!("{:08x}", schema_hash()).into(),
        space_json(fresh.policy.space()),
        fresh.hyperparameters,
        fresh.reward,
        invocation.now().into(),
        invocation.actor().into(),
        invocation.job_id().into(),
        fresh.parent.into(),
        fresh.metrics,
        checksum(&artefact).into(),
        hex(&artefact).into(),
    ];
    own.changed_rows(insert, &values).await?;
    Ok(id)
}

/// Moves versions to other stages, all of them or none; refuses where one of them was moved meanwhile. A version that becomes
/// active keeps which one it replaced.
pub(crate) async fn restage(invocation: &Invocation, moves: &[(&Stored, Stage)], replaced: Option<&str>) -> Result<()> {
    let own = &invocation.own;
    // Two that look for the active one at once would leave two of them.
    moves.iter().try_for_each(|(stored, _)| invocation.hold("change", &stored.name))?;
    if let Some((next, _)) = moves.iter().find(|(_, stage)| *stage == Stage::Active)
        && let Some(now) = active(own, &next.name).await?
        && !moves.iter().any(|(stored, _)| stored.id == now.id)
    {
        let text = format!("version {} of policy \"{}\" became active meanwhile: read it again", now.version, now.name);
        return Err(Refusal::new(Refused::PreconditionFailed, text).into());
    }
    let moved = async {
        for (stored, stage) in moves {
            let became = *stage == Stage::Active;
            let update = match became {
                true => {
                    "UPDATE juno_rl_policies SET state = $2, revision = $3, promoted_at = $5, replaced = $6 \
                         WHERE id = $1 AND revision = $4"
                }
                false => "UPDATE juno_rl_policies SET state = $2, revision = $3 WHERE id = $1 AND revision = $4",
            };
            let values = [
                stored.id.as_str().into(),
                stage.name().into(),
                (stored.revision + 1).into(),
                stored.revision.into(),
                invocation.now().into(),
                replaced.or(stored.replaced.as_deref()).into(),
            ];
            let values = if became { &values[..] } else { &values[..4] };
            if own.changed_rows(update, values).await? == 0 {
                let text = format!("policy \"{}\" was changed meanwhile: read it again", stored.name);
                return Err(Refusal::new(Refused::PreconditionFailed, text).into());
            }
        }
        Ok::<(), Error>(())
    };
    own.atomically(moved).await?;
    for (stored, stage) in moves {
        let data = json!({ "policy": stored.name, "version": stored.version, "state": stage.name() });
        own.tell("policy", &stored.id, data).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(bytes("00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!(hex(&[0, 255, 26]), "00ff1a");
        assert!(bytes("0").is_none() && bytes("zz").is_none());
        assert_eq!(bytes(""), Some(vec![]));
    }
}
