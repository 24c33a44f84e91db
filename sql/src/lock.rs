//! Locks of tables: UPDATE, DELETE and INSERT … ON CONFLICT read a table before they write it, one session at a time.
//!
//! A session keeps the locks of its transaction to the end of it. Each session waits for one table at most and each table has
//! one holder, so that a deadlock is a chain that leads back to its beginning.
//!
//! **Invariant:** a lock is let go of when its guard is dropped, and a wait is forgotten when its future is.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Error, Result};

/// All locks of a database.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Which session holds a table.
    holders: HashMap<String, u64>,
    /// Which table a session waits for.
    waits: HashMap<u64, String>,
}

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Held {
    locks: Arc<Locks>,
    table: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.state.lock().holders.remove(&self.table);
        self.locks.released.notify_waiters();
    }
}

/// A wait under way.
struct Waiting<'a> {
    locks: &'a Locks,
    session: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.locks.state.lock().waits.remove(&self.session);
    }
}

impl Locks {
    /// Waits until the table is free and takes it. A session that holds it already must not ask.
    ///
    /// # Errors
    /// [`Error::Deadlock`] where the holder waits, over however many others, for this session.
    pub(crate) async fn take(self: &Arc<Self>, session: u64, table: &str) -> Result<Held> {
        let waiting = Waiting { locks: self, session };
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.state.lock().take(session, table)? {
                drop(waiting);
                return Ok(Held { locks: Arc::clone(self), table: table.to_owned() });
            }
            released.await;
        }
    }
}

impl State {
    /// Takes a free table, or notes that the session waits for it.
    fn take(&mut self, session: u64, table: &str) -> Result<bool> {
        let Some(&holder) = self.holders.get(table) else {
            self.holders.insert(table.to_owned(), session);
            return Ok(true);
        };
        let mut at = holder;
        while let Some(next) = self.waits.get(&at).and_then(|table| self.holders.get(table)) {
            if *next == session {
                return Err(Error::Deadlock(table.to_owned()));
            }
            at = *next;
        }
        self.waits.insert(session, table.to_owned());
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_waited_for_and_a_circle_of_waits_is_refused() {
        let locks = Arc::new(Locks::default());
        let first = locks.take(1, "a").await.expect("free");
        let second = locks.take(2, "b").await.expect("free");
        let waits = {
            let locks = Arc::clone(&locks);
            tokio::spawn(async move { locks.take(1, "b").await })
        };
        while locks.state.lock().waits.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(locks.take(2, "a").await, Err(Error::Deadlock(_))));
        drop(second);
        let third = waits.await.expect("no panic").expect("free now");
        drop((first, third));
        assert!(locks.state.lock().holders.is_empty() && locks.state.lock().waits.is_empty());
    }
}
