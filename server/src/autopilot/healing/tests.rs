//! The loop over a cluster in memory: what hangs or was deployed badly is healed, what the cluster is at work on is left alone.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use juno_sql::engine::Db;
use juno_sql::kernels::Device;
use juno_sql::{Automation, OperationSettings};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;
use crate::actuator::kubernetes::tests::client;
use crate::actuator::kubernetes::tests::fake::{Fake, NAMESPACE};
use crate::actuator::kubernetes::{KubernetesActuator, SELECTOR};
use crate::actuator::outside::Outside;

/// A day on which what was made on 2026-01-01 is old.
const NOW_US: i64 = 1_770_000_000_000_000;

/// A loop over a cluster with two deployments, `store` and `shop`, which calls it.
struct World {
    fake: Arc<Fake>,
    session: Session,
    healing: Healing,
    _dir: TempDir,
}

impl World {
    async fn start() -> Self {
        let fake = Fake::start().await;
        fake.add_workload("deployments", "store", "store:1", json!({}));
        fake.add_workload("deployments", "shop", "shop:1", json!({ "juno.io/calls": "store" }));
        let outside = Outside { now_us: Arc::new(|| NOW_US), random: Arc::new(|| 0) };
        let cluster = KubernetesActuator::with_client(NAMESPACE, SELECTOR, client(&fake.url), outside);
        let cluster: Arc<dyn Actuator> = Arc::new(cluster);
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(dir.path()).expect("a database");
        let session = Session::open(db, Device::cpu()).await.expect("migrations");
        let settings = OperationSettings { healing: Automation::Full, ..OperationSettings::default() };
        session.set_operations(settings, |error| Value::String(error.to_string()));
        session.set_actuators(vec![Arc::clone(&cluster)]);
        let pace = cluster.pace().expect("a cluster is watched");
        let healing = Healing::open(session.connect(), (cluster, pace), Arc::default()).await.expect("a loop");
        let mut world = Self { fake, session, healing, _dir: dir };
        world.look(WARM_UP + 5).await;
        world
    }

    async fn look(&mut self, times: usize) {
        for _ in 0..times {
            self.healing.tick().await.expect("a look");
        }
    }

    async fn rows(&self, sql: &str) -> Vec<Map<String, Value>> {
        self.session.objects(sql, &[]).await.expect("rows")
    }

    async fn incidents(&self) -> Vec<Map<String, Value>> {
        self.rows("SELECT * FROM healing_incidents_list ORDER BY detected_at").await
    }

    /// Goes on until all incidents are over; gives the incident with runbook, cause and target of each remediation.
    async fn healed(&mut self) -> (Map<String, Value>, Vec<[String; 4]>) {
        for _ in 0..600 {
            self.look(1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let incidents = self.incidents().await;
            if !incidents.is_empty() && incidents.iter().all(|row| !row["resolved_at"].is_null()) {
                break;
            }
        }
        let mut incidents = self.incidents().await;
        assert_eq!(incidents.len(), 1, "{incidents:#?}");
        let done = self.rows("SELECT * FROM juno_remediations ORDER BY began_at").await;
        let words = |row: &Map<String, Value>| {
            ["runbook", "cause", "target", "state"].map(|name| row[name].as_str().unwrap_or_default().to_owned())
        };
        (incidents.remove(0), done.iter().map(words).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_hangs_is_restarted_and_what_calls_it_is_left_alone() {
    let mut world = World::start().await;
    let pods = [world.fake.pods("store"), world.fake.pods("shop")];
    world.fake.hang("store");
    world.look(2).await;
    assert_eq!(world.incidents().await, [], "two looks may be chance");
    let (incident, done) = world.healed().await;
    assert_eq!((&incident["status"], &incident["success"]), (&json!("resolved"), &json!(true)), "{incident:#?}");
    assert_eq!(incident["symptoms"]["source"], "kubernetes");
    assert_eq!(done, [["restart", "hang", "store", "succeeded"].map(str::to_owned)]);
    assert!(world.fake.pods("store").iter().all(|pod| !pods[0].contains(pod)));
    assert_eq!(world.fake.pods("shop"), pods[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_is_rolled_back() {
    let mut world = World::start().await;
    let image = |image: &str| {
        let containers = json!([{ "name": "shop", "image": image }]);
        json!({ "spec": { "template": { "spec": { "containers": containers } } } })
    };
    world.fake.patch("deployments", "shop", image("shop:bad"));
    let (incident, done) = world.healed().await;
    assert_eq!((&incident["status"], &incident["success"]), (&json!("resolved"), &json!(true)), "{incident:#?}");
    assert_eq!(done, [["rollback", "bad_configuration", "shop", "succeeded"].map(str::to_owned)]);
    let shop = world.fake.get("deployments", "shop").expect("a deployment");
    assert_eq!(shop["spec"]["template"]["spec"]["containers"][0]["image"], "shop:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_and_an_api_server_that_is_away_are_no_incidents() {
    let mut world = World::start().await;
    // Young pods may take their time, old ones make way.
    let scaled = json!({ "spec": { "replicas": 3 } });
    world.fake.patch("deployments", "shop", scaled);
    world.fake.settle();
    world.look(5).await;
    world.fake.trouble(axum::http::Method::GET, "/deployments", (403, "Forbidden"), 1_000);
    for _ in 0..6 {
        let unknown = world.healing.tick().await.expect_err("nobody answers").to_string();
        assert!(unknown.contains("what is to be watched is not known"), "{unknown}");
    }
    assert_eq!(world.incidents().await, []);
}

/// Serves the counters of a pod whose requests fail until its workload was restarted; gives its port, and how to break it.
async fn counters(fake: Arc<Fake>, workload: &'static str) -> (u16, Arc<AtomicBool>) {
    let (is_broken, counted) = (Arc::new(AtomicBool::new(false)), Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
    let broken = Arc::clone(&is_broken);
    let text = move || {
        let fails = broken.load(Relaxed) && fake.restarted(workload).is_none();
        let failed = counted[1].fetch_add(if fails { 50 } else { 0 }, Relaxed);
        let good = counted[0].fetch_add(if fails { 50 } else { 100 }, Relaxed);
        let text =
            format!("http_requests_total{{code=\"200\"}} {good}\nhttp_requests_total{{code=\"500\"}} {failed}\n");
        std::future::ready(text)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let router = axum::Router::new().route("/stats", axum::routing::get(text));
    tokio::spawn(axum::serve(listener, router).into_future());
    (port, is_broken)
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_whose_counters_tell_of_failures_are_restarted() {
    let mut world = World::start().await;
    let (port, is_broken) = counters(Arc::clone(&world.fake), "mail").await;
    let annotations = json!({
        "prometheus.io/scrape": "true", "prometheus.io/port": port.to_string(), "prometheus.io/path": "/stats",
    });
    world.fake.add_with_pods("deployments", "mail", ("mail:1", annotations), json!({}));
    world.look(WARM_UP + 5).await;
    assert_eq!(world.incidents().await, []);
    is_broken.store(true, Relaxed);
    let (incident, done) = world.healed().await;
    assert_eq!((&incident["status"], &incident["success"]), (&json!("resolved"), &json!(true)), "{incident:#?}");
    assert_eq!(done, [["restart", "errors", "mail", "succeeded"].map(str::to_owned)]);
}
