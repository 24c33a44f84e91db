//! One seed: a database is opened, used and stopped a few times.
//!
//! **Invariant:** what each start finds is what [`crate::history`] allows.

use std::sync::{Arc, Mutex};

use juno_engine::system::MemoryDisk;
use juno_engine::{Db, Options};

use crate::Report;
use crate::callers::{Caller, STAYING, TABLES};
use crate::dice::Dice;
use crate::history::{History, Outcome};
use crate::model::{Change, Model};
use crate::table::{self, Wanted};
use crate::world::{Trace, TracedDisk, machine};

const DIR: &str = "db";
/// Changes to the disk within which a time of trouble begins.
const TROUBLE_WITHIN: u64 = 150;

/// How the time that a database is open ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// `close`, and a later start.
    Close,
    /// The process is gone; what it wrote is there, synced or not.
    Kill,
    /// The machine is gone, after all callers were answered.
    Stop,
    /// The machine is gone in the middle.
    Crash,
}

struct Simulation {
    dice: Dice,
    disk: MemoryDisk,
    trace: Arc<Trace>,
    options: Options,
    report: Report,
}

/// Runs a seed.
pub(crate) fn run(seed: u64) -> Report {
    let mut dice = Dice::new(seed);
    let options = Options {
        memtable_bytes_max: 1 << (11 + dice.below(5)),
        frozen_bytes_max: 1 << (12 + dice.below(5)),
        log_segment_bytes_max: 1 << (9 + dice.below(6)),
        log_bytes_max: 1 << (12 + dice.below(5)),
        footer_cache_bytes_max: 1 << (8 + dice.below(10)),
        ..Options::default()
    };
    let disk = MemoryDisk::default();
    let mut simulation = Simulation { dice, disk, trace: Arc::default(), options, report: Report::default() };
    simulation.run();
    let Simulation { mut report, trace, .. } = simulation;
    report.seeds = 1;
    report.accesses = trace.accesses();
    report.fingerprint = trace.fingerprint();
    report
}

impl Simulation {
    fn run(&mut self) {
        let mut model = Model::default();
        let db = self.open();
        for (name, kind) in &TABLES[..STAYING] {
            db.create_table(table::schema(name, *kind)).expect("a new table");
            model.apply(&Change::Create((*name).into(), *kind)).expect("a new table");
        }
        assert_eq!(contents(&db), model);
        let mut open = Some(db);
        for _ in 0..2 + self.dice.below(2) {
            let db = open.take().unwrap_or_else(|| self.open());
            model = self.time(db, model);
        }
    }

    fn open(&mut self) -> Db {
        let system = machine(TracedDisk::new(self.disk.clone(), Arc::clone(&self.trace)), &mut self.dice);
        let options = Options { system, ..self.options.clone() };
        Db::open_with(DIR, options).unwrap_or_else(|error| panic!("it does not open: {}", error.chain()))
    }

    /// One time that the database is open, and the start after it; answers what that start found.
    fn time(&mut self, db: Db, model: Model) -> Model {
        let end = self.dice.pick(&[End::Close, End::Kill, End::Stop, End::Crash, End::Crash, End::Crash]);
        let faults = self.trouble(end);
        let since = db.snapshot().sequence();
        let history = self.use_it(&db, faults);
        let until = db.snapshot().sequence();
        let commits = history.changes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Committed(_)));
        self.report.commits += commits.count() as u64;
        self.report.reads += history.observations.len() as u64;
        let judged = history.judge(model, since, until);
        if !faults {
            assert_eq!(contents(&db), judged.last, "while it is open");
        }
        self.end(end, faults, db);
        self.break_starts();
        let db = self.open();
        let found = contents(&db);
        judged.recovered(db.snapshot().sequence(), &found);
        drop(db);
        found
    }

    /// Arms the disk; answers whether it may refuse.
    fn trouble(&mut self, end: End) -> bool {
        let at = self.disk.operations() + 1 + self.dice.below(TROUBLE_WITHIN);
        match end {
            End::Crash => self.disk.crash_at(at, self.dice.bits()),
            _ if self.dice.percent(20) => self.disk.fail_once_at(at),
            _ if self.dice.percent(20) => self.disk.set_capacity(Some(self.disk.used() + self.dice.below(30_000))),
            _ => return false,
        }
        true
    }

    fn use_it(&mut self, db: &Db, faults: bool) -> History {
        let history = Arc::new(Mutex::new(History::default()));
        let caller =
            |dice: &mut Dice| Caller { db: db.clone(), dice: dice.fork(), history: Arc::clone(&history), faults };
        let mut threads = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let (caller, times) = (caller(&mut self.dice), 3 + self.dice.below(12));
            threads.push(shuttle::thread::spawn(move || caller.write(times)));
        }
        let (reader, times) = (caller(&mut self.dice), 1 + self.dice.below(4));
        threads.push(shuttle::thread::spawn(move || reader.read(times)));
        let (operator, times) = (caller(&mut self.dice), 2 + self.dice.below(8));
        threads.push(shuttle::thread::spawn(move || operator.operate(times)));
        threads.into_iter().for_each(|thread| thread.join().expect("a panic ends the simulation"));
        std::mem::take(&mut *history.lock().expect("no panic under it"))
    }

    fn end(&mut self, end: End, faults: bool, db: Db) {
        if end == End::Close {
            self.disk.set_capacity(None);
            let closed = db.close();
            assert!(closed.is_ok() || faults, "{closed:?}");
        }
        drop(db);
        self.disk = match end {
            End::Kill => self.disk.after_kill(),
            End::Close if self.dice.percent(50) => self.disk.after_kill(),
            _ => {
                self.report.crashes += 1;
                self.disk.after_crash(self.dice.bits())
            }
        };
    }

    /// Starts that do not come to their end.
    fn break_starts(&mut self) {
        while self.dice.percent(30) {
            self.disk.crash_at(self.disk.operations() + 1 + self.dice.below(12), self.dice.bits());
            let system = machine(TracedDisk::new(self.disk.clone(), Arc::clone(&self.trace)), &mut self.dice);
            drop(Db::open_with(DIR, Options { system, ..self.options.clone() }));
            self.report.crashes += 1;
            let kill = self.dice.percent(30);
            self.disk = if kill { self.disk.after_kill() } else { self.disk.after_crash(self.dice.bits()) };
        }
    }
}

/// All that a database holds.
fn contents(db: &Db) -> Model {
    let snapshot = db.snapshot();
    let read = |name: &String| {
        let table = snapshot.table(name).expect("a table of the catalog");
        let table = table::read(table, &Wanted::ALL).unwrap_or_else(|error| panic!("{name}: {}", error.chain()));
        (name.clone(), Arc::new(table))
    };
    Model { tables: snapshot.catalog().tables.keys().map(read).collect() }
}
