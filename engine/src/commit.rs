//! The thread that owns the log: takes waiting requests together, writes them with one fsync, makes them visible.
//!
//! **Invariant:** nothing is visible or acknowledged before it is durable; checks against the table happen here, in the
//! order of the log.

use std::sync::Arc;

use crate::log::record::Kind;
use crate::log::writer::{EntryRef, LogWriter};
use crate::lookup::check_absent;
use crate::manifest::{ColumnRecord, TableRecord};
use crate::memtable::{Run, choose_merge};
use crate::schema::check_column;
use crate::state::{Change, State, TableState};
use crate::store::{Store, Watch};
use crate::system::sync::{Receiver, Sender};
use crate::tail::Failure;
use crate::{Column, Error, Result, TableSchema};

/// The most requests that share one fsync.
const GROUP_REQUESTS_MAX: usize = 256;
/// Bytes of a group after which no more requests are taken in.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// What the log's thread is handed.
pub(crate) enum Task {
    Request(Request),
    /// Something to be done between commits.
    Alone(Box<dyn FnOnce() + Send>),
}

/// Something to be done in the order of the log.
pub(crate) struct Request {
    pub(crate) body: Body,
    /// Told the sequence number once it is durable and visible.
    pub(crate) reply: Sender<Result<u64>>,
}

pub(crate) enum Body {
    /// Writes that were checked against the state of commit `since`.
    Rows {
        writes: Vec<RowsWrite>,
        since: u64,
    },
    Create(TableSchema),
    Drop(String),
    Widen(String, Vec<Column>),
    /// End the log's segment.
    Rotate,
}

/// A prepared write to one table.
pub(crate) struct RowsWrite {
    pub(crate) table: String,
    pub(crate) id: u64,
    pub(crate) run: Arc<Run>,
    pub(crate) absent: Option<Run>,
    /// The run as in the log.
    pub(crate) encoded: Vec<u8>,
}

/// A request that was checked: what goes into the log and what it changes.
struct Planned {
    sequence: u64,
    entries: Vec<(Kind, u64, Vec<u8>)>,
    changes: Vec<Change>,
    reply: Sender<Result<u64>>,
}

/// The end of the log and those who write to it.
pub(crate) struct Committer {
    pub(crate) store: Arc<Store>,
    pub(crate) log: LogWriter,
}

impl Committer {
    /// Does tasks until all senders are gone.
    pub(crate) fn work(mut self, tasks: &Receiver<Task>) {
        let store = Arc::clone(&self.store);
        let _watch = Watch(&store);
        while let Ok(first) = tasks.recv() {
            let mut next = Some(first);
            let (mut group, mut bytes) = (Vec::new(), 0);
            while let Some(Task::Request(request)) = next {
                bytes += request.body.bytes();
                group.push(request);
                let full = group.len() == GROUP_REQUESTS_MAX || bytes >= GROUP_BYTES_MAX;
                next = if full { None } else { tasks.try_recv().ok() };
            }
            if !group.is_empty() {
                self.commit(group);
            }
            if let Some(Task::Alone(work)) = next {
                work();
            }
        }
    }

    fn commit(&mut self, group: Vec<Request>) {
        let mut state = State::clone(&self.store.state());
        let mut planned = Vec::with_capacity(group.len());
        // Answered last: what a request lost to may be of the same group, and must be visible when the loser looks for it.
        let mut refused = Vec::new();
        for Request { body, reply } in group {
            if matches!(body, Body::Rotate) {
                self.log.rotate();
            }
            let plan = self.store.check_writable().and_then(|()| plan(&mut state, body));
            match plan {
                Ok((entries, changes)) => planned.push(Planned { sequence: state.sequence, entries, changes, reply }),
                Err(error) => refused.push((reply, error)),
            }
        }
        if let Err(failure) = self.write(&planned) {
            let error = self.store.settle(failure);
            planned
                .iter()
                .for_each(|p| answer(&p.reply, Err(self.store.check_writable().err().unwrap_or(error.again()))));
            refused.into_iter().for_each(|(reply, error)| answer(&reply, Err(error)));
            return;
        }
        let touched = self.publish(&mut planned);
        planned.iter().for_each(|p| answer(&p.reply, Ok(p.sequence)));
        refused.into_iter().for_each(|(reply, error)| answer(&reply, Err(error)));
        touched.iter().for_each(|&id| merge_small_runs(&self.store, id));
    }

    fn write(&mut self, planned: &[Planned]) -> Result<(), Failure> {
        let entries = planned.iter().flat_map(|p| p.entries.iter().map(|entry| (p.sequence, entry)));
        let entries: Vec<_> = entries
            .map(|(sequence, (kind, table, body))| EntryRef { kind: *kind, sequence, table: *table, body })
            .collect();
        self.log.append(&entries)
    }

    /// Makes a group visible at once; answers the tables that got rows.
    fn publish(&self, planned: &mut [Planned]) -> Vec<u64> {
        let mut touched = Vec::new();
        let mut dropped = Vec::new();
        let frozen = self.store.edit(|state| {
            for planned in planned {
                for change in planned.changes.drain(..) {
                    match &change {
                        Change::Rows { id, .. } if !touched.contains(id) => touched.push(*id),
                        Change::Drop { table } => dropped.extend(state.table(table).cloned()),
                        _ => {}
                    }
                    state.apply(change, planned.sequence);
                }
            }
            state.freeze_over(self.store.options.memtable_bytes_max)
        });
        self.store.remember_dropped(dropped);
        if frozen || self.store.log_bytes() > self.store.options.log_bytes_max {
            self.store.wake_flusher();
        }
        touched
    }
}

impl Body {
    fn bytes(&self) -> usize {
        match self {
            Self::Rows { writes, .. } => writes.iter().map(|write| write.encoded.len()).sum(),
            _ => 0,
        }
    }
}

fn answer(reply: &Sender<Result<u64>>, result: Result<u64>) {
    // Nobody listens any more where the caller's thread died.
    let _ = reply.send(result);
}

type Plan = (Vec<(Kind, u64, Vec<u8>)>, Vec<Change>);

/// Checks a request against a state and applies it there; a refused one leaves the state as it was.
fn plan(state: &mut State, body: Body) -> Result<Plan> {
    match body {
        Body::Rotate => Ok(Plan::default()),
        Body::Rows { writes, since } => plan_rows(state, writes, since),
        Body::Create(schema) => plan_create(state, schema),
        Body::Drop(table) => {
            let id = state.table(&table).ok_or_else(|| Error::UnknownTable { table: table.clone() })?.id;
            Ok(plan_one(state, Kind::Drop, id, Vec::new(), Change::Drop { table }))
        }
        Body::Widen(table, columns) => plan_widen(state, table, columns),
    }
}

fn plan_one(state: &mut State, kind: Kind, id: u64, body: Vec<u8>, change: Change) -> Plan {
    let sequence = state.sequence + 1;
    state.apply(change.clone(), sequence);
    (vec![(kind, id, body)], vec![change])
}

fn plan_rows(state: &mut State, writes: Vec<RowsWrite>, since: u64) -> Result<Plan> {
    for write in &writes {
        table_of(state, write)?;
    }
    let sequence = state.sequence + 1;
    let mut after = state.clone();
    let mut plan = Plan::default();
    for write in writes {
        if let Some(absent) = &write.absent {
            check_absent(table_of(&after, &write)?, absent, since)?;
        }
        let run = Arc::new(Run::clone(&write.run).at(sequence));
        let change = Change::Rows { table: write.table, id: write.id, run };
        after.apply(change.clone(), sequence);
        plan.0.push((Kind::Rows, write.id, write.encoded));
        plan.1.push(change);
    }
    *state = after;
    Ok(plan)
}

/// The table that a write was prepared for, unless it was dropped since.
fn table_of<'a>(state: &'a State, write: &RowsWrite) -> Result<&'a TableState> {
    let table = state.table(&write.table).filter(|table| table.id == write.id);
    table.map(AsRef::as_ref).ok_or_else(|| Error::UnknownTable { table: write.table.clone() })
}

fn plan_create(state: &mut State, schema: TableSchema) -> Result<Plan> {
    if state.table(&schema.name).is_some() {
        return Err(Error::TableExists { table: schema.name });
    }
    let id = state.sequence + 1;
    let body = serde_json::to_vec(&TableRecord::new(id, &schema)).expect("a table has only strings and numbers");
    Ok(plan_one(state, Kind::Create, id, body, Change::Create { id, schema: Arc::new(schema) }))
}

fn plan_widen(state: &mut State, table: String, columns: Vec<Column>) -> Result<Plan> {
    let found = state.table(&table).ok_or_else(|| Error::UnknownTable { table: table.clone() })?;
    let fresh = new_columns(&found.schema, columns)?;
    if fresh.is_empty() {
        return Ok(Plan::default());
    }
    let records: Vec<_> = fresh.iter().map(ColumnRecord::new).collect();
    let body = serde_json::to_vec(&records).expect("columns have only strings and numbers");
    let id = found.id;
    Ok(plan_one(state, Kind::Widen, id, body, Change::Widen { table, columns: fresh }))
}

/// Those of the columns that a table lacks, checked.
fn new_columns(schema: &TableSchema, columns: Vec<Column>) -> Result<Vec<Column>> {
    let mut wide = schema.clone();
    for column in columns {
        check_column(&schema.name, &column)?;
        if let Some(index) = wide.column(&column.name) {
            let expected = wide.columns[index].data_type.clone();
            if expected != column.data_type {
                let (table, found) = (schema.name.clone(), column.data_type);
                return Err(Error::ColumnType { table, column: column.name, expected, found });
            }
            continue;
        }
        if !column.nullable {
            let reason = format!("new column \"{}\" must be nullable, since rows exist without it", column.name);
            return Err(Error::InvalidSchema { table: schema.name.clone(), reason });
        }
        wide.columns.push(column);
    }
    wide.validate()?;
    Ok(wide.columns.split_off(schema.columns.len()))
}

/// Merges small runs of a table until they are few.
fn merge_small_runs(store: &Store, id: u64) {
    loop {
        let state = store.state();
        let Some(table) = state.table_by_id(id) else { return };
        let rows: Vec<_> = table.active.iter().map(|run| run.rows()).collect();
        let Some(range) = choose_merge(&rows) else { return };
        let runs = &table.active[range.clone()];
        let merged = match Run::merged(&table.schema, runs) {
            Ok(run) => Arc::new(run),
            Err(error) => {
                tracing::error!(error = error.chain(), table = table.schema.name, "could not merge runs in memory");
                return;
            }
        };
        store.edit(|state| {
            let Some(table) = state.table_mut(&table.schema.name).filter(|table| table.id == id) else { return };
            // A flush may have frozen them meanwhile; then they stay as they are.
            let same =
                table.active.get(range.clone()).is_some_and(|now| now.iter().zip(runs).all(|(a, b)| Arc::ptr_eq(a, b)));
            if same {
                table.active.splice(range, [merged]);
            }
        });
    }
}
