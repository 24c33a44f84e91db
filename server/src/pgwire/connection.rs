//! One client's connection: takes its messages in order and answers each.
//!
//! **Invariant:** at most one statement of a connection runs at a time, and none on this runtime: the query runtime
//! runs it, and this task only waits and writes.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::timezone::Tz;
use datafusion::scalar::ScalarValue;
use juno_sql::{Error, Moment, Outcome, Prepared, Session, Statement, TransactionStatus};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage, response};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::serve::Doors;
use crate::telemetry::Door;

use super::backends::Backend;
use super::column::{Column, describe};
use super::copy::CopyOut;
use super::encode::Encoder;
use super::extended::{Named, deallocated};
use super::report::{self, Report};
use super::running::Rows;
use super::socket::{Socket, Stop};
use super::startup;

/// Why an answer was not given.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection ends.
    Stop(Stop),
    /// The statement failed; the connection goes on.
    Report(Report),
}

impl From<Stop> for Trouble {
    fn from(stop: Stop) -> Trouble {
        Trouble::Stop(stop)
    }
}

impl From<Report> for Trouble {
    fn from(report: Report) -> Trouble {
        Trouble::Report(report)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        failed(&error, None)
    }
}

/// The report of a failed statement; what an operator must see is logged, here and nowhere else on this door.
pub(super) fn failed(error: &Error, sql: Option<&str>) -> Trouble {
    if crate::error::needs_operator(error) {
        tracing::error!(sqlstate = crate::error::sqlstate(error), sql, "a statement failed: {error}");
    }
    Trouble::Report(Report::of(error, sql))
}

/// A connection that was greeted.
pub(super) struct Connection {
    pub(super) doors: Arc<Doors>,
    pub(super) socket: Socket,
    pub(super) session: Arc<Session>,
    pub(super) backend: Backend,
    peer: IpAddr,
    pub(super) named: Named,
    reported: Vec<(&'static str, String)>,
    skipping: bool,
}

impl Connection {
    /// `reported` are the settings as the client was told of them.
    pub(super) fn new(
        doors: Arc<Doors>,
        socket: Socket,
        session: Arc<Session>,
        (backend, peer): (Backend, IpAddr),
        reported: Vec<(&'static str, String)>,
    ) -> Connection {
        Connection { doors, socket, session, backend, peer, named: Named::default(), reported, skipping: false }
    }

    /// Serves the client until it leaves, breaks the protocol, or the server shuts down.
    pub(super) async fn serve(mut self, mut shutdown: watch::Receiver<bool>) {
        let stop = match self.ready().await {
            Ok(()) => self.converse(&mut shutdown).await,
            Err(stop) => stop,
        };
        if let Stop::Fatal(report) = stop {
            self.doors.counters.error(Door::Pgwire, report.code());
            self.socket.put(PgWireBackendMessage::ErrorResponse(report.into()));
            self.socket.close().await;
        }
    }

    async fn converse(&mut self, shutdown: &mut watch::Receiver<bool>) -> Stop {
        loop {
            let incoming = tokio::select! {
                biased;
                () = super::ended(shutdown) => {
                    return Stop::Fatal(Report::fatal("57P01", "terminating connection due to administrator command"));
                }
                incoming = self.socket.message() => incoming,
                () = passed(self.session.idle_limit()) => {
                    let message = "terminating connection due to idle-in-transaction timeout";
                    return Stop::Fatal(Report::fatal("25P03", message));
                }
            };
            let incoming = match incoming {
                Ok(Some(incoming)) => incoming,
                Ok(None) => return Stop::Gone,
                Err(stop) => return stop,
            };
            if matches!(incoming.message, PgWireFrontendMessage::Terminate(_)) {
                return Stop::Gone;
            }
            if let Err(stop) = self.take(incoming.message, incoming.utf8).await {
                return stop;
            }
        }
    }

    async fn take(&mut self, message: PgWireFrontendMessage, utf8: bool) -> Result<(), Stop> {
        if let Some(why) = self.session.refused_at_door(Some(self.peer), Some(&self.session.user().name)) {
            return Err(Stop::Fatal(Report::fatal("28000", why)));
        }
        let simple = matches!(message, PgWireFrontendMessage::Query(_));
        if self.skipping && !matches!(message, PgWireFrontendMessage::Sync(_)) {
            return Ok(());
        }
        let taken = if utf8 {
            self.dispatch(message).await
        } else {
            Err(Report::error("22021", "invalid byte sequence for encoding \"UTF8\"").into())
        };
        match taken {
            Ok(()) => {}
            Err(Trouble::Stop(stop)) => return Err(stop),
            Err(Trouble::Report(report)) => {
                self.session.fail_transaction();
                self.doors.counters.error(Door::Pgwire, report.code());
                self.socket.put(PgWireBackendMessage::ErrorResponse(report.into()));
                self.skipping = !simple;
                self.socket.flush().await?;
            }
        }
        if simple { self.ready().await } else { Ok(()) }
    }

    async fn dispatch(&mut self, message: PgWireFrontendMessage) -> Result<(), Trouble> {
        match message {
            PgWireFrontendMessage::Query(query) => self.query(query.query).await,
            PgWireFrontendMessage::Parse(parse) => self.parse(parse).await,
            PgWireFrontendMessage::Bind(bind) => self.bind(bind),
            PgWireFrontendMessage::Describe(what) => self.describe(&what),
            PgWireFrontendMessage::Execute(execute) => self.execute(execute).await,
            PgWireFrontendMessage::Close(what) => self.close(&what),
            PgWireFrontendMessage::Flush(_) => Ok(self.socket.flush().await?),
            PgWireFrontendMessage::Sync(_) => {
                self.skipping = false;
                self.end_pipeline().await?;
                if self.session.transaction_status() == TransactionStatus::Idle {
                    self.named.drop_portals();
                }
                Ok(self.ready().await?)
            }
            // What is left of a copy that was refused; PostgreSQL ignores it too.
            PgWireFrontendMessage::CopyData(_)
            | PgWireFrontendMessage::CopyDone(_)
            | PgWireFrontendMessage::CopyFail(_) => Ok(()),
            _ => Err(Stop::Fatal(Report::fatal("08P01", "this message has no place here")).into()),
        }
    }

    /// Sends ReadyForQuery and all that waits before it.
    async fn ready(&mut self) -> Result<(), Stop> {
        let status = match self.session.transaction_status() {
            TransactionStatus::Idle => response::TransactionStatus::Idle,
            TransactionStatus::Open => response::TransactionStatus::Transaction,
            TransactionStatus::Failed => response::TransactionStatus::Error,
        };
        self.socket.put(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(status)));
        self.socket.flush().await
    }

    /// The simple protocol: all statements of the text in order, the first error stops the rest.
    async fn query(&mut self, sql: String) -> Result<(), Trouble> {
        self.named.drop_unnamed();
        if let Some(tag) = deallocated(&sql).and_then(|name| self.named.deallocate(&name)) {
            self.complete(tag.to_owned());
            return Ok(());
        }
        let _busy = self.backend.busy();
        let (started, text) = (Instant::now(), sql.clone());
        let last = self.session.is_implicit();
        let (session, rows) = (Arc::clone(&self.session), Answering::of(self));
        let begun = self.on_query_runtime(async move {
            let mut statements = session.parse(&text)?;
            match (statements.pop(), statements.is_empty()) {
                // Most messages hold one statement: it is run at once.
                (Some(statement), true) => Ok((Some(rows.run(&session, statement).await?), statements)),
                (last, _) => {
                    statements.extend(last);
                    Ok((None, statements))
                }
            }
        });
        let begun = begun.await.map(|begun| begun.map_err(|error| failed(&error, Some(&sql))));
        let answered = match begun? {
            Ok((Some(ran), _)) => self.deliver(ran, last).await,
            Ok((None, statements)) => return self.several(statements, &sql).await,
            Err(trouble) => Err(trouble),
        };
        self.doors.counters.statement(Door::Pgwire, started.elapsed());
        answered
    }

    /// Runs no statement, or several, which are one transaction.
    async fn several(&mut self, statements: Vec<Statement>, sql: &str) -> Result<(), Trouble> {
        if statements.is_empty() {
            self.socket.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        let mut statements = statements.into_iter().peekable();
        while let Some(statement) = statements.next() {
            let started = Instant::now();
            self.session.begin_implicit();
            let last = statements.peek().is_none() && self.session.is_implicit();
            let ran = self.run(statement, sql, last).await;
            self.doors.counters.statement(Door::Pgwire, started.elapsed());
            ran?;
        }
        Ok(())
    }

    /// Runs a statement of a message.
    async fn run(&mut self, statement: Statement, sql: &str, last: bool) -> Result<(), Trouble> {
        let (session, rows) = (Arc::clone(&self.session), Answering::of(self));
        let ran = self.on_query_runtime(async move { rows.run(&session, statement).await });
        let ran = ran.await?.map_err(|error| failed(&error, Some(sql)))?;
        self.deliver(ran, last).await
    }

    /// Sends what a statement gave. What the last one of several answers is complete when their transaction is committed.
    async fn deliver(&mut self, ran: Ran, last: bool) -> Result<(), Trouble> {
        match ran {
            Ran::Rows { tag, columns, mut rows } => {
                self.socket.put(PgWireBackendMessage::RowDescription(describe(&columns)));
                let (count, _) = self.send(&mut rows, 0).await?;
                self.end_message(last).await?;
                self.complete(counted(tag, count));
            }
            Ran::Other(outcome) => {
                self.end_message(last).await?;
                self.finish(outcome).await?;
            }
        }
        Ok(())
    }

    /// Commits what the statements before a Sync wrote. What keeps it from being committed is told in place of it.
    async fn end_pipeline(&mut self) -> Result<(), Stop> {
        if !self.session.is_implicit() {
            return Ok(());
        }
        if let Err(trouble) = self.end_message(true).await {
            match trouble {
                Trouble::Stop(stop) => return Err(stop),
                Trouble::Report(report) => {
                    self.doors.counters.error(Door::Pgwire, report.code());
                    self.socket.put(PgWireBackendMessage::ErrorResponse(report.into()));
                }
            }
        }
        Ok(())
    }

    async fn end_message(&mut self, last: bool) -> Result<(), Trouble> {
        if !last {
            return Ok(());
        }
        let session = Arc::clone(&self.session);
        Ok(self.on_query_runtime(async move { session.end_implicit().await }).await??)
    }

    /// Answers an outcome whose rows, if any, are none of the statement's own.
    pub(super) async fn finish(&mut self, outcome: Outcome) -> Result<(), Trouble> {
        match outcome {
            Outcome::CopyIn(copy) => self.copy_in(*copy).await,
            Outcome::CopyOut { schema, options, place, stream } => {
                self.copy_out(CopyOut { schema, options, place, stream }).await
            }
            outcome => {
                self.answer(outcome);
                Ok(())
            }
        }
    }

    /// Answers an outcome without rows.
    pub(super) fn answer(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done { tag, notices } => {
                for notice in &notices {
                    self.socket.put(PgWireBackendMessage::NoticeResponse(report::notice(notice)));
                }
                self.complete(tag);
            }
            Outcome::Empty => self.socket.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())),
            Outcome::Rows { .. } | Outcome::CopyIn(_) | Outcome::CopyOut { .. } => {}
        }
    }

    /// Sends CommandComplete, and before it the settings that the command changed.
    pub(super) fn complete(&mut self, tag: String) {
        let word = tag.split(' ').next().unwrap_or_default();
        if matches!(word, "SET" | "RESET" | "DISCARD" | "COMMIT" | "ROLLBACK") {
            let now = startup::reported(&self.session);
            for ((name, value), (_, told)) in now.iter().zip(&self.reported) {
                if value != told {
                    startup::report_setting(&mut self.socket, name, value);
                }
            }
            self.reported = now;
        }
        match tag.as_str() {
            "DISCARD ALL" => self.named = Named::default(),
            "COMMIT" | "ROLLBACK" => self.named.drop_portals(),
            _ => {}
        }
        self.socket.put(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)));
    }

    /// Sends at most `limit` rows (0 = all). The number of rows sent, and whether the limit ended it.
    pub(super) async fn send(&mut self, rows: &mut Rows, limit: usize) -> Result<(usize, bool), Trouble> {
        let mut count = 0;
        while limit == 0 || count < limit {
            let next = self.socket.attend(rows.next(limit.saturating_sub(count))).await;
            match self.or_cancel(next)?? {
                Some(chunk) => {
                    count += chunk.ends.len();
                    let sent = self.socket.put_bytes(&chunk.bytes).await;
                    self.or_cancel(sent)?;
                }
                None => {
                    let sent = self.socket.put_bytes(&rows.tail()).await;
                    self.or_cancel(sent)?;
                    return Ok((count, false));
                }
            }
        }
        Ok((count, true))
    }

    /// Runs session work on the query runtime, with an eye on the client.
    pub(super) async fn on_query_runtime<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = juno_sql::Result<T>> + Send + 'static,
    ) -> Result<juno_sql::Result<T>, Stop> {
        let task = self.doors.query.spawn(work);
        let ended = self.socket.attend(task).await;
        let ended = self.or_cancel(ended)?;
        Ok(ended.unwrap_or_else(|error| Err(Error::Internal(format!("the statement's task failed: {error}")))))
    }

    /// A client that is gone needs no answer: its statement is stopped.
    pub(super) fn or_cancel<T>(&self, result: Result<T, Stop>) -> Result<T, Stop> {
        if result.is_err() {
            self.backend.cancel();
        }
        result
    }

    /// The session's time zone, in which times are shown and read.
    pub(super) fn zone(&self) -> Tz {
        super::zone(&self.session)
    }
}

/// In a failed transaction only its end is let through, as in PostgreSQL.
pub(super) fn refuse_in_failed_transaction(session: &Session, statement: &Statement) -> Result<(), Error> {
    match session.transaction_status() {
        TransactionStatus::Failed if !statement.ends_transaction() => Err(Error::FailedTransaction),
        _ => Ok(()),
    }
}

/// What a statement gave.
pub(super) enum Ran {
    Rows { tag: &'static str, columns: Arc<[Column]>, rows: Rows },
    Other(Outcome),
}

/// How a connection wants its rows.
pub(super) struct Answering {
    query: Handle,
    zone: Tz,
    asked: Moment,
}

impl Answering {
    pub(super) fn of(connection: &Connection) -> Answering {
        let (query, asked) = (connection.doors.query.clone(), connection.session.moment());
        Answering { query, zone: connection.zone(), asked }
    }

    /// Runs a statement of the simple protocol, on the query runtime.
    async fn run(self, session: &Session, statement: Statement) -> juno_sql::Result<Ran> {
        refuse_in_failed_transaction(session, &statement)?;
        let prepared = session.prepare(statement, &[]).await?;
        if !prepared.parameters.is_empty() {
            return Err(Error::InvalidParameter("there is no parameter $1 in a simple query".to_owned()));
        }
        let outcome = session.execute_since(self.asked, &prepared, Vec::new()).await?;
        let columns = match &outcome {
            Outcome::Rows { stream, .. } => {
                Column::all(&prepared.schema.unwrap_or_else(|| stream.schema()), &[])?.into()
            }
            _ => Arc::default(),
        };
        self.answer(outcome, columns).await
    }

    /// Executes a statement and begins to read its rows, on the query runtime.
    pub(super) async fn execute(
        self,
        session: &Session,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        columns: Arc<[Column]>,
    ) -> juno_sql::Result<Ran> {
        let outcome = session.execute_since(self.asked, prepared, parameters).await?;
        self.answer(outcome, columns).await
    }

    async fn answer(self, outcome: Outcome, columns: Arc<[Column]>) -> juno_sql::Result<Ran> {
        let Outcome::Rows { tag, stream } = outcome else { return Ok(Ran::Other(outcome)) };
        let rows = Rows::start(&self.query, stream, Encoder::new(Arc::clone(&columns), self.zone));
        Ok(Ran::Rows { tag, columns, rows: rows.begun().await? })
    }
}

/// Waits so long; for ever where there is no limit.
async fn passed(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// The command tag of a statement with rows: the number of rows where PostgreSQL gives it.
pub(super) fn counted(tag: &str, rows: usize) -> String {
    match tag {
        "SELECT" | "FETCH" | "MOVE" | "UPDATE" | "DELETE" | "MERGE" => format!("{tag} {rows}"),
        "INSERT" => format!("INSERT 0 {rows}"),
        _ => tag.to_owned(),
    }
}
