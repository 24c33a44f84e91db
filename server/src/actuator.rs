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

use juno_sql::actuator::{ActuatorError, Effect, Order};

/// Logs what came of an order.
fn log(order: &Order, outcome: &Result<Effect, ActuatorError>) {
    let (target, action, key) = (&order.target, order.action.name(), &order.key);
    match outcome {
        Ok(effect) => tracing::info!(target, action, key, repetition = effect.is_repetition, "an order is done"),
        Err(error) => tracing::warn!(target, action, key, %error, "an order failed"),
    }
}
