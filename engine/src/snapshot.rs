//! The database at one moment, and how it is scanned.
//!
//! **Invariant:** never changes; what it reads stays on the disk until the last snapshot lets go.

mod blocks;
mod find;
mod slice;

use std::sync::Arc;

pub use self::blocks::BlockSpan;
pub use self::slice::{Slice, SliceReader};
use crate::memtable::Run;
use crate::part::Part;
use crate::retention::kept;
use crate::state::{State, TableState};
use crate::{Catalog, Error, Result, ScanRequest, TableSchema, TimeRange, window};

/// All tables at one moment; cheap to make and to clone.
#[derive(Clone)]
pub struct Snapshot {
    state: Arc<State>,
    tables: Arc<[TableSnapshot]>,
}

impl Snapshot {
    pub(crate) fn new(state: Arc<State>) -> Self {
        let tables = state.tables.values().map(|table| TableSnapshot { state: Arc::clone(table) }).collect();
        Self { state, tables }
    }

    /// The table with this name, as it was.
    pub fn table(&self, name: &str) -> Option<&TableSnapshot> {
        let found = self.tables.binary_search_by(|table| table.schema().name.as_str().cmp(name)).ok()?;
        Some(&self.tables[found])
    }

    /// The tables that there were.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.state.catalog
    }

    /// The newest commit that the snapshot sees.
    pub fn sequence(&self) -> u64 {
        self.state.sequence
    }
}

/// One table at one moment; cheap to clone.
#[derive(Clone)]
pub struct TableSnapshot {
    state: Arc<TableState>,
}

impl TableSnapshot {
    /// The table's definition.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.state.definition.table
    }

    /// Rows, versions of one key counted apart: at least as many as a scan gives.
    pub fn rows_estimate(&self) -> u64 {
        let runs: u64 = self.state.runs().map(|run| run.rows() as u64).sum();
        runs + self.state.parts.iter().map(|part| part.record.rows).sum::<u64>()
    }

    /// Parts on the disk.
    pub fn parts(&self) -> usize {
        self.state.parts.len()
    }

    /// Cuts a scan into slices that share no key and can be read in any order, at once.
    ///
    /// Each slice gives its rows sorted by key. Filters only prune: the caller filters again.
    ///
    /// # Errors
    /// A column that the table does not have, and what reading the parts' footers may answer.
    pub fn scan(&self, request: &ScanRequest) -> Result<Vec<Slice>> {
        let schema = &self.state.schema;
        self.check_projection(request)?;
        let time = schema.time().map_or(TimeRange::ALL, |_| request.time.intersect(kept(&self.state)));
        if time.from > time.to {
            return Ok(Vec::new());
        }
        let request = &ScanRequest { time, ..request.clone() };
        let mut parts = Vec::new();
        for part in self.state.parts.iter().filter(|part| part.record.time.is_none_or(|(a, b)| time.overlaps(a, b))) {
            let plan = part.plan(schema, request)?;
            if !plan.row_groups.is_empty() {
                parts.push((Arc::clone(part), plan));
            }
        }
        let windows: Vec<_> = parts.iter().map(|(part, _)| part.record.span()).collect();
        let groups = window::groups(&windows);
        let gaps = window::gaps(groups.iter().map(|(span, _)| *span)).into_iter().map(|gap| (gap, Vec::new()));
        let mut spans: Vec<(TimeRange, Vec<usize>)> = groups.into_iter().chain(gaps).collect();
        spans.sort_by_key(|(span, _)| span.from);
        let shared = Arc::new(slice::Shared::new(&self.state.definition, request, kept(&self.state)));
        let slices = spans.into_iter().filter_map(|(span, mut members)| {
            // Oldest first, as parts are listed.
            members.sort_unstable();
            let runs = self.runs_within(span.intersect(time));
            let parts: Vec<_> = members.into_iter().map(|member| parts[member].clone()).collect();
            let empty = runs.is_empty() && parts.is_empty();
            (!empty).then(|| Slice::new(Arc::clone(&shared), span.intersect(time), parts, runs))
        });
        Ok(slices.collect())
    }

    pub(crate) fn state(&self) -> &TableState {
        &self.state
    }

    pub(crate) fn check_projection(&self, request: &ScanRequest) -> Result<()> {
        let schema = &self.state.schema;
        match request.projection.iter().find(|&&index| index >= schema.columns.len()) {
            Some(index) => Err(Error::UnknownColumn { table: schema.name.clone(), column: format!("#{index}") }),
            None => Ok(()),
        }
    }

    fn runs_within(&self, range: TimeRange) -> Vec<Arc<Run>> {
        if range.from >= range.to {
            return Vec::new();
        }
        let touches = |run: &&Arc<Run>| run.rows() > 0 && run.time.is_none_or(|(min, max)| range.overlaps(min, max));
        self.state.runs().filter(touches).cloned().collect()
    }
}

/// A part and what is read of it.
pub(crate) type PlannedPart = (Arc<Part>, crate::part::ReadPlan);
