//! Statements that need no plan: transactions, CREATE and DROP TABLE, SET, SHOW, RESET.
//!
//! **Invariant:** reads and writes no rows; COMMIT hands what waited to the session's own commit.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{CreateTable, ObjectName, Set};

use super::{Session, blocking, one_batch};
use crate::statement::{Kind, Outcome};
use crate::transaction::TransactionStatus;
use crate::{Error, Result, definition, ops};

impl Session {
    pub(super) async fn other(&self, kind: &Kind) -> Result<Outcome> {
        match kind {
            Kind::Begin => {
                let fresh = self.transaction.lock().begin();
                let notices =
                    if fresh { Vec::new() } else { vec!["there is already a transaction in progress".into()] };
                Ok(Outcome::Done { tag: "BEGIN".into(), notices })
            }
            Kind::Commit => self.end(true).await,
            Kind::Rollback => self.end(false).await,
            Kind::CreateTable(create) => self.create_table(create).await,
            Kind::DropTable { names, if_exists } => self.drop_tables(names, *if_exists).await,
            Kind::Set(set) => self.set_statement(set),
            Kind::Show(name) => Ok(Outcome::Rows { tag: "SHOW", stream: one_batch(self.shown(name)?) }),
            Kind::Reset(name) => {
                self.settings.lock().reset(name.as_deref())?;
                Ok(Outcome::done("RESET"))
            }
            Kind::Discard => {
                self.settings.lock().reset(None)?;
                Ok(Outcome::done("DISCARD ALL"))
            }
            Kind::Forget(tag) => Ok(Outcome::done(*tag)),
            Kind::Role(statement) => {
                let mut notices = self.role_statement(statement).await?;
                self.warn_of_transaction(&mut notices, statement.tag());
                Ok(Outcome::Done { tag: statement.tag().to_owned(), notices })
            }
            Kind::Query(..) | Kind::Change(_) | Kind::Call(_) | Kind::Copy(_) => {
                Err(Error::Internal("the statement was not planned".into()))
            }
        }
    }

    async fn end(&self, commit: bool) -> Result<Outcome> {
        let status = self.transaction_status();
        let writes = self.transaction.lock().end();
        if status == TransactionStatus::Idle {
            let tag = if commit { "COMMIT" } else { "ROLLBACK" };
            return Ok(Outcome::Done { tag: tag.into(), notices: vec!["there is no transaction in progress".into()] });
        }
        match writes.filter(|_| commit) {
            Some(writes) => {
                self.commit(writes).await?;
                Ok(Outcome::done("COMMIT"))
            }
            None => Ok(Outcome::done("ROLLBACK")),
        }
    }

    async fn create_table(&self, create: &CreateTable) -> Result<Outcome> {
        let mut defined = definition::define(create, &self.shared.bare)?;
        let name = defined.table.name.clone();
        if self.shared.public.has_view(&name) {
            return Err(Error::DuplicateTable(name));
        }
        let db = self.shared.db.clone();
        match blocking(move || Ok(db.create_table(defined.table)?)).await {
            Ok(()) => {}
            Err(Error::DuplicateTable(_)) if create.if_not_exists => {
                defined.notices = vec![format!("relation \"{name}\" already exists, skipping")];
            }
            Err(error) => return Err(error),
        }
        self.warn_of_transaction(&mut defined.notices, "CREATE TABLE");
        Ok(Outcome::Done { tag: "CREATE TABLE".into(), notices: defined.notices })
    }

    async fn drop_tables(&self, names: &[ObjectName], if_exists: bool) -> Result<Outcome> {
        let mut notices = Vec::new();
        for name in names {
            let name = definition::table_name(name)?;
            if self.shared.public.has_view(&name) || ops::is_system_table(&name) {
                return Err(Error::InvalidDefinition(format!("\"{name}\" belongs to juno and cannot be dropped")));
            }
            let (db, dropped) = (self.shared.db.clone(), name.clone());
            match blocking(move || Ok(db.drop_table(&dropped)?)).await {
                Ok(()) => {}
                Err(Error::UndefinedTable(_)) if if_exists => {
                    notices.push(format!("table \"{name}\" does not exist, skipping"))
                }
                Err(Error::UndefinedTable(_)) => {
                    return Err(Error::UndefinedTable(format!("table \"{name}\" does not exist")));
                }
                Err(error) => return Err(error),
            }
        }
        self.warn_of_transaction(&mut notices, "DROP TABLE");
        Ok(Outcome::Done { tag: "DROP TABLE".into(), notices })
    }

    fn warn_of_transaction(&self, notices: &mut Vec<String>, command: &str) {
        if self.transaction_status() == TransactionStatus::Open {
            notices.push(format!("{command} takes effect at once and is not undone by ROLLBACK"));
        }
    }

    fn set_statement(&self, set: &Set) -> Result<Outcome> {
        match set {
            Set::SingleAssignment { variable, values, .. } => {
                let value = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                self.set(&variable.to_string(), &value)?;
            }
            Set::SetTimeZone { value, .. } => self.set("TimeZone", &value.to_string())?,
            Set::SetNames { charset_name, .. } => self.set("client_encoding", &charset_name.value)?,
            Set::SetTransaction { .. } => {}
            other => return Err(Error::Unsupported(format!("{other} is not supported"))),
        }
        Ok(Outcome::done("SET"))
    }

    pub(super) fn shown(&self, name: &str) -> Result<RecordBatch> {
        let settings = self.settings.lock();
        if name.eq_ignore_ascii_case("all") {
            let all = settings.all();
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
        let value = settings.get(&name)?;
        Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(vec![value]))])?)
    }
}
