//! Whether what is seen of a target afterwards bears out that an order was carried out.
//!
//! Whoever carries out orders may answer that it did and have done nothing. It is held to what it said of the target afterwards:
//! those who never tell of a standby, of units or of isolation cannot be told from those whose target has none.
//!
//! **Invariant:** what cannot be seen, and what nobody claimed, contradicts nothing.

use std::collections::BTreeSet;

use super::{Action, Observation, Order};

/// How what is seen now contradicts that an order was carried out, which whoever did it said to have left the target as `after`;
/// None where nothing does.
pub(crate) fn contradiction(
    order: &Order,
    (before, after): (&Observation, &Observation),
    now: &Observation,
) -> Option<String> {
    let target = &order.target;
    match order.action {
        Action::Restart if runs_on(before, now) => Some(format!("no replica of \"{target}\" was started anew")),
        Action::Scale => {
            let asked = units(order, before)?;
            let is_as_before = now.wanted == before.wanted && asked != before.wanted;
            (after.wanted == asked && is_as_before)
                .then(|| format!("\"{target}\" still has {} units and not {asked}", now.wanted))
        }
        Action::Failover if after.is_failed_over != now.is_failed_over => {
            Some(format!("the standby of \"{target}\" did not take its place, or give it back"))
        }
        Action::Isolate if after.is_isolated && !now.is_isolated => Some(format!("\"{target}\" is not isolated")),
        Action::Resume if !after.is_isolated && now.is_isolated => Some(format!("\"{target}\" is still isolated")),
        Action::Stop if now.wanted > 0 && now.replicas.iter().any(|replica| replica.state == "running") => {
            Some(format!("\"{target}\" still runs"))
        }
        _ => None,
    }
}

/// Whether all that runs now had been started before.
fn runs_on(before: &Observation, now: &Observation) -> bool {
    let known: BTreeSet<&str> = before.replicas.iter().filter_map(|replica| replica.started.as_deref()).collect();
    let is_known = |started: &Option<String>| started.as_deref().is_some_and(|started| known.contains(started));
    !now.replicas.is_empty() && now.replicas.iter().all(|replica| is_known(&replica.started))
}

/// The units that a change of them asks for.
fn units(order: &Order, before: &Observation) -> Option<usize> {
    let number = |name: &str| order.params[name].as_u64().and_then(|number| usize::try_from(number).ok());
    number("replicas").or_else(|| number("add").map(|add| before.wanted.saturating_add(add)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Replica;
    use super::*;

    fn order(action: Action, params: Value) -> Order {
        Order { target: "shop".into(), action, params, key: "a".into(), limit_ms: 1_000 }
    }

    fn seen(started: &[Option<&str>]) -> Observation {
        let replica = |(index, started): (usize, &Option<&str>)| Replica {
            index,
            state: "running".into(),
            started: started.map(str::to_owned),
            ..Replica::default()
        };
        let replicas = started.iter().enumerate().map(replica).collect();
        Observation { wanted: started.len(), replicas, ..Observation::default() }
    }

    #[test]
    fn a_restart_is_seen_by_what_was_started_anew() {
        let restart = order(Action::Restart, Value::Null);
        let before = seen(&[Some("1"), Some("2")]);
        let said = seen(&[Some("3"), Some("4")]);
        assert!(contradiction(&restart, (&before, &said), &before).is_some());
        for now in [seen(&[Some("1"), Some("3")]), seen(&[None, None]), seen(&[])] {
            assert_eq!(contradiction(&restart, (&before, &said), &now), None, "{now:?}");
        }
        let untold = seen(&[None]);
        assert_eq!(contradiction(&restart, (&untold, &untold), &untold), None, "starts are not told");
    }

    #[test]
    fn units_that_stay_as_they_were_contradict_a_change_of_them() {
        let (two, three) = (seen(&[None, None]), seen(&[None, None, None]));
        let scale = |params| order(Action::Scale, params);
        for params in [json!({ "replicas": 3 }), json!({ "add": 1 })] {
            let told = contradiction(&scale(params.clone()), (&two, &three), &two);
            assert!(told.is_some_and(|text| text.contains("not 3")));
            assert_eq!(contradiction(&scale(params), (&two, &three), &three), None);
        }
        assert_eq!(contradiction(&scale(json!({ "replicas": 2 })), (&two, &two), &two), None, "there were as many");
    }

    #[test]
    fn a_switch_that_is_not_where_it_was_said_to_be_contradicts() {
        let off = seen(&[None]);
        let on = Observation { is_isolated: true, is_failed_over: true, ..off.clone() };
        let none = Observation { replicas: Vec::new(), ..off.clone() };
        for (action, params, done, undone) in [
            (Action::Isolate, Value::Null, &on, &off),
            (Action::Resume, Value::Null, &off, &on),
            (Action::Failover, Value::Null, &on, &off),
            (Action::Failover, json!({ "back": true }), &off, &on),
            (Action::Stop, Value::Null, &none, &off),
        ] {
            let order = order(action, params);
            assert_eq!(contradiction(&order, (&off, done), done), None, "{order:?}");
            assert!(contradiction(&order, (&off, done), undone).is_some(), "{order:?}");
        }
        assert_eq!(contradiction(&order(Action::CleanDisk, Value::Null), (&off, &off), &off), None);
    }

    #[test]
    fn whoever_never_tells_of_units_and_switches_claims_nothing() {
        let untold = Observation::default();
        for (action, params) in [
            (Action::Isolate, Value::Null),
            (Action::Resume, Value::Null),
            (Action::Failover, Value::Null),
            (Action::Scale, json!({ "replicas": 3 })),
        ] {
            assert_eq!(contradiction(&order(action, params), (&untold, &untold), &untold), None, "{action:?}");
        }
    }
}
