//! Self-healing: incidents, what made them, and what is done about them. What is judged is in [`policy`], what is read in
//! `views.sql`.
//!
//! **Invariant:** each procedure is a file of its own; judgement knows no clock, no table and no process.

pub(crate) mod diagnose;
pub mod policy;
