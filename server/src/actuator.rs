//! What acts on the world: local processes, and whoever answers a webhook.
//!
//! **Invariant:** decides nothing: an order that gets here has passed the guards of `juno_sql::healing`.

#[cfg(test)]
mod conformance;
mod ledger;
pub mod process;
pub mod webhook;
