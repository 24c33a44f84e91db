//! Merges parts into new ones, a window at a time.
//!
//! **Invariant:** streams: a batch of each part and a row group of the new one are in memory, whatever the parts hold.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::choose::Plan;
use crate::build::{self, Layout, Made};
use crate::definition::Definition;
use crate::merge::{PartSource, Sorted, Source, project};
use crate::part::{Part, PartReader, Profile, ReadPlan};
use crate::retention::kept;
use crate::schema::WHOLE;
use crate::state::TableState;
use crate::store::Store;
use crate::{Result, ScanRequest, TableSchema, TimeRange};

/// Row groups of a part that the sample is taken from.
const SAMPLE_GROUPS: usize = 4;

/// Rows that become one part.
pub(crate) struct Rows<'a> {
    /// The oldest first.
    pub(crate) parts: &'a [Arc<Part>],
    /// The window that the new part is cut to.
    pub(crate) window: TimeRange,
    /// The times of rows that have not expired.
    pub(crate) seen: TimeRange,
    /// Whether older parts lie below, so that marks must stay.
    pub(crate) below: bool,
}

/// The parts that take the place of the plan's inputs; none is left where it fails.
pub(super) fn merge(store: &Store, table: &TableState, plan: &Plan) -> Result<Vec<Arc<Part>>> {
    let mut parts: Vec<Arc<Part>> = Vec::new();
    for &window in &plan.windows {
        match merge_window(store, table, plan, window) {
            Ok(part) => parts.extend(part),
            Err(error) => {
                parts.iter().for_each(|part| part.retire());
                return Err(error);
            }
        }
    }
    Ok(parts)
}

fn merge_window(store: &Store, table: &TableState, plan: &Plan, window: TimeRange) -> Result<Option<Arc<Part>>> {
    let within = table.parts.iter().filter(|part| part.record.span().shares(window));
    let (inputs, others): (Vec<_>, Vec<_>) =
        within.cloned().partition(|part| plan.inputs.contains(&part.record.number));
    let Some(newest) = inputs.last() else { return Ok(None) };
    let below = others.iter().any(|part| part.record.place() < newest.record.place());
    merge_parts(store, &table.definition, &Rows { parts: &inputs, window, seen: kept(table), below })
}

/// One part of several; none where no row is left.
pub(crate) fn merge_parts(store: &Store, definition: &Definition, rows: &Rows<'_>) -> Result<Option<Arc<Part>>> {
    let Some(newest) = rows.parts.last() else { return Ok(None) };
    let table = definition.stored.as_ref();
    let columns = rows.parts.iter().map(|part| part.columns()).collect::<Result<Vec<_>>>()?;
    let named = |name: &str| columns.iter().any(|columns| columns.index_of(name).is_ok());
    let deletes = rows.parts.iter().any(|part| part.record.deletes);
    let wholes = table.merges_fields() && (deletes || named(WHOLE));
    let layout = Layout::new(table, named, rows.below && deletes, rows.below && wholes);
    let range = rows.window.intersect(rows.seen);
    let sources = rows.parts.iter().map(|part| source(table, &layout, part, range)).collect::<Result<_>>()?;
    let mut profile = Profile::new(table, &layout.schema);
    rows.parts.iter().try_for_each(|part| profile.add_part(part))?;
    let largest = rows.parts.iter().max_by_key(|part| part.record.rows).unwrap_or(newest);
    let sample = sample(table, &layout.columns.schema, largest)?;
    let (sequence, age) = newest.record.place();
    let made = Made { window: rows.window, sequence, age: Some(age) };
    build::write(store, definition, &layout, sources, (&profile, &sample), made)
}

/// The rows of a part in a range of times.
fn source(table: &TableSchema, layout: &Layout, part: &Arc<Part>, range: TimeRange) -> Result<Source> {
    let plan = part.plan(table, &ScanRequest { time: range, ..ScanRequest::default() })?;
    let rows = PartSource::new(&layout.columns, part, &plan)?;
    if part.record.time.is_none_or(|(min, max)| range.covers(min, max)) {
        return Ok(Box::new(rows));
    }
    let columns = Arc::clone(&layout.columns);
    Ok(Box::new(rows.map(move |rows: Result<Sorted>| columns.within(rows?, range))))
}

/// A batch from each of a few row groups.
fn sample(table: &TableSchema, columns: &SchemaRef, part: &Arc<Part>) -> Result<RecordBatch> {
    let plan = part.plan(table, &ScanRequest::default())?;
    let mut batches = Vec::new();
    for &group in plan.row_groups.iter().step_by(plan.row_groups.len().div_ceil(SAMPLE_GROUPS).max(1)) {
        let one = ReadPlan { row_groups: vec![group], selection: None, ..plan.clone() };
        let names = columns.fields().iter().map(|field| field.name().as_str());
        if let Some(batch) = PartReader::new(part, names, &one)?.next() {
            batches.push(project(&batch?, columns)?);
        }
    }
    Ok(concat_batches(columns, &batches)?)
}
