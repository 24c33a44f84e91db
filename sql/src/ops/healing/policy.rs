//! The judgement of self-healing: from alarms to incidents, from evidence to causes, from causes to runbooks, and whether one may run.
//!
//! The order of a loop: [`alarm`]s are gathered to [`group`]s; one that stands out of the [`budget`] is an incident, with a
//! [`severity`]; its services' [`evidence`] gives a [`diagnosis`] of [`cause`]s; a [`runbook`] is chosen by what it has
//! achieved ([`track_record`]); the [`guard`]s say whether it may act; [`verification`] says whether it healed; the [`status`]
//! of the incident moves with it, and what takes too long calls for [`escalation`]. What comes next is its [`course`].
//!
//! **Invariant:** pure functions and plain values: no clock, no randomness, no I/O, no SQL. Times are microseconds since 1970.

pub mod alarm;
pub mod budget;
pub mod cause;
pub mod circuit;
pub mod course;
pub mod diagnosis;
pub mod escalation;
pub mod evidence;
pub mod graph;
pub mod group;
pub mod guard;
pub mod runbook;
pub mod severity;
pub mod status;
pub mod track_record;
pub mod verification;

#[cfg(test)]
mod tests;
