//! Rows that grow too old, by a clock that the test sets.
//!
//! **Invariant:** what has expired is seen by no scan and no check of keys, now or after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::support::*;
use crate::system::{Clock, MemoryDisk, RealRandom, System};
use crate::{Alteration, Db, OnConflict, Options, ScanRequest, TimeRange};

const HOUR: i64 = 3_600_000_000;

#[derive(Clone, Default)]
struct SetClock(Arc<AtomicI64>);

impl SetClock {
    fn set(&self, hours: i64) {
        self.0.store(hours * HOUR, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_us(&self) -> u64 {
        0
    }
}

fn open_at(disk: &MemoryDisk, clock: &SetClock) -> Db {
    let system = System::new(Arc::new(clock.clone()), Arc::new(disk.clone()), Arc::new(RealRandom));
    Db::open_with(DIR, Options { system, ..options(disk) }).unwrap()
}

/// A table that keeps ten hours, at hour 10, with a row for each of them.
fn ten_hours() -> (MemoryDisk, SetClock, Db, Vec<CpuRow>) {
    let (disk, clock) = (MemoryDisk::default(), SetClock::default());
    clock.set(10);
    let db = open_at(&disk, &clock);
    db.create_table(cpu()).unwrap();
    db.alter_table("cpu", Alteration::SetRetention(Some(10 * HOUR))).unwrap();
    let rows: Vec<_> = (0..10).map(|hour| cpu_row("a", hour * HOUR + HOUR / 2, hour as f64)).collect();
    (disk, clock, db, rows)
}

#[test]
fn old_rows_are_seen_no_more_wherever_they_lie() {
    for (flushes, parts_left) in [(0, 0), (1, 1), (10, 6)] {
        let (disk, clock, db, rows) = ten_hours();
        for chunk in rows.chunks(10 / flushes.max(1)) {
            db.commit(vec![cpu_write(chunk)]).unwrap();
            if flushes > 0 {
                db.flush(None).unwrap();
            }
        }
        let before = db.snapshot();
        assert_eq!(cpu_all(&db), cpu_expected(&rows), "nothing is too old yet");
        clock.set(14);
        assert_eq!(cpu_all(&db), cpu_expected(&rows), "the clock alone takes nothing away");
        db.expire().unwrap();
        let left = cpu_expected(&rows[4..]);
        assert_eq!((cpu_all(&db), db.status().parts), (left.clone(), parts_left), "{flushes} flushes");
        let early = ScanRequest { time: TimeRange { from: 0, to: 5 * HOUR }, ..ScanRequest::default() };
        assert!(cpu_contents(&db.snapshot(), early).keys().all(|key| left.contains_key(key)));
        assert_eq!(cpu_contents(&before, ScanRequest::default()).len(), 10, "a snapshot stays as it was");
        drop((db, before));
        clock.set(0);
        let db = open_at(&disk, &clock);
        assert_eq!(cpu_all(&db), left, "neither a restart nor a clock that jumps back brings a row back");
        db.flush(None).unwrap();
        db.compact(None).unwrap();
        db.expire().unwrap();
        assert_eq!(cpu_all(&db), left);
    }
}

#[test]
fn a_merge_drops_what_has_expired() {
    let (_disk, clock, db, rows) = ten_hours();
    for chunk in rows.chunks(5) {
        db.commit(vec![cpu_write(chunk), cpu_write(&[cpu_row("b", 9 * HOUR, 1.0)])]).unwrap();
        db.flush(None).unwrap();
    }
    clock.set(14);
    db.expire().unwrap();
    let report = db.compact(None).unwrap();
    assert_eq!((report[0].merged, report[0].parts, report[0].rows), (2, 2, 7));
    assert_eq!(cpu_all(&db).len(), 7);
}

#[test]
fn a_late_row_is_taken_and_not_seen_and_its_key_counts_as_free() {
    let (disk, clock, db, rows) = ten_hours();
    db.commit(vec![cpu_write(&rows)]).unwrap();
    clock.set(14);
    db.expire().unwrap();
    let again = crate::Write { on_conflict: OnConflict::Error, ..cpu_write(&rows[..1]) };
    db.commit(vec![again.clone()]).unwrap();
    db.commit(vec![cpu_write(&[cpu_row("late", HOUR, 1.0)])]).unwrap();
    assert_eq!(cpu_all(&db), cpu_expected(&rows[4..]));
    db.flush(None).unwrap();
    db.commit(vec![again]).unwrap();
    let taken = crate::Write { on_conflict: OnConflict::Error, ..cpu_write(&rows[5..6]) };
    assert!(db.commit(vec![taken]).is_err(), "the key of a row that is kept is taken");
    drop(db);
    assert_eq!(cpu_all(&open_at(&disk, &clock)), cpu_expected(&rows[4..]));
}

#[test]
fn a_failure_while_rows_expire_leaves_all_or_takes_all() {
    for operation in 1..6 {
        let (disk, clock, db, rows) = ten_hours();
        for row in &rows {
            db.commit(vec![cpu_write(std::slice::from_ref(row))]).unwrap();
            db.flush(None).unwrap();
        }
        clock.set(14);
        disk.crash_at(disk.operations() + operation, 7);
        let expired = db.expire().is_ok();
        drop(db);
        let found = cpu_all(&open_at(&disk.after_crash(operation), &clock));
        let kept = if expired { 4 } else { usize::from(found.len() == 6) * 4 };
        assert_eq!(found, cpu_expected(&rows[kept..]), "{operation}");
    }
}
