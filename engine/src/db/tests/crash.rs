//! The machine stops at every single change to the disk, in seeded random workloads.
//!
//! **Invariant:** one thread asks and nothing runs in the background, so a seed and a place replay exactly.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;

use super::support::*;
use crate::system::MemoryDisk;
use crate::{Alteration, Column, Db, Options, Result, Rollup, ScanRequest, TableSchema, TableSnapshot};

/// What a caller does.
#[derive(Debug, Clone)]
enum Step {
    /// Rows into both tables in one commit.
    Both(Vec<CpuRow>, Vec<i64>),
    Delete(Vec<CpuRow>),
    /// Rows whose keys are deleted in the same write.
    Replace(Vec<CpuRow>),
    /// Batches straight into parts.
    Import(Vec<Vec<CpuRow>>),
    Flush,
    FlushOne,
    Widen(usize),
    /// Drops the last field that was added.
    Narrow,
    Tag(usize),
    /// Declares a rollup; what was there is written anew by the next compaction.
    RollUp(usize),
    /// Drops the oldest rollup.
    Unroll,
    Truncate,
    Compact,
    Drop,
    Create,
    Close,
    Abandon,
}

/// What the tables must hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    cpu: BTreeMap<String, Option<f64>>,
    users: Option<BTreeMap<i64, String>>,
    /// Those that were added to `cpu`.
    columns: Vec<String>,
    /// Those of `cpu`.
    rollups: Vec<String>,
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn rows(&mut self) -> Vec<CpuRow> {
        let count = 1 + self.roll(6);
        (0..count)
            .map(|_| {
                let host = ["a", "b", "c"][self.roll(3) as usize];
                let time = (self.roll(4) * 5_000_000_000_000 + self.roll(5)) as i64;
                let (key, usage) = cpu_row(host, time, self.roll(1000) as f64);
                (key, usage.filter(|_| self.roll(3) > 0))
            })
            .collect()
    }

    fn step(&mut self, number: usize) -> Step {
        match self.roll(37) {
            33..=35 => Step::RollUp(number),
            36 => Step::Unroll,
            30..=32 => Step::Import((0..1 + self.roll(3)).map(|_| self.rows()).collect()),
            26..=29 => Step::Compact,
            22 => Step::Narrow,
            23 => Step::Tag(number),
            24..=25 => Step::Truncate,
            20..=21 => Step::Replace(self.rows()),
            0..=7 => Step::Both(self.rows(), (0..self.roll(3)).map(|_| self.roll(20) as i64).collect()),
            8..=9 => Step::Delete(self.rows()),
            10 => Step::Flush,
            11..=13 => Step::FlushOne,
            14 => Step::Widen(number),
            15 => Step::Drop,
            16 => Step::Create,
            17 => Step::Close,
            _ => Step::Abandon,
        }
    }
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Both(rows, ids) => {
                self.write(rows);
                if let Some(users) = &mut self.users {
                    users.extend(ids.iter().map(|&id| (id, rows.len().to_string())));
                }
            }
            Step::Delete(rows) => self.delete(rows),
            Step::Replace(rows) => {
                self.delete(rows);
                self.write(rows);
            }
            Step::Import(batches) => batches.iter().for_each(|rows| self.write(rows)),
            Step::Widen(number) => self.columns.push(format!("f{number}")),
            Step::Tag(number) => self.columns.push(format!("t{number}")),
            Step::Narrow => {
                if let Some(last) = last_field(&self.columns) {
                    self.columns.retain(|column| *column != last);
                }
            }
            Step::RollUp(number) => self.rollups.push(format!("r{number}")),
            Step::Unroll => drop(self.rollups.drain(..self.rollups.len().min(1))),
            Step::Truncate => self.cpu.clear(),
            Step::Drop => self.users = None,
            Step::Create => self.users = self.users.take().or_else(|| Some(BTreeMap::new())),
            Step::Flush | Step::FlushOne | Step::Compact | Step::Close | Step::Abandon => {}
        }
    }

    /// A null leaves the value in place.
    fn write(&mut self, rows: &[CpuRow]) {
        for (key, usage) in rows {
            let row = self.cpu.entry(cpu_key(key)).or_default();
            *row = usage.or(*row);
        }
    }

    fn delete(&mut self, rows: &[CpuRow]) {
        self.cpu.retain(|key, _| rows.iter().all(|row| cpu_key(&row.0) != *key));
    }

    fn of(db: &Db) -> Self {
        let snapshot = db.snapshot();
        let users = snapshot.table("users").map(|_| user_contents(&snapshot));
        let columns = snapshot.table("cpu").map_or_else(Vec::new, |table| added(table.schema()));
        let rollups = snapshot.table("cpu").map_or_else(Vec::new, rollups);
        Self { cpu: cpu_contents(&snapshot, ScanRequest::default()), users, columns, rollups }
    }
}

/// The columns beside those that the table began with.
fn added(table: &TableSchema) -> Vec<String> {
    table.columns[4..].iter().map(|column| column.name.clone()).collect()
}

fn rollups(table: &TableSnapshot) -> Vec<String> {
    table.rollups().into_iter().map(|rollup| rollup.name).collect()
}

fn last_field(columns: &[String]) -> Option<String> {
    columns.iter().rfind(|column| column.starts_with('f')).cloned()
}

/// Segments that are full after a few commits, so that some can be removed and others must stay; an import that writes
/// parts after each batch.
fn short_segments(disk: &MemoryDisk) -> Options {
    Options { log_segment_bytes_max: 4000, import_bytes_max: 0, ..options(disk) }
}

/// Does a step; `None` in place of a database means that it is closed.
fn perform(disk: &MemoryDisk, open: &mut Option<Db>, step: &Step) -> Result<()> {
    if open.is_none() {
        *open = Some(Db::open_with(DIR, short_segments(disk))?);
    }
    let db = open.as_ref().expect("it was just opened");
    let has_users = db.catalog().table("users").is_some();
    match step {
        Step::Both(rows, ids) => {
            let mut writes = vec![cpu_write(rows)];
            if has_users && !ids.is_empty() {
                let text = rows.len().to_string();
                let users: Vec<_> = ids.iter().map(|&id| (id, text.as_str())).collect();
                writes.push(crate::Write::rows("users", user_rows(&users)));
            }
            db.commit(writes).map(drop)
        }
        Step::Delete(rows) => db.commit(vec![cpu_delete(rows)]).map(drop),
        Step::Replace(rows) => {
            let deletes = cpu_delete(rows).deletes;
            db.commit(vec![crate::Write { deletes, ..cpu_write(rows) }]).map(drop)
        }
        Step::Import(batches) => db.import("cpu", batches.iter().map(|rows| Ok(cpu_rows(rows)))).map(drop),
        Step::Flush => db.flush(None).map(drop),
        Step::FlushOne => db.flush(Some("cpu")).map(drop),
        Step::Compact => db.compact(None).map(drop),
        Step::Widen(number) => db.add_columns("cpu", vec![Column::new(format!("f{number}"), DataType::Int64, true)]),
        Step::Tag(number) => db.alter_table("cpu", Alteration::AddTags(vec![format!("t{number}")])),
        Step::Narrow => match last_field(&added(db.catalog().table("cpu").expect("it is always there"))) {
            Some(last) => db.alter_table("cpu", Alteration::DropColumn(last)),
            None => Ok(()),
        },
        Step::RollUp(number) => {
            let rollup = Rollup { name: format!("r{number}"), width_us: 60_000_000, columns: Vec::new() };
            db.alter_table("cpu", Alteration::AddRollup(rollup))
        }
        Step::Unroll => match rollups(db.snapshot().table("cpu").expect("it is always there")).first() {
            Some(first) => db.alter_table("cpu", Alteration::DropRollup(first.clone())),
            None => Ok(()),
        },
        Step::Truncate => db.truncate("cpu"),
        Step::Drop if has_users => db.drop_table("users"),
        Step::Create if !has_users => db.create_table(users()),
        Step::Drop | Step::Create => Ok(()),
        Step::Close => {
            let closed = db.close();
            *open = None;
            closed
        }
        Step::Abandon => {
            *open = None;
            Ok(())
        }
    }
}

/// Runs a workload until the disk stops; answers what must be there, or may be there instead.
fn run(disk: &MemoryDisk, steps: &[Step]) -> (Model, Model) {
    let mut model = Model { users: Some(BTreeMap::new()), ..Model::default() };
    let mut db = None;
    for step in steps {
        let mut after = model.clone();
        after.apply(step);
        if perform(disk, &mut db, step).is_err() {
            return (model, after);
        }
        model = after;
    }
    (model.clone(), model)
}

fn prepared_disk() -> MemoryDisk {
    let (disk, db) = opened_with(&[cpu(), users()]);
    drop(db);
    disk.after_crash(0)
}

fn crash_everywhere(seed: u64) {
    let mut dice = Dice(seed);
    let steps: Vec<Step> = (0..30).map(|number| dice.step(number)).collect();
    let whole = prepared_disk();
    run(&whole, &steps);
    for operation in 1..=whole.operations() {
        let disk = prepared_disk();
        disk.crash_at(operation, seed ^ operation);
        let (before, after) = run(&disk, &steps);
        let mut survivor = disk.after_crash(seed.wrapping_add(operation));
        if dice.roll(3) == 0 {
            survivor.crash_at(1 + dice.roll(12), operation);
            drop(Db::open_with(DIR, options(&survivor)));
            survivor = survivor.after_crash(operation);
        }
        let context = format!("seed {seed}, stopped at change {operation}");
        let db = Db::open_with(DIR, options(&survivor)).unwrap_or_else(|error| panic!("{context}: {}", error.chain()));
        let found = Model::of(&db);
        assert!(found == before || found == after, "{context}\nfound {found:?}\nbefore {before:?}\nafter {after:?}");
        let more = [cpu_row("later", 1, 1.0)];
        db.commit(vec![cpu_write(&more)]).unwrap();
        drop(db);
        let mut wanted = found;
        wanted.cpu.extend(cpu_expected(&more));
        assert_eq!(Model::of(&open(&survivor)), wanted, "{context}: a commit after recovery stays");
    }
}

#[test]
fn a_crash_at_any_change_keeps_every_acknowledged_commit_and_no_half_one() {
    for seed in 0..4 {
        crash_everywhere(seed);
    }
}
