//! What only one request at a time may do: it holds a name from its decision to the end of its job.
//!
//! **Invariant:** a name is let go whichever way its request ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Invocation, Operations};
use crate::Result;
use crate::operation::{Refusal, Refused};

/// The names that are held.
#[derive(Default)]
pub(super) struct Holds(Mutex<BTreeSet<String>>);

/// A name that a request holds.
pub(super) struct Held {
    operations: Arc<Operations>,
    name: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.operations.holds.0.lock().remove(&self.name);
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
        let operations = Arc::clone(&self.own.shared.operations);
        if !operations.holds.0.lock().insert(name.clone()) {
            let text = format!("another {work} of \"{subject}\" runs: wait for it or cancel its job");
            return Err(Refusal::new(Refused::Concurrent, text).into());
        }
        own.push(Held { operations, name });
        Ok(())
    }
}
