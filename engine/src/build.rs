//! Builds one part of sorted sources.
//!
//! **Invariant:** a part comes out whole and under its name, or no file is left.

use std::io::ErrorKind;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use crate::definition::Definition;
use crate::manifest::PartRecord;
use crate::mark::Marks;
use crate::merge::{Columns, Gather, Merge, Piece, Source, marks};
use crate::part::writer::{PartWriter, Written};
use crate::part::{Part, Profile, TEMPORARY, part_path};
use crate::schema::{DELETED, WHOLE};
use crate::store::Store;
use crate::system::sync::Ordering;
use crate::{Error, Result, TableSchema, TimeRange};

/// The columns of a part: those that any source names, in table order, and the marks behind them.
pub(crate) struct Layout {
    /// What the sources must give.
    pub(crate) columns: Arc<Columns>,
    gather: Gather,
    /// The part's columns.
    pub(crate) schema: SchemaRef,
    deletes: bool,
    wholes: bool,
}

impl Layout {
    /// A part with the columns that are `named`, and with marks of deleted keys and of whole rows where asked for.
    pub(crate) fn new(table: &TableSchema, named: impl Fn(&str) -> bool, deletes: bool, wholes: bool) -> Self {
        let there = |&index: &usize| table.key.contains(&index) || named(&table.columns[index].name);
        let wanted: Vec<usize> = (0..table.columns.len()).filter(there).collect();
        let columns = Columns::new(table, &wanted);
        let field = |&index: &usize| {
            let column = &table.columns[index];
            let nullable = column.nullable || (deletes && !table.key.contains(&index));
            Field::new(&column.name, column.data_type.clone(), nullable)
        };
        let mut fields: Vec<Field> = wanted.iter().map(field).collect();
        let position =
            |index: &usize| columns.indices.iter().position(|i| i == index).expect("wanted columns are carried");
        let positions = wanted.iter().map(position).collect();
        let gather = Gather::new(positions, Arc::new(Schema::new(fields.clone())));
        let hidden = [(DELETED, deletes), (WHOLE, wholes)].into_iter().filter(|(_, there)| *there);
        fields.extend(hidden.map(|(name, _)| Field::new(name, DataType::Boolean, false)));
        Self { columns: Arc::new(columns), gather, schema: Arc::new(Schema::new(fields)), deletes, wholes }
    }

    fn batch(&self, pieces: &[Piece]) -> Result<RecordBatch> {
        let batch = self.gather.batch(pieces)?;
        if !self.deletes && !self.wholes {
            return Ok(batch);
        }
        let none = || BooleanArray::from(vec![false; batch.num_rows()]);
        let Marks { deleted, whole } = marks(pieces);
        let mut columns = batch.columns().to_vec();
        for (_, marks) in [(self.deletes, deleted), (self.wholes, whole)].into_iter().filter(|(there, _)| *there) {
            columns.push(Arc::new(marks.unwrap_or_else(none)) as ArrayRef);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// What is known of a part before it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    /// All rows lie in it.
    pub(crate) window: TimeRange,
    /// The newest commit in it.
    pub(crate) sequence: u64,
    /// The number of the newest part that it is made of, where it is made of parts.
    pub(crate) age: Option<u64>,
}

/// Writes a part of sources given from the oldest to the newest, of whose rows a profile has seen each and a sample shows
/// some; none where no row is left.
pub(crate) fn write(
    store: &Store,
    definition: &Definition,
    layout: &Layout,
    sources: Vec<Source>,
    (profile, sample): (&Profile, &RecordBatch),
    Made { window, sequence, age }: Made,
) -> Result<Option<Arc<Part>>> {
    let table = definition.stored.as_ref();
    let number = store.next_part.fetch_add(1, Ordering::Relaxed);
    let merge = Merge::new(&layout.columns, sources, layout.deletes || layout.wholes);
    let begin = || PartWriter::new(store.disk().as_ref(), &store.parts_dir, number, definition, profile, sample);
    let rows = write_rows(store, table, layout, merge, begin).inspect_err(|_| discard(store, number))?;
    let Some(Rows { written, time }) = rows else { return Ok(None) };
    let record = PartRecord {
        number,
        rows: written.rows,
        bytes: written.bytes,
        deletes: layout.deletes,
        sequence,
        age,
        window: table.time().map(|_| (window.from, window.to)),
        time,
        checksums: written.checksums,
        rollups: definition.rollups.keys().copied().collect(),
    };
    Ok(Some(Arc::new(Part::new(Arc::clone(store.disk()), &store.parts_dir, record, Arc::clone(&store.footers)))))
}

/// What is in a file.
struct Rows {
    written: Written,
    /// The first and the last time; none for a keyed table.
    time: Option<(i64, i64)>,
}

/// Writes the file; none where no row is left.
fn write_rows<'a>(
    store: &Store,
    table: &TableSchema,
    layout: &Layout,
    mut merge: Merge,
    begin: impl FnOnce() -> Result<PartWriter<'a>>,
) -> Result<Option<Rows>> {
    let mut pieces = merge.next_pieces()?;
    if pieces.is_empty() {
        return Ok(None);
    }
    let mut writer = begin()?;
    let mut time: Option<(i64, i64)> = None;
    while !pieces.is_empty() {
        if store.stopping.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let batch = layout.batch(&pieces)?;
        if let Some((first, last)) = times(table, &batch) {
            time = Some(time.map_or((first, last), |(min, max)| (min.min(first), max.max(last))));
        }
        writer.write(&batch)?;
        pieces = merge.next_pieces()?;
    }
    Ok(Some(Rows { written: writer.finish()?, time }))
}

fn times(table: &TableSchema, batch: &RecordBatch) -> Option<(i64, i64)> {
    let times = batch.column_by_name(&table.columns[table.time()?].name)?.as_primitive::<TimestampMicrosecondType>();
    Some((arrow::compute::min(times)?, arrow::compute::max(times)?))
}

/// Removes what a failed write left of a part; what stays the next start removes.
fn discard(store: &Store, number: u64) {
    let path = part_path(&store.parts_dir, number);
    for path in [path.with_extension(TEMPORARY), path] {
        match store.disk().remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, file = %path.display(), "could not remove an unfinished part; the next start will");
            }
            _ => {}
        }
    }
}
