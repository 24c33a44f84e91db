//! Reinforcement learning over the knobs of the scaling rule: training, evaluation, promotion. What is judged is in [`policy`], what
//! is read in `views.sql`.
//!
//! **Invariant:** each procedure is a file of its own; judgement knows no clock, no table and no thread.

pub(crate) mod evaluate;
pub(crate) mod load;
pub(crate) mod log;
pub mod policy;
pub(crate) mod promote;
pub(crate) mod request;
mod retrain;
pub(crate) mod rollback;
pub(crate) mod rule;
pub(crate) mod scene;
pub(crate) mod store;
pub(crate) mod train;
pub(crate) mod work;

#[cfg(test)]
mod tests;
