//! What every actuator must do, whatever it acts through.
//!
//! **Invariant:** knows of an actuator what its trait says, and nothing else.

use std::time::Duration;

use juno_sql::actuator::{Action, Actuator, ActuatorError, Observation, Order};
use serde_json::{Value, json};
use tokio::time::Instant;

/// An order without parameters.
pub(super) fn order(target: &str, action: Action, key: &str) -> Order {
    Order { target: target.into(), action, params: Value::Null, key: key.into(), limit_ms: 20_000 }
}

fn starts(observed: &Observation) -> Vec<Option<String>> {
    observed.replicas.iter().map(|replica| replica.started.clone()).collect()
}

/// Holds an actuator to the contract. `target` is well and takes restart and scale up to 2, but no failover; `stuck` does not
/// obey, so that a restart takes longer than 300 ms.
pub(super) async fn suite(actuator: &dyn Actuator, target: &str, stuck: &str) {
    targets_are_known_and_others_are_not(actuator, target, stuck).await;
    an_order_is_done_once_per_key(actuator, target).await;
    what_is_not_possible_is_refused_without_effect(actuator, target).await;
    what_can_be_taken_back_is(actuator, target).await;
    what_takes_too_long_is_told_in_time(actuator, stuck).await;
}

async fn targets_are_known_and_others_are_not(actuator: &dyn Actuator, target: &str, stuck: &str) {
    let targets = actuator.targets().await.unwrap();
    for wanted in [target, stuck] {
        let found = targets.iter().find(|found| found.name == wanted).unwrap();
        assert!(found.actions.contains(&Action::Restart), "{found:?}");
    }
    let unknown = ActuatorError::UnknownTarget("nobody".into());
    assert_eq!(actuator.observe("nobody").await, Err(unknown.clone()));
    assert_eq!(actuator.act(&order("nobody", Action::Restart, "nobody")).await, Err(unknown));
    let (first, second) = (actuator.observe(target).await.unwrap(), actuator.observe(target).await.unwrap());
    assert_eq!(starts(&first), starts(&second), "looking has an effect");
    assert!(first.wanted == 1 && first.replicas[0].is_healthy == Some(true), "{first:?}");
}

async fn an_order_is_done_once_per_key(actuator: &dyn Actuator, target: &str) {
    let restart = order(target, Action::Restart, "restart once");
    let (one, two) = tokio::join!(actuator.act(&restart), actuator.act(&restart));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(starts(&one.before), starts(&one.after), "it was not restarted");
    assert_eq!(one.after.replicas[0].is_healthy, Some(true));
    assert!(one.is_repetition != two.is_repetition, "one of two at once is the repetition");
    assert!(actuator.act(&restart).await.unwrap().is_repetition);
    assert_eq!(starts(&actuator.observe(target).await.unwrap()), starts(&one.after), "it was restarted again");
    let other = actuator.act(&order(target, Action::Stop, "restart once")).await;
    assert!(matches!(other, Err(ActuatorError::Refused { .. })), "{other:?}");
}

async fn what_is_not_possible_is_refused_without_effect(actuator: &dyn Actuator, target: &str) {
    let before = starts(&actuator.observe(target).await.unwrap());
    let scale = |replicas: Value, key: &str| Order {
        params: json!({"replicas": replicas}),
        ..order(target, Action::Scale, key)
    };
    let impossible = [
        order(target, Action::Failover, "no standby"),
        order(target, Action::Restart, ""),
        order(target, Action::Restart, &"k".repeat(256)),
        scale(json!(0), "to nothing"),
        scale(json!(1_000), "too many"),
        scale(json!("two"), "no number"),
    ];
    for order in impossible {
        let outcome = actuator.act(&order).await;
        assert!(matches!(outcome, Err(ActuatorError::Refused { .. })), "{order:?} {outcome:?}");
    }
    assert_eq!(starts(&actuator.observe(target).await.unwrap()), before);
}

async fn what_can_be_taken_back_is(actuator: &dyn Actuator, target: &str) {
    let scale = Order { params: json!({"replicas": 2}), ..order(target, Action::Scale, "scale") };
    let effect = actuator.act(&scale).await.unwrap();
    assert_eq!((effect.before.wanted, effect.after.wanted, effect.after.replicas.len()), (1, 2, 2));
    assert!(effect.after.replicas.iter().all(|replica| replica.is_healthy == Some(true)), "{effect:?}");
    let back = actuator.undo(&scale, &effect, "scale back").await.unwrap();
    assert_eq!((back.after.wanted, back.after.replicas.len()), (1, 1));
    let restart = order(target, Action::Restart, "restart for ever");
    let effect = actuator.act(&restart).await.unwrap();
    let outcome = actuator.undo(&restart, &effect, "restart back").await;
    assert!(matches!(outcome, Err(ActuatorError::Refused { .. })), "{outcome:?}");
}

async fn what_takes_too_long_is_told_in_time(actuator: &dyn Actuator, stuck: &str) {
    let began = Instant::now();
    let restart = Order { limit_ms: 300, ..order(stuck, Action::Restart, "too long") };
    let outcome = actuator.act(&restart).await;
    assert!(matches!(&outcome, Err(ActuatorError::Timeout { target, .. }) if target == stuck), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(actuator.observe(stuck).await.is_ok());
}
