//! The task of a detector: begins where its table ends, then judges what is committed, soon after.
//!
//! **Invariant:** keeps nothing of the database open while it waits; what it could not write it judges again later.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use juno_engine::{Db, Follower};

use super::Detector;
use super::judge::{Columns, Judge};
use super::source::{self, Known};
use super::status::{Running, Stage};
use crate::session::blocking;
use crate::{Error, Result};

/// How long a detector that failed waits before it begins anew.
const PAUSE: Duration = Duration::from_secs(5);

/// What is judged with, from one turn to the next.
struct Bench {
    detector: Detector,
    judge: Judge,
    follower: Follower,
    /// Whether rows must be read from the table, as none were followed before.
    is_behind: bool,
}

/// Runs a detector until its database or itself is gone. `db` gives the database while it is open.
pub(crate) async fn work<T: Send + Sync + 'static>(owner: Weak<T>, db: fn(&T) -> &Db, running: Arc<Running>) {
    let mut bench = None;
    loop {
        let Some(owner) = owner.upgrade() else { return };
        let (before, mine) = (bench.take(), Arc::clone(&running));
        let turned = blocking(move || {
            let turned = turn(db(&owner), before, &mine);
            // The last owner may be this one: closing a database blocks.
            drop(owner);
            turned
        });
        match turned.await {
            Ok(next) => {
                bench = Some(next);
                running.wait().await;
            }
            Err(error) => {
                if running.fail(&error) {
                    tracing::warn!(detector = running.detector.name, "the detector stands still: {error}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Judges all that is there.
fn turn(db: &Db, bench: Option<Bench>, running: &Arc<Running>) -> Result<Bench> {
    let mut bench = match bench {
        Some(bench) => bench,
        None => begin(db, running)?,
    };
    loop {
        let sequence = db.snapshot().sequence();
        if std::mem::take(&mut bench.is_behind) {
            running.stage(Stage::CatchingUp);
            bench.catch_up(db, running)?;
        }
        let followed = bench.follower.take()?;
        let columns = bench.columns(db)?;
        for rows in &followed.rows {
            bench.push(db, rows, &columns, &Known::default())?;
        }
        bench.is_behind = followed.lost;
        running.judged(&bench.judge);
        if !bench.is_behind {
            running.done(sequence);
            return Ok(bench);
        }
    }
}

/// Follows the watched table, and reads what was judged.
fn begin(db: &Db, running: &Arc<Running>) -> Result<Bench> {
    let detector = running.detector.clone();
    let waker = Arc::clone(running);
    let follower = db.follow(&detector.table, move || waker.wake())?;
    let judge = Judge::new(&detector);
    Ok(Bench { detector, judge, follower, is_behind: true })
}

impl Bench {
    fn columns(&self, db: &Db) -> Result<Columns> {
        let table = source::found(db, &self.detector.table)?;
        if table.column(&self.detector.column).is_none() {
            let (column, table) = (&self.detector.column, &self.detector.table);
            return Err(Error::UndefinedColumn(format!("column \"{column}\" of \"{table}\" does not exist any more")));
        }
        source::columns(&table, &self.detector.column)
    }

    /// Reads the watched table: from where the states can be had back, or from where they end.
    fn catch_up(&mut self, db: &Db, running: &Running) -> Result<()> {
        let table = source::found(db, &self.detector.table)?;
        let columns = self.columns(db)?;
        let fresh = self.judge.series() == 0;
        let known = if fresh { Known::read(db, &self.detector)? } else { Known::default() };
        let from_us = if fresh { known.begins_us(self.detector.warm_up) } else { self.judge.behind_us() };
        source::watched(db, &table, &columns, from_us, |rows| {
            self.push(db, &rows, &columns, &known)?;
            running.judged(&self.judge);
            Ok(())
        })
    }

    fn push(&mut self, db: &Db, rows: &RecordBatch, columns: &Columns, known: &Known) -> Result<()> {
        match self.judge.push(rows, columns, &|series, time| known.has(series, time))? {
            Some(judged) => source::write(db, &self.detector, &judged),
            None => Ok(()),
        }
    }
}
