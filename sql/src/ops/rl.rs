//! Reinforcement learning over the knobs of the scaling rule.
//!
//! **Invariant:** judgement only; tables, jobs and actuators are those of the callers.

pub mod policy;
