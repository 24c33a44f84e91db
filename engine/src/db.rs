//! The database: the door to everything else.
//!
//! **Invariant:** decides nothing about rows; it checks that the database is open, and asks the right room.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::commit::step::Step;
use crate::commit::{Answer, Body, Committer, Request, Task};
use crate::pending::{Pending, prepare_all};
use crate::store::Store;
use crate::system::System;
use crate::system::sync::{JoinHandle, Mutex, Ordering, Sender, bounded, spawn};
use crate::{
    Alteration, BackupReport, Catalog, CheckReport, Column, CompactionReport, Error, FlushReport, Follower,
    ImportReport, Options, Result, Snapshot, Status, TableSchema, Write, backup, compaction, flush, import, open,
    retention,
};

/// Tasks that wait for the log before callers wait to hand theirs in.
const TASKS_MAX: usize = 1024;
/// How often a commit is prepared anew because a table was altered in between.
const TRIES_MAX: usize = 100;

/// An open database. Clones share it; the last one dropped stops its threads, and what was not flushed is replayed from
/// the log by the next start.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    store: Arc<Store>,
    /// None once closed.
    tasks: Mutex<Option<Sender<Task>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl Db {
    /// Opens or creates the database in a directory.
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Options::default())
    }

    /// Opens or creates the database in a directory, with own settings.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process has it open, [`Error::Corrupt`] where a file is damaged that no crash can
    /// have damaged, [`Error::Io`].
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let root: PathBuf = path.as_ref().into();
        let disk = Arc::clone(options.system.disk());
        disk.create_dir(&root).map_err(Error::io("create", &root))?;
        let lock = disk.lock(&root.join("LOCK")).map_err(Error::io("lock", &root))?;
        let lock = lock.ok_or_else(|| Error::Locked { path: root.clone() })?;
        let (wake_flusher, flusher_woken) = bounded(1);
        let (wake_compactor, compactor_woken) = bounded(1);
        let (store, log) = open::open(&root, options, (wake_flusher, wake_compactor))?;
        let store = Arc::new(store);
        let (tasks, waiting) = bounded(TASKS_MAX);
        let committer = Committer { store: Arc::clone(&store), log };
        let mut threads = vec![
            start("juno-log", move || committer.work(&waiting))?,
            start("juno-flush", on(&store, move |store| flush::work(store, &flusher_woken)))?,
        ];
        if store.options.compact_in_background {
            threads.push(start("juno-compact", on(&store, move |store| compaction::work(store, &compactor_woken)))?);
        }
        store.wake_flusher();
        store.wake_compactor();
        let inner = Inner {
            root,
            store,
            tasks: Mutex::new(Some(tasks)),
            threads: Mutex::new(threads),
            lock: Mutex::new(Some(lock)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// All tables, as they are now.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.inner.store.state().catalog)
    }

    /// Creates a table, durably.
    ///
    /// # Errors
    /// [`Error::TableExists`], [`Error::InvalidSchema`], [`Error::ReadOnly`], [`Error::Closed`].
    pub fn create_table(&self, table: TableSchema) -> Result<()> {
        table.validate()?;
        self.inner.request(Body::Create(table)).map(drop)
    }

    /// Drops a table, durably. Snapshots go on reading it; its files go when the last of them does.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::ReadOnly`], [`Error::Closed`].
    pub fn drop_table(&self, name: &str) -> Result<()> {
        self.inner.request(Body::Drop(name.into()))?;
        self.inner.forget_parts()
    }

    /// Takes all rows out of a table, durably. Snapshots go on reading them.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::ReadOnly`], [`Error::Closed`].
    pub fn truncate(&self, name: &str) -> Result<()> {
        self.inner.request(Body::Truncate(name.into()))?;
        self.inner.forget_parts()
    }

    /// Changes a table's definition, durably; no row is rewritten. Snapshots stay as they are.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::UnknownColumn`]; [`Error::TableExists`] where a table has the new name;
    /// [`Error::ColumnType`] where the table has an added column with another type; [`Error::InvalidSchema`];
    /// [`Error::ReadOnly`], [`Error::Closed`].
    pub fn alter_table(&self, name: &str, alteration: Alteration) -> Result<()> {
        let rolls_up = matches!(alteration, Alteration::AddRollup(_));
        self.inner.request(Body::Alter(name.into(), alteration))?;
        if rolls_up {
            self.inner.store.wake_compactor();
        }
        Ok(())
    }

    /// Adds columns to a table, durably. Those that it has already with the same type are passed over.
    ///
    /// # Errors
    /// [`Error::UnknownTable`]; [`Error::ColumnType`] where the table has the column with another type;
    /// [`Error::InvalidSchema`] where a new one is not nullable; [`Error::ReadOnly`], [`Error::Closed`].
    pub fn add_columns(&self, table: &str, columns: Vec<Column>) -> Result<()> {
        self.alter_table(table, Alteration::AddColumns(columns))
    }

    /// Applies all writes or none. When it returns they are on the disk and every later snapshot sees them. Answers the
    /// commit's sequence number. Waits while flushes lag behind by [`Options::frozen_bytes_max`], and
    /// fails at once with what ails them where they fail.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::UnknownColumn`], [`Error::ColumnType`], [`Error::NotNull`],
    /// [`Error::InvalidRow`], [`Error::Duplicate`], [`Error::ReadOnly`], [`Error::Closed`]; [`Error::DiskFull`] or
    /// [`Error::Io`], after which the same commit may be tried again.
    pub fn commit(&self, writes: Vec<Write>) -> Result<u64> {
        let store = &self.inner.store;
        store.check_writable()?;
        store.wait_for_room()?;
        for _ in 0..TRIES_MAX {
            let state = store.state();
            let prepared = prepare_all(&state, &writes)?;
            if prepared.is_empty() {
                return Ok(state.sequence);
            }
            let steps = prepared.into_iter().map(|write| Step::Rows(Box::new(write))).collect();
            if let Answer::Done(sequence) = self.inner.request(Body::Steps { steps, since: state.sequence })? {
                return Ok(sequence);
            }
        }
        let reason = "the table is altered again and again meanwhile; try again".into();
        Err(Error::InvalidRow { table: writes.first().map_or_else(String::new, |write| write.table.clone()), reason })
    }

    /// As [`Self::commit`], for what waited: keys that had to be absent must be so still.
    ///
    /// # Errors
    /// As [`Self::commit`]; [`Error::TableExists`] where a name was taken meanwhile, [`Error::Stale`] where a table was altered
    /// or dropped.
    pub fn commit_pending(&self, pending: Pending) -> Result<u64> {
        let store = &self.inner.store;
        if pending.is_empty() {
            return Ok(store.state().sequence);
        }
        store.check_writable()?;
        store.wait_for_room()?;
        let (steps, since) = pending.into_steps();
        let table = steps.first().map_or_else(String::new, |step| step.table().to_owned());
        let drops = steps.iter().any(|step| matches!(step, Step::Drop { .. }));
        let Answer::Done(sequence) = self.inner.request(Body::Steps { steps, since })? else {
            return Err(Error::Stale { table });
        };
        if drops {
            self.inner.forget_parts()?;
        }
        Ok(sequence)
    }

    /// Sorts all rows of all batches straight into parts, past the log, and shows them in one step: when it returns they are
    /// on the disk, when it fails the table is as before. They count as newer than what was committed before that, and
    /// each batch as newer than those before it. Memory is bounded; batches of some ten thousand rows are best.
    ///
    /// # Errors
    /// What the batches answer, and as [`Self::commit`].
    pub fn import<E: From<Error>>(
        &self,
        table: &str,
        batches: impl IntoIterator<Item = Result<RecordBatch, E>>,
    ) -> Result<ImportReport, E> {
        import::run(&self.inner.store, table, batches, |step| self.inner.alone(step))
    }

    /// Whether a commit would find room at once: flushes do not lag behind.
    pub fn has_room(&self) -> bool {
        !self.inner.store.is_full()
    }

    /// The database as it is now. The snapshot stays so while writes, flushes, compactions and drops go on, until this
    /// database is closed and the directory opened anew.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.inner.store.state())
    }

    /// Follows a table: what is committed to it from now on waits for the follower. `wake` is called with each such
    /// commit by the thread that commits, and must be quick. A commit that a snapshot sees has been handed on.
    ///
    /// # Errors
    /// [`Error::UnknownTable`].
    pub fn follow(&self, table: &str, wake: impl Fn() + Send + Sync + 'static) -> Result<Follower> {
        let store = &self.inner.store;
        let known = store.state().table(table).is_some();
        let name = known.then(|| table.to_owned()).ok_or_else(|| Error::UnknownTable { table: table.into() })?;
        Ok(store.follow(name, Box::new(wake)))
    }

    /// Flushes one table, or all: their rows in memory become parts.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::ReadOnly`], [`Error::Closed`]; [`Error::DiskFull`] or [`Error::Io`], after which
    /// the rows are still in memory and in the log, and the flush is tried again in the background.
    pub fn flush(&self, table: Option<&str>) -> Result<Vec<FlushReport>> {
        let reports = self.inner.flush(table)?;
        self.inner.request(Body::Rotate)?;
        self.inner.store.trim_log()?;
        Ok(reports)
    }

    /// Merges parts of one table, or of all, until none overlap that need not and all are as large as they should be.
    /// Writes and reads go on meanwhile.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::ReadOnly`], [`Error::Closed`]; [`Error::Corrupt`] where a part is damaged,
    /// [`Error::DiskFull`] or [`Error::Io`], after which all parts are as they were.
    pub fn compact(&self, table: Option<&str>) -> Result<Vec<CompactionReport>> {
        let ids = self.inner.tables(table)?;
        // All have their turn, whatever befalls one.
        let reports: Vec<_> = ids.into_iter().map(|id| compaction::compact(&self.inner.store, id)).collect();
        reports.into_iter().filter_map(Result::transpose).collect()
    }

    /// Advances the cut-offs of tables with a retention to what the clock says, which a thread in the background does every
    /// minute: rows before them are seen no more, and parts that lie before them are removed.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::DiskFull`], [`Error::Io`].
    pub fn expire(&self) -> Result<()> {
        let ids = self.inner.tables(None)?;
        let outcomes: Vec<_> = ids.into_iter().map(|id| retention::expire(&self.inner.store, id).map(drop)).collect();
        outcomes.into_iter().collect()
    }

    /// Writes all that is committed now to a new directory, which is then a database of its own; reads and writes go on.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a part is damaged, [`Error::Io`] and [`Error::DiskFull`], also where the directory is not
    /// empty. What was written until then stays there and is no whole backup.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport> {
        // Only so that little is left to be copied from memory: a database that cannot flush can be backed up, too.
        if let Err(error) = self.inner.flush(None) {
            tracing::warn!(error = error.chain(), "could not flush before the backup");
        }
        let state = self.inner.store.state();
        backup::backup(self.inner.store.disk(), &state, to.as_ref())
    }

    /// Reads manifest and log against their checksums, and all rows of all parts. Reads and writes go on, but that commits
    /// wait while the log is read.
    ///
    /// # Errors
    /// What is no damage: [`Error::Closed`], [`Error::Arrow`] and the like.
    pub fn check(&self) -> Result<CheckReport> {
        let (store, root) = (Arc::clone(&self.inner.store), self.inner.root.clone());
        let (mut report, state) = self.inner.alone(move || {
            let mut report = CheckReport::default();
            store.undisturbed(|| report.manifest_and_log(store.disk().as_ref(), &root))?;
            Ok((report, store.state()))
        })?;
        for table in state.tables.values() {
            report.table(&table.definition.table.name, &table.schema, table.parts.iter().cloned())?;
        }
        Ok(report)
    }

    /// Figures about the database as it is now.
    pub fn status(&self) -> Status {
        let store = &self.inner.store;
        let state = store.state();
        let memory = state.memory();
        let parts = || state.tables.values().flat_map(|table| &table.parts);
        Status {
            log_bytes: store.log_bytes(),
            memtable_bytes: memory.active_bytes + memory.frozen_bytes,
            memtable_rows: memory.rows,
            tables: state.tables.len(),
            parts: parts().count(),
            part_bytes: parts().map(|part| part.record.bytes).sum(),
            flushed_bytes: store.flushed_bytes.load(Ordering::Relaxed),
            compacted_bytes: store.compacted_bytes.load(Ordering::Relaxed),
            flush_failing: store.stalled(),
            read_only: store.failure().cloned(),
        }
    }

    /// The directory that the database is in.
    pub fn path(&self) -> &Path {
        &self.inner.root
    }

    /// The clock and the randomness that the database was opened with.
    pub fn system(&self) -> &System {
        &self.inner.store.options.system
    }

    /// Flushes everything, stops the threads and lets go of the directory. Later calls answer [`Error::Closed`], except
    /// `close` itself and reading.
    ///
    /// # Errors
    /// What the flush answers; the directory is let go of all the same, and the log keeps what was not flushed.
    pub fn close(&self) -> Result<()> {
        if self.inner.tasks.lock().is_none() {
            return Ok(());
        }
        let flushed = self.inner.flush(None);
        self.inner.stop();
        let trimmed = flushed.and_then(|_| self.inner.store.save_catalog()).and_then(|()| self.inner.store.trim_log());
        self.inner.lock.lock().take();
        trimmed
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    spawn(name, work).map_err(Error::io("start thread", name))
}

fn on(store: &Arc<Store>, work: impl FnOnce(&Store) + Send + 'static) -> impl FnOnce() + Send + 'static {
    let store = Arc::clone(store);
    move || work(&store)
}

impl Inner {
    /// Hands a request to the log's thread and waits for its answer.
    fn request(&self, body: Body) -> Result<Answer> {
        self.ask(|reply| Task::Request(Request { body, reply }))
    }

    /// Does something between commits, on the log's thread.
    fn alone<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        // Nobody listens any more where the caller's thread died.
        self.ask(|reply| Task::Alone(Box::new(move || drop(reply.send(work())))))
    }

    fn ask<T>(&self, task: impl FnOnce(Sender<Result<T>>) -> Task) -> Result<T> {
        let tasks = self.tasks.lock().clone().ok_or(Error::Closed)?;
        let (reply, answer) = bounded(1);
        let gone = || self.store.check_writable().err().unwrap_or(Error::Closed);
        tasks.send(task(reply)).map_err(|_| gone())?;
        drop(tasks);
        answer.recv().map_err(|_| gone())?
    }

    /// Lets go of the parts of tables that are gone. Where the manifest cannot be written now, a later flush does it.
    fn forget_parts(&self) -> Result<()> {
        match self.store.save_catalog() {
            Err(error) if self.store.failure().is_none() => {
                tracing::warn!(error = error.chain(), "could not save the tables in the manifest; the log has them");
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// The numbers of the table with this name, or of all, where they may be written.
    fn tables(&self, name: Option<&str>) -> Result<Vec<u64>> {
        if self.tasks.lock().is_none() {
            return Err(Error::Closed);
        }
        self.store.check_writable()?;
        let state = self.store.state();
        match name {
            None => Ok(state.tables.values().map(|table| table.id).collect()),
            Some(name) => Ok(vec![state.table(name).ok_or_else(|| Error::UnknownTable { table: name.into() })?.id]),
        }
    }

    fn flush(&self, table: Option<&str>) -> Result<Vec<FlushReport>> {
        let mut reports = Vec::new();
        for id in self.tables(table)? {
            flush::freeze(&self.store, id);
            reports.extend(flush::flush(&self.store, id)?);
        }
        Ok(reports)
    }

    fn stop(&self) {
        self.tasks.lock().take();
        self.store.stopping.store(true, Ordering::Relaxed);
        self.store.announce_room();
        self.store.wake_flusher();
        self.store.wake_compactor();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the engine panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
