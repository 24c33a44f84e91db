//! What the threads of an open database share: the state in force, the manifest, the files.
//!
//! **Invariant:** states follow each other one at a time, under `edit`; after a failure that leaves open what is on the disk
//! nothing is written.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;

use crate::follow::{Follower, Followers};
use crate::log::writer::{Segments, trim};
use crate::manifest::{Edit, Manifest, TableRecord};
use crate::part::FooterCache;
use crate::state::{State, TableState};
use crate::system::Disk;
use crate::system::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering, RwLock, Sender};
use crate::tail::Failure;
use crate::{Error, Options, Result};

/// An open database without its threads.
pub(crate) struct Store {
    pub(crate) options: Options,
    pub(crate) log_dir: PathBuf,
    pub(crate) parts_dir: PathBuf,
    pub(crate) segments: Segments,
    pub(crate) footers: Arc<FooterCache>,
    pub(crate) next_part: AtomicU64,
    /// One removal of log segments at a time.
    trimming: Mutex<()>,
    /// One flush at a time, so that memtables of a table reach the manifest in their order.
    pub(crate) flushing: Mutex<()>,
    /// Set when the database closes.
    pub(crate) stopping: AtomicBool,
    state: RwLock<Arc<State>>,
    editing: Mutex<()>,
    manifest: Mutex<Manifest>,
    /// Tables that are gone but whose parts the manifest may still name.
    dropped: Mutex<Vec<Arc<TableState>>>,
    failure: OnceLock<String>,
    /// Why the last flush failed, until one succeeds.
    stalled: Mutex<Option<Error>>,
    room: (Mutex<()>, Condvar),
    wake_flusher: Sender<()>,
    wake_compactor: Sender<()>,
    /// One compaction at a time.
    pub(crate) compacting: Mutex<()>,
    /// Bytes of parts that flushes and compactions wrote since the database was opened.
    pub(crate) flushed_bytes: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) followers: Followers,
}

impl Store {
    pub(crate) fn new(
        options: Options,
        root: &std::path::Path,
        opened: (Manifest, State, Segments, u64),
        footers: Arc<FooterCache>,
        (wake_flusher, wake_compactor): (Sender<()>, Sender<()>),
    ) -> Self {
        let (manifest, state, segments, next_part) = opened;
        Self {
            options,
            log_dir: root.join("log"),
            parts_dir: root.join("parts"),
            segments,
            footers,
            next_part: AtomicU64::new(next_part),
            trimming: Mutex::default(),
            flushing: Mutex::default(),
            stopping: AtomicBool::new(false),
            state: RwLock::new(Arc::new(state)),
            editing: Mutex::default(),
            manifest: Mutex::new(manifest),
            dropped: Mutex::default(),
            failure: OnceLock::new(),
            stalled: Mutex::default(),
            room: Default::default(),
            wake_flusher,
            wake_compactor,
            compacting: Mutex::default(),
            flushed_bytes: AtomicU64::new(0),
            compacted_bytes: AtomicU64::new(0),
            followers: Followers::default(),
        }
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        self.options.system.disk()
    }

    /// The state in force.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read())
    }

    /// Puts a changed copy of the state in force. Readers are not held up while `change` runs.
    pub(crate) fn edit<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let _one_at_a_time = self.editing.lock();
        let mut next = State::clone(&self.state.read());
        let result = change(&mut next);
        *self.state.write() = Arc::new(next);
        result
    }

    /// Follows the table of a name. What was committed before is visible then, and all else is handed on.
    pub(crate) fn follow(&self, table: String, wake: Box<dyn Fn() + Send + Sync>) -> Follower {
        let _no_commit_meanwhile = self.editing.lock();
        self.followers.follow(table, wake)
    }

    /// The first failure to write, if there was one.
    pub(crate) fn failure(&self) -> Option<&String> {
        self.failure.get()
    }

    /// Fails where nothing may be written any more.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.failure() {
            Some(reason) => Err(Error::ReadOnly { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Makes the database read-only for the reason of an error.
    pub(crate) fn poison(&self, error: &Error) {
        self.poison_since(error.chain());
    }

    fn poison_since(&self, reason: String) {
        if self.failure.set(reason.clone()).is_ok() {
            tracing::error!(reason, "a write failed: the database is read-only until it is opened again");
        }
        self.announce_room();
    }

    /// The error of a failed write; makes the database read-only where nobody knows what the write left.
    pub(crate) fn settle(&self, failure: Failure) -> Error {
        match failure {
            Failure::Undone(error) => error,
            Failure::Unknown(error) => {
                self.poison(&error);
                error
            }
        }
    }

    /// Takes down how a flush ended: while they fail, nobody waits for room.
    pub(crate) fn flushed(&self, outcome: Result<(), &Error>) {
        let was = std::mem::replace(&mut *self.stalled.lock(), outcome.err().map(Error::again));
        match outcome {
            Ok(()) if was.is_some() => tracing::info!("flushes succeed again"),
            Ok(()) => {}
            Err(error) => {
                let error = error.chain();
                tracing::error!(error, "a flush failed: its rows stay in memory and in the log, and it is tried again");
            }
        }
        self.announce_room();
    }

    /// Why flushes fail, where they do.
    pub(crate) fn stalled(&self) -> Option<String> {
        self.stalled.lock().as_ref().map(Error::chain)
    }

    /// Whether a commit would wait for a flush now.
    pub(crate) fn is_full(&self) -> bool {
        let full = self.state().memory().frozen_bytes > self.options.frozen_bytes_max;
        full && self.failure().is_none() && self.stalled.lock().is_none()
    }

    /// Waits while too many frozen rows wait for their flush; fails where flushes fail.
    pub(crate) fn wait_for_room(&self) -> Result<()> {
        let full = || self.state().memory().frozen_bytes > self.options.frozen_bytes_max;
        if !full() {
            return Ok(());
        }
        let (lock, changed) = &self.room;
        let mut guard = lock.lock();
        while full() && self.failure().is_none() && !self.stopping.load(Ordering::Relaxed) {
            self.wake_flusher();
            if let Some(error) = self.stalled.lock().as_ref() {
                return Err(error.again());
            }
            changed.wait(&mut guard);
        }
        Ok(())
    }

    /// Tells those that wait in [`Self::wait_for_room`] to look again.
    pub(crate) fn announce_room(&self) {
        let _ordered = self.room.0.lock();
        self.room.1.notify_all();
    }

    pub(crate) fn wake_flusher(&self) {
        // Full means that it is awake already; gone means that the database closes.
        let _ = self.wake_flusher.try_send(());
    }

    pub(crate) fn wake_compactor(&self) {
        let _ = self.wake_compactor.try_send(());
    }

    /// Bytes in the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.segments.lock().iter().map(|segment| segment.bytes).sum()
    }

    /// Remembers tables that were dropped, until [`Self::save_catalog`].
    pub(crate) fn remember_dropped(&self, tables: Vec<Arc<TableState>>) {
        self.dropped.lock().extend(tables);
    }

    /// Writes all definitions to the manifest where it lacks the newest, and lets go of dropped tables' parts.
    pub(crate) fn save_catalog(&self) -> Result<()> {
        let mut manifest = self.manifest.lock();
        self.save_catalog_into(&mut manifest)
    }

    fn save_catalog_into(&self, manifest: &mut Manifest) -> Result<()> {
        let dropped = std::mem::take(&mut *self.dropped.lock());
        let state = self.state();
        if state.catalog_sequence > manifest.catalog_saved
            && let Err(error) = self.append(manifest, &catalog_edit(&state))
        {
            self.dropped.lock().extend(dropped);
            return Err(error);
        }
        dropped.iter().flat_map(|table| &table.parts).for_each(|part| part.retire());
        Ok(())
    }

    /// Writes a change to the parts of table `id` to the manifest and then calls `install`; answers false and does neither
    /// where the table is gone.
    pub(crate) fn save_parts(&self, id: u64, edit: &Edit, install: impl FnOnce()) -> Result<bool> {
        let mut manifest = self.manifest.lock();
        self.save_catalog_into(&mut manifest)?;
        // Afterwards: a table that is dropped between the two would be gone from the manifest that the edit speaks of.
        if self.state().table_by_id(id).is_none() {
            return Ok(false);
        }
        self.append(&mut manifest, edit)?;
        install();
        Ok(true)
    }

    fn append(&self, manifest: &mut Manifest, edit: &Edit) -> Result<()> {
        self.check_writable()?;
        manifest.append(edit).map_err(|failure| self.settle(failure))
    }

    /// Removes log segments that nobody needs.
    pub(crate) fn trim_log(&self) -> Result<()> {
        let _one_at_a_time = self.trimming.lock();
        let needed_from = {
            let manifest = self.manifest.lock();
            if !manifest.settled() {
                return Ok(());
            }
            self.state().log_needed_from(manifest.catalog_saved)
        };
        trim(self.disk().as_ref(), &self.log_dir, &self.segments, needed_from).map_err(|failure| self.settle(failure))
    }

    /// Does something while no edit of the manifest is written and no log segment removed.
    pub(crate) fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        let _no_segment_goes = self.trimming.lock();
        let _no_edit = self.manifest.lock();
        work()
    }
}

/// Held by a thread of the engine: where it panics, the database becomes read-only rather than waiting for it for ever.
pub(crate) struct Watch<'a>(pub(crate) &'a Store);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison_since("a thread of the engine panicked".into());
        }
    }
}

/// All definitions of a state, for the manifest.
pub(crate) fn catalog_edit(state: &State) -> Edit {
    let tables = state.tables.values().map(|table| TableRecord::new(table.id, &table.definition)).collect();
    Edit::catalog(state.catalog_sequence, tables)
}
