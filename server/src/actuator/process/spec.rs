//! What a fleet of processes is made of.
//!
//! In `argv`, `env`, `health`, `probe` and `metrics` the words `{port}`, `{dir}`, `{config}`, `{name}` and `{index}` stand for the replica's port,
//! the service's directory, its configuration file, its name and the replica's number.
//!
//! **Invariant:** a fleet that passed [`Fleet::check`] has no two services of one name and no two replicas on one port.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The most replicas of one service.
const REPLICAS_MAX: usize = 64;

/// All services.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The services.
    pub services: Vec<Service>,
}

/// What is run.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Environment variables besides those of juno.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// One service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// What runs.
    pub program: Program,
    /// What runs in its place after a failover.
    #[serde(default)]
    pub standby: Option<Program>,
    /// The port of the first replica; the others follow.
    #[serde(default)]
    pub port: Option<u16>,
    /// Replicas to start with.
    #[serde(default = "one")]
    pub replicas: usize,
    /// The most replicas.
    #[serde(default = "one")]
    pub replicas_max: usize,
    /// The first configuration: a text for the file `{config}`.
    #[serde(default)]
    pub config: Option<String>,
    /// The address that answers a 2xx while a replica is well.
    #[serde(default)]
    pub health: Option<String>,
    /// The address that the autopilot asks as a client would, for latency and errors.
    #[serde(default)]
    pub probe: Option<String>,
    /// The address of its counters in the Prometheus text format: `requests_total`, `errors_total`, `calls_total`,
    /// `call_errors_total`, `rss_bytes`, `disk_bytes`, `disk_quota_bytes`, each where there is one.
    #[serde(default)]
    pub metrics: Option<String>,
    /// The services of the fleet that it calls.
    #[serde(default)]
    pub calls: Vec<String>,
    /// A folder in `{dir}` whose files can be removed.
    #[serde(default)]
    pub disposable: Option<String>,
    /// Whether no autopilot may act on it.
    #[serde(default)]
    pub is_protected: bool,
    /// How long a start may take until it is well.
    #[serde(default = "start_ms")]
    pub start_ms: u64,
    /// How long it may take to stop in good order.
    #[serde(default = "stop_ms")]
    pub stop_ms: u64,
}

fn one() -> usize {
    1
}

fn start_ms() -> u64 {
    10_000
}

fn stop_ms() -> u64 {
    2_000
}

impl Fleet {
    /// The fleet of a JSON file.
    ///
    /// # Errors
    /// A text that names the file and says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("\"{}\": {error}", path.display());
        let text = std::fs::read(path).map_err(|error| wrong(&error))?;
        let fleet: Self = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
        fleet.check().map_err(|error| wrong(&error))?;
        Ok(fleet)
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// A text that names the service and says what to do.
    pub fn check(&self) -> Result<(), String> {
        let (mut names, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for service in &self.services {
            let is_there = |callee: &&String| self.services.iter().any(|other| other.name == **callee);
            if let Some(callee) = service.calls.iter().find(|callee| !is_there(callee)) {
                return Err(format!("service \"{}\": it calls \"{callee}\", which is not there", service.name));
            }
            service.check().map_err(|what| format!("service \"{}\": {what}", service.name))?;
            if !names.insert(&service.name) {
                return Err(format!("service \"{}\" is there twice: give each its own name", service.name));
            }
            for index in 0..service.replicas_max {
                if let Some(port) = service.port_of(index).filter(|port| !ports.insert(*port)) {
                    return Err(format!("service \"{}\": port {port} is another one's", service.name));
                }
            }
        }
        Ok(())
    }
}

impl Service {
    fn check(&self) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(is_plain) {
            return Err("a name is 1 to 64 letters, digits, - and _".into());
        }
        if self.programs().any(|program| program.argv.is_empty()) {
            return Err("argv must name a program".into());
        }
        if self.replicas == 0 || self.replicas > self.replicas_max || self.replicas_max > REPLICAS_MAX {
            return Err(format!("1 <= replicas <= replicas_max <= {REPLICAS_MAX} must hold"));
        }
        if self.port.is_some_and(|port| usize::from(port) + self.replicas_max > usize::from(u16::MAX)) {
            return Err("its ports go beyond 65535".into());
        }
        let is_inside = |folder: &String| {
            let mut parts = Path::new(folder).components();
            parts.all(|part| matches!(part, std::path::Component::Normal(_))) && !folder.is_empty()
        };
        if self.disposable.as_ref().is_some_and(|folder| !is_inside(folder)) {
            return Err("disposable must be a folder inside its directory".into());
        }
        Ok(())
    }

    fn programs(&self) -> impl Iterator<Item = &Program> {
        std::iter::once(&self.program).chain(&self.standby)
    }

    /// The port of a replica.
    pub(super) fn port_of(&self, index: usize) -> Option<u16> {
        self.port.and_then(|port| port.checked_add(u16::try_from(index).ok()?))
    }

    /// A text with the words of a replica filled in.
    pub(super) fn filled(&self, text: &str, dir: &Path, index: usize) -> String {
        let port = self.port_of(index).map(|port| port.to_string()).unwrap_or_default();
        text.replace("{port}", &port)
            .replace("{dir}", &dir.display().to_string())
            .replace("{config}", &dir.join(super::CONFIG).display().to_string())
            .replace("{name}", &self.name)
            .replace("{index}", &index.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(services: serde_json::Value) -> Result<(), String> {
        serde_json::from_value::<Fleet>(serde_json::json!({"services": services})).unwrap().check()
    }

    #[test]
    fn fleets_that_cannot_run_are_refused_by_name() {
        let service = serde_json::json!({"name": "a", "program": {"argv": ["true"]}, "port": 1000, "replicas_max": 3});
        assert_eq!(fleet(serde_json::json!([service])), Ok(()));
        let with = |key: &str, value: serde_json::Value| {
            let mut changed = service.clone();
            changed[key] = value;
            changed
        };
        for (key, value, says) in [
            ("name", serde_json::json!("a/b"), "letters"),
            ("program", serde_json::json!({"argv": []}), "argv"),
            ("replicas", serde_json::json!(4), "replicas_max"),
            ("port", serde_json::json!(65_535), "65535"),
            ("disposable", serde_json::json!("../up"), "inside"),
            ("disposable", serde_json::json!("/etc"), "inside"),
        ] {
            let error = fleet(serde_json::json!([with(key, value)])).unwrap_err();
            assert!(error.contains(says), "{key}: {error}");
        }
        let other = with("name", serde_json::json!("b"));
        assert!(fleet(serde_json::json!([service, other])).unwrap_err().contains("port 1000"));
        assert!(fleet(serde_json::json!([service, service])).unwrap_err().contains("twice"));
    }

    #[test]
    fn words_are_filled_in() {
        let service: Service =
            serde_json::from_value(serde_json::json!({"name": "a", "program": {"argv": ["x"]}, "port": 80})).unwrap();
        let filled = service.filled("{name}:{port}#{index} {config}", Path::new("/d"), 2);
        assert_eq!(filled, "a:82#2 /d/config");
    }
}
