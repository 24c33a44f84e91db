//! What acts on the world: local processes, workloads of a Kubernetes cluster, and whoever answers a webhook.
//!
//! **Invariant:** decides nothing: an order that gets here has passed the guards of `juno_sql::healing`.

#[cfg(test)]
mod conformance;
pub mod kubernetes;
mod ledger;
pub mod outside;
pub mod process;
pub mod webhook;
