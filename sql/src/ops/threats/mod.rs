//! Threats: what events are suspicious, what is done about it, and what people say of it.
//!
//! **Invariant:** each procedure is a file of its own.

pub(crate) mod analyze;
pub(crate) mod drift;
pub(crate) mod expire;
pub(crate) mod feed;
pub(crate) mod label;
pub(crate) mod policy;
mod recalibration;
pub(crate) mod respond;
pub(crate) mod sigma;
pub(crate) mod watch;
