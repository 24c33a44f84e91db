//! The actuator against an API server in memory: the contract, every action, and what goes wrong.

pub(crate) mod fake;
mod kubectl;
mod served;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::http::Method;
use juno_sql::actuator::{Action, Actuator, ActuatorError, Effect, Observation, Order};
use kube::{Client, Config};
use serde_json::{Value, json};

use self::fake::{Fake, NAMESPACE};
use super::super::conformance::{order, suite};
use super::super::outside::Outside;
use super::*;

/// A world whose clock goes on by a second with each look at it.
fn outside() -> Outside {
    let clock = AtomicI64::new(1_700_000_000_000_000);
    let now_us = Arc::new(move || clock.fetch_add(1_000_000, Ordering::SeqCst));
    Outside { now_us, random: Arc::new(|| 0) }
}

pub(crate) fn client(url: &str) -> Client {
    let mut config = Config::new(url.parse().unwrap());
    // Nothing is encrypted here, and no machine needs to have certificates for it.
    config.root_cert = Some(Vec::new());
    Client::try_from(config).unwrap()
}

fn actuator(fake: &Fake) -> KubernetesActuator {
    KubernetesActuator::with_client(NAMESPACE, SELECTOR, client(&fake.url), outside())
}

/// A cluster with a deployment `shop`.
async fn shop() -> (Arc<Fake>, KubernetesActuator) {
    let fake = Fake::start().await;
    fake.add_workload("deployments", "shop", "shop:1", json!({}));
    let actuator = actuator(&fake);
    (fake, actuator)
}

async fn act(
    actuator: &KubernetesActuator,
    (target, action): (&str, Action),
    params: Value,
    key: &str,
) -> Result<Effect, ActuatorError> {
    actuator.act(&Order { params, ..order(target, action, key) }).await
}

/// The reason of a refusal.
fn reason(outcome: Result<Effect, ActuatorError>) -> String {
    match outcome {
        Err(ActuatorError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn healthy(observed: &Observation) -> usize {
    observed.replicas.iter().filter(|replica| replica.is_healthy == Some(true)).count()
}

fn image(fake: &Fake, plural: &str, name: &str) -> Value {
    fake.get(plural, name).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

/// A new version of a workload, as somebody deploys it.
fn deploy(fake: &Fake, plural: &str, name: &str, image: &str) {
    let containers = json!([{ "name": name, "image": image }]);
    fake.patch(plural, name, json!({ "spec": { "template": { "spec": { "containers": containers } } } }));
    fake.settle();
}

#[tokio::test]
async fn deployments_keep_the_contract() {
    let (fake, actuator) = shop().await;
    fake.add_workload("deployments", "stuck", "bad:1", json!({}));
    suite(&actuator, "shop", "stuck").await;
}

#[tokio::test]
async fn stateful_sets_keep_the_contract() {
    let fake = Fake::start().await;
    fake.add_workload("statefulsets", "store", "store:1", json!({}));
    fake.add_workload("statefulsets", "stuck", "bad:1", json!({}));
    suite(&actuator(&fake), "store", "stuck").await;
}

#[tokio::test]
async fn only_what_is_chosen_is_a_target_and_protection_is_told() {
    let (fake, actuator) = shop().await;
    fake.add_workload("statefulsets", "shop", "shop:1", json!({}));
    fake.add_workload("deployments", "vault", "vault:1", json!({ "juno.io/protected": "true" }));
    fake.add_workload("deployments", "foreign", "foreign:1", json!({}));
    fake.patch("deployments", "foreign", json!({ "metadata": { "labels": { "juno.io/managed": "false" } } }));
    assert_eq!(actuator.namespace(), Some(NAMESPACE));
    let told: Vec<(String, String, bool)> = actuator
        .targets()
        .await
        .unwrap()
        .into_iter()
        .map(|target| (target.name, target.kind, target.is_protected))
        .collect();
    let target = |name: &str, kind: &str, is_protected| (name.to_owned(), kind.to_owned(), is_protected);
    let all = [
        target("shop", "deployment", false),
        target("vault", "deployment", true),
        target("statefulset/shop", "statefulset", false),
    ];
    assert_eq!(told, all);
    for name in ["foreign", "", "Shop", "shop,metadata.name=vault", "../shop"] {
        assert_eq!(actuator.observe(name).await, Err(ActuatorError::UnknownTarget(name.into())));
    }
    let before = fake.pods("shop");
    act(&actuator, ("statefulset/shop", Action::Restart), Value::Null, "1").await.unwrap();
    assert_eq!(fake.pods("shop"), before, "the pod of the set has the same name, the other was left alone");
    assert!(fake.restarted("shop").is_none());
}

#[tokio::test]
async fn what_is_stopped_starts_with_as_many_as_before_and_limits_are_kept() {
    let fake = Fake::start().await;
    fake.add_workload("deployments", "shop", "shop:1", json!({ "juno.io/replicas-max": "4" }));
    let actuator = actuator(&fake);
    let scale = async |params: Value, key: &str| act(&actuator, ("shop", Action::Scale), params, key).await;
    let scaled = scale(json!({ "replicas": 2 }), "1").await.unwrap().after;
    assert_eq!((scaled.wanted, healthy(&scaled)), (2, 2));
    assert_eq!(healthy(&scale(json!({ "add": 1 }), "2").await.unwrap().after), 3);
    assert!(reason(scale(json!({ "add": 2 }), "3").await).contains("1 to 4"));
    let stop = order("shop", Action::Stop, "4");
    let stopped = actuator.act(&stop).await.unwrap();
    assert_eq!((stopped.after.wanted, stopped.after.replicas.len(), fake.pods("shop").len()), (0, 0, 0));
    assert!(reason(scale(json!({ "replicas": 2 }), "5").await).contains("start it first"));
    assert!(reason(act(&actuator, ("shop", Action::Restart), Value::Null, "6").await).contains("start it"));
    let again = actuator.act(&order("shop", Action::Stop, "7")).await.unwrap();
    assert_eq!(again.after.wanted, 0, "to stop twice forgets nothing");
    let started = actuator.undo(&stop, &stopped, "8").await.unwrap().after;
    assert_eq!((started.wanted, healthy(&started)), (3, 3));
}

#[tokio::test]
async fn a_bad_version_is_rolled_back_past_restarts_and_forth_again_only_when_told() {
    for plural in ["deployments", "statefulsets"] {
        let fake = Fake::start().await;
        fake.add_workload(plural, "shop", "shop:1", json!({}));
        let actuator = actuator(&fake);
        let roll_back = async |params: Value, key: &str| act(&actuator, ("shop", Action::Rollback), params, key).await;
        assert!(reason(roll_back(Value::Null, "0").await).contains("no revision"), "{plural}");
        act(&actuator, ("shop", Action::Restart), Value::Null, "1").await.unwrap();
        assert!(!actuator.observe("shop").await.unwrap().has_previous, "a restart is no new configuration");
        deploy(&fake, plural, "shop", "shop:bad");
        let ill = actuator.observe("shop").await.unwrap();
        assert!(ill.has_previous && healthy(&ill) < ill.replicas.len(), "{ill:?}");
        let limited = Order { limit_ms: 500, ..order("shop", Action::Restart, "2") };
        assert!(matches!(actuator.act(&limited).await, Err(ActuatorError::Timeout { .. })));

        let order = order("shop", Action::Rollback, "3");
        let back = actuator.act(&order).await.unwrap();
        assert_eq!((image(&fake, plural, "shop"), healthy(&back.after)), (json!("shop:1"), 1), "{plural}");
        assert!(!back.after.has_previous && back.after.config_version > back.before.config_version);
        assert!(reason(roll_back(Value::Null, "4").await).contains("redo"));

        deploy(&fake, plural, "shop", "shop:2");
        let then = act(&actuator, ("shop", Action::Rollback), Value::Null, "5").await.unwrap();
        assert_eq!(image(&fake, plural, "shop"), "shop:1", "what came before the good version");
        let forth = actuator.undo(&order, &then, "6").await.unwrap().after;
        assert_eq!((image(&fake, plural, "shop"), forth.has_previous), (json!("shop:2"), true));
    }
}

#[tokio::test]
async fn cordon_pauses_a_rollout_and_uncordon_lets_it_go_on() {
    let (fake, actuator) = shop().await;
    let cordon = order("shop", Action::Cordon, "1");
    let cordoned = actuator.act(&cordon).await.unwrap();
    assert!(cordoned.after.is_cordoned);
    let before = fake.pods("shop");
    deploy(&fake, "deployments", "shop", "shop:2");
    assert_eq!(fake.pods("shop"), before, "a new version was started");
    for action in [Action::Restart, Action::Rollback, Action::Scale, Action::Start] {
        let refused = act(&actuator, ("shop", action), Value::Null, action.name()).await;
        assert!(reason(refused).contains("uncordon"), "{action:?}");
    }
    assert!(!actuator.undo(&cordon, &cordoned, "2").await.unwrap().after.is_cordoned);
    fake.settle();
    assert_ne!(fake.pods("shop"), before);
    fake.add_workload("statefulsets", "store", "store:1", json!({}));
    assert!(reason(act(&actuator, ("store", Action::Cordon), Value::Null, "3").await).contains("node"));
}

#[tokio::test]
async fn a_node_is_cordoned_for_a_target_on_it_and_nobody_elses_cordon_is_lifted() {
    let (fake, actuator) = shop().await;
    let unschedulable = |name: &str| fake.get("nodes", name).unwrap()["spec"]["unschedulable"] == true;
    let cordon = Order { params: json!({ "node": "node-1" }), ..order("shop", Action::Cordon, "1") };
    let cordoned = actuator.act(&cordon).await.unwrap();
    assert!(unschedulable("node-1") && !cordoned.after.is_cordoned, "the target itself may start elsewhere");
    act(&actuator, ("shop", Action::Restart), Value::Null, "2").await.unwrap();
    let pod = fake.get("pods", &fake.pods("shop")[0]).unwrap();
    assert_eq!(pod["spec"]["nodeName"], "node-2");
    actuator.undo(&cordon, &cordoned, "3").await.unwrap();
    assert!(!unschedulable("node-1"));
    let on = async |action: Action, node: Value, key: &str| {
        act(&actuator, ("shop", action), json!({ "node": node }), key).await
    };
    assert!(reason(on(Action::Cordon, json!("node-1"), "4").await).contains("none of its pods"));
    assert!(reason(on(Action::Cordon, json!("node-9"), "5").await).contains("no node"));
    assert!(reason(on(Action::Cordon, json!(2), "6").await).contains("must be the name"));
    fake.patch("nodes", "node-2", json!({ "spec": { "unschedulable": true } }));
    assert!(reason(on(Action::Cordon, json!("node-2"), "7").await).contains("other hands"));
    assert!(reason(on(Action::Uncordon, json!("node-2"), "8").await).contains("other hands"));
    assert!(unschedulable("node-2"));
}

#[tokio::test]
async fn isolation_is_a_policy_that_nothing_else_undermines() {
    let (fake, actuator) = shop().await;
    let allows = json!({
        "metadata": { "name": "allow-all" },
        "spec": { "podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"] },
    });
    fake.add("networkpolicies", allows);
    let isolate = async |key: &str| act(&actuator, ("shop", Action::Isolate), Value::Null, key).await;
    assert!(reason(isolate("1").await).contains("allow-all"));
    assert!(fake.get("networkpolicies", "juno-isolates-deployment-shop").is_none());
    fake.patch("networkpolicies", "allow-all", json!({ "spec": { "podSelector": { "matchLabels": { "app": "x" } } } }));

    assert!(isolate("2").await.unwrap().after.is_isolated);
    let policy = fake.get("networkpolicies", "juno-isolates-deployment-shop").unwrap();
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert!(policy["spec"].get("ingress").is_none() && policy["metadata"]["ownerReferences"][0]["name"] == "shop");
    assert!(isolate("3").await.is_ok(), "to isolate twice is no failure");
    assert!(reason(act(&actuator, ("shop", Action::Restart), Value::Null, "4").await).contains("resume"));
    let resumed = act(&actuator, ("shop", Action::Resume), Value::Null, "5").await.unwrap();
    assert!(resumed.before.is_isolated && !resumed.after.is_isolated);
    assert!(fake.get("networkpolicies", "juno-isolates-deployment-shop").is_none());
}

#[tokio::test]
async fn what_the_api_server_forbids_is_refused_with_what_to_do() {
    let (fake, actuator) = shop().await;
    fake.trouble(Method::PATCH, "/deployments/shop", (403, "Forbidden"), 1);
    let refused = reason(act(&actuator, ("shop", Action::Restart), Value::Null, "1").await);
    assert!(refused.contains("rbac.yaml"), "{refused}");
    assert!(fake.restarted("shop").is_none());
    fake.trouble(Method::PATCH, "/deployments/shop", (422, "Invalid"), 1);
    assert!(reason(act(&actuator, ("shop", Action::Restart), Value::Null, "2").await).contains("refuses"));
    assert!(act(&actuator, ("shop", Action::Restart), Value::Null, "1").await.is_ok(), "it had no effect");
}

#[tokio::test]
async fn conflicts_are_tried_again_and_in_the_end_refused() {
    let (fake, actuator) = shop().await;
    fake.trouble(Method::PATCH, "/deployments/shop", (409, "Conflict"), 2);
    let effect = act(&actuator, ("shop", Action::Restart), Value::Null, "1").await.unwrap();
    assert!(!effect.is_repetition && fake.restarted("shop").is_some());
    fake.trouble(Method::PATCH, "/deployments/shop", (409, "Conflict"), 100);
    assert!(reason(act(&actuator, ("shop", Action::Restart), Value::Null, "2").await).contains("others changed it"));
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_second_restart() {
    let (fake, actuator) = shop().await;
    fake.lose(Method::PATCH, "/deployments/shop");
    let effect = act(&actuator, ("shop", Action::Restart), Value::Null, "1").await.unwrap();
    assert!(!effect.is_repetition);
    let annotations = fake.get("deployments", "shop").unwrap()["metadata"]["annotations"].clone();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "2", "one restart, one revision");
}

#[tokio::test]
async fn nobody_there_is_told_as_unreachable() {
    let gone = KubernetesActuator::with_client(NAMESPACE, SELECTOR, client("http://127.0.0.1:1"), outside());
    let outcome = gone.act(&order("shop", Action::Restart, "1")).await;
    assert!(matches!(&outcome, Err(ActuatorError::Unreachable { target, .. }) if target == "shop"), "{outcome:?}");
    assert!(matches!(gone.targets().await, Err(ActuatorError::Unreachable { .. })));
    assert!(matches!(gone.observe("shop").await, Err(ActuatorError::Unreachable { .. })));
}

#[tokio::test]
async fn what_never_gets_ready_is_late_and_the_same_order_again_says_so_again() {
    let (fake, actuator) = shop().await;
    deploy(&fake, "deployments", "shop", "shop:bad");
    let restart = Order { limit_ms: 500, ..order("shop", Action::Restart, "1") };
    let late = actuator.act(&restart).await;
    assert!(matches!(late, Err(ActuatorError::Timeout { .. })), "{late:?}");
    let marked = fake.restarted("shop");
    assert_eq!(actuator.act(&restart).await, late);
    assert_eq!(fake.restarted("shop"), marked, "it was restarted again");
}

#[tokio::test]
async fn after_a_crash_the_same_order_waits_for_the_rest_and_does_nothing_twice() {
    let (fake, first) = shop().await;
    let pods = fake.pods("shop");
    fake.freeze(true);
    let restart = order("shop", Action::Restart, "1");
    let begun = restart.clone();
    let task = tokio::spawn(async move { first.act(&begun).await });
    while fake.restarted("shop").is_none() {
        sleep(Duration::from_millis(5)).await;
    }
    // The process ends while it waits.
    task.abort();
    assert!(task.await.is_err());
    let marked = fake.restarted("shop");
    fake.freeze(false);
    let second = actuator(&fake);
    let effect = second.act(&restart).await.unwrap();
    assert!(effect.is_repetition && healthy(&effect.after) == 1);
    assert_ne!(fake.pods("shop"), pods);
    assert_ne!(effect.before.replicas[0].started, effect.after.replicas[0].started);
    assert_eq!(fake.restarted("shop"), marked, "it was restarted again");
    let other = second.act(&order("shop", Action::Stop, "1")).await;
    assert!(matches!(other, Err(ActuatorError::Refused { .. })), "{other:?}");
    let third = actuator(&fake).act(&restart).await.unwrap();
    assert_eq!(third.after, effect.after);
}

#[tokio::test]
async fn a_target_shows_that_an_order_acts_on_it() {
    let (fake, actuator) = shop().await;
    fake.freeze(true);
    let restart = Order { limit_ms: 2_000, ..order("shop", Action::Restart, "1") };
    let looks = async {
        while fake.restarted("shop").is_none() {
            sleep(Duration::from_millis(5)).await;
        }
        let busy = actuator.observe("shop").await.unwrap().is_busy;
        fake.freeze(false);
        busy
    };
    let (done, was_busy) = tokio::join!(actuator.act(&restart), looks);
    assert!(was_busy && done.is_ok(), "{done:?}");
    assert!(!actuator.observe("shop").await.unwrap().is_busy);
    assert!(fake.changed("/deployments/shop") >= 2, "one patch that acts, one that says how it ended");
}
