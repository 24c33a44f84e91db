//! What only one at a time may do: a request holds a name from its decision to the end of its job, an operation its turn at a target.
//!
//! **Invariant:** a name is let go whichever way its request ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Invocation, Operations};
use crate::Result;
use crate::operation::{Refusal, Refused};
use crate::session::Session;

/// The names that are held.
#[derive(Default)]
pub(super) struct Holds(Mutex<BTreeSet<String>>);

/// A name that is held until this is dropped.
pub(crate) struct Hold {
    operations: Arc<Operations>,
    name: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.operations.holds.0.lock().remove(&self.name);
    }
}

impl Operations {
    fn held(self: &Arc<Self>, name: String) -> Option<Hold> {
        let is_free = self.holds.0.lock().insert(name.clone());
        is_free.then(|| Hold { operations: Arc::clone(self), name })
    }
}

impl Session {
    /// The turn of an operation at a target, or at what juno itself keeps of such a kind under its name; refuses while another
    /// operation has it.
    pub(crate) fn turn(&self, executor: &str, kind: &str, target: &str) -> Result<Hold> {
        self.operations()
            .held(format!("turn {executor} {kind} {target}"))
            .ok_or_else(|| Refusal::new(Refused::Concurrent, format!("another operation acts on {target} now")).into())
    }
}

impl Invocation {
    /// Holds a subject for such work until the request and its job are over; refuses where another request holds it.
    pub(crate) fn hold(&self, work: &str, subject: &str) -> Result<()> {
        let name = format!("{work} {subject}");
        let mut own = self.held.lock();
        if own.iter().any(|held| held.name == name) {
            return Ok(());
        }
        let held = self.own.operations().held(name).ok_or_else(|| {
            let text = format!("another {work} of \"{subject}\" runs: wait for it or cancel its job");
            Refusal::new(Refused::Concurrent, text)
        })?;
        own.push(held);
        Ok(())
    }
}
