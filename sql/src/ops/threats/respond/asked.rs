//! What a request to respond means: which threat, which action on what, and what the rules say of it.
//!
//! **Invariant:** reads only.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::operation::{Form, Member, Quota, Refusal, Refused, answer, time_us};
use crate::ops::governance;
use crate::ops::threats::policy::{
    Action, Proposal, Situation, VERDICT, Verdict, protected_address, protected_user, verdict,
};
use crate::session::{Found, Hold, Invocation, Session, rfc3339};
use crate::{Error, Result};

const HOUR_US: i64 = 3_600_000_000;
/// The executor of what juno does itself.
const OWN: &str = "juno";

/// What is acted on.
pub(super) const ON: &[Member] = &[
    Member::new("executor", Form::Text, "What acts on it."),
    Member::new("name", Form::Text, "The service, the address, or the user."),
];
/// What is told of what would be done.
pub(super) const PLAN: &[Member] = &[
    Member::new("threat_event_id", Form::Id, "The threat."),
    Member::new("action", Form::Choice(Action::NAMES), "What is done."),
    Member::new("target", Form::Object(ON), "On what.").or_null(),
    Member::new("steps", Form::List(&Form::Text), "The steps."),
    Member::new("policy", Form::Object(VERDICT), "What the rules say of it."),
    Member::new("blast_radius", Form::Object(answer::BLAST_RADIUS), "How much it touches."),
];

/// What is asked for.
pub(super) struct Asked {
    pub(super) threat_id: String,
    pub(super) detected_at: String,
    pub(super) action: Action,
    /// Of the target, the address or the user; empty where the action has none.
    pub(super) name: String,
    pub(super) on: On,
    threat: Map<String, Value>,
    protected: Option<String>,
}

/// What is acted on.
pub(super) enum On {
    /// What an actuator knows.
    Target(Box<Found>),
    /// Juno's own doors.
    Doors,
    /// Nothing.
    Nothing,
}

impl Asked {
    pub(super) async fn of(invocation: &Invocation) -> Result<Self> {
        let own = &invocation.own;
        let threat_id = invocation.word("threat_event_id").to_owned();
        let found = "SELECT * FROM threats_history WHERE id = $1";
        let threat = own.objects(found, &[threat_id.as_str().into()]).await?.pop();
        let threat = threat.ok_or_else(|| {
            Refusal::new(Refused::NotFound, format!("there is no threat {threat_id}")).at("/threat_event_id")
        })?;
        let unknown = || Error::Internal(format!("the action \"{}\" is unknown", invocation.word("action")));
        let action = Action::named(invocation.word("action")).ok_or_else(unknown)?;
        let target = invocation.arguments.get("target");
        let name = target.and_then(|target| target["name"].as_str()).or(threat["entity"].as_str());
        let executor = target.and_then(|target| target["executor"].as_str());
        let mut asked = Self {
            detected_at: threat["detected_at"].as_str().unwrap_or_default().to_owned(),
            action,
            name: name.unwrap_or_default().to_owned(),
            on: On::Nothing,
            threat,
            protected: None,
            threat_id,
        };
        asked.find(invocation, executor).await?;
        Ok(asked)
    }

    /// Finds what is acted on, and whether it never is.
    async fn find(&mut self, invocation: &Invocation, executor: Option<&str>) -> Result<()> {
        let own = &invocation.own;
        if !self.action.contains() {
            // What is known of it belongs to the evidence, where it is a target.
            if let Ok(found) = own.target(executor, &self.name).await {
                self.on = On::Target(Box::new(found));
            }
            return Ok(());
        }
        if self.name.is_empty() {
            let text = format!("the threat names no entity: say on what to {}", self.action.name());
            return Err(Refusal::new(Refused::MissingField, text).at("/target").into());
        }
        if let Some(ordered) = self.action.ordered() {
            let found = own.target(executor, &self.name).await?;
            if !found.target.actions.contains(&ordered) {
                let text = format!("\"{}\" takes no {} from its actuator", self.name, ordered.name());
                return Err(Refusal::new(Refused::UnknownTarget, text).at("/target").into());
            }
            self.protected = found.target.is_protected.then(|| format!("\"{}\" is protected", self.name));
            self.on = On::Target(Box::new(found));
            return Ok(());
        }
        let people = own.people();
        self.on = On::Doors;
        if self.action == Action::BlockIp {
            let address: IpAddr = self.name.parse().map_err(|_| {
                let text = format!("\"{}\" is no IP address", self.name);
                Refusal::new(Refused::InvalidValue, text).at("/target/name")
            })?;
            self.name = address.to_canonical().to_string();
            self.protected = protected_address(address, &people);
        } else {
            if !people.iter().any(|person| person.name == self.name) && self.name != invocation.actor() {
                let text = format!("no user and no token named \"{}\" has been here", self.name);
                return Err(Refusal::new(Refused::UnknownTarget, text).at("/target/name").into());
            }
            self.protected = protected_user(&self.name, invocation.actor(), &people);
        }
        Ok(())
    }

    /// The turn to act on it.
    pub(super) fn turn(&self, own: &Session) -> Result<Hold> {
        match self.action.contains() {
            true => own.turn(self.executor().unwrap_or(OWN), self.action.blocked().unwrap_or_default(), &self.name),
            false => own.turn(OWN, "threat", &self.threat_id),
        }
    }

    pub(super) fn executor(&self) -> Option<&str> {
        match &self.on {
            On::Target(found) => Some(found.actuator.executor()),
            On::Doors => Some(OWN),
            On::Nothing => None,
        }
    }

    /// The target, as answers have it.
    pub(super) fn target(&self) -> Value {
        match &self.on {
            On::Nothing => Value::Null,
            _ => json!({ "executor": self.executor(), "name": self.name }),
        }
    }

    /// Asks the rules.
    pub(super) async fn verdict(&self, invocation: &Invocation) -> Result<Verdict> {
        let own = &invocation.own;
        let policy = governance::stored(own, "threats").await?.policy;
        let number = |key: &str| policy.get(key).and_then(Value::as_f64).unwrap_or_default();
        let hour = rfc3339(invocation.now_us() - HOUR_US);
        let used = "SELECT count(*) AS n, min(at) AS first FROM juno_threat_responses WHERE at > $1 AND expires_at IS NOT NULL \
                    AND state <> 'failed'";
        let used = own.objects(used, &[hour.into()]).await?.pop();
        let proposal = Proposal {
            action: self.action,
            ttl_s: invocation.arguments["ttl_s"].as_u64().unwrap_or(3_600),
            wants_approval: invocation.word("approval") == "required",
            approved_by: invocation.approved_by.as_deref(),
        };
        let situation = Situation {
            over: match (self.threat["false_positive"] == true, self.threat["resolved_at"].is_null()) {
                (true, _) => Some("a false positive"),
                (false, false) => Some("resolved"),
                (false, true) => None,
            },
            confidence: self.threat["confidence_score"].as_f64().unwrap_or_default(),
            confidence_min: number("confidence_min"),
            actions: used.as_ref().and_then(|row| row["n"].as_u64()).unwrap_or_default(),
            actions_max: number("actions_per_hour"),
            ttl_max_s: number("response_ttl_s"),
            protected: self.protected.clone(),
            contained: self.contained(invocation).await?,
        };
        if self.action.contains() {
            let first_us = used.as_ref().and_then(|row| time_us(row["first"].as_str()?));
            let used = (situation.actions_max.max(0.0) as u64, situation.actions);
            invocation.uses(Quota::hourly("threat-responses", used, first_us, invocation.now_us()));
        }
        Ok(verdict(&proposal, &situation))
    }

    /// What contains it already.
    async fn contained(&self, invocation: &Invocation) -> Result<Option<String>> {
        if !self.action.contains() {
            return Ok(None);
        }
        let same = "SELECT id, expires_at FROM juno_threat_responses WHERE action = $1 AND executor = $2 AND target = $3 \
                    AND state = 'active' AND expires_at > $4 LIMIT 1";
        let values =
            [self.action.name().into(), self.executor().into(), self.name.as_str().into(), invocation.now().into()];
        if let Some(row) = invocation.own.objects(same, &values).await?.pop() {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            return Ok(Some(format!("response {} does so until {}", text("id"), text("expires_at"))));
        }
        match &self.on {
            On::Target(found) if self.action == Action::Isolate && found.observed.is_isolated => {
                Ok(Some(format!("\"{}\" is isolated already, by other hands", self.name)))
            }
            _ => Ok(None),
        }
    }

    /// What would be done.
    pub(super) fn plan(&self, verdict: &Verdict) -> Value {
        let steps: &[&str] = match self.action {
            Action::SnapshotForensics => &["evidence"],
            Action::Notify => &["evidence", "notify"],
            action => &["evidence", action.name(), "take back when it expires"],
        };
        json!({
            "threat_event_id": self.threat_id,
            "action": self.action.name(),
            "target": self.target(),
            "steps": steps,
            "policy": verdict.json(),
            "blast_radius": self.blast_radius(),
        })
    }

    pub(super) fn blast_radius(&self) -> Value {
        let acted_on = match &self.on {
            On::Target(found) if self.action.ordered().is_some() => Some(found.fleet),
            _ => None,
        };
        let share = acted_on.map_or(0.0, |fleet| 100.0 / fleet.max(1) as f64);
        json!({ "targets": usize::from(acted_on.is_some()), "pct_of_fleet": share })
    }

    /// What is known before anything is done.
    pub(super) fn evidence(&self, now_us: i64) -> Value {
        let observed = match &self.on {
            On::Target(found) => json!({ "target": found.target, "observed": found.observed }),
            _ => Value::Null,
        };
        json!({ "at": rfc3339(now_us), "threat": self.threat, "target": observed })
    }
}
