//! Statements: from text to what kind of work each asks for.
//!
//! **Invariant:** plans nothing and runs nothing; the text in, the tree and its kind out.

pub(crate) mod own;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, ResetStatement, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{self, SetExpr, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use crate::change::Change;
use crate::copy::{Copy, CopyOptions, CopyPlace};
use crate::cursor::{self, Fetch};
use crate::definition::folded;
use crate::detector::DetectorStatement;
use crate::maintenance::Maintenance;
use crate::procedure::Named;
use crate::role::{self, RoleStatement};
use crate::rollup::RollupStatement;
use crate::session::CopyIn;
use crate::setting::{self, Assignment};
use crate::{Error, Result, spelling};

/// The longest statement text that is parsed, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 16 << 20;

/// One parsed statement.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(crate) kind: Kind,
}

/// What a statement asks for.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Rows from a plan; the word is the command tag.
    Query(&'static str, Box<Parsed>),
    /// INSERT, UPDATE or DELETE.
    Change(Box<Parsed>),
    CreateTable(Box<ast::CreateTable>),
    DropTable {
        names: Vec<ast::ObjectName>,
        if_exists: bool,
        cascade: bool,
    },
    AlterTable(Box<ast::AlterTable>),
    Truncate {
        names: Vec<ast::ObjectName>,
        if_exists: bool,
    },
    CreateView(Box<ViewDefinition>),
    DropView {
        names: Vec<ast::ObjectName>,
        if_exists: bool,
        cascade: bool,
    },
    /// The cursor's name, whether WITH HOLD, and its query.
    Declare(String, bool, Box<Parsed>),
    /// The flag says MOVE.
    Fetch(Fetch, bool),
    /// None closes all.
    Close(Option<String>),
    Call(Box<ast::Function>),
    Copy(Box<Copy>),
    Role(Box<RoleStatement>),
    Maintain(Maintenance),
    Rollup(Box<RollupStatement>),
    Detector(Box<DetectorStatement>),
    Begin(Vec<ast::TransactionMode>),
    /// With `AND CHAIN`, another block follows at once.
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    RollbackTo(String),
    Release(String),
    Set(Box<ast::Set>),
    /// A statement with calls of `set_config` in it.
    Configure(Vec<Assignment>, Box<Kind>),
    Show(String),
    Reset(Option<String>),
    /// DISCARD ALL: settings go back to their defaults.
    Discard,
    /// DEALLOCATE ALL and UNLISTEN: there is nothing to forget.
    Forget(&'static str),
}

/// A view as it is planned, and its query as it was written.
#[derive(Debug, Clone)]
pub(crate) struct ViewDefinition {
    pub(crate) view: ast::CreateView,
    pub(crate) written: String,
}

impl Statement {
    /// Whether the statement ends a transaction block, or goes back to a savepoint: it runs in a failed block too.
    pub fn ends_transaction(&self) -> bool {
        self.kind.ends_transaction()
    }
}

impl Kind {
    pub(crate) fn ends_transaction(&self) -> bool {
        matches!(self, Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_))
    }

    /// Whether the statement takes effect at once, whatever transaction it stands in.
    pub(crate) fn is_immediate(&self) -> bool {
        matches!(self, Kind::Role(_) | Kind::Rollup(_) | Kind::Detector(_) | Kind::Call(_) | Kind::Maintain(_))
    }

    /// Whether the statement changes which tables and views there are, or empties tables.
    pub(crate) fn defines(&self) -> bool {
        matches!(
            self,
            Kind::CreateTable(_)
                | Kind::AlterTable(_)
                | Kind::Truncate { .. }
                | Kind::DropTable { .. }
                | Kind::CreateView(_)
                | Kind::DropView { .. }
        )
    }
}

/// A planned statement; it can be executed many times.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// One per `$n`; the field's metadata carries `juno.type` where Arrow's type does not say it all.
    pub parameters: Vec<FieldRef>,
    /// The type that the plan wants for each parameter, where it differs from what the client sends.
    pub(crate) wanted: Vec<Option<DataType>>,
    /// The result's columns, or none where the statement returns no rows.
    pub schema: Option<SchemaRef>,
    pub(crate) work: Work,
}

impl Prepared {
    /// Refuses any other number of parameters.
    pub(crate) fn check_count(&self, given: usize) -> Result<()> {
        match self.parameters.len() {
            wanted if wanted == given => Ok(()),
            wanted => {
                let text = format!("the statement has {wanted} parameters and was given {given}");
                Err(Error::InvalidParameter(text))
            }
        }
    }

    /// The same within other work.
    pub(crate) fn within(self, work: impl FnOnce(Box<Prepared>) -> Work) -> Self {
        let (parameters, wanted, schema) = (self.parameters.clone(), self.wanted.clone(), self.schema.clone());
        Prepared { parameters, wanted, schema, work: work(Box::new(self)) }
    }
}

/// What executing a prepared statement does.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// The command tag, the plan, and the names that clients see.
    Query(&'static str, Box<LogicalPlan>, Option<Vec<Option<String>>>),
    Change(Box<Change>),
    /// DECLARE: the cursor's name, whether WITH HOLD, the plan, and the names that clients see.
    Declare(String, bool, Box<LogicalPlan>, Option<Vec<Option<String>>>),
    Call {
        procedure: Named,
        /// Which parameter each column of the arguments' row is for.
        places: Vec<usize>,
        arguments: Box<LogicalPlan>,
    },
    /// Tables that are locked before the statement runs.
    Locked(BTreeSet<String>, Box<Prepared>),
    /// What `set_config` changes before the statement runs.
    Configure(Vec<Assignment>, Box<Prepared>),
    CopyIn(Box<CopyIn>),
    /// The query whose rows are copied, and how.
    CopyOut {
        inner: Box<Prepared>,
        schema: SchemaRef,
        options: CopyOptions,
        place: CopyPlace,
    },
    Other(Box<Kind>),
}

/// What a statement gives.
pub enum Outcome {
    /// Rows, read as they are computed. The command tag is `tag` and, for SELECT, the number of rows.
    Rows {
        /// SELECT, EXPLAIN, SHOW or CALL.
        tag: &'static str,
        /// The rows.
        stream: SendableRecordBatchStream,
    },
    /// No rows.
    Done {
        /// The whole command tag: `INSERT 0 5`, `CREATE TABLE`, `BEGIN`.
        tag: String,
        /// What the user should be told besides.
        notices: Vec<String>,
    },
    /// The statement waits for rows: [`crate::Session::copy_in`] takes them.
    CopyIn(Box<CopyIn>),
    /// Rows that the statement wants written in a format.
    CopyOut {
        /// The columns, under the names that clients see.
        schema: SchemaRef,
        /// How rows are written.
        options: CopyOptions,
        /// Where they go.
        place: CopyPlace,
        /// The rows.
        stream: SendableRecordBatchStream,
    },
    /// There was no statement.
    Empty,
}

impl Outcome {
    pub(crate) fn done(tag: impl Into<String>) -> Self {
        Outcome::Done { tag: tag.into(), notices: Vec::new() }
    }
}

/// The statements of a text.
///
/// # Errors
/// [`Error::Syntax`] and [`Error::Unsupported`].
pub(crate) fn parse(
    sql: &str,
    compatibility: &PostgresCompatibilityParser,
    user: &str,
    setting: impl Fn(&str) -> Result<String>,
) -> Result<Vec<Statement>> {
    if sql.len() > STATEMENT_BYTES_MAX {
        let most = STATEMENT_BYTES_MAX >> 20;
        return Err(Error::InvalidArgument(format!(
            "statement text of {} bytes exceeds {most} MiB: send data by COPY or /write",
            sql.len()
        )));
    }
    if let Some(kinds) = own::parse(sql)? {
        return Ok(kinds.into_iter().map(|kind| Statement { kind }).collect());
    }
    let mut parsed: Vec<Parsed> = if asks_catalog(sql) {
        let statements = compatibility
            .parse(&spelling::plannable(sql))
            .map_err(|error| Error::Syntax(syntax(&error.to_string())))?;
        statements.into_iter().map(|statement| Parsed::Statement(Box::new(statement))).collect()
    } else {
        DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {}).build()?.parse_statements()?.into()
    };
    if role::asks_user(sql) {
        parsed.iter_mut().for_each(|statement| role::name_user(statement, user));
    }
    let mut changes = vec![Vec::new(); parsed.len()];
    if setting::asked(sql) {
        for (statement, changes) in parsed.iter_mut().zip(&mut changes) {
            *changes = setting::fill(statement, &setting)?;
        }
    }
    let statement = |(parsed, changes): (Parsed, Vec<Assignment>)| match (classify(parsed)?, changes.is_empty()) {
        (statement, true) => Ok(statement),
        (Statement { kind }, false) => Ok(Statement { kind: Kind::Configure(changes, Box::new(kind)) }),
    };
    parsed.into_iter().zip(changes).map(statement).collect()
}

fn syntax(text: &str) -> String {
    format!("syntax error: {}", text.trim_start_matches("sql parser error: "))
}

/// Whether a text asks for PostgreSQL's catalog, which only the compatibility parser understands in full.
fn asks_catalog(sql: &str) -> bool {
    let lower = sql.to_lowercase();
    ["pg_", "::reg", "current_schema", "current_database", "information_schema"].iter().any(|word| lower.contains(word))
}

fn classify(parsed: Parsed) -> Result<Statement> {
    let statement = match parsed {
        Parsed::Statement(statement) => *statement,
        Parsed::Explain(mut explain) => {
            if let Parsed::Statement(inner) = explain.statement.as_mut() {
                for_planner(inner)?;
            }
            return Ok(Statement { kind: Kind::Query("EXPLAIN", Box::new(Parsed::Explain(explain))) });
        }
        Parsed::Reset(ResetStatement::Variable(name)) => {
            let name = name.to_string();
            let one = (!name.eq_ignore_ascii_case("all")).then_some(name);
            return Ok(Statement { kind: Kind::Reset(one) });
        }
        Parsed::CopyTo(_) => return Err(unsupported("COPY after another statement of the same message")),
        Parsed::CreateExternalTable(_) => return Err(unsupported("CREATE EXTERNAL TABLE")),
    };
    sql_statement(statement).map(|kind| Statement { kind })
}

fn sql_statement(mut statement: ast::Statement) -> Result<Kind> {
    let written =
        if let ast::Statement::CreateView(view) = &statement { view.query.to_string() } else { String::new() };
    for_planner(&mut statement)?;
    kind(statement, written)
}

/// What kind of work a statement is, in the words that the planner takes; `written` is a view's query in the user's.
fn kind(statement: ast::Statement, written: String) -> Result<Kind> {
    use ast::Statement as Sql;
    let parsed = |statement| Box::new(Parsed::Statement(Box::new(statement)));
    Ok(match statement {
        // WITH … INSERT, UPDATE or DELETE.
        Sql::Query(ref query)
            if matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_)) =>
        {
            Kind::Change(parsed(statement))
        }
        Sql::Query(_) => Kind::Query("SELECT", parsed(statement)),
        Sql::Explain { .. } | Sql::ExplainTable { .. } => Kind::Query("EXPLAIN", parsed(statement)),
        Sql::ShowTables { .. } | Sql::ShowColumns { .. } | Sql::ShowFunctions { .. } => {
            Kind::Query("SHOW", parsed(statement))
        }
        Sql::Insert(_) | Sql::Update(_) | Sql::Delete(_) => Kind::Change(parsed(statement)),
        Sql::CreateTable(create) => Kind::CreateTable(Box::new(create)),
        Sql::Drop { object_type: ast::ObjectType::Table, names, if_exists, cascade, .. } => {
            Kind::DropTable { names, if_exists, cascade }
        }
        Sql::AlterTable(alter) => Kind::AlterTable(Box::new(alter)),
        Sql::Truncate(truncate) => Kind::Truncate {
            names: truncate.table_names.into_iter().map(|target| target.name).collect(),
            if_exists: truncate.if_exists,
        },
        Sql::CreateView(view) => Kind::CreateView(Box::new(ViewDefinition { view, written })),
        Sql::Drop { object_type: ast::ObjectType::View, names, if_exists, cascade, .. } => {
            Kind::DropView { names, if_exists, cascade }
        }
        Sql::Declare { mut stmts } if stmts.len() == 1 => {
            let declared = stmts.remove(0);
            match (declared.names.first(), declared.for_query) {
                (Some(name), Some(query)) if declared.scroll != Some(true) => {
                    Kind::Declare(folded(name), declared.hold == Some(true), parsed(Sql::Query(query)))
                }
                (_, Some(_)) => return Err(Error::ForwardOnly),
                _ => return Err(unsupported("DECLARE without CURSOR FOR")),
            }
        }
        Sql::Fetch { name, direction, into: None, .. } => {
            Kind::Fetch(Fetch { cursor: folded(&name), count: cursor::count(&direction)? }, false)
        }
        Sql::Close { cursor: ast::CloseCursor::Specific { name } } => Kind::Close(Some(folded(&name))),
        Sql::Close { cursor: ast::CloseCursor::All } => Kind::Close(None),
        Sql::Call(function) => Kind::Call(Box::new(function)),
        Sql::StartTransaction { modes, .. } => Kind::Begin(modes),
        Sql::Commit { chain, .. } => Kind::Commit { chain },
        Sql::Rollback { savepoint: None, chain } => Kind::Rollback { chain },
        Sql::Rollback { savepoint: Some(name), .. } => Kind::RollbackTo(folded(&name)),
        Sql::Savepoint { name } => Kind::Savepoint(folded(&name)),
        Sql::ReleaseSavepoint { name } => Kind::Release(folded(&name)),
        Sql::Set(set) => Kind::Set(Box::new(set)),
        Sql::ShowVariable { variable } => {
            Kind::Show(variable.iter().map(|part| part.value.clone()).collect::<Vec<_>>().join("."))
        }
        Sql::Reset(reset) => match reset.reset {
            ast::Reset::ALL => Kind::Reset(None),
            ast::Reset::ConfigurationParameter(name) => Kind::Reset(Some(name.to_string())),
        },
        Sql::Deallocate { name, .. } if name.value.eq_ignore_ascii_case("all") => Kind::Forget("DEALLOCATE ALL"),
        Sql::Discard { .. } => Kind::Discard,
        Sql::UNLISTEN { .. } => Kind::Forget("UNLISTEN"),
        Sql::Vacuum(_) => return Err(own::not_alone("VACUUM")),
        Sql::Analyze(_) => return Err(own::not_alone("ANALYZE")),
        other => {
            let text = other.to_string();
            let command: Vec<&str> = text.split_whitespace().take(2).collect();
            return Err(unsupported(&command.join(" ")));
        }
    })
}

/// Whether any query of a statement locks what it reads.
pub(crate) fn locks(parsed: &Parsed) -> bool {
    struct Locks;
    impl Visitor for Locks {
        type Break = ();
        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
            if query.locks.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
    }
    matches!(parsed, Parsed::Statement(statement) if statement.visit(&mut Locks).is_break())
}

/// Spells a statement as the planner takes it. Refuses what it would leave out without a word, or refuse in words of its own.
pub(crate) fn for_planner(statement: &mut ast::Statement) -> Result<()> {
    if let ControlFlow::Break(error) = statement.visit(&mut Promises) {
        return Err(error);
    }
    spelling::adapt(statement);
    Ok(())
}

struct Promises;

impl Visitor for Promises {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Error> {
        let mut parts = query.with.iter().flat_map(|with| &with.cte_tables);
        if parts.any(|part| matches!(*part.query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_))) {
            let text = "INSERT, UPDATE and DELETE in WITH are not supported: write statements of one transaction";
            return ControlFlow::Break(Error::Unsupported(text.into()));
        }
        match query.locks.iter().find_map(|lock| lock.nonblock) {
            Some(nonblock) => ControlFlow::Break(unsupported(&format!("{nonblock} of a lock"))),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, relation: &ast::TableFactor) -> ControlFlow<Error> {
        use ast::TableFactor::{Table, UNNEST};
        match relation {
            Table { with_ordinality: true, .. } | UNNEST { with_ordinality: true, .. } => {
                ControlFlow::Break(unsupported("WITH ORDINALITY"))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn unsupported(what: &str) -> Error {
    Error::Unsupported(format!("{what} is not supported"))
}
