//! The fleet that is broken: five real processes that call each other, each with a standby.
//!
//! **Invariant:** whatever ends the run ends the processes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context, Result};
use juno_server::actuator::process::{Fleet, ProcessActuator};
use juno_sql::healing::graph::Graph;
use serde_json::{Value, json};

/// The services, and whom each calls.
pub(crate) const SERVICES: [(&str, &[&str]); 5] = [
    ("gateway", &["orders", "catalog"]),
    ("orders", &["store", "mail"]),
    ("catalog", &["store"]),
    ("store", &[]),
    ("mail", &[]),
];
/// The configuration that works.
pub(crate) const CONFIG: &str = "{\"work_ms\": 3, \"workers\": 8}";

/// A fleet that runs.
pub(crate) struct Demo {
    pub(crate) actuator: Arc<ProcessActuator>,
    pub(crate) ports: BTreeMap<String, u16>,
    dir: tempfile::TempDir,
}

impl Demo {
    /// The directory of a service.
    pub(crate) fn dir(&self, service: &str) -> std::path::PathBuf {
        self.dir.path().join(service)
    }
}

/// Who calls whom.
pub(crate) fn graph() -> Graph {
    Graph::new(SERVICES.iter().flat_map(|(caller, callees)| callees.iter().map(move |callee| (*caller, *callee))))
}

/// Starts a fleet on ports that are free.
pub(crate) async fn start(number: u16) -> Result<Demo> {
    let dir = tempfile::Builder::new().prefix("juno-chaos-").tempdir()?;
    let mut free = (21_000 + 16 * number..).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let mut ports = BTreeMap::new();
    for (name, _) in SERVICES {
        ports.insert(name.to_owned(), free.next().context("no port is free")?);
    }
    let services: Vec<Value> = SERVICES.iter().map(|(name, calls)| service(name, calls, &ports)).collect();
    let fleet: Fleet = serde_json::from_value(json!({"services": services}))?;
    let actuator = Arc::new(ProcessActuator::open(&fleet, dir.path()).await?);
    Ok(Demo { actuator, ports, dir })
}

fn service(name: &str, calls: &[&str], ports: &BTreeMap<String, u16>) -> Value {
    let calls: Vec<String> = calls.iter().map(|callee| ports[*callee].to_string()).collect();
    let program = |standby: bool| {
        let mut args =
            vec!["demo-service", "--name", "{name}", "--port", "{port}", "--dir", "{dir}", "--config", "{config}"];
        let calls = calls.join(",");
        if !calls.is_empty() {
            args.extend(["--calls", &calls]);
        }
        if standby {
            args.push("--standby");
        }
        let command = juno_tests::juno(&args);
        let argv = std::iter::once(command.get_program()).chain(command.get_args());
        json!({"argv": argv.map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>()})
    };
    json!({"name": name, "program": program(false), "standby": program(true), "port": ports[name], "config": CONFIG,
        "health": "http://127.0.0.1:{port}/healthz", "disposable": "cache", "stop_ms": 1000})
}
