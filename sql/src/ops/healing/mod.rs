//! Self-healing: incidents, what made them, and what is done about them. What is judged is in [`policy`], what is read in
//! `views.sql`.
//!
//! **Invariant:** each procedure is a file of its own; judgement knows no clock, no table and no process.

pub(crate) mod call;
pub(crate) mod diagnose;
pub(crate) mod incident;
pub mod policy;
pub(crate) mod remediate;
pub(crate) mod resolve;

/// The name by which the autopilot asks; no user may have it.
pub const AUTOPILOT: &str = "autopilot";
/// The telemetry that the autopilot writes of each service that it watches, once a second.
pub const HEALTH: &str = "fleet_health";
