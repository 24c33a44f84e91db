//! One fault: breaks a service of a fleet that is calm, and measures what the loop makes of it.
//!
//! **Invariant:** what the loop claims is checked by asking the services.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use juno_server::demo::fleet::CONFIG;
use juno_sql::actuator::{Action, Actuator, Order};
use juno_sql::healing::cause::Cause;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::fleet::{Demo, Row};

/// How long a fault may last.
const LIMIT: Duration = Duration::from_secs(90);
/// Looks without anything wrong before a fault.
const CALM_LOOKS: u32 = 6;

/// Kinds of faults.
pub const KINDS: [&str; 10] =
    ["kill", "stop", "hang", "slow", "errors", "leak", "full_disk", "dependency_down", "bad_config", "two_at_once"];

/// Kinds that came after the policy was made, and that nothing of it was chosen by.
pub const LATER_KINDS: [&str; 6] = ["deadlock", "stutter", "crash_loop", "flaky", "creep", "burst"];

/// What became of a fault.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The kind of the fault.
    pub kind: String,
    /// Seconds from the fault to the incident.
    pub detection_s: f64,
    /// Seconds from the incident to the first runbook.
    pub diagnosis_s: f64,
    /// Seconds from the fault to the last verification.
    pub healed_s: f64,
    /// Whether juno says that it is over, and the services agree.
    pub is_healed: bool,
    /// Whether the first cause named is the right one of the right service.
    pub is_right: bool,
    /// How probable that cause was called.
    pub probability: f64,
    /// Remediations of services that were not broken.
    pub strayed: usize,
    /// Remediations.
    pub orders: usize,
    /// What happened, in a line.
    pub story: String,
}

/// Numbers that follow from a seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((u128::from(bits ^ (bits >> 31)) * end as u128) >> 64).unwrap_or(0)
    }
}

/// One who breaks a fleet.
pub(super) struct Breaker {
    pub(super) demo: Arc<Demo>,
    pub(super) dice: Dice,
    pub(super) http: reqwest::Client,
}

impl Breaker {
    /// Waits until the fleet is calm and as many services as are needed may be acted on, at any moment between two looks.
    async fn victims(&mut self, count: usize) -> Result<Vec<String>> {
        for _ in 0..2_400 {
            sleep(Duration::from_millis(250)).await;
            if self.demo.pulse().calm_looks < CALM_LOOKS {
                continue;
            }
            let resting = self.demo.resting().await?;
            let mut free: Vec<String> =
                self.demo.ports.keys().filter(|service| !resting.contains(service)).cloned().collect();
            if free.len() < count {
                continue;
            }
            sleep(Duration::from_millis(self.dice.below(1_000) as u64)).await;
            if self.demo.pulse().calm_looks >= CALM_LOOKS {
                return Ok((0..count).map(|_| free.swap_remove(self.dice.below(free.len()))).collect());
            }
        }
        anyhow::bail!("the fleet does not come to rest")
    }

    /// Breaks the fleet once.
    pub(super) async fn episode(&mut self, kind: &str) -> Result<Outcome> {
        let kinds: Vec<&str> = match kind {
            "two_at_once" => {
                let first = self.dice.below(KINDS.len() - 1);
                let second = (first + 1 + self.dice.below(KINDS.len() - 2)) % (KINDS.len() - 1);
                vec![KINDS[first], KINDS[second]]
            }
            kind => vec![kind],
        };
        let victims = self.victims(kinds.len()).await?;
        let began_us = self.demo.now_us();
        for (victim, kind) in victims.iter().zip(&kinds) {
            self.break_one(victim, kind).await?;
        }
        let until = Instant::now() + LIMIT;
        let (incidents, remediations) = loop {
            let (incidents, remediations) =
                (self.demo.incidents(began_us).await?, self.demo.remediations(began_us).await?);
            let is_over = !incidents.is_empty() && incidents.iter().all(|row| !is_open(row));
            let is_given_up = incidents.iter().any(|row| !is_open(row) && row["status"] != "resolved");
            let is_done = verified(&remediations) >= kinds.len() || is_given_up;
            if (is_over && is_done) || Instant::now() > until {
                break (incidents, remediations);
            }
            sleep(Duration::from_millis(250)).await;
        };
        let is_well = self.is_well().await;
        let mut outcome = judge(kind, &kinds, &victims, began_us, &incidents, &remediations);
        outcome.is_healed &= is_well;
        if !outcome.is_healed || outcome.strayed > 0 || incidents.len() > 1 {
            println!(
                "NOT HEALED, STRAYED OR MORE THAN ONE INCIDENT: {kinds:?} of {victims:?}, services well: {is_well}"
            );
            for incident in &incidents {
                println!("    {}", serde_json::Value::Object(incident.clone()));
            }
        }
        self.repair(&victims, outcome.is_healed).await?;
        Ok(outcome)
    }

    async fn break_one(&mut self, victim: &str, kind: &str) -> Result<()> {
        let port = self.demo.ports[victim];
        match kind {
            "kill" | "stop" => {
                let observed = self.demo.actuator.observe(victim).await?;
                let pid = observed.replicas.first().and_then(|replica| replica.pid).context("nothing to kill")?;
                let signal = if kind == "kill" { "-KILL" } else { "-STOP" };
                let killed = std::process::Command::new("kill").args([signal, &pid.to_string()]).status()?;
                ensure!(killed.success(), "kill failed");
            }
            "bad_config" => {
                let bad = ["{\"work_ms\": 700, \"workers\": 8}", "{\"workers\": 0}", "{\"work_ms\":"];
                let config = bad[self.dice.below(bad.len())];
                let params = json!({"config": config});
                // One of them ends the service at its start: that the order fails is no surprise.
                let _ = self.order(victim, Action::ConfigCorrect, params).await;
            }
            kind => {
                let url = format!("http://127.0.0.1:{port}/fault/{kind}");
                self.http.post(url).send().await?.error_for_status()?;
            }
        }
        Ok(())
    }

    async fn order(&mut self, target: &str, action: Action, params: serde_json::Value) -> Result<()> {
        let key = format!("breaker-{}-{}", self.demo.now_us(), self.dice.below(1 << 30));
        let order = Order { target: target.into(), action, params, key, limit_ms: 20_000 };
        self.demo.actuator.act(&order).await?;
        Ok(())
    }

    /// Whether every service does its work, and soon.
    async fn is_well(&self) -> bool {
        for port in self.demo.ports.values() {
            let began = Instant::now();
            let answer = self.http.get(format!("http://127.0.0.1:{port}/work")).send().await;
            if !answer.is_ok_and(|answer| answer.status().is_success()) || began.elapsed() > Duration::from_millis(350)
            {
                return false;
            }
        }
        true
    }

    /// Brings the fleet back to what it was, whatever was left.
    async fn repair(&mut self, victims: &[String], is_healed: bool) -> Result<()> {
        for victim in victims {
            let observed = self.demo.actuator.observe(victim).await?;
            let is_well = observed.replicas.iter().all(|replica| replica.is_healthy == Some(true));
            let mended = |name: &str| std::fs::remove_file(self.demo.dir(victim).join(name)).is_ok();
            let was_down = mended("database-is-down") | mended("crash-loop");
            if observed.is_failed_over {
                self.order(victim, Action::Failover, json!({"back": true})).await?;
            } else if was_down || !is_well || !is_healed {
                let _ = self.order(victim, Action::CleanDisk, json!(null)).await;
                if self.order(victim, Action::Restart, json!(null)).await.is_err() || observed.config_version > Some(1)
                {
                    self.order(victim, Action::ConfigCorrect, json!({"config": CONFIG})).await?;
                }
            }
        }
        Ok(())
    }
}

/// The cause that a fault should be called.
fn causes(kind: &str) -> &'static [Cause] {
    match kind {
        "kill" => &[Cause::ProcessDown],
        "stop" | "hang" => &[Cause::Hang],
        "slow" | "stutter" | "creep" => &[Cause::Slow],
        "deadlock" => &[Cause::Slow, Cause::Errors, Cause::Hang],
        "crash_loop" => &[Cause::ProcessDown],
        "errors" | "flaky" | "burst" => &[Cause::Errors],
        "leak" => &[Cause::MemoryLeak],
        "full_disk" => &[Cause::DiskFull],
        "dependency_down" => &[Cause::DependencyDown],
        // One of them leaves no process.
        "bad_config" => &[Cause::BadConfiguration],
        _ => &[],
    }
}

/// Whether the autopilot still works on an incident.
fn is_open(incident: &Row) -> bool {
    !matches!(incident["status"].as_str(), Some("resolved" | "failed" | "escalated"))
}

/// How many remediations were verified.
fn verified(remediations: &[Row]) -> usize {
    remediations.iter().filter(|row| row["state"] == "succeeded").count()
}

/// Microseconds of a time of a row.
fn time_us(row: &Row, name: &str) -> Option<i64> {
    let at = chrono::DateTime::parse_from_rfc3339(row.get(name)?.as_str()?).ok()?;
    Some(at.timestamp_micros())
}

/// What happened, in a line.
fn story(incidents: &[Row], remediations: &[Row]) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let done = remediations.iter().map(|row| {
        format!(
            "{} for {} of {}: {}",
            text(&row["runbook"]),
            text(&row["cause"]),
            text(&row["target"]),
            text(&row["state"])
        )
    });
    let ends = incidents.iter().map(|row| format!("{} {}", text(&row["severity"]), text(&row["status"])));
    done.chain(ends).collect::<Vec<String>>().join("; ")
}

fn judge(
    kind: &str,
    kinds: &[&str],
    victims: &[String],
    began_us: i64,
    incidents: &[Row],
    remediations: &[Row],
) -> Outcome {
    let seconds = |at_us: Option<i64>| at_us.map_or(f64::NAN, |at_us| (at_us - began_us) as f64 / 1e6);
    let opened = incidents.first().and_then(|row| time_us(row, "detected_at"));
    let first = remediations.first();
    let chosen = first.and_then(|row| time_us(row, "began_at"));
    let won = remediations.iter().rev().find(|row| row["state"] == "succeeded");
    let healed = won.and_then(|row| time_us(row, "ended_at"));
    let is_right = first.is_some_and(|row| {
        let cause: Option<Cause> = serde_json::from_value(row["cause"].clone()).ok();
        let fits = |(victim, kind): (&String, &&str)| {
            row["target"] == victim.as_str() && cause.is_some_and(|cause| causes(kind).contains(&cause))
        };
        victims.iter().zip(kinds).any(fits)
    });
    let probability =
        incidents.first().and_then(|row| row["remediation_actions"]["actions"][0]["probability"].as_f64());
    let strays = |row: &&Row| !victims.iter().any(|victim| row["target"] == victim.as_str());
    Outcome {
        kind: kind.into(),
        detection_s: seconds(opened),
        diagnosis_s: seconds(chosen) - seconds(opened),
        healed_s: seconds(healed),
        is_healed: incidents.iter().all(|row| row["status"] == "resolved") && verified(remediations) >= kinds.len(),
        is_right,
        probability: probability.unwrap_or_default(),
        strayed: remediations.iter().filter(strays).count(),
        orders: remediations.len(),
        story: story(incidents, remediations),
    }
}
