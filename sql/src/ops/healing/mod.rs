//! Healing: incidents, what made them, and what is done about them.
//!
//! **Invariant:** each procedure is a file of its own.

pub(crate) mod diagnose;
