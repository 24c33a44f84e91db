//! The demo's fleet: five small services that call each other, each with a standby, started from this program.
//!
//! **Invariant:** listens on free ports of the loopback address, and writes to the directory that it is given.

use std::net::TcpListener;

use crate::actuator::process::{Fleet, Program, Service};

/// The services, and whom each calls.
const SERVICES: [(&str, &[&str]); 5] = [
    ("gateway", &["orders", "catalog"]),
    ("orders", &["store", "mail"]),
    ("catalog", &["store"]),
    ("store", &[]),
    ("mail", &[]),
];
/// The configuration that works.
pub const CONFIG: &str = "{\"work_ms\": 3, \"workers\": 8}";
/// Ports are looked for from here on.
const PORT_FIRST: u16 = 17_800;

/// The fleet on free ports from `first` on; `program` is juno with its first arguments, if it needs any.
///
/// # Errors
/// Where there are no free ports.
pub fn fleet(program: &[String], first: Option<u16>) -> std::io::Result<Fleet> {
    let mut free =
        (first.unwrap_or(PORT_FIRST)..u16::MAX).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let mut ports = Vec::new();
    for (name, _) in SERVICES {
        let none = || std::io::Error::new(std::io::ErrorKind::AddrInUse, "no port is free for the demo's fleet");
        ports.push((name, free.next().ok_or_else(none)?));
    }
    let port = |name: &str| ports.iter().find(|(other, _)| *other == name).map_or(0, |(_, port)| *port);
    let service = |(name, calls): (&str, &[&str])| {
        let called: Vec<String> = calls.iter().map(|callee| port(callee).to_string()).collect();
        Service {
            name: name.to_owned(),
            program: argv(program, &called, false),
            standby: Some(argv(program, &called, true)),
            port: Some(port(name)),
            replicas: 1,
            replicas_max: 1,
            config: Some(CONFIG.to_owned()),
            health: Some("http://127.0.0.1:{port}/healthz".to_owned()),
            probe: Some("http://127.0.0.1:{port}/work".to_owned()),
            metrics: Some("http://127.0.0.1:{port}/metrics".to_owned()),
            calls: calls.iter().map(|callee| (*callee).to_owned()).collect(),
            disposable: Some("cache".to_owned()),
            is_protected: false,
            start_ms: 10_000,
            stop_ms: 1_000,
        }
    };
    Ok(Fleet { services: SERVICES.into_iter().map(service).collect() })
}

fn argv(program: &[String], called: &[String], is_standby: bool) -> Program {
    let mut argv = program.to_vec();
    argv.extend(
        ["demo-service", "--name", "{name}", "--port", "{port}", "--dir", "{dir}", "--config", "{config}"]
            .map(str::to_owned),
    );
    if !called.is_empty() {
        argv.extend(["--calls".to_owned(), called.join(",")]);
    }
    if is_standby {
        argv.push("--standby".to_owned());
    }
    Program { argv, ..Program::default() }
}
