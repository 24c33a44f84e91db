//! The API server of the tests as an independent client sees it: kubectl.

use std::process::Output;

use tokio::process::Command;

use super::*;

/// Runs kubectl against the cluster; None where it is not there.
async fn kubectl(fake: &Fake, home: &std::path::Path, args: &[&str]) -> Option<String> {
    let run = Command::new("kubectl")
        .args(["--server", &fake.url, "--namespace", NAMESPACE])
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .output();
    let Ok(Output { status, stdout, stderr }) = run.await else {
        eprintln!("SKIPPED: kubectl is not there, so that nobody else has believed the API server of the tests");
        return None;
    };
    assert!(status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&stderr));
    Some(String::from_utf8_lossy(&stdout).into_owned())
}

#[tokio::test]
async fn kubectl_believes_the_cluster_and_sees_what_the_actuator_did() {
    let (fake, actuator) = shop().await;
    let home = tempfile::tempdir().unwrap();
    let ask = async |args: &[&str]| kubectl(&fake, home.path(), args).await;
    let names = "jsonpath={.items[*].metadata.name}";
    let Some(deployments) = ask(&["get", "deployments", "-l", SELECTOR, "-o", names]).await else { return };
    assert_eq!(deployments, "shop");
    let scaled = ask(&["scale", "deployment", "shop", "--replicas=2"]).await.unwrap();
    assert!(scaled.contains("scaled"), "{scaled}");
    fake.settle();
    let observed = actuator.observe("shop").await.unwrap();
    assert_eq!((observed.wanted, healthy(&observed)), (2, 2));
    let pods = ask(&["get", "pods", "-l", "app=shop", "-o", names]).await.unwrap();
    assert_eq!(pods.split_whitespace().count(), 2, "{pods}");

    let restarted = ask(&["rollout", "restart", "deployment/shop"]).await.unwrap();
    assert!(restarted.contains("restarted"), "{restarted}");
    fake.settle();
    let others = ask(&["get", "pods", "-l", "app=shop", "-o", names]).await.unwrap();
    assert!(others.split_whitespace().all(|pod| !pods.contains(pod)), "{pods} {others}");

    act(&actuator, ("shop", Action::Scale), json!({ "replicas": 3 }), "1").await.unwrap();
    let replicas =
        ask(&["get", "deployment", "shop", "-o", "jsonpath={.spec.replicas} {.status.availableReplicas}"]).await;
    assert_eq!(replicas.as_deref(), Some("3 3"));
    act(&actuator, ("shop", Action::Isolate), Value::Null, "2").await.unwrap();
    let policies = ask(&["get", "networkpolicies", "-o", names]).await.unwrap();
    assert_eq!(policies, "juno-isolates-deployment-shop");
}
