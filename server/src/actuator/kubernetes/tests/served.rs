//! Juno as a process of its own that is given a kubeconfig: its operations act on the cluster.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::*;

#[test]
#[ignore = "the other tests run it as a process of its own"]
fn a_juno() {
    let Ok(data) = std::env::var("TEST_DATA") else { return };
    let doors = ["--pg-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
    let line = ["juno", "serve", "--data", &data, "--kubernetes-namespace", NAMESPACE];
    crate::run(line.into_iter().chain(doors));
}

/// A running juno.
struct Juno {
    url: String,
    http: reqwest::Client,
    _child: Child,
    _home: TempDir,
}

impl Juno {
    /// Starts one whose kubeconfig names this address of a cluster.
    async fn start(cluster: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls/certificate.pem");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": cluster, "certificate-authority": authority } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "users": [{ "name": "test", "user": {} }],
        });
        std::fs::write(home.path().join("kubeconfig"), config.to_string()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "actuator::kubernetes::tests::served::a_juno", "--ignored", "--nocapture"])
            .env("KUBECONFIG", home.path().join("kubeconfig"))
            .env("TEST_DATA", home.path().join("data"))
            // Statements are planned on the thread of that test, whose stack is a small one.
            .env("RUST_MIN_STACK", "16777216")
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next_line().await.unwrap().expect("juno ended before it was ready");
            if let Some((_, address)) = line.split_once("http://") {
                break format!("http://{}", address.trim());
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, http, _child: child, _home: home }
    }

    /// Asks for something, and gives status and answer.
    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(format!("{}/api/v4/{path}", self.url)).header("Content-Type", "application/json");
        let request = request.header("Idempotency-Key", body.to_string()).header("Prefer", "wait=30");
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    /// Asks for something that is done, and gives its result.
    async fn done(&self, path: &str, body: Value) -> Value {
        let (status, job) = self.post(path, body).await;
        assert_eq!((status, &job["state"]), (200, &json!("succeeded")), "{job:#}");
        job["result"].clone()
    }

    async fn sql(&self, sql: &str) {
        let (status, answer) = self.post("query", json!({ "sql": sql })).await;
        assert_eq!(status, 200, "{answer}");
    }
}

const ID: &str = "00000000-0000-7000-8000-000000000001";

#[tokio::test]
async fn operations_scale_remediate_and_contain_what_a_cluster_runs() {
    let fake = Fake::start().await;
    fake.add_workload("deployments", "shop", "shop:1", json!({}));
    let juno = Juno::start(&fake.url).await;
    let target = json!({ "executor": "kubernetes", "name": "shop" });

    let scaled = juno.done("scaling/execute", json!({ "target": target, "to": 2, "reason": "a sale" })).await;
    assert_eq!((&scaled["from"], &scaled["to"]), (&json!(1), &json!(2)));
    assert_eq!(scaled["target"]["kind"], "deployment");
    assert_eq!(fake.pods("shop").len(), 2);

    juno.sql(&format!(
        "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) \
         VALUES ('{ID}', now(), 'reported', 'low', '{{\"service\": \"shop\"}}')"
    ))
    .await;
    let (pods, restart) = (fake.pods("shop"), json!({ "incident_id": ID, "action": "restart", "target": target }));
    let healed = juno.done("healing/remediate", restart).await;
    assert_eq!((&healed["success"], &healed["status"]), (&json!(true), &json!("resolved")));
    assert!(fake.pods("shop").iter().all(|pod| !pods.contains(pod)));

    juno.sql(&format!(
        "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) \
         VALUES ('{ID}', now(), 'intrusion', 'high', '{{\"entity\": \"shop\"}}', 0.95)"
    ))
    .await;
    let isolate = json!({ "threat_event_id": ID, "action": "isolate", "target": target });
    let contained = juno.done("threats/respond", isolate).await;
    assert_eq!(contained["state"], "active");
    assert!(fake.get("networkpolicies", "juno-isolates-deployment-shop").is_some());
    let response = contained["response_id"].as_str().unwrap();
    juno.done(&format!("threats/responses/{response}:undo"), json!({ "reason": "a drill" })).await;
    assert!(fake.get("networkpolicies", "juno-isolates-deployment-shop").is_none());
}

#[tokio::test]
async fn a_database_starts_without_its_cluster_and_says_so_when_that_is_needed() {
    let juno = Juno::start("http://127.0.0.1:1").await;
    let target = json!({ "executor": "kubernetes", "name": "shop" });
    let (status, problem) =
        juno.post("scaling/execute", json!({ "target": target, "to": 2, "reason": "a sale" })).await;
    assert_eq!((status, &problem["type"]), (504, &json!("/problems/target-timeout")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("kubernetes does not answer"), "{problem}");
}
