//! The last orders of a target by their keys, in an annotation of the target itself: what was begun, and how it ended.
//!
//! An order is written there by the very patch that carries it out, so that its record and its effect are there together or not
//! at all: what was begun and has no outcome was done, and only the wait for it was cut off.
//!
//! **Invariant:** the record never grows beyond what an annotation should hold; the oldest orders are forgotten first.

use juno_sql::actuator::{ActuatorError, Effect, Observation, Order};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::view::digest_of;

/// The annotation.
pub(super) const ORDERS: &str = "juno.io/orders";
/// So many orders are remembered at most,
const ORDERS_MAX: usize = 16;
/// in so many bytes: controllers copy annotations to what they make.
const ORDERS_BYTES_MAX: usize = 16 << 10;
/// So many replicas of each observation are remembered.
const REPLICAS_MAX: usize = 50;

/// An order and how it ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Entry {
    key: String,
    /// What tells it from another order under the same key.
    order: String,
    before: Observation,
    /// What was there after it, or why it failed; None while it is waited for.
    #[serde(default)]
    outcome: Option<Result<Observation, ActuatorError>>,
}

/// What an earlier order of the same key means for another one.
pub(super) enum Earlier {
    /// It ended, or was another order: this is the answer.
    Ended(Result<Effect, ActuatorError>),
    /// It was done, and its end was not seen; the target was so before it.
    Begun(Observation),
}

/// The orders of one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders(Vec<Entry>);

impl Orders {
    /// Reads an annotation; what other hands made unreadable is as if it were not there.
    pub(super) fn read(annotation: Option<&str>) -> Self {
        Self(annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
    }

    /// What an earlier order of the same key says; None where there is none.
    pub(super) fn earlier(&self, order: &Order) -> Option<Earlier> {
        let entry = self.0.iter().find(|entry| entry.key == order.key)?;
        if entry.order != fingerprint(order) {
            let reason = format!("the key \"{}\" was used for another order: take a new one", order.key);
            return Some(Earlier::Ended(Err(ActuatorError::Refused { target: order.target.clone(), reason })));
        }
        let before = entry.before.clone();
        Some(match entry.outcome.clone() {
            None => Earlier::Begun(before),
            Some(outcome) => Earlier::Ended(outcome.map(|after| Effect { before, after, is_repetition: true })),
        })
    }

    /// Adds an order that is begun.
    pub(super) fn begin(&mut self, order: &Order, before: &Observation) {
        let entry = Entry { key: order.key.clone(), order: fingerprint(order), before: short(before), outcome: None };
        self.0.push(entry);
    }

    /// Notes how an order ended; false where it is forgotten.
    pub(super) fn end(&mut self, key: &str, outcome: &Result<Observation, ActuatorError>) -> bool {
        let entry = self.0.iter_mut().find(|entry| entry.key == key);
        let outcome = outcome.as_ref().map(short).map_err(Clone::clone);
        entry.map(|entry| entry.outcome = Some(outcome)).is_some()
    }

    /// The annotation.
    pub(super) fn written(&self) -> String {
        let mut first = self.0.len().saturating_sub(ORDERS_MAX);
        loop {
            let text = without_nulls(json!(self.0[first..])).to_string();
            if text.len() <= ORDERS_BYTES_MAX || first + 1 >= self.0.len() {
                return text;
            }
            first += 1;
        }
    }
}

/// What two orders of one key must have in common.
fn fingerprint(order: &Order) -> String {
    digest_of(&json!([order.action, order.params]))
}

fn short(observed: &Observation) -> Observation {
    let replicas = observed.replicas.iter().take(REPLICAS_MAX).cloned().collect();
    Observation { replicas, ..observed.clone() }
}

/// A value whose members all say something.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let said = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(said.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use juno_sql::actuator::{Action, Replica};

    use super::*;

    fn order(key: &str, params: Value) -> Order {
        Order { target: "shop".into(), action: Action::Scale, params, key: key.into(), limit_ms: 1 }
    }

    fn observed(replicas: usize) -> Observation {
        let replica = |index| Replica { index, started: Some(format!("uid-{index}/0")), ..Replica::default() };
        Observation { wanted: replicas, replicas: (0..replicas).map(replica).collect(), ..Observation::default() }
    }

    fn reread(orders: &Orders) -> Orders {
        Orders::read(Some(&orders.written()))
    }

    #[test]
    fn an_order_is_known_again_as_begun_and_as_ended_and_another_one_is_refused() {
        let (one, other) = (order("a", json!({ "replicas": 2 })), order("a", json!({ "replicas": 3 })));
        let mut orders = Orders::default();
        assert!(orders.earlier(&one).is_none());
        orders.begin(&one, &observed(1));
        let mut orders = reread(&orders);
        assert!(matches!(orders.earlier(&one), Some(Earlier::Begun(before)) if before == observed(1)));
        assert!(orders.end("a", &Ok(observed(2))));
        let orders = reread(&orders);
        let Some(Earlier::Ended(Ok(effect))) = orders.earlier(&one) else { panic!("{orders:?}") };
        assert_eq!((effect.before, effect.after, effect.is_repetition), (observed(1), observed(2), true));
        let answer = orders.earlier(&other);
        assert!(matches!(answer, Some(Earlier::Ended(Err(ActuatorError::Refused { .. })))));
    }

    #[test]
    fn a_failure_is_answered_again() {
        let one = order("a", Value::Null);
        let mut orders = Orders::default();
        orders.begin(&one, &observed(1));
        let late = ActuatorError::Timeout { target: "shop".into(), action: "scale".into(), limit_ms: 1 };
        orders.end("a", &Err(late.clone()));
        let Some(Earlier::Ended(answer)) = reread(&orders).earlier(&one) else { panic!("{orders:?}") };
        assert_eq!(answer.unwrap_err(), late);
        assert!(!orders.end("b", &Err(late)));
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_text_stays_short() {
        let mut orders = Orders::default();
        for key in 0..40 {
            orders.begin(&order(&key.to_string(), Value::Null), &observed(200));
            orders.end(&key.to_string(), &Ok(observed(200)));
            orders = reread(&orders);
        }
        assert!(orders.written().len() <= ORDERS_BYTES_MAX);
        assert!(orders.earlier(&order("39", Value::Null)).is_some());
        assert!(orders.earlier(&order("0", Value::Null)).is_none());
        assert!(Orders::read(Some("nonsense")).0.is_empty());
    }
}
