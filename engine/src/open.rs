//! Opens a directory: manifest, then log, then away with what neither names.
//!
//! **Invariant:** afterwards the state is that of the last durable commit, and no file is there that nobody knows.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::log::entry;
use crate::log::record::{Entry, Kind};
use crate::log::replay::{Replayed, replay};
use crate::log::writer::LogWriter;
use crate::manifest::{ColumnRecord, Contents, Manifest, TableRecord};
use crate::memtable::{Run, choose_merge};
use crate::part::{FooterCache, Part, part_number, part_path};
use crate::state::{Change, State, TableState};
use crate::store::{Store, catalog_edit};
use crate::system::Disk;
use crate::system::sync::{Mutex, Sender};
use crate::tail::Failure;
use crate::{Alteration, Catalog, Error, Options, Result};

/// Opens the files of a database whose lock is held.
pub(crate) fn open(root: &Path, options: Options, wake: (Sender<()>, Sender<()>)) -> Result<(Store, LogWriter)> {
    let disk = Arc::clone(options.system.disk());
    let (log_dir, parts_dir) = (root.join("log"), root.join("parts"));
    for dir in [&log_dir, &parts_dir] {
        disk.create_dir(dir).map_err(Error::io("create", dir))?;
    }
    let (mut manifest, contents) = Manifest::open(&disk, root)?;
    let (blocks, columns) = (options.block_cache_bytes_max, options.column_cache_bytes_max);
    let footers = Arc::new(FooterCache::new(options.footer_cache_bytes_max, blocks, columns));
    let mut state = restore(&disk, &parts_dir, &contents, &footers)?;
    let replayed = replay_log(disk.as_ref(), &log_dir, &mut state, manifest.catalog_saved)?;
    state.freeze_over(options.memtable_bytes_max);
    if state.catalog_sequence > manifest.catalog_saved {
        match manifest.append(&catalog_edit(&state)) {
            Ok(()) => {}
            // The log has the definitions; the first flush tries again.
            Err(Failure::Undone(error)) => {
                tracing::warn!(error = error.chain(), "could not save the tables in the manifest")
            }
            Err(Failure::Unknown(error)) => return Err(error),
        }
    }
    let next_part = clear_parts(disk.as_ref(), &parts_dir, &state, manifest.settled())?;
    let segments = Arc::new(Mutex::new(replayed.segments));
    let bytes_max = options.log_segment_bytes_max;
    let log = LogWriter::new(disk, log_dir, Arc::clone(&segments), replayed.next_number, bytes_max);
    let log = log.settling(replayed.unsettled);
    Ok((Store::new(options, root, (manifest, state, segments, next_part), footers, wake), log))
}

/// The state that the manifest describes.
fn restore(disk: &Arc<dyn Disk>, dir: &Path, contents: &Contents, footers: &Arc<FooterCache>) -> Result<State> {
    let mut state = State { catalog_sequence: contents.catalog_sequence, ..State::default() };
    let mut catalog = Catalog::default();
    state.sequence = contents.catalog_sequence;
    for table in &contents.tables {
        let definition = table.record.definition().ok_or_else(|| {
            let reason = "it was written by a newer juno; open it with that one".to_string();
            Error::InvalidSchema { table: table.record.name.clone(), reason }
        })?;
        let part = |record: &_| Arc::new(Part::new(Arc::clone(disk), dir, Clone::clone(record), Arc::clone(footers)));
        catalog.tables.insert(table.record.name.clone(), Arc::clone(&definition.table));
        let mut fresh = TableState::new(table.record.id, Arc::new(definition));
        fresh.parts = table.parts.iter().map(part).collect();
        fresh.flushed = table.flushed;
        fresh.kept_from = table.kept_from;
        state.sequence = state.sequence.max(table.flushed);
        state.tables.insert(table.record.name.clone(), Arc::new(fresh));
    }
    state.catalog = Arc::new(catalog);
    Ok(state)
}

fn replay_log(disk: &dyn Disk, dir: &Path, state: &mut State, catalog_saved: u64) -> Result<Replayed> {
    let saved = state.sequence;
    replay(disk, dir, saved, |entry| {
        if let Some(change) = change(state, entry, catalog_saved)? {
            let newest = state.sequence.max(entry.sequence);
            state.apply(change, newest);
            merge_small_runs(state, entry.table)?;
        }
        state.sequence = state.sequence.max(entry.sequence);
        Ok(())
    })
}

/// What an entry changes; nothing where the manifest has it already or its table is gone.
fn change(state: &State, entry: &Entry<'_>, catalog_saved: u64) -> Result<Option<Change>> {
    let table = state.table_by_id(entry.table);
    if entry.kind == Kind::Rows {
        let Some(table) = table.filter(|table| entry.sequence > table.flushed) else { return Ok(None) };
        let run = Arc::new(entry::decode(&table.schema, entry.body, entry.sequence)?);
        return Ok(Some(Change::Rows { table: table.schema.name.clone(), id: table.id, run }));
    }
    if entry.sequence <= catalog_saved {
        return Ok(None);
    }
    let newer = |what: &str| Error::InvalidSchema {
        table: what.into(),
        reason: "its definition in the log was written by a newer juno; open it with that one".into(),
    };
    let defined = || -> Result<_> {
        let record: TableRecord = serde_json::from_slice(entry.body).map_err(|_| newer("?"))?;
        record.definition().map(Arc::new).ok_or_else(|| newer(&record.name))
    };
    if entry.kind == Kind::Create {
        return Ok(Some(Change::Create { id: entry.table, definition: defined()? }));
    }
    let Some(found) = table else { return Ok(None) };
    let table = found.schema.name.clone();
    Ok(Some(match entry.kind {
        Kind::Rows | Kind::Create => unreachable!("handled above"),
        Kind::Drop => Change::Drop { table },
        Kind::Truncate => Change::Truncate { table },
        Kind::Alter | Kind::Define => Change::Alter { table, definition: defined()? },
        Kind::Widen => {
            let records: Vec<ColumnRecord> = serde_json::from_slice(entry.body).map_err(|_| newer(&table))?;
            let columns = records.iter().map(ColumnRecord::column).collect::<Option<_>>();
            let wider = Alteration::AddColumns(columns.ok_or_else(|| newer(&table))?);
            Change::Alter { table, definition: Arc::new(found.definition.altered(wider, entry.sequence)?) }
        }
    }))
}

fn merge_small_runs(state: &mut State, id: u64) -> Result<()> {
    let Some(name) = state.table_by_id(id).map(|table| table.schema.name.clone()) else { return Ok(()) };
    let table = state.table_mut(&name).expect("it was just found");
    while let Some(range) = choose_merge(&table.active.iter().map(|run| run.rows()).collect::<Vec<_>>()) {
        let merged = Run::merged(&table.schema, &table.active[range.clone()])?;
        table.active.splice(range, [Arc::new(merged)]);
    }
    Ok(())
}

/// Removes files that no table names, unless the manifest that does not name them may be undone by a crash, and fails where
/// one that is named is missing; answers the next part's number.
fn clear_parts(disk: &dyn Disk, dir: &Path, state: &State, settled: bool) -> Result<u64> {
    let parts = state.tables.values().flat_map(|table| &table.parts);
    let named: BTreeSet<u64> = parts.map(|part| part.record.number).collect();
    let mut found = BTreeSet::new();
    for name in disk.list(dir).map_err(Error::io("list", dir))? {
        match part_number(&name) {
            Some(number) if named.contains(&number) || !settled => {
                found.insert(number);
            }
            _ => {
                let path = dir.join(name);
                disk.remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    if let Some(&missing) = named.difference(&found).next() {
        let reason = "the manifest names this part, and it is missing".into();
        return Err(Error::Corrupt { file: part_path(dir, missing), offset: 0, reason });
    }
    Ok(found.last().map_or(1, |last| last + 1))
}
