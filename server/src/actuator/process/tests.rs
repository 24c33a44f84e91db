//! Processes of this very test binary: each runs the ignored test below, which is a demo service.

use std::net::TcpListener;

use juno_sql::actuator::{Action, Actuator, ActuatorError, Order};
use serde_json::{Value, json};

use super::super::conformance::{order, suite};
use super::procfs::State;
use super::*;
use crate::config::LogArgs;
use crate::demo_service::{self, DemoServiceArgs};

#[test]
#[ignore = "the other tests run it as a process of its own"]
fn a_service() {
    let Ok(port) = std::env::var("TEST_PORT") else { return };
    let dir = PathBuf::from(std::env::var("TEST_DIR").unwrap());
    let (config, standby) =
        (dir.join(CONFIG).exists().then(|| dir.join(CONFIG)), std::env::var("TEST_STANDBY").is_ok());
    let log = LogArgs { filter: "info".into() };
    let args =
        DemoServiceArgs { name: "shop".into(), port: port.parse().unwrap(), dir, config, calls: vec![], log, standby };
    demo_service::run(&args).unwrap();
}

/// What runs a demo service.
fn program(extra: &[&str]) -> Value {
    let exe = std::env::current_exe().unwrap();
    let mut env = json!({"TEST_PORT": "{port}", "TEST_DIR": "{dir}"});
    extra.iter().for_each(|name| env[*name] = json!("1"));
    json!({"argv": [exe, "--exact", "actuator::process::tests::a_service", "--ignored", "--nocapture"], "env": env})
}

/// A port that nobody has, with the next one.
fn port() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", first.saturating_add(1))).is_ok() {
            return first;
        }
    }
}

/// A fleet of a service and one that obeys no signal but the last.
pub(in crate::actuator) fn fleet() -> Fleet {
    let script = "trap '' TERM; while :; do sleep 0.05; done";
    serde_json::from_value(json!({"services": [
        {"name": "shop", "program": program(&[]), "port": port(), "replicas_max": 2,
         "health": "http://127.0.0.1:{port}/healthz", "config": "{\"work_ms\": 1}", "disposable": "cache"},
        {"name": "stuck", "program": {"argv": ["/bin/sh", "-c", script]}, "stop_ms": 60_000},
    ]}))
    .unwrap()
}

fn only(service: Value) -> Fleet {
    serde_json::from_value(json!({"services": [service]})).unwrap()
}

fn shop() -> Value {
    json!({"name": "shop", "program": program(&[]), "standby": program(&["TEST_STANDBY"]), "port": port(),
        "health": "http://127.0.0.1:{port}/healthz", "config": "{\"work_ms\": 1}", "disposable": "cache"})
}

async fn status(actuator: &ProcessActuator, method: reqwest::Method, path: &str) -> u16 {
    let port = actuator.observe("shop").await.unwrap().replicas[0].port.unwrap();
    let request = reqwest::Client::new().request(method, format!("http://127.0.0.1:{port}{path}"));
    request.send().await.unwrap().status().as_u16()
}

async fn work(actuator: &ProcessActuator) -> u16 {
    status(actuator, reqwest::Method::GET, "/work").await
}

async fn break_it(actuator: &ProcessActuator, kind: &str) {
    assert_eq!(status(actuator, reqwest::Method::POST, &format!("/fault/{kind}")).await, 204);
}

#[tokio::test]
async fn processes_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let actuator = ProcessActuator::open(&fleet(), dir.path()).await.unwrap();
    suite(&actuator, "shop", "stuck").await;
}

#[tokio::test]
async fn each_fault_is_healed_by_its_action() {
    let dir = tempfile::tempdir().unwrap();
    let actuator = ProcessActuator::open(&only(shop()), dir.path()).await.unwrap();
    let act = async |action, params: Value, key| actuator.act(&Order { params, ..order("shop", action, key) }).await;
    break_it(&actuator, "errors").await;
    act(Action::Restart, Value::Null, "1").await.unwrap();
    assert_eq!(work(&actuator).await, 200);

    break_it(&actuator, "full_disk").await;
    assert_eq!(work(&actuator).await, 507);
    act(Action::CleanDisk, Value::Null, "2").await.unwrap();
    assert_eq!(work(&actuator).await, 200);

    break_it(&actuator, "dependency_down").await;
    assert_eq!(work(&actuator).await, 502);
    let effect = act(Action::Failover, Value::Null, "3").await.unwrap();
    assert!(effect.after.is_failed_over && work(&actuator).await == 200);
    let failover = order("shop", Action::Failover, "3");
    assert!(!actuator.undo(&failover, &effect, "4").await.unwrap().after.is_failed_over);
    assert_eq!(work(&actuator).await, 502, "the primary's database is still down");
}

#[tokio::test]
async fn bad_configurations_are_rolled_back_and_drift_is_corrected() {
    let dir = tempfile::tempdir().unwrap();
    let actuator = ProcessActuator::open(&only(shop()), dir.path()).await.unwrap();
    let act = async |action, params: Value, key| actuator.act(&Order { params, ..order("shop", action, key) }).await;
    let bad = act(Action::ConfigCorrect, json!({"config": "{\"work_ms\":"}), "1").await;
    let Err(ActuatorError::Refused { reason, .. }) = bad else { panic!("{bad:?}") };
    assert!(reason.contains("ends at its start"), "{reason}");
    let observed = actuator.observe("shop").await.unwrap();
    assert!(observed.has_previous && observed.replicas[0].state == "gone", "{observed:?}");
    let after = act(Action::Rollback, Value::Null, "2").await.unwrap().after;
    assert!(!after.has_previous && after.replicas[0].is_healthy == Some(true), "{after:?}");
    let again = act(Action::Rollback, Value::Null, "3").await;
    assert!(matches!(&again, Err(ActuatorError::Refused { reason, .. }) if reason.contains("redo")), "{again:?}");

    std::fs::write(dir.path().join("shop").join(CONFIG), "{\"workers\": 0}").unwrap();
    assert!(actuator.observe("shop").await.unwrap().has_drifted);
    act(Action::ConfigCorrect, Value::Null, "4").await.unwrap();
    assert!(!actuator.observe("shop").await.unwrap().has_drifted && work(&actuator).await == 200);
}

#[tokio::test]
async fn what_is_halted_cordoned_or_isolated_shows_and_is_treated_so() {
    let dir = tempfile::tempdir().unwrap();
    let actuator = ProcessActuator::open(&only(shop()), dir.path()).await.unwrap();
    let act = async |action, key: &str| actuator.act(&order("shop", action, key)).await;
    let isolated = act(Action::Isolate, "1").await.unwrap().after;
    assert!(isolated.is_isolated && isolated.replicas[0].state == "halted", "{isolated:?}");
    assert!(matches!(act(Action::Restart, "2").await, Err(ActuatorError::Refused { .. })));
    let resumed = act(Action::Resume, "3").await.unwrap().after;
    assert!(!resumed.is_isolated && resumed.replicas[0].is_healthy == Some(true), "{resumed:?}");

    act(Action::Cordon, "4").await.unwrap();
    assert!(matches!(act(Action::Restart, "5").await, Err(ActuatorError::Refused { .. })));
    act(Action::Uncordon, "6").await.unwrap();

    let before = act(Action::Stop, "7").await.unwrap();
    assert_eq!((before.after.wanted, before.after.replicas.len()), (0, 0));
    let started = act(Action::Start, "8").await.unwrap().after;
    assert!(
        started.replicas[0].is_healthy == Some(true) && started.replicas[0].rss_bytes > Some(100_000),
        "{started:?}"
    );
    let calmed = Order { params: json!({"nice": 19}), ..order("shop", Action::Rebalance, "9") };
    assert_eq!(actuator.act(&calmed).await.unwrap().after.replicas[0].nice, Some(19));
}

#[tokio::test]
async fn the_next_juno_adopts_what_runs_and_starts_what_does_not_and_ends_all_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet();
    let first = ProcessActuator::open(&fleet, dir.path()).await.unwrap();
    let pid = |observed: &Observation| observed.replicas[0].pid;
    let (shop, stuck) = (first.observe("shop").await.unwrap(), first.observe("stuck").await.unwrap());
    // A juno that is killed drops nothing.
    std::mem::forget(first);
    let gone = pid(&stuck).and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)).unwrap();
    rustix::process::kill_process_group(gone, rustix::process::Signal::KILL).unwrap();
    let identity = procfs::Identity::of(pid(&shop).unwrap()).unwrap();
    let second = ProcessActuator::open(&fleet, dir.path()).await.unwrap();
    assert_eq!(pid(&second.observe("shop").await.unwrap()), pid(&shop), "it was not adopted");
    assert_ne!(pid(&second.observe("stuck").await.unwrap()), pid(&stuck), "it was not replaced");
    let restarted = second.act(&order("shop", Action::Restart, "1")).await.unwrap();
    assert!(pid(&restarted.after) != pid(&shop) && restarted.after.replicas[0].is_healthy == Some(true));
    assert_eq!(identity.state(), State::Gone);
    let identity = procfs::Identity::of(pid(&restarted.after).unwrap()).unwrap();
    drop(second);
    for _ in 0..200 {
        if identity.state() == State::Gone {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it lives on");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named_and_keeps_no_other_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = only(shop());
    fleet.services.extend(only(json!({"name": "ghost", "program": {"argv": ["/no/such/program"]}})).services);
    let actuator = ProcessActuator::open(&fleet, dir.path()).await.unwrap();
    assert_eq!(actuator.observe("ghost").await.unwrap().replicas[0].state, "gone");
    assert_eq!(work(&actuator).await, 200);
    let error = actuator.act(&order("ghost", Action::Restart, "1")).await.unwrap_err().to_string();
    assert!(error.contains("ghost") && error.contains("/no/such/program"), "{error}");
}
