//! The database at one moment, and how it is scanned.
//!
//! **Invariant:** never changes; what it reads stays on the disk until the last snapshot lets go.

mod blocks;
mod find;
mod slice;

use std::sync::Arc;

pub use self::blocks::{BlockSpan, RollupStatus};
pub use self::slice::{Slice, SliceReader};
use crate::memtable::Run;
use crate::part::Part;
use crate::retention::kept;
use crate::state::{State, TableState};
use crate::{Catalog, Error, Result, ScanRequest, TableSchema, TimeRange, window};

/// Row groups of a part that are read by one slice, so that a large part is read by several at once.
const SLICE_ROW_GROUPS_MAX: usize = 2;

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

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
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

    /// Bytes of its parts, and of its rows in memory.
    pub fn bytes(&self) -> u64 {
        let parts: u64 = self.state.parts.iter().map(|part| part.record.bytes).sum();
        let frozen = self.state.frozen.iter().flat_map(|frozen| &frozen.runs);
        let runs = frozen.chain(&self.state.active);
        parts + runs.map(|run| run.bytes).sum::<u64>()
    }

    /// Parts on the disk.
    pub fn parts(&self) -> usize {
        self.state.parts.len()
    }

    /// Cuts a scan into slices that share no key and can be read in any order, at once.
    ///
    /// Each slice gives its rows sorted by key, exactly those that satisfy the filters.
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
        let runs: Vec<&Arc<Run>> = self.runs_within(time).collect();
        let extents: Vec<_> = parts.iter().map(|(part, _)| extent(part.record.time, part.record.span())).collect();
        let runs_extents: Vec<_> = runs.iter().map(|run| extent(run.time, TimeRange::ALL)).collect();
        let shared = Arc::new(slice::Shared::new(&self.state.definition, request, kept(&self.state)));
        let mut slices = Vec::new();
        for span in window::spans(&extents, &runs_extents) {
            let range = span.range.intersect(time);
            if range.from >= range.to {
                continue;
            }
            // Oldest first, as parts are listed, and runs in the order of their commits.
            let parts: Vec<_> = span.parts.into_iter().map(|part| parts[part].clone()).collect();
            let runs: Vec<_> = span.runs.into_iter().map(|run| Arc::clone(runs[run])).collect();
            let slice = |parts, runs| Slice::new(Arc::clone(&shared), range, parts, runs);
            match parts.as_slice() {
                [(part, plan)] if runs.is_empty() => {
                    let plans = plan.clone().divided(SLICE_ROW_GROUPS_MAX);
                    slices.extend(plans.into_iter().map(|plan| slice(vec![(Arc::clone(part), plan)], Vec::new())));
                }
                _ => slices.push(slice(parts, runs)),
            }
        }
        Ok(slices)
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

    fn runs_within(&self, range: TimeRange) -> impl Iterator<Item = &Arc<Run>> {
        let touches =
            move |run: &&Arc<Run>| run.rows() > 0 && run.time.is_none_or(|(min, max)| range.overlaps(min, max));
        self.state.runs().filter(touches)
    }
}

/// The times that rows lie in, as a half-open range; `otherwise` where that is not known.
fn extent(time: Option<(i64, i64)>, otherwise: TimeRange) -> TimeRange {
    time.map_or(otherwise, |(min, max)| TimeRange { from: min, to: max.saturating_add(1) })
}

/// A part and what is read of it.
pub(crate) type PlannedPart = (Arc<Part>, crate::part::ReadPlan);
