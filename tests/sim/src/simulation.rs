//! One seed: a database is opened, used and stopped a few times.
//!
//! **Invariant:** what each start finds is what [`crate::history`] allows.

use std::path::Path;
use std::sync::{Arc, Mutex};

use juno_engine::system::{Disk, MemoryDisk};
use juno_engine::{Db, Error, Options};

use crate::Report;
use crate::callers::{Caller, STAYING, TABLES, Trouble};
use crate::dice::Dice;
use crate::history::{History, Judged, Outcome};
use crate::importer::IMPORTS_MAX;
use crate::model::{Change, Model};
use crate::table::{self, Wanted};
use crate::world::{Trace, TracedDisk, machine};

const DIR: &str = "db";
/// Changes to the disk within which a time of trouble begins.
const TROUBLE_WITHIN: u64 = 150;

/// Reads in a row that are refused, at most.
const READS_REFUSED_MAX: u64 = 3;

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

/// What is the same for all times that a database is open.
struct Simulation {
    dice: Dice,
    disk: MemoryDisk,
    trace: Arc<Trace>,
    options: Options,
    report: Report,
}

/// Runs a seed.
pub(crate) fn run(seed: u64) -> Report {
    let mut simulation = Simulation::new(seed);
    let (db, mut model) = simulation.begin();
    let mut open = Some(db);
    for _ in 0..2 + simulation.dice.below(2) {
        let db = open.take().unwrap_or_else(|| simulation.open());
        let end = simulation.dice.pick(&[End::Close, End::Kill, End::Stop, End::Crash, End::Crash, End::Crash]);
        let trouble = simulation.trouble(end);
        model = simulation.time(db, model, end, trouble);
    }
    simulation.report()
}

/// Runs the first time of a seed, and stops the machine at the change to the disk with this number; answers whether it came
/// that far.
pub(crate) fn stop_at(seed: u64, change: u64) -> (Report, bool) {
    let mut simulation = Simulation::new(seed);
    let (db, model) = simulation.begin();
    let change = simulation.disk.operations() + change;
    simulation.disk.crash_at(change, seed ^ change);
    let disk = simulation.disk.clone();
    simulation.time(db, model, End::Crash, Trouble::Writes);
    (simulation.report(), disk.operations() >= change)
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let options = Options {
            memtable_bytes_max: 1 << (11 + dice.below(5)),
            frozen_bytes_max: 1 << (12 + dice.below(5)),
            import_bytes_max: 1 << (8 + dice.below(8)),
            log_segment_bytes_max: 1 << (9 + dice.below(6)),
            log_bytes_max: 1 << (12 + dice.below(5)),
            footer_cache_bytes_max: 1 << (8 + dice.below(10)),
            column_cache_bytes_max: 1 << (8 + dice.below(12)),
            ..Options::default()
        };
        Self { dice, disk: MemoryDisk::default(), trace: Arc::default(), options, report: Report::default() }
    }

    fn report(self) -> Report {
        let (accesses, fingerprint) = (self.trace.accesses(), self.trace.fingerprint());
        Report { seeds: 1, accesses, fingerprint, ..self.report }
    }

    /// A new database with the tables that stay.
    fn begin(&mut self) -> (Db, Model) {
        let mut model = Model::default();
        let db = self.open();
        for (name, kind) in &TABLES[..STAYING] {
            db.create_table(table::schema(name, *kind)).expect("a new table");
            model.apply(&Change::Create((*name).into(), *kind)).expect("a new table");
        }
        assert!(model.explains(&contents(&db)));
        (db, model)
    }

    fn options(&mut self) -> Options {
        let system = machine(TracedDisk::new(self.disk.clone(), Arc::clone(&self.trace)), &mut self.dice);
        Options { system, ..self.options.clone() }
    }

    fn open(&mut self) -> Db {
        let options = self.options();
        self.options.system = options.system.clone();
        Db::open_with(DIR, options).unwrap_or_else(|error| panic!("it does not open: {}", error.chain()))
    }

    /// One time that the database is open, and the start after it; answers what that start found.
    fn time(&mut self, db: Db, model: Model, end: End, trouble: Trouble) -> Model {
        let since = db.snapshot().sequence();
        let closing = end == End::Close && trouble != Trouble::Reads && self.dice.percent(40);
        let history = self.use_it(&db, trouble, closing);
        let until = db.snapshot().sequence();
        let commits = history.changes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Committed(_)));
        self.report.commits += commits.count() as u64;
        self.report.reads += history.observations.len() as u64;
        let judged = history.judge(&model, since, until);
        self.disk.fail_reads(0..0);
        if trouble != Trouble::Writes {
            assert_eq!(db.status().read_only, None);
            judged.holds(&contents(&db));
        }
        self.end(end, trouble, db);
        self.break_starts();
        self.damage(&judged);
        let db = self.open();
        let found = contents(&db);
        let model = judged.recovered(db.snapshot().sequence(), &found);
        drop(db);
        model
    }

    /// Arms the disk.
    fn trouble(&mut self, end: End) -> Trouble {
        let at = self.disk.operations() + 1 + self.dice.below(TROUBLE_WITHIN);
        match end {
            End::Crash => self.disk.crash_at(at, self.dice.bits()),
            _ if self.dice.percent(20) => self.disk.fail_once_at(at),
            _ if self.dice.percent(20) => self.disk.set_capacity(Some(self.disk.used() + self.dice.below(30_000))),
            _ if self.dice.percent(40) => {
                let first = self.disk.reads() + 1 + self.dice.below(TROUBLE_WITHIN);
                self.disk.fail_reads(first..first + 1 + self.dice.below(READS_REFUSED_MAX));
                return Trouble::Reads;
            }
            _ => return Trouble::None,
        }
        Trouble::Writes
    }

    fn use_it(&mut self, db: &Db, trouble: Trouble, closing: bool) -> History {
        let history = Arc::new(Mutex::new(History::default()));
        let caller = |dice: &mut Dice, options: &Options| {
            let (db, options, history) = (db.clone(), options.clone(), Arc::clone(&history));
            Caller { db, options, dice: dice.fork(), history, trouble, closing }
        };
        let mut threads = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let (caller, times) = (caller(&mut self.dice, &self.options), 3 + self.dice.below(12));
            threads.push(shuttle::thread::spawn(move || caller.write(times)));
        }
        let (reader, times) = (caller(&mut self.dice, &self.options), 1 + self.dice.below(4));
        threads.push(shuttle::thread::spawn(move || reader.read(times)));
        let (operator, times) = (caller(&mut self.dice, &self.options), 2 + self.dice.below(10));
        threads.push(shuttle::thread::spawn(move || operator.operate(times)));
        let (importer, times) = (caller(&mut self.dice, &self.options), self.dice.below(IMPORTS_MAX + 1));
        threads.push(shuttle::thread::spawn(move || importer.import(times)));
        if closing {
            let closer = caller(&mut self.dice, &self.options);
            threads.push(shuttle::thread::spawn(move || closer.close()));
        }
        threads.into_iter().for_each(|thread| thread.join().expect("a panic ends the simulation"));
        std::mem::take(&mut *history.lock().expect("no panic under it"))
    }

    fn end(&mut self, end: End, trouble: Trouble, db: Db) {
        if end == End::Close {
            self.disk.set_capacity(None);
            let closed = db.close();
            assert!(closed.is_ok() || trouble == Trouble::Writes, "{closed:?}");
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

    /// Starts that do not come to their end, and starts on a full disk, which do.
    fn break_starts(&mut self) {
        while self.dice.percent(30) {
            match self.dice.below(4) {
                0 => {
                    self.disk.set_capacity(Some(self.disk.used() + self.dice.below(1000)));
                    let db = self.open();
                    contents(&db);
                }
                1 => {
                    let first = self.disk.reads() + 1 + self.dice.below(20);
                    self.disk.fail_reads(first..first + 1 + self.dice.below(READS_REFUSED_MAX));
                    let options = self.options();
                    let opened = Db::open_with(DIR, options);
                    let refused = opened.as_ref().err().is_none_or(|error| matches!(error, Error::Io { .. }));
                    assert!(
                        refused,
                        "a read was refused: {}",
                        opened.err().map_or_else(String::new, |error| error.chain())
                    );
                }
                _ => {
                    self.disk.crash_at(self.disk.operations() + 1 + self.dice.below(12), self.dice.bits());
                    let options = self.options();
                    drop(Db::open_with(DIR, options));
                }
            }
            self.report.crashes += 1;
            let kill = self.dice.percent(30);
            self.disk = if kill { self.disk.after_kill() } else { self.disk.after_crash(self.dice.bits()) };
        }
    }

    /// A byte of a part that changes, which is noticed and named by whoever reads the part and by nobody else. Puts it back.
    fn damage(&mut self, judged: &Judged) {
        let disk: &dyn Disk = &self.disk;
        let parts = disk.list(&Path::new(DIR).join("parts")).unwrap_or_default();
        if parts.is_empty() || !self.dice.percent(15) {
            return;
        }
        let file = Path::new(DIR).join("parts").join(self.dice.pick(&parts));
        let (place, bit) = (self.dice.bits(), 1 << self.dice.below(8));
        let spoil = |bytes: &mut Vec<u8>| {
            if let Some(place) = place.checked_rem(bytes.len() as u64).and_then(|place| usize::try_from(place).ok()) {
                bytes[place] ^= bit;
            }
        };
        let mut spoilt = Vec::new();
        let note = |bytes: &mut Vec<u8>| {
            spoil(bytes);
            spoilt = bytes.clone();
        };
        self.disk.damage(&file, note).expect("it is there");
        let db = self.open();
        let snapshot = db.snapshot();
        let mut damaged = 0;
        for (name, _) in TABLES {
            let Some(table) = snapshot.table(name) else { continue };
            match table::read(table, &Wanted::ALL) {
                Err(Error::Corrupt { file: named, .. }) if named == file => damaged += 1,
                Err(error) => panic!("{} is damaged, and {name}: {}", file.display(), error.chain()),
                Ok(found) => judged.may_hold(name, &found),
            }
        }
        assert!(damaged <= 1, "one part is damaged, and {damaged} tables");
        drop((snapshot, db));
        // One that no table names is removed, and another may have its name.
        let mend = |bytes: &mut Vec<u8>| {
            if *bytes == spoilt {
                spoil(bytes);
            }
        };
        let _ = self.disk.damage(&file, mend);
        self.disk = self.disk.after_kill();
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
