//! What each order does to a service.
//!
//! **Invariant:** what is refused was not begun.

use juno_sql::actuator::{Action, ActuatorError, Order};
use serde_json::Value;

use super::unit::Unit;

/// Carries out an order.
pub(super) async fn carry_out(unit: &Unit, order: &Order) -> Result<(), ActuatorError> {
    if !unit.target().actions.contains(&order.action) {
        return Err(unit.refused(format!("it takes no {}", order.action.name())));
    }
    let record = unit.record();
    let contained =
        matches!(order.action, Action::Stop | Action::Resume | Action::Isolate | Action::Cordon | Action::Uncordon);
    if record.is_isolated && !contained {
        return Err(unit.refused("it is isolated: resume it first"));
    }
    let starts = matches!(
        order.action,
        Action::Start | Action::Restart | Action::Failover | Action::Rollback | Action::ConfigCorrect | Action::Scale
    );
    if record.is_cordoned && starts {
        return Err(unit.refused("it is cordoned: uncordon it first"));
    }
    match order.action {
        Action::Start => {
            unit.remember(|record| record.is_stopped = false)?;
            unit.start_missing().await
        }
        Action::Stop => {
            unit.remember(|record| record.is_stopped = true)?;
            unit.stop_from(0).await
        }
        Action::Restart => restart(unit).await,
        Action::Scale => scale(unit, &order.params).await,
        Action::Failover => fail_over(unit, &order.params).await,
        Action::Rollback => roll_back(unit, &order.params).await,
        Action::ConfigCorrect => correct(unit, &order.params).await,
        Action::Rebalance => {
            let nice = order.params["nice"].as_i64().filter(|nice| (-20..20).contains(nice));
            let nice = nice.and_then(|nice| i32::try_from(nice).ok());
            unit.set_nice(nice.ok_or_else(|| unit.refused("rebalance needs a nice from -20 to 19"))?)
        }
        Action::Cordon => unit.remember(|record| record.is_cordoned = true),
        Action::Uncordon => unit.remember(|record| record.is_cordoned = false),
        Action::CleanDisk => unit.clean().await,
        Action::Isolate => {
            unit.remember(|record| record.is_isolated = true)?;
            unit.halt(true).await
        }
        Action::Resume => {
            unit.halt(false).await?;
            unit.remember(|record| record.is_isolated = false)
        }
    }
}

async fn restart(unit: &Unit) -> Result<(), ActuatorError> {
    if unit.record().is_stopped {
        return Err(unit.refused("it is stopped: start it"));
    }
    unit.stop_from(0).await?;
    unit.start_missing().await
}

async fn scale(unit: &Unit, params: &Value) -> Result<(), ActuatorError> {
    let most = unit.service.replicas_max;
    let add = params["add"].as_u64().and_then(|add| usize::try_from(add).ok());
    let size = params["replicas"].as_u64().and_then(|size| usize::try_from(size).ok());
    let wanted = size.or(add.map(|add| unit.record().size.saturating_add(add)));
    let wanted = wanted.filter(|wanted| (1..=most).contains(wanted));
    let wanted =
        wanted.ok_or_else(|| unit.refused(format!("scale needs replicas or add, for 1 to {most} replicas")))?;
    unit.remember(|record| record.size = wanted)?;
    unit.stop_from(wanted).await?;
    unit.start_missing().await
}

async fn fail_over(unit: &Unit, params: &Value) -> Result<(), ActuatorError> {
    let back = params["back"].as_bool().unwrap_or(false);
    if unit.record().is_failed_over != back {
        return Err(unit.refused(if back { "its standby does not run" } else { "its standby runs already" }));
    }
    unit.remember(|record| record.is_failed_over = !back)?;
    unit.stop_from(0).await?;
    unit.start_missing().await
}

async fn roll_back(unit: &Unit, params: &Value) -> Result<(), ActuatorError> {
    let record = unit.record();
    if record.previous.is_none() {
        return Err(unit.refused("there is no configuration before this one"));
    }
    if record.is_rolled_back && !params["redo"].as_bool().unwrap_or(false) {
        return Err(unit.refused("it was rolled back already: give redo to go forth again"));
    }
    unit.remember(|record| _ = record.roll_back())?;
    apply(unit).await
}

async fn correct(unit: &Unit, params: &Value) -> Result<(), ActuatorError> {
    match &params["config"] {
        Value::Null if unit.record().config.is_none() => Err(unit.refused("it has no configuration: give one")),
        Value::Null => apply(unit).await,
        Value::String(text) => {
            unit.remember(|record| record.configure(text.clone()))?;
            apply(unit).await
        }
        _ => Err(unit.refused("config must be a text")),
    }
}

async fn apply(unit: &Unit) -> Result<(), ActuatorError> {
    unit.write_config().map_err(|error| unit.refused(format!("its configuration cannot be written: {error}")))?;
    if unit.record().is_stopped { Ok(()) } else { restart(unit).await }
}
