//! The extended protocol: prepared statements, portals, and their messages.
//!
//! **Invariant:** the limits below hold for every connection; an answer is given only when its message succeeded.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use juno_sql::{Error, Prepared, Statement};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::EmptyQueryResponse;
use tokio::time::Instant;

use crate::telemetry::Door;

use super::column::{Column, Format, describe, parameter_type};
use super::connection::{Answering, Connection, Ran, Trouble, counted, failed, refuse_in_failed_transaction};
use super::decode;
use super::report::Report;
use super::running::Rows;

/// Prepared statements that a connection may hold.
const STATEMENTS_MAX: usize = 1_000;
/// Portals that a connection may hold open.
const PORTALS_MAX: usize = 100;

/// What a statement's text came to.
enum Plan {
    Empty,
    /// DEALLOCATE of a statement of this list: the name, None for all.
    Deallocate(Deallocated),
    Query(Statement, Arc<Prepared>),
}

/// A prepared statement.
pub(super) struct Stored {
    plan: Plan,
    /// The parameter OIDs that the client declared; 0 where it left them to the server.
    declared: Vec<u32>,
}

/// A statement with its parameters.
struct Portal {
    statement: Arc<Stored>,
    parameters: Vec<ScalarValue>,
    columns: Arc<[Column]>,
    state: State,
}

enum State {
    Bound,
    Running { tag: &'static str, rows: Rows },
    Finished { tag: Option<&'static str> },
}

/// The statements and portals of a connection. The unnamed ones have the empty name.
#[derive(Default)]
pub(super) struct Named {
    statements: HashMap<String, Arc<Stored>>,
    portals: HashMap<String, Portal>,
}

impl Named {
    /// A simple query ends the unnamed statement and portal.
    pub(super) fn drop_unnamed(&mut self) {
        self.statements.remove("");
        self.portals.remove("");
    }

    /// The end of a transaction ends its portals.
    pub(super) fn drop_portals(&mut self) {
        self.portals.clear();
    }

    /// Forgets what a DEALLOCATE names and gives its command tag; None where no statement here has the name.
    pub(super) fn deallocate(&mut self, what: &Deallocated) -> Option<&'static str> {
        match what {
            Deallocated::All => {
                self.statements.clear();
                Some("DEALLOCATE ALL")
            }
            Deallocated::One(name) => self.statements.remove(name).map(|_| "DEALLOCATE"),
        }
    }

    fn statement(&self, name: &str) -> Result<&Arc<Stored>, Report> {
        let missing = || Report::error("26000", format!("prepared statement \"{name}\" does not exist"));
        self.statements.get(name).ok_or_else(missing)
    }

    fn portal(&mut self, name: &str) -> Result<&mut Portal, Report> {
        let missing = || Report::error("34000", format!("portal \"{name}\" does not exist"));
        self.portals.get_mut(name).ok_or_else(missing)
    }
}

/// What a DEALLOCATE names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deallocated {
    All,
    One(String),
}

/// What the text deallocates, where it is a DEALLOCATE: drivers drop protocol-level statements by it.
pub(super) fn deallocated(sql: &str) -> Option<Deallocated> {
    let sql = sql.trim().trim_end_matches(';').trim_end();
    let keyword = |text: &str, word: &str| -> Option<usize> {
        let head = text.get(..word.len()).filter(|head| head.eq_ignore_ascii_case(word))?;
        text[head.len()..].starts_with(char::is_whitespace).then_some(head.len())
    };
    let mut name = sql[keyword(sql, "DEALLOCATE")?..].trim_start();
    if let Some(end) = keyword(name, "PREPARE") {
        name = name[end..].trim_start();
    }
    if name.eq_ignore_ascii_case("ALL") {
        return Some(Deallocated::All);
    }
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => Some(Deallocated::One(quoted.replace("\"\"", "\""))),
        None if name.contains(|c: char| c.is_whitespace() || c == ';') => None,
        None => Some(Deallocated::One(name.to_lowercase())),
    }
}

impl Connection {
    pub(super) async fn parse(&mut self, parse: Parse) -> Result<(), Trouble> {
        let name = parse.name.unwrap_or_default();
        if !name.is_empty() && self.named.statements.contains_key(&name) {
            return Err(Report::error("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        if self.named.statements.len() >= STATEMENTS_MAX {
            let message = format!("a connection can hold {STATEMENTS_MAX} prepared statements");
            return Err(Report::error("54000", message).with_hint("Close those that are not needed.").into());
        }
        let plan = self.plan(&parse.query, &parse.type_oids).await?;
        self.named.statements.insert(name, Arc::new(Stored { plan, declared: parse.type_oids }));
        self.socket.put(PgWireBackendMessage::ParseComplete(ParseComplete::new()));
        Ok(())
    }

    async fn plan(&mut self, sql: &str, oids: &[u32]) -> Result<Plan, Trouble> {
        if let Some(what) = deallocated(sql).filter(|what| match what {
            Deallocated::All => true,
            Deallocated::One(name) => self.named.statements.contains_key(name),
        }) {
            return Ok(Plan::Deallocate(what));
        }
        let types: Vec<_> = oids.iter().map(|oid| parameter_type(*oid)).collect();
        let failing = self.session.transaction_status();
        let _busy = self.backend.busy();
        let session = Arc::clone(&self.session);
        let text = sql.to_owned();
        let planned = self.on_query_runtime(async move {
            let mut statements = session.parse(&text)?.into_iter();
            let Some(statement) = statements.next() else { return Ok(Plan::Empty) };
            if statements.next().is_some() {
                let message = "cannot insert multiple commands into a prepared statement";
                return Err(Error::Syntax(message.to_owned()));
            }
            if failing == juno_sql::TransactionStatus::Failed && !statement.ends_transaction() {
                return Err(Error::FailedTransaction);
            }
            let prepared = session.prepare(statement.clone(), &types).await?;
            Ok(Plan::Query(statement, Arc::new(prepared)))
        });
        planned.await?.map_err(|error| failed(&error, Some(sql)))
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Trouble> {
        let name = bind.portal_name.unwrap_or_default();
        let statement_name = bind.statement_name.unwrap_or_default();
        let statement = Arc::clone(self.named.statement(&statement_name)?);
        if !name.is_empty() && self.named.portals.contains_key(&name) {
            return Err(Report::error("42P03", format!("cursor \"{name}\" already exists")).into());
        }
        if self.named.portals.len() >= PORTALS_MAX {
            return Err(Report::error("54000", format!("a connection can hold {PORTALS_MAX} open portals")).into());
        }
        let wanted = match &statement.plan {
            Plan::Query(_, prepared) => prepared.parameters.as_slice(),
            _ => &[],
        };
        let (given, needed) = (bind.parameters.len(), wanted.len());
        if given != needed {
            let message = format!(
                "bind message supplies {given} parameters, but prepared statement \"{statement_name}\" requires {needed}"
            );
            return Err(Report::error("08P01", message).into());
        }
        let zone = self.zone();
        let mut parameters = Vec::with_capacity(given);
        for (index, (bytes, field)) in bind.parameters.iter().zip(wanted).enumerate() {
            let declared = statement.declared.get(index).copied().unwrap_or(0);
            let kind = decode::parameter_wire_type(declared, field)?;
            let format = Format::of(&bind.parameter_format_codes, index)?;
            parameters.push(decode::parameter(bytes.as_deref(), format, &kind, field, &zone)?);
        }
        let columns = match &statement.plan {
            Plan::Query(_, prepared) => match &prepared.schema {
                Some(schema) => Column::all(schema, &bind.result_column_format_codes)?,
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        let portal = Portal { statement, parameters, columns: columns.into(), state: State::Bound };
        self.named.portals.insert(name, portal);
        self.socket.put(PgWireBackendMessage::BindComplete(BindComplete::new()));
        Ok(())
    }

    pub(super) fn describe(&mut self, what: &Describe) -> Result<(), Trouble> {
        let name = what.name.as_deref().unwrap_or_default();
        let rows = match what.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                let statement = Arc::clone(self.named.statement(name)?);
                let (types, rows) = described(&statement)?;
                self.socket.put(PgWireBackendMessage::ParameterDescription(ParameterDescription::new(types)));
                rows
            }
            TARGET_TYPE_BYTE_PORTAL => {
                // A cursor of DECLARE is a portal too.
                match (self.named.portal(name), self.session.cursor(name)) {
                    (Ok(portal), _) => returns_rows(&portal.statement).then(|| portal.columns.to_vec()),
                    (Err(_), Some(schema)) => Some(Column::all(&schema, &[])?),
                    (Err(missing), None) => return Err(missing.into()),
                }
            }
            _ => return Err(Report::error("08P01", "describe takes a statement or a portal").into()),
        };
        self.socket.put(match rows {
            Some(columns) => PgWireBackendMessage::RowDescription(describe(&columns)),
            None => PgWireBackendMessage::NoData(NoData::new()),
        });
        Ok(())
    }

    pub(super) fn close(&mut self, what: &Close) -> Result<(), Trouble> {
        let name = what.name.as_deref().unwrap_or_default();
        match what.target_type {
            TARGET_TYPE_BYTE_STATEMENT => drop(self.named.statements.remove(name)),
            TARGET_TYPE_BYTE_PORTAL => drop(self.named.portals.remove(name)),
            _ => return Err(Report::error("08P01", "close takes a statement or a portal").into()),
        }
        self.socket.put(PgWireBackendMessage::CloseComplete(CloseComplete::new()));
        Ok(())
    }

    pub(super) async fn execute(&mut self, execute: Execute) -> Result<(), Trouble> {
        let name = execute.name.unwrap_or_default();
        let limit = usize::try_from(execute.max_rows).unwrap_or(0);
        let portal = self.named.portal(&name)?;
        let state = std::mem::replace(&mut portal.state, State::Finished { tag: None });
        let started = Instant::now();
        let _busy = self.backend.busy();
        let state = match state {
            State::Bound => self.start(&name, limit).await,
            State::Running { tag, rows } => self.fetch(tag, rows, limit).await,
            State::Finished { tag: Some(tag) } => {
                self.complete(counted(tag, 0));
                Ok(State::Finished { tag: Some(tag) })
            }
            State::Finished { tag: None } => {
                Err(Report::error("55000", format!("portal \"{name}\" cannot be run anymore")).into())
            }
        };
        self.doors.counters.statement(Door::Pgwire, started.elapsed());
        let state = state?;
        // The portal is gone where the statement ended its transaction.
        if let Ok(portal) = self.named.portal(&name) {
            portal.state = state;
        }
        Ok(())
    }

    /// Runs a portal for the first time.
    async fn start(&mut self, name: &str, limit: usize) -> Result<State, Trouble> {
        let portal = self.named.portal(name)?;
        let (statement, columns) = (Arc::clone(&portal.statement), Arc::clone(&portal.columns));
        let parameters = std::mem::take(&mut portal.parameters);
        let prepared = match &statement.plan {
            Plan::Empty => {
                self.socket.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
                return Ok(State::Bound);
            }
            Plan::Deallocate(what) => {
                let tag = self.named.deallocate(what).unwrap_or("DEALLOCATE");
                self.complete(tag.to_owned());
                return Ok(State::Finished { tag: None });
            }
            Plan::Query(statement, prepared) => {
                refuse_in_failed_transaction(&self.session, statement)?;
                Arc::clone(prepared)
            }
        };
        // What lies between two Syncs is one transaction. A statement that is alone there commits by itself.
        if !self.socket.sync_is_next() {
            self.session.begin_implicit();
        }
        let (session, rows) = (Arc::clone(&self.session), Answering::of(self));
        let ran = self.on_query_runtime(async move { rows.execute(&session, &prepared, parameters, columns).await });
        match ran.await?? {
            Ran::Rows { tag, rows, .. } => self.fetch(tag, rows, limit).await,
            Ran::Other(outcome) => {
                self.finish(outcome).await?;
                Ok(State::Finished { tag: None })
            }
        }
    }

    async fn fetch(&mut self, tag: &'static str, mut rows: Rows, limit: usize) -> Result<State, Trouble> {
        let (count, limited) = self.send(&mut rows, limit).await?;
        if limited {
            self.socket.put(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()));
            return Ok(State::Running { tag, rows });
        }
        self.complete(counted(tag, count));
        Ok(State::Finished { tag: Some(tag) })
    }
}

/// A statement's parameter OIDs and its columns in text; None where it returns no rows.
fn described(statement: &Stored) -> Result<(Vec<u32>, Option<Vec<Column>>), Error> {
    let Plan::Query(_, prepared) = &statement.plan else { return Ok((Vec::new(), None)) };
    let oid = |(index, field): (usize, &arrow::datatypes::FieldRef)| {
        let declared = statement.declared.get(index).copied().unwrap_or(0);
        Ok(decode::parameter_wire_type(declared, field)?.oid())
    };
    let oids = prepared.parameters.iter().enumerate().map(oid).collect::<Result<_, Error>>()?;
    let columns = prepared.schema.as_ref().map(|schema| Column::all(schema, &[])).transpose()?;
    Ok((oids, columns))
}

fn returns_rows(statement: &Stored) -> bool {
    matches!(&statement.plan, Plan::Query(_, prepared) if prepared.schema.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deallocate_is_recognised_and_nothing_else() {
        assert_eq!(deallocated(" deallocate ALL ;"), Some(Deallocated::All));
        assert_eq!(deallocated("DEALLOCATE prepare \"_pg3_0\""), Some(Deallocated::One("_pg3_0".to_owned())));
        assert_eq!(deallocated("DEALLOCATE Foo;"), Some(Deallocated::One("foo".to_owned())));
        for other in ["DEALLOCATED x", "SELECT 1", "DEALLOCATE a; SELECT 1", "DÉALLOCATE x", ""] {
            assert_eq!(deallocated(other), None, "{other}");
        }
    }
}
