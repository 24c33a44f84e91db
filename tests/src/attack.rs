//! Attacks on a server that guards itself and a fleet: what is found, what is done, and how long that takes.
//!
//! **Invariant:** that something is contained is seen at the process itself, and not in what juno says of it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use juno_sql::Session;
use juno_sql::engine::Db;
use juno_sql::kernels::Device;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

use crate::Server;

/// How long a response may take before it counts as none.
const PATIENCE: Duration = Duration::from_secs(60);
/// A token that the server knows, and the line of the file that says so.
const TOKEN: &str = "keeper-token";
const TOKENS: &str = "keeper admin b71fe355e1e1872b6134ef9de0231788e7e636b097457e5da3ef054138474780\n";

/// A server with users, a fleet of idle processes and leave to respond.
pub struct Guarded {
    server: Server,
    http: reqwest::Client,
    hosts: usize,
    runtime: Runtime,
}

impl Guarded {
    /// Starts it with so many hosts, named `host0` and so on.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(hosts: usize) -> Result<Guarded> {
        let mut server = Server::prepare()?;
        let service = |n: usize| json!({ "name": format!("host{n}"), "program": { "argv": ["sleep", "100000"] } });
        let fleet = json!({ "services": (0..hosts).map(service).collect::<Vec<Value>>() });
        std::fs::write(server.scratch("fleet.json"), fleet.to_string())?;
        std::fs::write(server.scratch("tokens"), TOKENS)?;
        for (name, file) in [("JUNO_FLEET", "fleet.json"), ("JUNO_AUTH_TOKENS_FILE", "tokens")] {
            let path = server.scratch(file).display().to_string();
            server.set(name, &path);
        }
        server.set("THREAT_RESPONSE_AUTOMATION", "true");
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(allow(server.data()))?;
        server.run()?;
        Ok(Guarded { server, http: reqwest::Client::builder().no_proxy().build()?, hosts, runtime })
    }

    /// Waits for a moment, between two questions.
    pub fn pause(&self) {
        self.runtime.block_on(async { sleep(Duration::from_millis(500)).await });
    }

    async fn asked(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(self.server.url(path)).bearer_auth(TOKEN).send().await?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// The threats about an entity.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub fn threats(&self, entity: &str) -> Result<Vec<Value>> {
        self.runtime.block_on(self.threats_of(entity))
    }

    async fn threats_of(&self, entity: &str) -> Result<Vec<Value>> {
        let found = self.asked(&format!("/api/v4/threats/history?from=now-1h&entity={entity}")).await?;
        Ok(found["items"].as_array().cloned().unwrap_or_default())
    }

    /// How many entities there are threats about, by their type.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub fn told(&self, threat_type: &str) -> Result<Vec<String>> {
        let path = format!("/api/v4/threats/history?from=now-1h&limit=1000&type={threat_type}");
        let found = self.runtime.block_on(self.asked(&path))?;
        let items = found["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().filter_map(|item| item["entity"].as_str().map(str::to_owned)).collect())
    }

    /// Sends a log of sshd.
    ///
    /// # Errors
    /// Where it is not taken.
    pub fn sshd(&self, log: String) -> Result<()> {
        self.runtime.block_on(self.send(log))
    }

    async fn send(&self, log: String) -> Result<()> {
        let url = self.server.url("/api/v4/ingest?format=sshd");
        let answer = self.http.post(url).bearer_auth(TOKEN).body(log).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    }

    /// Guesses passwords at the server's own door.
    ///
    /// # Errors
    /// Where a wrong token is let in.
    pub fn guess_tokens(&self, times: usize) -> Result<()> {
        self.runtime.block_on(self.guess(times))
    }

    async fn guess(&self, times: usize) -> Result<()> {
        for n in 0..times {
            let asked = self.http.get(self.server.url("/api/v4/operations/status")).bearer_auth(format!("guess {n}"));
            let status = asked.send().await?.status();
            ensure!(status == reqwest::StatusCode::UNAUTHORIZED, "a wrong token got {status}");
        }
        Ok(())
    }

    /// Lets somebody guess the way into a host, and gives the seconds from the end of the log to the frozen process. The response is
    /// taken back then.
    ///
    /// # Errors
    /// Where it is not contained in a minute, or not taken back.
    pub fn break_in(&self, round: usize) -> Result<f64> {
        self.runtime.block_on(self.get_in(round))
    }

    async fn get_in(&self, round: usize) -> Result<f64> {
        let host = format!("host{}", round % self.hosts);
        let pid = self.pid(&host)?;
        ensure!(state(pid)? != 'T', "{host} is frozen before the attack");
        let source = format!("203.0.113.{}", 1 + round % 250);
        let mut log = String::new();
        for n in 0..40 {
            let time = time_ago(60 - n);
            log += &format!("{time} {host} sshd[7]: Failed password for root from {source} port {} ssh2\n", 40_000 + n);
        }
        log += &format!("{} {host} sshd[7]: Accepted password for root from {source} port 41000 ssh2\n", time_ago(1));
        let began = Instant::now();
        self.send(log).await?;
        while state(pid)? != 'T' {
            if began.elapsed() > PATIENCE {
                bail!("{host} was not contained: {:?}", self.threats_of(&source).await?);
            }
            sleep(Duration::from_millis(20)).await;
        }
        let took_s = began.elapsed().as_secs_f64();
        self.take_back(&host).await?;
        ensure!(state(pid)? != 'T', "{host} is frozen after the response was taken back");
        Ok(took_s)
    }

    async fn take_back(&self, host: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let id = loop {
            let found = self.asked("/api/v4/threats/responses?limit=1000").await?;
            let items = found["items"].as_array().cloned().unwrap_or_default();
            let active = items.into_iter().find(|item| item["target"] == host && item["state"] == "active");
            match active.and_then(|item| item["id"].as_str().map(str::to_owned)) {
                Some(id) => break id,
                None if Instant::now() > until => bail!("there is no response on {host}"),
                None => sleep(Duration::from_millis(100)).await,
            }
        };
        let request = self.http.post(self.server.url(&format!("/api/v4/threats/responses/{id}:undo")));
        let request = request.bearer_auth(TOKEN).header("Idempotency-Key", &id).header("Prefer", "wait=30");
        let answer =
            request.header("Content-Type", "application/json").body("{\"reason\": \"a drill\"}").send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    }

    /// The process of a host.
    fn pid(&self, host: &str) -> Result<u32> {
        let place = self.server.data().join("fleet").join(host);
        let place = place.canonicalize()?;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let runs = std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"));
            if runs && std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == place) {
                return Ok(pid);
            }
        }
        bail!("{host} has no process")
    }
}

/// More attacks come in an hour than the policy that is shipped allows responses.
const POLICY: &str = "UPDATE juno_policies SET policy = '{\"actions_per_hour\": 100000, \"confidence_min\": 0.9, \
                      \"response_ttl_s\": 3600}' WHERE policy_type = 'threats'";

async fn allow(data: &Path) -> Result<()> {
    let session = Session::open(Db::open(data)?, Device::cpu()).await?;
    session.query(POLICY).await?;
    Ok(session.db().close()?)
}

/// The time so many seconds ago, as logs have it.
pub fn time_ago(seconds: i64) -> String {
    let now_s = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs() as i64);
    let at = chrono::DateTime::from_timestamp(now_s - seconds, 0).unwrap_or_default();
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What a process does, as the system says.
fn state(pid: u32) -> Result<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).context("a state")
}
