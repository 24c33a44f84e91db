//! What an order changes about a target, or why it is refused.
//!
//! **Cordon.** At a Deployment it pauses its rollouts: no new version is started, what runs goes on. With `params.node` it takes a
//! node on which one of the target's pods runs out of scheduling instead, and uncordon lifts only what juno cordoned there for
//! the same target.
//!
//! **Invariant:** pure: what is refused has no effect, and what is not refused is one patch.

use juno_sql::actuator::{Action, Order};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Map, Value, json};

use super::isolation;
use super::record::{ORDERS, Orders};
use super::view::{RESTARTED, ROLLED_BACK, View, fingerprint, without_hash};
use super::workload::{Kind, Workload};

/// The annotation with the replicas that a stopped target had.
const REPLICAS: &str = "juno.io/replicas";
/// The annotation of a node that says for which target it was cordoned.
pub(super) const CORDONED_FOR: &str = "juno.io/cordoned-for";

/// What is changed: annotations, and members of the specification.
#[derive(Debug, Default)]
pub(super) struct Change {
    annotations: Map<String, Value>,
    spec: Map<String, Value>,
}

impl Change {
    fn spec(name: &str, value: Value) -> Self {
        Self { spec: Map::from_iter([(name.to_owned(), value)]), ..Self::default() }
    }

    fn noting(mut self, annotation: &str, value: Value) -> Self {
        self.annotations.insert(annotation.to_owned(), value);
        self
    }

    /// It as a merge patch (RFC 7396) of the target as it is, with the record of its orders.
    pub(super) fn patch(self, workload: &Workload, orders: &Orders) -> Value {
        let Self { annotations, spec } = self.noting(ORDERS, orders.written().into());
        json!({
            "metadata": { "resourceVersion": workload.object.metadata.resource_version, "annotations": annotations },
            "spec": spec,
        })
    }
}

/// The node that an order names.
///
/// # Errors
/// A text, where it is no name.
pub(super) fn node_of(order: &Order) -> Result<Option<&str>, String> {
    match (order.action, &order.params["node"]) {
        (Action::Cordon | Action::Uncordon, Value::String(name)) => Ok(Some(name)),
        (Action::Cordon | Action::Uncordon, Value::Null) => Ok(None),
        (Action::Cordon | Action::Uncordon, _) => Err("node must be the name of a node".into()),
        _ => Ok(None),
    }
}

/// What an order changes. `node` is the one that it names.
///
/// # Errors
/// A text that says why it is refused, and what to do.
pub(super) fn change(view: &View, node: Option<&Node>, order: &Order, now: &str) -> Result<Change, String> {
    let is_calm =
        matches!(order.action, Action::Stop | Action::Resume | Action::Isolate | Action::Cordon | Action::Uncordon);
    if view.is_isolated() && !is_calm {
        return Err("it is isolated: resume it first".into());
    }
    if view.workload.object.spec.paused && !is_calm {
        return Err("it is cordoned, its rollouts are paused: uncordon it first".into());
    }
    match order.action {
        Action::Start => start(view),
        Action::Stop => Ok(stop(view)),
        Action::Restart => restart(view, now),
        Action::Scale => scale(view, &order.params),
        Action::Rollback => roll_back(view, &order.params),
        Action::Cordon | Action::Uncordon => cordon(view, node, order),
        Action::Isolate => match isolation::opening(&view.policies, &view.workload.labels()) {
            Some(name) => Err(format!(
                "the network policy \"{name}\" lets traffic through to its pods or from them, and no other policy can keep \
                 it out: remove that policy first"
            )),
            None => Ok(Change::default()),
        },
        Action::Resume => Ok(Change::default()),
        _ => Err(format!("it takes no {}", order.action.name())),
    }
}

fn start(view: &View) -> Result<Change, String> {
    if view.workload.wanted() > 0 {
        return Ok(Change::default());
    }
    let before = view.workload.annotation(REPLICAS).and_then(|count| count.parse::<usize>().ok()).unwrap_or(1);
    let count = before.clamp(1, view.workload.replicas_max()?.max(1));
    Ok(Change::spec("replicas", count.into()).noting(REPLICAS, Value::Null))
}

fn stop(view: &View) -> Change {
    match view.workload.wanted() {
        0 => Change::default(),
        count => Change::spec("replicas", 0.into()).noting(REPLICAS, count.to_string().into()),
    }
}

fn restart(view: &View, now: &str) -> Result<Change, String> {
    if view.workload.wanted() == 0 {
        return Err("it is stopped: start it".into());
    }
    rolls(view)?;
    Ok(Change::spec("template", json!({ "metadata": { "annotations": { RESTARTED: now } } })))
}

fn scale(view: &View, params: &Value) -> Result<Change, String> {
    if view.workload.wanted() == 0 {
        return Err("it is stopped: start it first".into());
    }
    let most = view.workload.replicas_max()?;
    let number = |name: &str| params[name].as_u64().and_then(|number| usize::try_from(number).ok());
    let wanted = number("replicas").or_else(|| number("add").map(|add| view.workload.wanted().saturating_add(add)));
    let wanted = wanted.filter(|wanted| (1..=most).contains(wanted));
    let wanted = wanted.ok_or_else(|| format!("scale needs replicas or add, for 1 to {most} replicas"))?;
    Ok(Change::spec("replicas", wanted.into()))
}

fn roll_back(view: &View, params: &Value) -> Result<Change, String> {
    rolls(view)?;
    let (is_rolled_back, redo) = (view.is_rolled_back(), params["redo"].as_bool().unwrap_or(false));
    let previous = view.previous().ok_or("there is no revision with another template before this one")?;
    if is_rolled_back && !redo {
        return Err("it was rolled back already: give redo to go forth again".into());
    }
    let then = without_hash(&previous.template);
    let note = if is_rolled_back { Value::Null } else { fingerprint(&then).into() };
    let patch = difference(&view.workload.object.spec.template, &then).unwrap_or_else(|| json!({}));
    Ok(Change::spec("template", patch).noting(ROLLED_BACK, note))
}

/// Refuses where a new template is not rolled out.
fn rolls(view: &View) -> Result<(), String> {
    match view.workload.is_updated_by_hand() {
        true => Err("its update strategy is OnDelete: its pods must be deleted by hand".into()),
        false => Ok(()),
    }
}

fn cordon(view: &View, node: Option<&Node>, order: &Order) -> Result<Change, String> {
    let cordons = order.action == Action::Cordon;
    let Some(name) = node_of(order)? else {
        return match view.workload.kind {
            Kind::Deployment => Ok(Change::spec("paused", cordons.into())),
            Kind::StatefulSet => {
                Err("a StatefulSet cannot be paused: name one of its nodes, as node of the params".into())
            }
        };
    };
    let node = node.ok_or_else(|| format!("there is no node \"{name}\""))?;
    let cordoned_for = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CORDONED_FOR));
    let is_own = cordoned_for.is_some_and(|target| *target == order.target);
    let is_cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    match (cordons, is_cordoned) {
        (true, false) if !view.nodes().any(|used| used == name) => {
            Err(format!("none of its pods runs on the node \"{name}\""))
        }
        (true, true) if !is_own => Err(format!("the node \"{name}\" is cordoned already, by other hands")),
        (false, true) if !is_own => Err(format!("the node \"{name}\" was cordoned by other hands: let them lift it")),
        _ => Ok(Change::default()),
    }
}

/// The patch of a node.
pub(super) fn node_patch(order: &Order) -> Value {
    match order.action {
        Action::Cordon => json!({
            "metadata": { "annotations": { CORDONED_FOR: order.target } }, "spec": { "unschedulable": true },
        }),
        _ => json!({ "metadata": { "annotations": { CORDONED_FOR: null } }, "spec": { "unschedulable": null } }),
    }
}

/// The merge patch that makes `to` of `from`; None where they are the same. Lists are replaced as a whole.
fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (from, to) else {
        return (from != to).then(|| to.clone());
    };
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let changed = after.iter().filter_map(|(name, value)| {
        let change = before.get(name).map_or_else(|| Some(value.clone()), |before| difference(before, value));
        change.map(|change| (name.clone(), change))
    });
    let patch: Map<String, Value> = gone.chain(changed).collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies a merge patch, as RFC 7396 writes it.
    fn merged(target: &Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut merged = target.as_object().cloned().unwrap_or_default();
        for (name, value) in patch {
            match value {
                Value::Null => drop(merged.remove(name)),
                value => {
                    let before = merged.get(name).cloned().unwrap_or_default();
                    merged.insert(name.clone(), self::merged(&before, value));
                }
            }
        }
        merged.into()
    }

    #[test]
    fn a_difference_applied_gives_what_was_wanted() {
        let from = json!({ "a": 1, "b": { "c": 2, "d": [1, 2], "e": { "f": 1 } }, "g": "x" });
        let to = json!({ "a": 1, "b": { "d": [2], "e": { "f": 1 }, "h": { "i": 1 } }, "j": true });
        let patch = difference(&from, &to).unwrap();
        assert_eq!(patch, json!({ "b": { "c": null, "d": [2], "h": { "i": 1 } }, "g": null, "j": true }));
        assert_eq!(merged(&from, &patch), to);
        assert_eq!(difference(&from, &from), None);
    }

    #[test]
    fn a_node_must_be_named_by_a_text() {
        let order = |action, params| Order { target: "shop".into(), action, params, key: "a".into(), limit_ms: 1 };
        assert_eq!(node_of(&order(Action::Cordon, json!({ "node": "n1" }))), Ok(Some("n1")));
        assert_eq!(node_of(&order(Action::Cordon, Value::Null)), Ok(None));
        assert_eq!(node_of(&order(Action::Restart, json!({ "node": "n1" }))), Ok(None));
        assert!(node_of(&order(Action::Uncordon, json!({ "node": 1 }))).is_err());
    }
}
