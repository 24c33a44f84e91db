//! The newest row of each series.
//!
//! Windows of time are gone through from the newest to the oldest; one whose parts have no series but those found already
//! is left out. Within a window, the last row of each series comes from every source: from a part's block aggregates, from
//! a run by galloping. Those of one series are merged as a scan would merge them, and the newest is it, unless it is a
//! deleted one: then the window is scanned.
//!
//! **Invariant:** gives what a scan would, of each series the row with the latest time; each series once.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::key::KeyView;
use crate::mark::Marks;
use crate::memtable::{Run, key_columns};
use crate::merge::project;
use crate::part::Part;
use crate::part::aggregate::{Blocks, Measure};
use crate::retention::kept;
use crate::state::TableState;
use crate::{Result, ScanRequest, TableSchema, TableSnapshot, TimeRange, window};

impl TableSnapshot {
    /// Of each series the row with the latest time in the range, sorted by the tags. Tags are no more than a hint, as in
    /// [`Self::scan`]; the times are not.
    ///
    /// # Errors
    /// A column that the table does not have, and what reading parts may answer.
    pub fn latest(&self, request: &ScanRequest) -> Result<RecordBatch> {
        self.check_projection(request)?;
        let definition = &self.state().definition;
        let table = &definition.stored;
        let time = request.time.intersect(kept(self.state()));
        let search = Search { snapshot: self, table, request, time, wanted: wanted(table, request) };
        let mut found: Option<Run> = None;
        let mut known = None;
        for (span, parts, runs) in search.windows() {
            if let Some(newer) = &found
                && runs.is_empty()
                && search.has_all_series(newer, &parts, &mut known)?
            {
                continue;
            }
            let Some(older) = search.last_rows(span, &parts, &runs)? else { continue };
            found = Some(match found {
                None => older,
                Some(newer) => search.with_missing(newer, &older)?,
            });
        }
        let schema = fields(&definition.table, &request.projection);
        match found {
            None => Ok(RecordBatch::new_empty(schema)),
            Some(found) => renamed(project(&found.batch, &fields(table, &request.projection))?, &schema),
        }
    }
}

/// Columns of a table as a schema.
fn fields(table: &TableSchema, columns: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|&index| table.columns[index].field()).collect::<Vec<_>>()))
}

/// The same columns under other names.
fn renamed(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

/// The key columns, and then the others asked for.
fn wanted(table: &TableSchema, request: &ScanRequest) -> Vec<usize> {
    let mut wanted = table.key.clone();
    for &index in &request.projection {
        if !wanted.contains(&index) {
            wanted.push(index);
        }
    }
    wanted
}

/// A span of time, the parts in it and the runs that touch it, the oldest first.
type Window<'a> = (TimeRange, Vec<&'a Arc<Part>>, Vec<&'a Arc<Run>>);

struct Search<'a> {
    snapshot: &'a TableSnapshot,
    /// Under the stored names of columns.
    table: &'a Arc<TableSchema>,
    request: &'a ScanRequest,
    /// The times asked for, of rows that have not expired.
    time: TimeRange,
    wanted: Vec<usize>,
}

impl Search<'_> {
    fn state(&self) -> &TableState {
        self.snapshot.state()
    }

    /// Spans that share no key, the newest first.
    fn windows(&self) -> Vec<Window<'_>> {
        let time = self.time;
        let within = |part: &&Arc<Part>| part.record.time.is_none_or(|(min, max)| time.overlaps(min, max));
        let parts: Vec<_> = self.state().parts.iter().filter(within).collect();
        let groups = window::groups(&parts.iter().map(|part| part.record.span()).collect::<Vec<_>>());
        let gaps = window::gaps(groups.iter().map(|(span, _)| *span)).into_iter().map(|gap| (gap, Vec::new()));
        let mut spans: Vec<(TimeRange, Vec<usize>)> = groups.into_iter().chain(gaps).collect();
        spans.sort_by_key(|(span, _)| std::cmp::Reverse(span.from));
        let window = |(span, mut members): (TimeRange, Vec<usize>)| {
            members.sort_unstable();
            let range = span.intersect(time);
            let touches =
                |run: &&Arc<Run>| run.rows() > 0 && run.time.is_none_or(|(min, max)| range.overlaps(min, max));
            let runs: Vec<_> = self.state().runs().filter(touches).collect();
            let empty = range.from >= range.to || (runs.is_empty() && members.is_empty());
            (!empty).then(|| (range, members.into_iter().map(|member| parts[member]).collect(), runs))
        };
        spans.into_iter().filter_map(window).collect()
    }

    /// Whether every series of some parts is among rows that were found, as far as their blocks tell. `known` is of a part
    /// of which it was so.
    fn has_all_series(&self, found: &Run, parts: &[&Arc<Part>], known: &mut Option<Blocks>) -> Result<bool> {
        let tags = self.table.key.split_last().map_or(&[][..], |(_, tags)| tags);
        for part in parts {
            let Some(blocks) = self.blocks(part)?.next().transpose()? else { return Ok(false) };
            if known.as_ref().is_some_and(|known| known.has_series_of(&blocks)) {
                continue;
            }
            let names = tags.iter().map(|&tag| self.state().definition.table.columns[tag].name.as_str());
            let tags: Vec<ArrayRef> = names.map(|name| blocks.tag(name)).collect();
            if KeyView::new(&tags, blocks.series())?.series_not_in(&found.key).contains(&true) {
                return Ok(false);
            }
            *known = Some(blocks);
        }
        Ok(true)
    }

    /// The blocks of a part, the narrowest first.
    fn blocks(&self, part: &Arc<Part>) -> Result<impl Iterator<Item = Result<Blocks>>> {
        let definition = &self.state().definition;
        let widths = part.block_widths(definition)?;
        let of_width = |width_us| match part.blocks(definition, width_us) {
            Ok(blocks) => blocks.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        };
        Ok(widths.into_iter().flat_map(of_width))
    }

    /// The last row of each series in a window.
    fn last_rows(&self, span: TimeRange, parts: &[&Arc<Part>], runs: &[&Arc<Run>]) -> Result<Option<Run>> {
        let mut sources = Vec::with_capacity(parts.len() + runs.len());
        for part in parts {
            match self.last_of_part(span, part)? {
                Some(rows) => sources.push(Arc::new(rows)),
                None => return self.scanned(span),
            }
        }
        for run in runs {
            sources.push(Arc::new(self.last_of_run(span, run)?));
        }
        sources.retain(|rows| rows.rows() > 0);
        let merged = match sources.as_slice() {
            [] => return Ok(None),
            [one] => Run::clone(one),
            _ => Run::merged(self.table, &sources)?,
        };
        // The merge keeps deleted rows, so that one that is the last of its series is still there.
        let last = self.last_of_run(TimeRange::ALL, &merged)?;
        if last.marks.deleted.is_some() {
            return self.scanned(span);
        }
        Ok(Some(last))
    }

    /// The last rows of a part, from its blocks; none where they cannot tell.
    fn last_of_part(&self, span: TimeRange, part: &Arc<Part>) -> Result<Option<Run>> {
        if !part.record.time.is_some_and(|(_, max)| span.contains(max) || max < span.from) {
            return Ok(None);
        }
        let batches = self.blocks(part)?.map(|blocks| self.last_blocks(&blocks?));
        let Some(batch) = batches.filter_map(Result::transpose).next().transpose()? else { return Ok(None) };
        let key = KeyView::new(&key_columns(self.table, &batch), batch.num_rows())?;
        self.picked(&batch, &Marks::default(), &key, span).map(Some)
    }

    /// The last row of each series of some blocks; none where they lack a column.
    fn last_blocks(&self, blocks: &Blocks) -> Result<Option<RecordBatch>> {
        let known = &self.state().definition.table;
        let last = blocks.last_of_series();
        let mut columns: Vec<(&str, ArrayRef)> = Vec::with_capacity(self.wanted.len());
        for &index in &self.wanted {
            let (column, name) = (&self.table.columns[index], &known.columns[index].name);
            let values = if self.table.tags().contains(&index) {
                blocks.tag(name)
            } else if self.table.time() == Some(index) {
                let times = last.last_times()?;
                let times = times.reinterpret_cast::<arrow::datatypes::TimestampMicrosecondType>();
                Arc::new(times.with_data_type(column.data_type.clone()))
            } else {
                let Some(values) = last.measure(name, &column.data_type, Measure::Last)? else { return Ok(None) };
                values
            };
            columns.push((&column.name, values));
        }
        let columns = columns.into_iter().map(|(name, values)| (name, values, true));
        Ok(Some(RecordBatch::try_from_iter_with_nullable(columns)?))
    }

    fn last_of_run(&self, span: TimeRange, run: &Run) -> Result<Run> {
        let rows = self.picked(&run.batch, &run.marks, &run.key, span)?;
        Ok(Run { first_sequence: run.first_sequence, sequence: run.sequence, ..rows })
    }

    /// Of each series the last row within a span of time; columns that are not wanted go.
    fn picked(&self, batch: &RecordBatch, marks: &Marks, key: &KeyView, span: TimeRange) -> Result<Run> {
        let names = self.wanted.iter().map(|&index| self.table.columns[index].name.as_str());
        let columns: Vec<usize> = names.filter_map(|name| batch.schema_ref().index_of(name).ok()).collect();
        let picked: UInt32Array = key.last_of_series(span).into();
        let rows = take_record_batch(&batch.project(&columns)?, &picked)?;
        let taken = |marks: &Option<BooleanArray>| -> Result<Option<BooleanArray>> {
            let taken = marks.as_ref().map(|marks| take(marks, &picked, None)).transpose()?;
            Ok(taken.map(|taken| arrow::array::AsArray::as_boolean(&taken).clone()))
        };
        Run::new(self.table, rows, Marks::new(taken(&marks.deleted)?, taken(&marks.whole)?))
    }

    /// The last row of each series in a span of time, by reading all rows there.
    fn scanned(&self, span: TimeRange) -> Result<Option<Run>> {
        let request = ScanRequest { projection: self.wanted.clone(), time: span, ..self.request.clone() };
        let mut last: Vec<RecordBatch> = Vec::new();
        let mut slices = self.snapshot.scan(&request)?;
        slices.reverse();
        let mut found: Option<Run> = None;
        for slice in slices {
            let schema = fields(self.table, &self.wanted);
            for batch in slice.read()? {
                let run = Run::new(self.table, renamed(batch?, &schema)?, Marks::default())?;
                last.push(self.last_of_run(span, &run)?.batch);
            }
            let rows = concat_batches(&schema, &std::mem::take(&mut last))?;
            let rows = self.last_of_run(span, &Run::new(self.table, rows, Marks::default())?)?;
            found = Some(match found {
                None => rows,
                Some(newer) => self.with_missing(newer, &rows)?,
            });
        }
        Ok(found.filter(|found| found.rows() > 0))
    }

    /// The newer rows, and those older ones whose series has none among them.
    fn with_missing(&self, newer: Run, older: &Run) -> Result<Run> {
        let missing = older.key.series_not_in(&newer.key);
        if !missing.iter().any(|&missing| missing) {
            return Ok(newer);
        }
        let missing = BooleanArray::from(missing);
        let older = Run::new(self.table, filter_record_batch(&older.batch, &missing)?, Marks::default())?;
        let newer = Run::new(self.table, newer.batch, Marks::default())?;
        Run::merged(self.table, &[Arc::new(older), Arc::new(newer)])
    }
}
