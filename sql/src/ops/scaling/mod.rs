//! Predictive scaling: what is judged is in [`policy`], what is read in `views.sql`.
//!
//! **Invariant:** judgement knows no clock, no table and no process.

pub mod policy;
