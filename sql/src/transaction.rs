//! A session's transaction: writes wait here until COMMIT makes them durable together, and its own statements see them.
//!
//! Statements of one message form a transaction of their own, an implicit one, unless the client opened a block.
//!
//! **Invariant:** holds writes and changes of tables, never makes them. Under READ COMMITTED each statement reads the newest commits, under REPEATABLE
//! READ all read those of the first; both see the transaction's own writes over them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::sql::sqlparser::ast::{TransactionAccessMode, TransactionMode};
use juno_engine::{Db, Mark, Pending, PreparedWrites, Snapshot, TableChange};
use parking_lot::Mutex;

use crate::catalog::{PublicSchema, ViewsThen};
use crate::lock::Held;
use crate::state::Planner;
use crate::{Error, Result};

/// The most that a transaction block may hold before COMMIT, in bytes; one statement or message has the engine's own limit.
const TRANSACTION_BYTES_MAX: usize = 256 << 20;
/// The most savepoints that a transaction may have.
const SAVEPOINTS_MAX: usize = 10_000;

/// Where a session stands in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// No transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a transaction block that failed.
    Failed,
}

/// What a transaction may do and what it sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Modes {
    pub(crate) repeatable: bool,
    pub(crate) read_only: bool,
}

impl Modes {
    /// With what a statement names changed.
    pub(crate) fn with(mut self, named: &[TransactionMode]) -> Result<Self> {
        for mode in named {
            match mode {
                TransactionMode::AccessMode(mode) => self.read_only = *mode == TransactionAccessMode::ReadOnly,
                TransactionMode::IsolationLevel(level) => self.repeatable = repeatable(&level.to_string())?,
            }
        }
        Ok(self)
    }
}

/// Whether an isolation level of this name keeps one snapshot. READ UNCOMMITTED is READ COMMITTED, as in PostgreSQL.
pub(crate) fn repeatable(level: &str) -> Result<bool> {
    match level.to_lowercase().as_str() {
        "read committed" | "read uncommitted" => Ok(false),
        "repeatable read" => Ok(true),
        other => Err(Error::Unsupported(format!(
            "isolation level {other} is not supported: READ COMMITTED and REPEATABLE READ are"
        ))),
    }
}

/// The transaction of one session.
#[derive(Default)]
pub(crate) struct Transaction {
    block: Option<Block>,
}

/// A transaction under way.
struct Block {
    implicit: bool,
    failed: bool,
    modes: Modes,
    pending: Pending,
    /// The oldest first.
    savepoints: Vec<Savepoint>,
    /// There once it changes tables or views.
    draft: Option<Arc<Draft>>,
    /// What REPEATABLE READ sees, from the first statement on.
    base: Option<Snapshot>,
    /// Whether a statement has read or written.
    used: bool,
    locks: BTreeMap<String, Held>,
}

struct Savepoint {
    name: String,
    mark: Mark,
    /// The views, where the transaction had changed any tables or views.
    views: Option<ViewsThen>,
}

/// Tables and views as a transaction has made them.
pub(crate) struct Draft {
    pub(crate) public: Arc<PublicSchema>,
    planner: Mutex<Option<Arc<Planner>>>,
    changes_views: AtomicBool,
}

impl Draft {
    fn new(public: &PublicSchema) -> Self {
        Draft { public: Arc::new(public.branch()), planner: Mutex::default(), changes_views: AtomicBool::new(false) }
    }

    /// What plans over it; made when it is first asked for.
    pub(crate) fn planner(&self, make: impl FnOnce(Arc<PublicSchema>) -> Result<Planner>) -> Result<Arc<Planner>> {
        let mut planner = self.planner.lock();
        match planner.as_ref() {
            Some(planner) => Ok(Arc::clone(planner)),
            None => Ok(Arc::clone(planner.insert(Arc::new(make(Arc::clone(&self.public))?)))),
        }
    }

    /// Takes down that views were changed, or what they read.
    pub(crate) fn change_views(&self) {
        self.changes_views.store(true, Ordering::Relaxed);
    }
}

/// What a statement reads.
pub(crate) struct View {
    /// The commits that it sees.
    pub(crate) base: Snapshot,
    /// The same with the transaction's own writes.
    pub(crate) whole: Snapshot,
    /// Whether rows that others changed after `base` must not be changed.
    pub(crate) repeatable: bool,
}

/// A transaction that was ended: what waited, where it did not fail, and the locks to be held until that is committed.
pub(crate) struct Ended {
    pub(crate) pending: Option<Pending>,
    pub(crate) modes: Modes,
    pub(crate) implicit: bool,
    /// Whether views are to be planned anew.
    pub(crate) changes_views: bool,
    #[expect(dead_code, reason = "held until the writes are durable, then dropped")]
    locks: BTreeMap<String, Held>,
}

impl Transaction {
    pub(crate) fn status(&self) -> TransactionStatus {
        match &self.block {
            None => TransactionStatus::Idle,
            Some(block) if block.failed => TransactionStatus::Failed,
            Some(block) if block.implicit => TransactionStatus::Idle,
            Some(_) => TransactionStatus::Open,
        }
    }

    /// Whether the statements of one message form a transaction just now.
    pub(crate) fn is_implicit(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.implicit)
    }

    /// Starts a block; whether there was none. An implicit transaction becomes the block.
    pub(crate) fn begin(&mut self, modes: Modes) -> bool {
        match &mut self.block {
            Some(block) if block.implicit => {
                block.implicit = false;
                block.modes = modes;
                true
            }
            Some(_) => false,
            None => {
                self.open(modes, false);
                true
            }
        }
    }

    /// Starts an implicit transaction where there is none at all.
    pub(crate) fn begin_implicit(&mut self, modes: Modes) {
        if self.block.is_none() {
            self.open(modes, true);
        }
    }

    fn open(&mut self, modes: Modes, implicit: bool) {
        self.block = Some(Block {
            implicit,
            failed: false,
            modes,
            pending: Pending::default(),
            savepoints: Vec::new(),
            draft: None,
            base: None,
            used: false,
            locks: BTreeMap::new(),
        });
    }

    /// An error ends an open block's hopes, but for its savepoints; an implicit transaction is over.
    pub(crate) fn fail(&mut self) {
        match &mut self.block {
            Some(block) if block.implicit => self.block = None,
            Some(block) => block.failed = true,
            None => {}
        }
    }

    /// Ends the transaction, if there is one.
    pub(crate) fn end(&mut self) -> Option<Ended> {
        let block = self.block.take()?;
        let pending = (!block.failed).then_some(block.pending);
        let changes_views = block.draft.is_some_and(|draft| draft.changes_views.load(Ordering::Relaxed));
        Some(Ended { pending, modes: block.modes, implicit: block.implicit, changes_views, locks: block.locks })
    }

    /// The modes of the transaction under way.
    pub(crate) fn modes(&self) -> Option<Modes> {
        self.block.as_ref().map(|block| block.modes)
    }

    /// SET TRANSACTION; whether there is a block that it counts for.
    pub(crate) fn set_modes(&mut self, modes: Modes) -> Result<bool> {
        let Some(block) = self.block.as_mut().filter(|block| !block.implicit) else { return Ok(false) };
        if block.used && modes.repeatable != block.modes.repeatable {
            let text = "SET TRANSACTION ISOLATION LEVEL must be called before any query";
            return Err(Error::ActiveTransaction(text.into()));
        }
        if block.used && block.modes.read_only && !modes.read_only {
            let text = "transaction read-write mode must be set before any query";
            return Err(Error::ActiveTransaction(text.into()));
        }
        block.modes = modes;
        Ok(true)
    }

    /// What the next statement reads.
    pub(crate) fn view(&mut self, db: &Db) -> View {
        let Some(block) = &mut self.block else {
            let base = db.snapshot();
            return View { whole: base.clone(), base, repeatable: false };
        };
        block.used = true;
        let base = match block.modes.repeatable {
            true => block.base.get_or_insert_with(|| db.snapshot()).clone(),
            false => db.snapshot(),
        };
        View { whole: block.pending.over(&base), base, repeatable: block.modes.repeatable }
    }

    /// Whether writes wait for COMMIT rather than being committed at once.
    pub(crate) fn holds(&self) -> bool {
        self.block.is_some()
    }

    /// Takes writes to wait for COMMIT.
    pub(crate) fn hold(&mut self, prepared: PreparedWrites) -> Result<()> {
        let block = self.block.as_mut().ok_or_else(outside)?;
        let mark = block.pending.mark();
        block.pending.push(prepared)?;
        if block.pending.bytes() > TRANSACTION_BYTES_MAX && !block.implicit {
            block.pending.undo_to(&mark);
            let most = TRANSACTION_BYTES_MAX >> 20;
            return Err(Error::OutOfMemory(format!(
                "a transaction may hold {most} MiB of changes: commit in smaller steps"
            )));
        }
        Ok(())
    }

    /// What the transaction has made of tables and views, where it has changed any.
    pub(crate) fn draft(&self) -> Option<Arc<Draft>> {
        self.block.as_ref()?.draft.clone()
    }

    /// The same where it begins to.
    pub(crate) fn begin_draft(&mut self, public: &PublicSchema) -> Result<Arc<Draft>> {
        let block = self.block.as_mut().ok_or_else(outside)?;
        Ok(Arc::clone(block.draft.get_or_insert_with(|| Arc::new(Draft::new(public)))))
    }

    /// Takes a change of tables to wait for COMMIT.
    pub(crate) fn define(&mut self, db: &Db, change: TableChange) -> Result<()> {
        let base = self.view(db).base;
        self.block.as_mut().ok_or_else(outside)?.pending.define(&base, change)?;
        Ok(())
    }

    /// Whether the transaction holds the lock of a table.
    pub(crate) fn has_lock(&self, table: &str) -> bool {
        self.block.as_ref().is_some_and(|block| block.locks.contains_key(table))
    }

    /// Keeps a lock to the end of the transaction; gives it back where there is none.
    pub(crate) fn keep_lock(&mut self, table: &str, held: Held) -> Option<Held> {
        match &mut self.block {
            Some(block) => {
                block.locks.insert(table.to_owned(), held);
                None
            }
            None => Some(held),
        }
    }

    fn block(&mut self, command: &str) -> Result<&mut Block> {
        let none = || Error::NoTransaction(format!("{command} can only be used in transaction blocks"));
        self.block.as_mut().filter(|block| !block.implicit).ok_or_else(none)
    }

    /// SAVEPOINT.
    pub(crate) fn savepoint(&mut self, name: String) -> Result<()> {
        let block = self.block("SAVEPOINT")?;
        if block.savepoints.len() == SAVEPOINTS_MAX {
            return Err(Error::OutOfMemory(format!(
                "a transaction may have {SAVEPOINTS_MAX} savepoints: release some"
            )));
        }
        let views = block.draft.as_ref().map(|draft| draft.public.views_now());
        block.savepoints.push(Savepoint { name, mark: block.pending.mark(), views });
        Ok(())
    }

    /// ROLLBACK TO SAVEPOINT: the savepoint stays, and a failed transaction goes on.
    pub(crate) fn rollback_to(&mut self, name: &str) -> Result<()> {
        let block = self.block("ROLLBACK TO SAVEPOINT")?;
        let place = place_of(&block.savepoints, name)?;
        block.savepoints.truncate(place + 1);
        let savepoint = &block.savepoints[place];
        block.pending.undo_to(&savepoint.mark);
        match (&savepoint.views, &block.draft) {
            (Some(views), Some(draft)) => draft.public.restore_views(views),
            _ => block.draft = None,
        }
        block.failed = false;
        Ok(())
    }

    /// RELEASE SAVEPOINT: it and all later ones are forgotten, what was written since stays.
    pub(crate) fn release(&mut self, name: &str) -> Result<()> {
        let block = self.block("RELEASE SAVEPOINT")?;
        let place = place_of(&block.savepoints, name)?;
        block.savepoints.truncate(place);
        Ok(())
    }
}

/// The newest savepoint of this name.
fn place_of(savepoints: &[Savepoint], name: &str) -> Result<usize> {
    let missing = || Error::UndefinedSavepoint(format!("savepoint \"{name}\" does not exist"));
    savepoints.iter().rposition(|savepoint| savepoint.name == name).ok_or_else(missing)
}

fn outside() -> Error {
    Error::Internal("there is no transaction to wait in".into())
}

/// The name of an isolation level, as SHOW gives it.
pub(crate) fn level_name(modes: Modes) -> &'static str {
    if modes.repeatable { "repeatable read" } else { "read committed" }
}
