//! The one who imports, while others write and define.
//!
//! **Invariant:** there is one, so imports follow each other.

use juno_engine::Error;

use crate::callers::{Caller, TABLES, Trouble};
use crate::history::Import;
use crate::model::{Kind, Write};
use crate::table;

/// Imports while a database is open; the history tries all their places.
pub(crate) const IMPORTS_MAX: u64 = 2;

impl Caller {
    /// Imports so many times.
    pub(crate) fn import(mut self, times: u64) {
        for _ in 0..times {
            let (name, kind) = self.dice.pick(&TABLES);
            if self.db.catalog().table(name).is_none() {
                continue;
            }
            {
                // Not held where another thread may go on, since it is none of the scheduler's.
                let mut history = self.history();
                if history.altering.as_deref() == Some(name) {
                    continue;
                }
                history.importing = Some(name.into());
            }
            let result = self.import_once(name, kind);
            self.history().importing = None;
            match result {
                // Dropped or truncated meanwhile, of which the table does not have a row then.
                Ok(()) | Err(Error::UnknownTable { .. }) => {}
                Err(Error::ReadOnly { .. }) if self.trouble == Trouble::Writes => return,
                Err(Error::Closed) if self.closing => return,
                Err(error) if self.fault(&error) => {}
                Err(error) => panic!("{}", error.chain()),
            }
        }
    }

    fn import_once(&mut self, name: &str, kind: Kind) -> Result<(), Error> {
        let mut batches = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let most = if self.dice.percent(10) { 60 } else { 8 };
            let keys = self.keys(name, kind, most);
            let rows = self.rows(name, keys);
            batches.push(Write { table: name.into(), deletes: Vec::new(), rows, must_be_absent: false });
        }
        let from = self.db.snapshot().sequence();
        let ready: Vec<_> = batches.iter().filter_map(|batch| table::write(batch, kind).rows).collect();
        let result = self.db.import(name, ready.into_iter().map(Ok::<_, Error>));
        let to = self.db.snapshot().sequence();
        let to = match &result {
            Ok(_) => Some(to),
            Err(_) if self.db.status().read_only.is_some() => None,
            Err(_) => return result.map(drop),
        };
        let rows = batches.into_iter().flat_map(|batch| batch.rows).collect();
        let rows = Write { table: name.into(), deletes: Vec::new(), rows, must_be_absent: false };
        self.history().imports.push(Import { rows, from, to });
        if to.is_none() { Err(self.read_only()) } else { Ok(()) }
    }
}
