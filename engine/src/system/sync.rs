//! Threads, locks and channels: the operating system's, or those of a scheduler that a seed drives.
//!
//! The simulation compiles the engine with the feature `simulated`. Each lock, channel and shared flag is then a place where
//! the scheduler may go on with another thread, so that one seed gives one history.
//!
//! **Invariant:** the engine takes threads, locks, channels and atomics that threads wait for from here alone; a lock of
//! another origin would block the scheduler.

#[cfg(feature = "simulated")]
mod simulated;

#[cfg(not(feature = "simulated"))]
mod native {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use std::thread::JoinHandle;

    pub(crate) use crossbeam::channel::{Receiver, Sender, bounded};
    pub(crate) use parking_lot::{Condvar, Mutex, RwLock};

    /// Starts a thread with a name.
    pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name.into()).spawn(work)
    }
}

#[cfg(not(feature = "simulated"))]
pub(crate) use self::native::*;
#[cfg(feature = "simulated")]
pub(crate) use self::simulated::*;
