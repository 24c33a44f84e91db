//! A simulated service that is scaled: recorded demand, replicas that take time to start, and who commands them.
//!
//! **Invariant:** whoever commands sees what a metrics pipeline would have shown by then, and nothing of what comes after.

pub mod demand;
pub mod grid;
pub mod hpa;
pub mod planned;
pub mod service;
