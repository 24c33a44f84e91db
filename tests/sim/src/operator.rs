//! The one who defines tables and maintains them: flushes, compacts, lets rows expire, checks and backs up.
//!
//! **Invariant:** there is one, so what it defines is in order, and what the catalog says is what it did.

use std::path::{Path, PathBuf};

use juno_engine::{Alteration, Db, Error, Options};

use crate::callers::{Caller, STAYING, TABLES, Trouble};
use crate::history::{Observation, Outcome};
use crate::model::{Change, Kind};
use crate::table::{self, Wanted};

/// Columns that come and go; the first letter says of which type.
const FIELDS: [&str; 6] = ["f0", "i1", "s2", "f3", "i4", "s5"];

impl Caller {
    /// Does so many things.
    pub(crate) fn operate(mut self, times: u64) {
        for _ in 0..times {
            match self.one() {
                Ok(()) => {}
                Err(Error::ReadOnly { .. }) if self.trouble == Trouble::Writes => return,
                Err(Error::Closed) if self.closing => return,
                Err(error) if self.fault(&error) => {}
                Err(error) => panic!("{}", error.chain()),
            }
        }
    }

    fn one(&mut self) -> Result<(), Error> {
        let (name, kind) = self.dice.pick(&TABLES);
        let (coming, coming_kind) = self.dice.pick(&TABLES[STAYING..]);
        let there = |name: &str| self.db.catalog().table(name).is_some();
        match self.dice.below(20) {
            0..=3 => self.db.flush(None).map(drop),
            4 if there(name) => self.db.flush(Some(name)).map(drop),
            5..=6 if there(coming) => self.define(Change::Drop(coming.into()), |db| db.drop_table(coming)),
            5..=8 if !there(coming) => {
                let schema = table::schema(coming, coming_kind);
                self.define(Change::Create(coming.into(), coming_kind), |db| db.create_table(schema))
            }
            8 if there(name) => self.truncate(name),
            9 if there(name) => self.widen(name),
            10 if there(name) => self.narrow(name),
            11 if there(name) => self.rename(name),
            12 if there(name) && kind == Kind::Telemetry => self.keep(name),
            13 => self.expire(),
            14..=15 => self.db.compact(None).map(drop),
            16 if there(name) && kind == Kind::Telemetry => self.zone(name),
            17..=18 => self.back_up(),
            19 => self.check(),
            _ => {
                let read_only = self.db.status().read_only;
                assert!(self.trouble == Trouble::Writes || read_only.is_none(), "{read_only:?}");
                Ok(())
            }
        }
    }

    fn widen(&mut self, name: &str) -> Result<(), Error> {
        let Some(field) = self.absent(name, FIELDS[0], false) else { return Ok(()) };
        let columns = vec![table::field(field)];
        self.define(Change::Widen(name.into(), field.into()), |db| db.add_columns(name, columns))
    }

    fn narrow(&mut self, name: &str) -> Result<(), Error> {
        let Some(field) = self.present(name) else { return Ok(()) };
        let alteration = Alteration::DropColumn(field.clone());
        self.between_imports(name, Change::Narrow(name.into(), field), alteration)
    }

    /// Alters a table unless rows are imported into it, which are named as they were when that began.
    fn between_imports(&mut self, name: &str, change: Change, alteration: Alteration) -> Result<(), Error> {
        {
            let mut history = self.history();
            if history.importing.as_deref() == Some(name) {
                return Ok(());
            }
            history.altering = Some(name.into());
        }
        let result = self.define(change, |db| db.alter_table(name, alteration));
        self.history().altering = None;
        result
    }

    fn rename(&mut self, name: &str) -> Result<(), Error> {
        let Some(from) = self.present(name) else { return Ok(()) };
        let Some(to) = self.absent(name, &from, true) else { return Ok(()) };
        let alteration = Alteration::RenameColumn { from: from.clone(), to: to.into() };
        self.between_imports(name, Change::Rename(name.into(), from, to.into()), alteration)
    }

    fn zone(&mut self, name: &str) -> Result<(), Error> {
        if self.db.catalog().table(name).is_none_or(|table| table.column(table::ZONE).is_some()) {
            return Ok(());
        }
        let alteration = Alteration::AddTags(vec![table::ZONE.into()]);
        self.define(Change::Zone(name.into()), |db| db.alter_table(name, alteration))
    }

    fn keep(&mut self, name: &str) -> Result<(), Error> {
        let retention = Some(self.dice.pick(&table::RETENTIONS_US)).filter(|_| self.dice.percent(80));
        let change = Change::Keep(name.into(), retention.map(table::kept_from));
        if self.db.catalog().table(name).is_none_or(|table| table.retention == retention) {
            return Ok(());
        }
        self.define(change, |db| db.alter_table(name, Alteration::SetRetention(retention)))
    }

    /// A column that a table has.
    fn present(&mut self, name: &str) -> Option<String> {
        let fields = self.db.catalog().table(name).map(|table| table::fields(table))?;
        (!fields.is_empty()).then(|| self.dice.pick(&fields))
    }

    /// A column that a table lacks; of the type of another where that is asked for.
    fn absent(&mut self, name: &str, other: &str, like_it: bool) -> Option<&'static str> {
        let there = self.db.catalog().table(name).map(|table| table::fields(table))?;
        let fits = |field: &&str| !there.iter().any(|other| other == field) && (!like_it || field[..1] == other[..1]);
        let fields: Vec<&str> = FIELDS.into_iter().filter(fits).collect();
        (!fields.is_empty()).then(|| self.dice.pick(&fields))
    }

    /// Changes a definition. This caller alone does, so the catalog tells whether it was done.
    fn define(&mut self, change: Change, act: impl FnOnce(&Db) -> Result<(), Error>) -> Result<(), Error> {
        let before = self.db.catalog();
        let result = act(&self.db);
        match &result {
            _ if self.db.catalog() != before => self.record(change, Outcome::Defined),
            Err(Error::ReadOnly { .. }) => self.record(change, Outcome::Unknown),
            Err(_) => {}
            Ok(()) => panic!("done, and nothing changed: {change:?}"),
        }
        result
    }

    fn truncate(&mut self, name: &str) -> Result<(), Error> {
        let result = self.db.truncate(name);
        let outcome = match &result {
            Ok(()) => Some(Outcome::Defined),
            // The catalog stays as it is, so nobody knows.
            Err(_) => self.db.status().read_only.map(|_| Outcome::Unknown),
        };
        let unknown = outcome == Some(Outcome::Unknown);
        outcome.into_iter().for_each(|outcome| self.record(Change::Truncate(name.into()), outcome));
        // Only the last definition may be one that nobody knows of.
        if unknown { Err(self.read_only()) } else { result }
    }

    pub(crate) fn read_only(&self) -> Error {
        Error::ReadOnly { reason: self.db.status().read_only.unwrap_or_default() }
    }

    /// Lets rows expire, and sees that they are gone.
    fn expire(&mut self) -> Result<(), Error> {
        self.db.expire()?;
        let snapshot = self.db.snapshot();
        for (name, _) in TABLES {
            let Some(table) = snapshot.table(name) else { continue };
            let found = table::read(table, &Wanted::ALL)?;
            if let Some(keep) = found.keep {
                let expired = found.rows.keys().find(|key| key.at < keep);
                assert_eq!(expired, None, "{name}: a row from before {keep} is still there");
            }
            let seen = Observation {
                sequence: snapshot.sequence(),
                name: name.into(),
                wanted: Wanted::ALL,
                found: Some(found),
            };
            self.observe(seen);
        }
        Ok(())
    }

    /// Backs up, and opens the backup or what is restored of it.
    fn back_up(&mut self) -> Result<(), Error> {
        let dir = PathBuf::from(format!("backup-{:016x}", self.dice.bits()));
        let report = self.db.backup(&dir)?;
        let restored = dir.with_extension("restored");
        if self.dice.percent(30) {
            juno_engine::restore(&dir, &restored, self.db.system())?;
            return self.see(&restored, report.sequence);
        }
        self.see(&dir, report.sequence)
    }

    /// Takes down what another database holds as what this one held.
    fn see(&mut self, dir: &Path, sequence: u64) -> Result<(), Error> {
        let db = Db::open_with(dir, Options { system: self.db.system().clone(), ..self.options.clone() })?;
        let snapshot = db.snapshot();
        for (name, _) in TABLES {
            let found = snapshot.table(name).map(|table| table::read(table, &Wanted::ALL)).transpose()?;
            self.observe(Observation { sequence, name: name.into(), wanted: Wanted::ALL, found });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let damages = self.db.check()?.damages;
        assert!(self.trouble != Trouble::None || damages.is_empty(), "{damages:?}");
        Ok(())
    }
}
