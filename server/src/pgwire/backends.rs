//! Who is connected, so that a CancelRequest finds the statement that it means.
//!
//! **Invariant:** a cancel without the connection's secret does nothing, and nothing tells the asker which it was.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use juno_sql::Session;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;

/// Bytes of a secret under protocol 3.0, which knows no other length.
const SHORT_KEY_BYTES: usize = 4;

/// All connections of one listener.
#[derive(Default)]
pub(super) struct Backends {
    connected: Mutex<HashMap<i32, Entry>>,
    last: AtomicI32,
}

struct Entry {
    key: Bytes,
    running: Arc<Running>,
}

struct Running {
    busy: AtomicBool,
    cancel: Arc<dyn Fn() + Send + Sync>,
}

impl Running {
    fn cancel(&self) {
        if self.busy.load(Ordering::Acquire) {
            (self.cancel)();
        }
    }
}

/// One connection's place in the list; dropping it takes it off.
pub(super) struct Backend {
    id: i32,
    key: Bytes,
    running: Arc<Running>,
    backends: Arc<Backends>,
}

impl Backends {
    fn connected(&self) -> MutexGuard<'_, HashMap<i32, Entry>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection with a fresh random secret, long where the protocol allows it.
    pub(super) fn register(self: &Arc<Self>, session: &Session, long_key: bool) -> Backend {
        let random = session.db().system().random();
        let bytes = [random.next_u64(), random.next_u64()].map(u64::to_be_bytes).concat();
        let length = if long_key { bytes.len() } else { SHORT_KEY_BYTES };
        let key = Bytes::from(bytes).slice(..length);
        let running = Arc::new(Running { busy: AtomicBool::new(false), cancel: session.cancel_handle() });
        let mut connected = self.connected();
        let mut id = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
        while id == 0 || connected.contains_key(&id) {
            id = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
        }
        connected.insert(id, Entry { key: key.clone(), running: Arc::clone(&running) });
        drop(connected);
        Backend { id, key, running, backends: Arc::clone(self) }
    }

    /// Stops the statement that the named connection runs, if the secret is its own.
    pub(super) fn cancel(&self, request: &CancelRequest) {
        let running = {
            let connected = self.connected();
            let entry = connected.get(&request.pid).filter(|entry| entry.key == request.secret_key.to_bytes());
            entry.map(|entry| Arc::clone(&entry.running))
        };
        if let Some(running) = running {
            running.cancel();
        }
    }

    /// Stops all running statements.
    pub(super) fn cancel_all(&self) {
        let all: Vec<_> = self.connected().values().map(|entry| Arc::clone(&entry.running)).collect();
        all.iter().for_each(|running| running.cancel());
    }
}

impl Backend {
    /// The number that stands for the process id.
    pub(super) fn id(&self) -> i32 {
        self.id
    }

    /// The secret that a CancelRequest must bring.
    pub(super) fn secret(&self) -> SecretKey {
        SecretKey::Bytes(self.key.clone())
    }

    /// Says that a statement runs from now until the guard is dropped; only then does a cancel reach the session.
    pub(super) fn busy(&self) -> Busy {
        self.running.busy.store(true, Ordering::Release);
        Busy(Arc::clone(&self.running))
    }

    /// Stops the running statement.
    pub(super) fn cancel(&self) {
        self.running.cancel();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.backends.connected().remove(&self.id);
    }
}

/// A running statement.
pub(super) struct Busy(Arc<Running>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}
