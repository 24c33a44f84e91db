//! Followers are handed what is committed.
//!
//! **Invariant:** what a follower is handed is durable and visible before it is handed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;

use super::support::*;
use crate::{Alteration, Error};

/// The usage in all rows, null as NaN.
fn usage(rows: &[RecordBatch], name: &str) -> Vec<f64> {
    let column = |batch: &RecordBatch| batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().clone();
    rows.iter().flat_map(|batch| column(batch).iter().map(|v| v.unwrap_or(f64::NAN)).collect::<Vec<_>>()).collect()
}

#[test]
fn commits_are_handed_on_sorted_and_under_the_names_of_now() {
    let (_, db) = opened_with(&[cpu(), users()]);
    db.commit(vec![cpu_write(&[cpu_row("a", 0, 1.0)])]).unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    let follower = db
        .follow("cpu", move || {
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    assert!(follower.take().unwrap().rows.is_empty());
    db.commit(vec![cpu_write(&[cpu_row("b", 1, 3.0), cpu_row("a", 1, 2.0)]), insert(&[(1, "x")])]).unwrap();
    db.commit(vec![cpu_delete(&[cpu_row("a", 1, 0.0)]), cpu_write(&[cpu_row("c", 2, 4.0)])]).unwrap();
    let followed = follower.take().unwrap();
    assert_eq!(usage(&followed.rows, "usage"), [2.0, 3.0, 4.0]);
    assert!(!followed.lost && follower.take().unwrap().rows.is_empty());
    assert!(woken.load(Ordering::Relaxed) >= 2);
    // Through a rename, a flush and a truncation.
    db.alter_table("cpu", Alteration::RenameColumn { from: "usage".into(), to: "load".into() }).unwrap();
    db.flush(None).unwrap();
    db.truncate("cpu").unwrap();
    let mut renamed = cpu_write(&[cpu_row("d", 3, 5.0)]);
    let rows = renamed.rows.take().unwrap();
    let columns = rows.schema().fields().iter().map(|f| f.name().replace("usage", "load")).collect::<Vec<_>>();
    let columns = columns.into_iter().zip(rows.columns().iter().cloned());
    renamed.rows = Some(RecordBatch::try_from_iter(columns).unwrap());
    db.commit(vec![renamed]).unwrap();
    assert_eq!(usage(&follower.take().unwrap().rows, "load"), [5.0]);
    assert!(matches!(db.follow("nothing", || ()), Err(Error::UnknownTable { .. })));
}

#[test]
fn a_follower_that_lags_too_far_is_told_that_rows_are_lost() {
    let (_, db) = opened_with(&[cpu()]);
    let follower = db.follow("cpu", || ()).unwrap();
    let rows: Vec<CpuRow> = (0..200_000).map(|time| cpu_row("a", time, 0.5)).collect();
    let mut handed = 0;
    while handed < 6 {
        db.commit(vec![cpu_write(&rows)]).unwrap();
        handed += 1;
    }
    let followed = follower.take().unwrap();
    let waited: usize = followed.rows.iter().map(RecordBatch::num_rows).sum();
    assert!(followed.lost && waited > 0 && waited < handed * rows.len(), "{waited}");
    db.commit(vec![cpu_write(&[cpu_row("a", 1_000_000, 1.0)])]).unwrap();
    let followed = follower.take().unwrap();
    assert!(!followed.lost);
    assert_eq!(usage(&followed.rows, "usage"), [1.0]);
}
