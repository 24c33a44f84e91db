//! Statements that need no plan: transactions, cursors, SET, SHOW, RESET.
//!
//! **Invariant:** reads and writes no rows; COMMIT hands what waited to the session's own commit.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::sql::sqlparser::ast::{ContextModifier, Set, TransactionMode};
use futures::TryStreamExt;

use super::{Session, blocking, one_batch};
use crate::maintenance::Maintenance;
use crate::statement::{Kind, Outcome};
use crate::transaction::{TransactionStatus, level_name};
use crate::{Error, Result};

impl Session {
    pub(super) async fn other(&self, kind: &Kind) -> Result<Outcome> {
        match kind {
            Kind::Begin(named) => self.begin(named),
            Kind::Commit { chain } => self.end(true, *chain).await,
            Kind::Rollback { chain } => self.end(false, *chain).await,
            Kind::Savepoint(name) => {
                self.transaction.lock().savepoint(name.clone())?;
                Ok(Outcome::done("SAVEPOINT"))
            }
            Kind::RollbackTo(name) => {
                self.transaction.lock().rollback_to(name)?;
                Ok(Outcome::done("ROLLBACK"))
            }
            Kind::Release(name) => {
                self.transaction.lock().release(name)?;
                Ok(Outcome::done("RELEASE"))
            }
            Kind::CreateTable(create) => self.create_table(create).await,
            Kind::DropTable { names, if_exists, cascade } => self.drop_tables(names, *if_exists, *cascade).await,
            Kind::AlterTable(alter) => self.alter_table(alter).await,
            Kind::Truncate { names, if_exists } => self.truncate(names, *if_exists).await,
            Kind::CreateView(view) => self.create_view(view).await,
            Kind::DropView { names, if_exists, cascade } => self.drop_views(names, *if_exists, *cascade).await,
            Kind::Fetch(fetch, false) => {
                let stream = self.cursors.lock().fetch(fetch)?;
                Ok(Outcome::Rows { tag: "FETCH", stream })
            }
            Kind::Fetch(fetch, true) => {
                let stream = self.cursors.lock().fetch(fetch)?;
                Ok(Outcome::done(format!("MOVE {}", count(stream).await?)))
            }
            Kind::Close(Some(name)) => {
                self.cursors.lock().close(name)?;
                Ok(Outcome::done("CLOSE CURSOR"))
            }
            Kind::Close(None) => {
                self.cursors.lock().close_all();
                Ok(Outcome::done("CLOSE CURSOR ALL"))
            }
            Kind::Set(set) => self.set_statement(set),
            Kind::Show(name) => Ok(Outcome::Rows { tag: "SHOW", stream: one_batch(self.shown(name)?) }),
            Kind::Reset(name) => {
                self.settings.lock().reset(name.as_deref())?;
                Ok(Outcome::done("RESET"))
            }
            Kind::Discard => self.discard(),
            Kind::Forget(tag) => Ok(Outcome::done(*tag)),
            Kind::Maintain(maintenance) => self.maintain(maintenance).await,
            Kind::Rollup(statement) => self.rollup_statement(statement).await,
            Kind::Detector(statement) => Box::pin(self.detector_statement(statement)).await,
            Kind::Role(statement) => {
                let mut notices = self.role_statement(statement).await?;
                self.warn_of_transaction(&mut notices, statement.tag());
                Ok(Outcome::Done { tag: statement.tag().to_owned(), notices })
            }
            Kind::Configure(..)
            | Kind::Query(..)
            | Kind::Change(_)
            | Kind::Declare(..)
            | Kind::Call(_)
            | Kind::Copy(_) => Err(Error::Internal("the statement was not planned".into())),
        }
    }

    fn begin(&self, named: &[TransactionMode]) -> Result<Outcome> {
        let modes = self.settings.lock().modes().with(named)?;
        let again = !self.transaction.lock().begin(modes);
        if !again {
            self.settings.lock().begin();
        }
        let notices = again.then(|| "there is already a transaction in progress".into());
        Ok(Outcome::Done { tag: "BEGIN".into(), notices: notices.into_iter().collect() })
    }

    fn discard(&self) -> Result<Outcome> {
        if self.transaction_status() != TransactionStatus::Idle {
            let text = "DISCARD ALL cannot run inside a transaction block";
            return Err(Error::ActiveTransaction(text.into()));
        }
        self.settings.lock().reset(None)?;
        self.cursors.lock().close_all();
        Ok(Outcome::done("DISCARD ALL"))
    }

    async fn maintain(&self, maintenance: &Maintenance) -> Result<Outcome> {
        if self.transaction_status() == TransactionStatus::Open {
            let text = format!("{} cannot run inside a transaction block", maintenance.tag());
            return Err(Error::ActiveTransaction(text));
        }
        let (db, work) = (self.shared.db.clone(), maintenance.clone());
        let notice = blocking(move || work.run(&db)).await?;
        let notices = notice.into_iter().map(str::to_owned).collect();
        Ok(Outcome::Done { tag: maintenance.tag().into(), notices })
    }

    /// COMMIT or ROLLBACK. A failed block is rolled back by both.
    async fn end(&self, commit: bool, chain: bool) -> Result<Outcome> {
        let ended = self.transaction.lock().end();
        let block = ended.as_ref().filter(|ended| !ended.implicit).map(|ended| ended.modes);
        let commits = commit && ended.as_ref().is_none_or(|ended| ended.pending.is_some());
        let committed = match ended.filter(|_| commits) {
            Some(ended) => self.commit_ended(ended).await,
            None => Ok(()),
        };
        self.cursors.lock().end(commits && committed.is_ok());
        self.settings.lock().end(commits && committed.is_ok());
        committed?;
        let tag = if commits { "COMMIT" } else { "ROLLBACK" };
        match block {
            Some(modes) if chain => {
                self.transaction.lock().begin(modes);
                self.settings.lock().begin();
            }
            Some(_) => {}
            None if chain => {
                return Err(Error::NoTransaction(format!("{tag} AND CHAIN can only be used in transaction blocks")));
            }
            None => {
                let notices = vec!["there is no transaction in progress".into()];
                return Ok(Outcome::Done { tag: tag.into(), notices });
            }
        }
        Ok(Outcome::done(tag))
    }

    fn set_value(&self, name: &str, value: Option<&str>, local: bool) -> Result<Outcome> {
        let had_effect = self.assign(name, value, local)?;
        let notice = (local && !had_effect).then(|| "SET LOCAL can only be used in transaction blocks".to_owned());
        Ok(Outcome::Done { tag: "SET".into(), notices: notice.into_iter().collect() })
    }

    fn set_statement(&self, set: &Set) -> Result<Outcome> {
        match set {
            Set::SingleAssignment { scope, variable, values, .. } => {
                let value = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let value = (!value.eq_ignore_ascii_case("default")).then_some(value.as_str());
                return self.set_value(&variable.to_string(), value, *scope == Some(ContextModifier::Local));
            }
            Set::SetTimeZone { local, value } => return self.set_value("TimeZone", Some(&value.to_string()), *local),
            Set::SetNames { charset_name, .. } => self.set("client_encoding", &charset_name.value)?,
            Set::SetTransaction { snapshot: Some(_), .. } => {
                return Err(Error::Unsupported("SET TRANSACTION SNAPSHOT is not supported".into()));
            }
            Set::SetTransaction { modes, session: true, .. } => {
                let modes = self.settings.lock().modes().with(modes)?;
                let mut settings = self.settings.lock();
                settings.set("default_transaction_isolation", level_name(modes))?;
                settings.set("default_transaction_read_only", if modes.read_only { "on" } else { "off" })?;
            }
            Set::SetTransaction { modes, .. } => {
                let now = self.transaction.lock().modes().unwrap_or_default().with(modes)?;
                if !self.transaction.lock().set_modes(now)? {
                    let notices = vec!["SET TRANSACTION can only be used in transaction blocks".into()];
                    return Ok(Outcome::Done { tag: "SET".into(), notices });
                }
            }
            other => return Err(Error::Unsupported(format!("{other} is not supported"))),
        }
        Ok(Outcome::done("SET"))
    }

    /// The value of a setting; two tell of the transaction, one of them also of a database that takes no writes.
    pub(super) fn value_of(&self, name: &str) -> Result<String> {
        let modes = || {
            let of_block = self.transaction.lock().modes();
            of_block.unwrap_or_else(|| self.settings.lock().modes())
        };
        match name.to_lowercase().as_str() {
            "transaction_isolation" => Ok(level_name(modes()).to_owned()),
            "transaction_read_only" => {
                let read_only = modes().read_only || self.db().status().read_only.is_some();
                Ok(if read_only { "on" } else { "off" }.to_owned())
            }
            name => self.settings.lock().get(name),
        }
    }

    pub(super) fn shown(&self, name: &str) -> Result<RecordBatch> {
        if name.eq_ignore_ascii_case("all") {
            let mut all = self.settings.lock().all();
            for name in ["transaction_isolation", "transaction_read_only"] {
                all.push((name, self.value_of(name)?));
            }
            let names: StringArray = all.iter().map(|(name, _)| Some(*name)).collect();
            let values: StringArray = all.iter().map(|(_, value)| Some(value.as_str())).collect();
            return Ok(RecordBatch::try_from_iter([
                ("name", Arc::new(names) as _),
                ("setting", Arc::new(values) as _),
            ])?);
        }
        let name = match name.to_lowercase().as_str() {
            "time zone" | "time.zone" => "TimeZone".to_owned(),
            "transaction isolation level" | "transaction.isolation.level" => "transaction_isolation".to_owned(),
            other => other.to_owned(),
        };
        let schema = Schema::new(vec![Field::new(&name, DataType::Utf8, true)]);
        let value = self.value_of(&name)?;
        Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(vec![value]))])?)
    }
}

/// Reads rows to the end and tells how many there were.
async fn count(mut rows: SendableRecordBatchStream) -> Result<usize> {
    let mut passed = 0;
    while let Some(batch) = rows.try_next().await? {
        passed += batch.num_rows();
    }
    Ok(passed)
}
