//! Orders by their keys, on disk: what was begun, and how it ended.
//!
//! **Invariant:** an order is on disk as begun before it has an effect, so that none is repeated blindly after a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use juno_sql::actuator::{ActuatorError, Effect, Order};
use serde::{Deserialize, Serialize};

/// So many orders are remembered; of those that ended, the oldest are forgotten first.
const ORDERS_MAX: usize = 512;

/// An order and how it ended; None while it runs, or when a crash cut it off.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Entry {
    order: Order,
    outcome: Option<Result<Effect, ActuatorError>>,
}

/// The orders of one actuator.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Ledger {
    /// Reads the orders of a file; none where there is none.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let entries = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| wrong(&path, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, entries })
    }

    /// Begins an order; gives the answer where one of its key was given before.
    pub(super) fn begin(&mut self, order: &Order) -> io::Result<Option<Result<Effect, ActuatorError>>> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.order.key == order.key) {
            return Ok(Some(answer(entry, order)));
        }
        if self.entries.len() >= ORDERS_MAX {
            let oldest = self.entries.iter().position(|entry| entry.outcome.is_some()).unwrap_or(0);
            self.entries.remove(oldest);
        }
        self.entries.push(Entry { order: order.clone(), outcome: None });
        self.save().map(|()| None)
    }

    /// Notes how an order ended.
    pub(super) fn end(&mut self, key: &str, outcome: &Result<Effect, ActuatorError>) -> io::Result<()> {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.order.key == key) {
            entry.outcome = Some(outcome.clone());
        }
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        write_durably(&self.path, &serde_json::to_vec(&self.entries).map_err(io::Error::other)?)
    }
}

/// What the first order of a key answers to another one.
fn answer(entry: &Entry, order: &Order) -> Result<Effect, ActuatorError> {
    let (target, key) = (order.target.clone(), order.key.clone());
    let is_same =
        (&entry.order.target, entry.order.action, &entry.order.params) == (&order.target, order.action, &order.params);
    if !is_same {
        let reason = format!("the key \"{key}\" was used for another order: take a new one");
        return Err(ActuatorError::Refused { target, reason });
    }
    match &entry.outcome {
        Some(Ok(effect)) => Ok(Effect { is_repetition: true, ..effect.clone() }),
        Some(Err(error)) => Err(error.clone()),
        None => Err(ActuatorError::Interrupted { target, key }),
    }
}

/// Replaces a file, so that after a crash it is the old or the new one.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// A file that cannot be read as what it should be.
pub(super) fn wrong(path: &Path, error: &serde_json::Error) -> io::Error {
    let text = format!("{} is damaged: {error}; move it away to start anew", path.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use juno_sql::actuator::Action;
    use serde_json::Value;

    use super::*;

    fn order(key: &str, action: Action) -> Order {
        Order { target: "shop".into(), action, params: Value::Null, key: key.into(), limit_ms: 1 }
    }

    #[test]
    fn after_a_crash_what_was_begun_is_interrupted_and_what_ended_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orders.json");
        let mut ledger = Ledger::open(path.clone()).unwrap();
        assert!(ledger.begin(&order("a", Action::Restart)).unwrap().is_none());
        assert!(ledger.begin(&order("b", Action::Restart)).unwrap().is_none());
        ledger.end("b", &Ok(Effect { before: <_>::default(), after: <_>::default(), is_repetition: false })).unwrap();
        let mut ledger = Ledger::open(path).unwrap();
        let again = ledger.begin(&order("a", Action::Restart)).unwrap().unwrap();
        assert!(matches!(again, Err(ActuatorError::Interrupted { .. })), "{again:?}");
        assert!(ledger.begin(&order("b", Action::Restart)).unwrap().unwrap().unwrap().is_repetition);
        let other = ledger.begin(&order("b", Action::Stop)).unwrap().unwrap();
        assert!(matches!(other, Err(ActuatorError::Refused { .. })), "{other:?}");
    }

    #[test]
    fn the_oldest_ended_orders_are_forgotten_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path().join("orders.json")).unwrap();
        let ended = Ok(Effect { before: <_>::default(), after: <_>::default(), is_repetition: false });
        ledger.begin(&order("open", Action::Stop)).unwrap();
        for i in 0..ORDERS_MAX {
            let key = i.to_string();
            ledger.entries.push(Entry { order: order(&key, Action::Stop), outcome: Some(ended.clone()) });
        }
        ledger.begin(&order("new", Action::Stop)).unwrap();
        let keys: Vec<&str> = ledger.entries.iter().map(|entry| entry.order.key.as_str()).collect();
        assert!(keys.contains(&"open") && !keys.contains(&"0") && keys.contains(&"new"));
    }
}
