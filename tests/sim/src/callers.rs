//! Those who write to the database and read from it at once; [`crate::operator`] defines and maintains.
//!
//! **Invariant:** each takes down what it asked and what it was told, and stops when nobody can tell it any more.

use std::sync::{Arc, Mutex, MutexGuard};

use juno_engine::{Db, Error, Options};

use crate::dice::Dice;
use crate::history::{History, Observation, Outcome};
use crate::model::{Change, Fields, Key, Kind, Refusal, Write};
use crate::table::{self, Wanted};

/// Tables that are there from the start, and those that come and go.
pub(crate) const TABLES: [(&str, Kind); 4] =
    [("cpu", Kind::Telemetry), ("users", Kind::Keyed), ("disk", Kind::Telemetry), ("jobs", Kind::Keyed)];

/// How many of [`TABLES`] are never dropped.
pub(crate) const STAYING: usize = 2;

/// Times that a read is tried, which is more often than the disk refuses to read.
const READS_MAX: usize = 10;

/// What the disk may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// A few reads, after which all is as it was.
    Reads,
    /// Writes, and all once the machine has stopped.
    Writes,
}

/// One who uses the database.
pub(crate) struct Caller {
    /// The database.
    pub(crate) db: Db,
    /// The settings that it was opened with.
    pub(crate) options: Options,
    /// Its chance.
    pub(crate) dice: Dice,
    /// Where it takes down what happens.
    pub(crate) history: Arc<Mutex<History>>,
    /// What the disk may refuse.
    pub(crate) trouble: Trouble,
    /// Whether the database may be closed at any moment.
    pub(crate) closing: bool,
}

impl Caller {
    /// Commits so many times.
    pub(crate) fn write(mut self, times: u64) {
        for _ in 0..times {
            let change = self.commit();
            let Change::Commit(writes) = &change else { unreachable!("a commit was made") };
            let ready = writes.iter().map(|write| table::write(write, kind_of(&write.table))).collect();
            let from = self.db.snapshot().sequence();
            let result = self.db.commit(ready);
            let to = self.db.snapshot().sequence();
            let outcome = match result {
                Ok(sequence) => Outcome::Committed(sequence),
                Err(Error::UnknownTable { .. }) => Outcome::Refused(Refusal::Table, from, to),
                Err(Error::UnknownColumn { .. }) => Outcome::Refused(Refusal::Column, from, to),
                Err(Error::Duplicate { .. }) => Outcome::Refused(Refusal::Duplicate, from, to),
                Err(Error::ReadOnly { .. }) if self.trouble == Trouble::Writes => Outcome::Unknown,
                // Such a commit certainly does not count.
                Err(Error::Closed) if self.closing => return,
                Err(error) if self.fault(&error) => continue,
                Err(error) => panic!("{}: {change:?}", error.chain()),
            };
            let last = outcome == Outcome::Unknown;
            self.record(change, outcome);
            if last {
                return;
            }
        }
    }

    /// Reads so many times, each snapshot twice.
    pub(crate) fn read(mut self, times: u64) {
        for _ in 0..times {
            let snapshot = self.db.snapshot();
            for _ in 0..2 {
                let name = self.dice.pick(&TABLES).0;
                let wanted = self.wanted();
                let read = || snapshot.table(name).map(|table| table::read(table, &wanted)).transpose();
                // What was refused once is read the next time.
                let tries = if self.trouble == Trouble::Reads { READS_MAX } else { 1 };
                let found = (1..tries).find_map(|_| read().ok()).map_or_else(read, Ok);
                match found {
                    Ok(found) => {
                        self.observe(Observation { sequence: snapshot.sequence(), name: name.into(), wanted, found });
                    }
                    Err(error) if self.trouble == Trouble::Writes && self.fault(&error) => return,
                    Err(error) => panic!("a read failed: {}", error.chain()),
                }
                (0..self.dice.below(20)).for_each(|_| shuttle::thread::yield_now());
            }
        }
    }

    /// Closes the database while others use it.
    pub(crate) fn close(mut self) {
        (0..self.dice.below(400)).for_each(|_| shuttle::thread::yield_now());
        let closed = self.db.close();
        assert!(closed.is_ok() || self.trouble == Trouble::Writes, "{closed:?}");
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no panic under it")
    }

    pub(crate) fn record(&self, change: Change, outcome: Outcome) {
        self.history().changes.push((change, outcome));
    }

    pub(crate) fn observe(&self, seen: Observation) {
        self.history().observations.push(seen);
    }

    /// Whether an error is the disk's, where the disk may refuse.
    pub(crate) fn fault(&self, error: &Error) -> bool {
        match self.trouble {
            Trouble::None => false,
            Trouble::Reads => matches!(error, Error::Io { .. }),
            Trouble::Writes => matches!(error, Error::Io { .. } | Error::DiskFull { .. } | Error::Parquet(_)),
        }
    }

    fn commit(&mut self) -> Change {
        let count = 1 + self.dice.below(2) + self.dice.below(2) * self.dice.below(2);
        Change::Commit((0..count).map(|_| self.one_write()).collect())
    }

    fn one_write(&mut self) -> Write {
        let (name, kind) =
            if self.dice.percent(70) { self.dice.pick(&TABLES[..STAYING]) } else { self.dice.pick(&TABLES) };
        let most = if self.dice.percent(5) { 60 } else { 5 };
        let what = self.dice.below(10);
        let deletes = if what >= 8 { self.keys(name, kind, 4) } else { Vec::new() };
        let keys = if what == 9 { Vec::new() } else { self.keys(name, kind, most) };
        let rows = self.rows(name, keys);
        let must_be_absent = !rows.is_empty() && self.dice.percent(if kind == Kind::Keyed { 40 } else { 10 });
        Write { table: name.into(), deletes, rows, must_be_absent }
    }

    /// Rows with some of the columns that a table has now.
    pub(crate) fn rows(&mut self, name: &str, keys: Vec<Key>) -> Vec<(Key, Fields)> {
        let columns: Vec<String> = self.db.catalog().table(name).map_or_else(Vec::new, |table| table::fields(table));
        let columns: Vec<String> = columns.into_iter().filter(|_| self.dice.percent(70)).collect();
        keys.into_iter().map(|key| (key, self.fields(&columns))).collect()
    }

    fn fields(&mut self, columns: &[String]) -> Fields {
        let values = columns.iter().filter_map(|name| {
            let value = i64::try_from(self.dice.below(1000)).expect("it is small");
            self.dice.percent(80).then(|| (name.clone(), value))
        });
        values.collect()
    }

    /// A few keys; the same come again and again.
    pub(crate) fn keys(&mut self, name: &str, kind: Kind, most: u64) -> Vec<Key> {
        let zoned = self.db.catalog().table(name).is_some_and(|table| table.column(table::ZONE).is_some());
        let spread = if most > 10 { 120 } else { 6 };
        let key = |dice: &mut Dice| match kind {
            Kind::Keyed => {
                Key { tag: None, zone: None, at: i64::try_from(dice.below(spread * 3)).expect("it is small") }
            }
            Kind::Telemetry => {
                let tag = u8::try_from(dice.below(4)).ok().filter(|&tag| tag > 0);
                let zone = (zoned && dice.percent(50)).then(|| u8::try_from(dice.below(2)).expect("it is small"));
                let at = dice.below(4) * WINDOW_US + dice.below(spread) * 1000;
                Key { tag, zone, at: i64::try_from(at).expect("it is small") }
            }
        };
        (0..1 + self.dice.below(most)).map(|_| key(&mut self.dice)).collect()
    }

    fn wanted(&mut self) -> Wanted {
        let edge =
            |dice: &mut Dice| i64::try_from(dice.below(5) * WINDOW_US + dice.below(6) * 1000).expect("it is small");
        let (a, b) = (edge(&mut self.dice), edge(&mut self.dice));
        let time = self.dice.percent(40).then(|| (a.min(b), a.max(b)));
        let tags =
            self.dice.percent(30).then(|| (0..self.dice.below(3)).map(|_| self.dice.pick(&[1, 2, 3, 9])).collect());
        Wanted { time, tags }
    }
}

/// Times lie in a few heaps so far apart, which is more than two months.
const WINDOW_US: u64 = 6_000_000_000_000;

fn kind_of(table: &str) -> Kind {
    TABLES.iter().find(|(name, _)| *name == table).expect("one of the tables").1
}
