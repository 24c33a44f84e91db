//! The steps of a commit: writes to tables, and changes to which tables there are, in the order in which they were asked for.
//!
//! A step was made for a table as it was then. A table that the same commit creates has a number that counts only until the
//! commit has its own.
//!
//! **Invariant:** pure: a state and steps in, the state after them and what goes into the log out; all steps, or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Plan, RowsWrite, record};
use crate::definition::Definition;
use crate::log::record::Kind;
use crate::lookup::check_absent;
use crate::memtable::Run;
use crate::state::{Change, State, TableState};
use crate::{Error, Result};

/// Numbers from here on are of tables that are not committed.
const UNCOMMITTED: u64 = 1 << 63;
/// How far the numbers of tables that one commit creates lie apart.
const APART: u64 = 1 << 48;

/// One step.
pub(crate) enum Step {
    Rows(Box<RowsWrite>),
    Create { id: u64, definition: Arc<Definition> },
    Drop { id: u64, definition: Arc<Definition> },
    Alter { id: u64, before: Arc<Definition>, after: Arc<Definition> },
}

/// The number of the `count`-th table of a commit to be.
pub(crate) fn uncommitted(count: u64) -> u64 {
    UNCOMMITTED + count
}

impl Step {
    /// The name of its table.
    pub(crate) fn table(&self) -> &str {
        match self {
            Self::Rows(write) => &write.table,
            Self::Create { definition, .. } | Self::Drop { definition, .. } => &definition.table.name,
            Self::Alter { before, .. } => &before.table.name,
        }
    }

    /// Its bytes of rows in the log.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Rows(write) => write.encoded.len(),
            _ => 0,
        }
    }

    /// Whether it changes which tables there are.
    pub(crate) fn defines(&self) -> bool {
        !matches!(self, Self::Rows(_))
    }

    /// Shows a change of tables in a state, where that still has the table that it was made for.
    pub(crate) fn show(&self, state: &mut State) {
        let sequence = state.sequence;
        let table = || self.table().to_owned();
        match self {
            Self::Create { id, definition } if state.table(self.table()).is_none() => {
                state.apply(Change::Create { id: *id, definition: Arc::clone(definition) }, sequence);
            }
            Self::Drop { id, definition } if is_as(state.table(self.table()), *id, definition) => {
                state.apply(Change::Drop { table: table() }, sequence);
            }
            Self::Alter { id, before, after } if is_as(state.table(self.table()), *id, before) => {
                state.apply(Change::Alter { table: table(), definition: Arc::clone(after) }, sequence);
            }
            _ => {}
        }
    }
}

fn is_as(found: Option<&Arc<TableState>>, id: u64, definition: &Arc<Definition>) -> bool {
    found.is_some_and(|found| found.id == id && Arc::ptr_eq(&found.definition, definition))
}

/// The numbers that a commit gives to its tables.
struct Numbers {
    sequence: u64,
    given: BTreeMap<u64, u64>,
}

impl Numbers {
    fn give(&mut self, id: u64) -> u64 {
        let real = self.sequence + self.given.len() as u64 * APART;
        self.given.insert(id, real);
        real
    }

    fn of(&self, id: u64) -> u64 {
        self.given.get(&id).copied().unwrap_or(id)
    }
}

/// Checks steps against a state and applies them there; no plan where a table is defined otherwise by now.
pub(super) fn plan(state: &mut State, steps: Vec<Step>, since: u64) -> Result<Option<Plan>> {
    let sequence = state.sequence + 1;
    let mut numbers = Numbers { sequence, given: BTreeMap::new() };
    let mut after = state.clone();
    let mut plan = Plan::default();
    for step in steps {
        let found = after.table(step.table());
        if !matches!(step, Step::Create { .. }) && found.is_none() {
            return Err(Error::UnknownTable { table: step.table().to_owned() });
        }
        let (entry, change) = match step {
            Step::Rows(write) => {
                let write = *write;
                let id = numbers.of(write.id);
                let Some(table) = found.filter(|_| is_as(found, id, &write.definition)) else { return Ok(None) };
                if let Some(absent) = &write.absent {
                    check_absent(table, absent, since)?;
                }
                let run = Arc::new(Run::clone(&write.run).at(sequence));
                ((Kind::Rows, id, write.encoded), Change::Rows { table: write.table, id, run })
            }
            Step::Create { id, definition } => {
                if found.is_some() {
                    return Err(Error::TableExists { table: definition.table.name.clone() });
                }
                let id = numbers.give(id);
                if !definition.rollups.is_empty() {
                    plan.0.push((Kind::Create, id, record(id, &definition)));
                    // As for an alteration.
                    ((Kind::Define, id, record(id, &definition)), Change::Create { id, definition })
                } else {
                    ((Kind::Create, id, record(id, &definition)), Change::Create { id, definition })
                }
            }
            Step::Drop { id, definition } => {
                let id = numbers.of(id);
                if !is_as(found, id, &definition) {
                    return Ok(None);
                }
                ((Kind::Drop, id, Vec::new()), Change::Drop { table: definition.table.name.clone() })
            }
            Step::Alter { id, before, after: definition } => {
                let id = numbers.of(id);
                let (table, name) = (before.table.name.clone(), &definition.table.name);
                if !is_as(found, id, &before) {
                    return Ok(None);
                }
                if *name != table && after.table(name).is_some() {
                    return Err(Error::TableExists { table: name.clone() });
                }
                // So that a juno that does not know rollups refuses the log instead of losing them.
                let kind = if definition.rollups.is_empty() { Kind::Alter } else { Kind::Define };
                ((kind, id, record(id, &definition)), Change::Alter { table, definition })
            }
        };
        after.apply(change.clone(), sequence);
        plan.0.push(entry);
        plan.1.push(change);
    }
    *state = after;
    Ok(Some(plan))
}
