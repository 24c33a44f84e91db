//! The thread that owns the log: takes waiting requests together, writes them with one fsync, makes them visible.
//!
//! **Invariant:** nothing is visible or acknowledged before it is durable; checks against the table happen here, in the
//! order of the log.

pub(crate) mod step;

use std::sync::Arc;

use self::step::Step;
use crate::definition::Definition;
use crate::log::record::Kind;
use crate::log::writer::{EntryRef, LogWriter};
use crate::manifest::TableRecord;
use crate::memtable::{Run, choose_merge};
use crate::state::{Change, State, TableState};
use crate::store::{Store, Watch};
use crate::system::sync::{Receiver, Sender};
use crate::tail::Failure;
use crate::{Alteration, Error, Result, TableSchema};

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
    pub(crate) reply: Sender<Result<Answer>>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is durable and visible as the commit with this number.
    Done(u64),
    /// Nothing: the writes were prepared for a table that is defined otherwise by now.
    Stale,
}

pub(crate) enum Body {
    /// What was checked against the state of commit `since`.
    Steps {
        steps: Vec<Step>,
        since: u64,
    },
    Create(TableSchema),
    Drop(String),
    Truncate(String),
    Alter(String, Alteration),
    /// End the log's segment.
    Rotate,
}

/// A prepared write to one table.
pub(crate) struct RowsWrite {
    pub(crate) table: String,
    pub(crate) id: u64,
    /// What it was prepared for.
    pub(crate) definition: Arc<Definition>,
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
    reply: Sender<Result<Answer>>,
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
                Ok(Some((entries, changes))) => {
                    planned.push(Planned { sequence: state.sequence, entries, changes, reply });
                }
                Ok(None) => refused.push((reply, Ok(Answer::Stale))),
                Err(error) => refused.push((reply, Err(error))),
            }
        }
        if let Err(failure) = self.write(&planned) {
            let error = self.store.settle(failure);
            let failed = || self.store.check_writable().err().unwrap_or(error.again());
            planned.iter().for_each(|p| answer(&p.reply, Err(failed())));
            for (reply, result) in refused {
                // What it lost to may be of this group, and is nowhere now.
                answer(&reply, result.map_err(|_| failed()));
            }
            return;
        }
        let touched = self.publish(&mut planned);
        planned.iter().for_each(|p| answer(&p.reply, Ok(Answer::Done(p.sequence))));
        refused.into_iter().for_each(|(reply, result)| answer(&reply, result));
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
                        Change::Rows { table, id, run } => {
                            if let Some(table) = state.table(table).filter(|table| table.id == *id) {
                                self.store.followers.hand(&table.definition, run);
                            }
                            if !touched.contains(id) {
                                touched.push(*id);
                            }
                        }
                        Change::Drop { table } | Change::Truncate { table } => {
                            dropped.extend(state.table(table).cloned())
                        }
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
            Self::Steps { steps, .. } => steps.iter().map(Step::bytes).sum(),
            _ => 0,
        }
    }
}

fn answer(reply: &Sender<Result<Answer>>, result: Result<Answer>) {
    // Nobody listens any more where the caller's thread died.
    let _ = reply.send(result);
}

type Plan = (Vec<(Kind, u64, Vec<u8>)>, Vec<Change>);

/// Checks a request against a state and applies it there; a refused one leaves the state as it was, and so does one that
/// is stale, of which there is no plan.
fn plan(state: &mut State, body: Body) -> Result<Option<Plan>> {
    let id = |table: &String| Ok(state.table(table).ok_or_else(|| Error::UnknownTable { table: table.clone() })?.id);
    match body {
        Body::Steps { steps, since } => return step::plan(state, steps, since),
        Body::Rotate => Ok(Plan::default()),
        Body::Create(schema) => plan_create(state, schema),
        Body::Drop(table) => id(&table).map(|id| plan_one(state, Kind::Drop, id, Vec::new(), Change::Drop { table })),
        Body::Truncate(table) => {
            id(&table).map(|id| plan_one(state, Kind::Truncate, id, Vec::new(), Change::Truncate { table }))
        }
        Body::Alter(table, alteration) => plan_alter(state, table, alteration),
    }
    .map(Some)
}

fn plan_one(state: &mut State, kind: Kind, id: u64, body: Vec<u8>, change: Change) -> Plan {
    let sequence = state.sequence + 1;
    state.apply(change.clone(), sequence);
    (vec![(kind, id, body)], vec![change])
}

fn plan_create(state: &mut State, schema: TableSchema) -> Result<Plan> {
    if state.table(&schema.name).is_some() {
        return Err(Error::TableExists { table: schema.name });
    }
    let id = state.sequence + 1;
    let definition = Arc::new(Definition::new(Arc::new(schema)));
    let body = record(id, &definition);
    Ok(plan_one(state, Kind::Create, id, body, Change::Create { id, definition }))
}

fn plan_alter(state: &mut State, table: String, alteration: Alteration) -> Result<Plan> {
    let found = state.table(&table).ok_or_else(|| Error::UnknownTable { table: table.clone() })?;
    if let Alteration::AddRollup(rollup) = &alteration {
        check_rollup_name(state, &rollup.name)?;
    }
    let definition = found.definition.altered(alteration, state.sequence + 1)?;
    if definition == *found.definition {
        return Ok(Plan::default());
    }
    let name = &definition.table.name;
    if *name != table && state.table(name).is_some() {
        return Err(Error::TableExists { table: name.clone() });
    }
    let (id, definition) = (found.id, Arc::new(definition));
    let body = record(id, &definition);
    // So that a juno that does not know rollups refuses the log instead of losing them.
    let kind = if definition.rollups.is_empty() { Kind::Alter } else { Kind::Define };
    Ok(plan_one(state, kind, id, body, Change::Alter { table, definition }))
}

fn check_rollup_name(state: &State, name: &str) -> Result<()> {
    let taken = |table: &&Arc<TableState>| table.definition.rollups.values().any(|rollup| rollup.name == name);
    match state.tables.values().find(taken) {
        Some(table) => {
            let reason = format!("a rollup \"{name}\" exists already");
            Err(Error::InvalidSchema { table: table.schema.name.clone(), reason })
        }
        None => Ok(()),
    }
}

fn record(id: u64, definition: &Definition) -> Vec<u8> {
    serde_json::to_vec(&TableRecord::new(id, definition)).expect("a table has only strings and numbers")
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
