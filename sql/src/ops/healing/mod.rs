//! Self-healing: what is judged is in [`policy`], what is read in `views.sql`.
//!
//! **Invariant:** judgement knows no clock, no table and no process; what acts asks it first.

pub mod policy;
