//! What all of operations share: status, jobs, approvals, the audit, the kill switch, maintenance windows, predictions.
//!
//! **Invariant:** judgement is in `policy.rs`; each procedure is a file of its own.

pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod jobs;
pub(crate) mod kill_switch;
pub(crate) mod live;
pub(crate) mod maintenance_windows;
pub(crate) mod optimize;
pub(crate) mod policy;
pub(crate) mod predict;
