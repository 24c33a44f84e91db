//! The audit: one row before an operation and one after it, each chained to the row before by its hash.
//!
//! `hash` is the SHA-256 in hex of `previous`, a line feed, `seq`, a line feed, and the record in its canonical spelling; `previous`
//! is the hash of the row before, 64 zeros for the first.
//!
//! **Invariant:** rows are added and never changed; [`Session::verify_audit`] finds the first that was.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use juno_engine::{OnConflict, Write};
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::{Invocation, rfc3339};
use crate::operation::Effect;
use crate::role::AUDIT;
use crate::session::{Session, blocking};
use crate::text::hex;
use crate::{Error, Result, change, jsonb};

/// The longest result that is kept in a record, in bytes of JSON.
const RESULT_BYTES_MAX: usize = 64 << 10;
/// Rows that are verified at a time.
const PAGE: usize = 10_000;

/// Where the chain ends; read from the table when it is first needed.
#[derive(Default)]
pub(super) struct Chain(tokio::sync::Mutex<Option<Head>>);

#[derive(Debug, Clone)]
struct Head {
    seq: i64,
    hash: String,
}

impl Head {
    fn first() -> Self {
        Head { seq: 0, hash: "0".repeat(64) }
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Rows of the chain that are whole.
    pub(crate) rows: i64,
    /// The hash of the last of them: note it elsewhere, and a chain that was cut off later is noticed too.
    pub(crate) head: String,
    /// The first row that is not whole, and why.
    pub(crate) broken: Option<(i64, String)>,
}

fn chained(previous: &str, seq: i64, record: &str) -> String {
    hex(digest(&SHA256, format!("{previous}\n{seq}\n{record}").as_bytes()).as_ref())
}

impl Invocation {
    /// Writes one row, where the operation is audited.
    pub(super) async fn audit(&self, stage: &str, error: Option<&Error>, value: Option<&Value>) -> Result<()> {
        if self.operation.effect == Effect::Computes {
            return Ok(());
        }
        let mut record = Map::new();
        record.insert("stage".into(), stage.into());
        record.insert("operation".into(), self.operation.name.into());
        record.insert("actor".into(), self.actor().into());
        record.insert("role".into(), self.session.user().role.map(|role| role.to_string()).into());
        record.insert("arguments".into(), self.arguments.clone().into());
        let optional = [
            ("request_id", self.request_id.clone()),
            ("trace_id", self.trace_id.clone()),
            ("job_id", self.job.as_ref().map(|job| job.id.clone())),
            ("approved_by", self.approved_by.clone()),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                record.insert(name.into(), value.into());
            }
        }
        match (stage, error) {
            (_, Some(error)) => {
                let outcome = if stage == "refused" { "refused" } else { "failed" };
                self.count(outcome);
                record.insert("outcome".into(), outcome.into());
                record.insert("error".into(), self.own.shared.operations.problem(error));
            }
            ("after", None) => {
                self.count("succeeded");
                record.insert("outcome".into(), "succeeded".into());
            }
            _ => {}
        }
        if let Some(value) = value {
            let name = if stage == "after" { "result" } else { "plan" };
            let kept = value.to_string().len() <= RESULT_BYTES_MAX;
            record.insert(name.into(), if kept { value.clone() } else { json!("too large to keep") });
        }
        self.own.append_audit(record).await
    }

    /// Counts what came of it, where it acts on other systems.
    fn count(&self, outcome: &'static str) {
        if self.operation.effect == Effect::Acts {
            self.own.operations().figures.ended(self.operation.name, outcome);
        }
    }
}

impl Session {
    /// Notes that settings were changed while juno ran, by who may signal its process: name, old and new value of each.
    ///
    /// # Errors
    /// Where the row cannot be written.
    pub async fn audit_settings(&self, changed: &[(String, String, String)]) -> Result<()> {
        let changes: Vec<Value> =
            changed.iter().map(|(name, old, new)| json!({ "name": name, "old": old, "new": new })).collect();
        let record = json!({
            "stage": "after", "operation": "settings", "actor": "SIGHUP", "arguments": { "changes": changes },
            "outcome": "succeeded",
        });
        match record {
            Value::Object(record) => self.append_audit(record).await,
            _ => Err(Error::Internal("a record is an object".into())),
        }
    }

    /// Adds a record to the chain; returns when it is durable.
    async fn append_audit(&self, mut record: Map<String, Value>) -> Result<()> {
        let mut head = self.shared.operations.chain.0.lock().await;
        let last = match head.take() {
            Some(last) => last,
            None => self.audit_head().await?,
        };
        let system = self.shared.db.system();
        let (id, at_us, seq) = (system.uuid_v7().to_string(), system.clock().now_us(), last.seq + 1);
        record.insert("id".into(), id.clone().into());
        record.insert("at".into(), rfc3339(at_us).into());
        let record = jsonb::canonical(&Value::Object(record).to_string())?;
        let hash = chained(&last.hash, seq, &record);
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let columns: [(&str, ArrayRef); 6] = [
            ("seq", Arc::new(Int64Array::from(vec![seq]))),
            ("id", text(&id)),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![at_us]).with_timezone("+00:00"))),
            ("record", text(&record)),
            ("previous", text(&last.hash)),
            ("hash", text(&hash)),
        ];
        self.insert_own(AUDIT, columns.into()).await?;
        *head = Some(Head { seq, hash });
        Ok(())
    }

    /// Adds a row to a table that SQL cannot change.
    async fn insert_own(&self, table: &str, columns: Vec<(&str, ArrayRef)>) -> Result<()> {
        let catalog = self.shared.db.catalog();
        let schema = catalog.table(table).ok_or_else(|| Error::Internal(format!("table {table} is missing")))?;
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let rows = Some(change::inserted(schema, &self.shared.db, rows)?);
        let write = Write { table: table.into(), rows, deletes: None, on_conflict: OnConflict::Error };
        let db = self.shared.db.clone();
        blocking(move || Ok(db.commit(vec![write])?)).await.map(drop)
    }

    async fn audit_head(&self) -> Result<Head> {
        let last = self.objects("SELECT seq, hash FROM juno_audit ORDER BY seq DESC LIMIT 1", &[]).await?.pop();
        let Some(row) = last else { return Ok(Head::first()) };
        let hash = row["hash"].as_str().unwrap_or_default().to_owned();
        Ok(Head { seq: row["seq"].as_i64().unwrap_or_default(), hash })
    }

    /// Reads the whole chain and says whether it is.
    ///
    /// # Errors
    /// Where the table cannot be read.
    pub(crate) async fn verify_audit(&self) -> Result<Verified> {
        let mut last = Head::first();
        let page = format!(
            "SELECT seq, id, at, CAST(record AS TEXT) AS record, previous, hash FROM juno_audit WHERE seq > $1 ORDER BY seq LIMIT {PAGE}"
        );
        loop {
            let rows = self.objects(&page, &[last.seq.into()]).await?;
            if rows.is_empty() {
                return Ok(Verified { rows: last.seq, head: last.hash, broken: None });
            }
            for row in rows {
                let seq = row["seq"].as_i64().unwrap_or_default();
                if let Err(why) = whole(&last, &row) {
                    return Ok(Verified { rows: last.seq, head: last.hash, broken: Some((seq, why)) });
                }
                last = Head { seq, hash: row["hash"].as_str().unwrap_or_default().to_owned() };
            }
        }
    }
}

/// Whether a row follows the last one, and is what was hashed.
fn whole(last: &Head, row: &Map<String, Value>) -> Result<(), String> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let seq = row.get("seq").and_then(Value::as_i64).unwrap_or_default();
    if seq != last.seq + 1 {
        return Err(format!("row {} is missing", last.seq + 1));
    }
    if text("previous") != last.hash {
        return Err("it does not follow the row before".into());
    }
    if chained(&last.hash, seq, text("record")) != text("hash") {
        return Err("its record is not what was hashed".into());
    }
    let record: Value = serde_json::from_str(text("record")).map_err(|error| error.to_string())?;
    match record["id"] == row["id"] && record["at"] == row["at"] {
        true => Ok(()),
        false => Err("its id or time is not that of its record".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(last: &Head, id: &str) -> Map<String, Value> {
        let record = json!({ "id": id, "at": "2026-01-01T00:00:00.000000Z", "operation": "x" });
        let canonical = jsonb::canonical(&record.to_string()).unwrap();
        let hash = chained(&last.hash, last.seq + 1, &canonical);
        let at = &record["at"];
        let row = json!({ "seq": last.seq + 1, "id": id, "at": at, "record": canonical, "previous": last.hash, "hash": hash });
        row.as_object().unwrap().clone()
    }

    #[test]
    fn a_row_that_was_changed_moved_or_left_out_is_found() {
        let first = row(&Head::first(), "a");
        let head = Head { seq: 1, hash: first["hash"].as_str().unwrap().into() };
        let second = row(&head, "b");
        assert_eq!((whole(&Head::first(), &first), whole(&head, &second)), (Ok(()), Ok(())));
        assert!(whole(&Head::first(), &second).unwrap_err().contains("missing"));
        for (member, value) in [("record", json!("{\"id\": \"b\"}")), ("id", json!("c")), ("previous", json!("0"))] {
            let mut changed = second.clone();
            changed.insert(member.into(), value);
            assert!(whole(&head, &changed).is_err(), "{member}");
        }
    }
}
