//! Threats: what events are suspicious, and what people say of it.
//!
//! **Invariant:** each procedure is a file of its own.

pub(crate) mod analyze;
pub(crate) mod label;
