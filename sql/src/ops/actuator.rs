//! What acts on the world: services that run somewhere, and what can be done to them.
//!
//! **Contract.** [`Actuator::observe`] and [`Actuator::glance`] have no effect. [`Actuator::act`] is done once per key: the
//! same order under the same key answers what the first one did, marked as a repetition; another order under it is refused;
//! one that a crash cut off is [`ActuatorError::Interrupted`], so that who asked looks before it asks again under a new key.
//! An order that takes longer than its limit is [`ActuatorError::Timeout`], whether or not it had an effect. What is not
//! possible at a target is [`ActuatorError::Refused`] and has none.
//!
//! **Invariant:** decides nothing: whether an order may be given is judged before, by `healing/policy/guard.rs`.

#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod shown;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest key of an order, in bytes.
pub const KEY_BYTES_MAX: usize = 255;
/// The longest time that an order may take, in ms.
const LIMIT_MS_MAX: u64 = 600_000;

/// What can be done to a target.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Start what is stopped.
    Start,
    /// Stop all of it, in good order where it obeys.
    Stop,
    /// Stop and start it.
    Restart,
    /// Run `params.replicas` of it, or `params.add` more.
    Scale,
    /// Let its standby take its place, or with `params.back` the other way round.
    Failover,
    /// Go back to the configuration before this one; where that was done already, only with `params.redo`.
    Rollback,
    /// Apply the configuration `params.config`, or the last applied one again where there is none.
    ConfigCorrect,
    /// Give it the scheduling priority `params.nice`.
    Rebalance,
    /// Start nothing new of it until it is uncordoned; what of it, `params` may say.
    Cordon,
    /// Lift a cordon; the one that `params` say.
    Uncordon,
    /// Remove its disposable files.
    CleanDisk,
    /// Freeze it as it is, for containment.
    Isolate,
    /// Let it go on.
    Resume,
}

impl Action {
    /// Its name in requests and runbooks.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Scale => "scale",
            Self::Failover => "failover",
            Self::Rollback => "rollback",
            Self::ConfigCorrect => "config_correct",
            Self::Rebalance => "rebalance",
            Self::Cordon => "cordon",
            Self::Uncordon => "uncordon",
            Self::CleanDisk => "clean_disk",
            Self::Isolate => "isolate",
            Self::Resume => "resume",
        }
    }
}

/// What can be acted on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Target {
    /// Its name, unique in its actuator.
    pub name: String,
    /// What it is there: `process`, `deployment`, `statefulset`.
    pub kind: String,
    /// Whether no autopilot may act on it.
    #[serde(default)]
    pub is_protected: bool,
    /// The actions that it takes.
    pub actions: Vec<Action>,
}

/// A running part of a target.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Replica {
    /// Its number, from 0.
    pub index: usize,
    /// The process, where there is one.
    pub pid: Option<u32>,
    /// `running`, `halted` or `gone`.
    pub state: String,
    /// Whether it answers its health check; None where it has none or was not asked.
    pub is_healthy: Option<bool>,
    /// Memory in use.
    pub rss_bytes: Option<u64>,
    /// Processor time used since its start.
    pub cpu_ms: Option<u64>,
    /// Open files and sockets.
    pub open_files: Option<u64>,
    /// Where it listens.
    pub port: Option<u16>,
    /// Its scheduling priority: the larger, the less it gets.
    pub nice: Option<i32>,
    /// What identifies this start of it: it changes with every restart.
    pub started: Option<String>,
}

/// A target as it is now.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Observation {
    /// How many replicas there should be.
    pub wanted: usize,
    /// Those that there are.
    pub replicas: Vec<Replica>,
    /// The configuration's version: how often one was applied.
    pub config_version: Option<u64>,
    /// Whether the configuration was changed by other hands.
    pub has_drifted: bool,
    /// Whether there is an earlier configuration to go back to.
    pub has_previous: bool,
    /// Whether a standby could take over.
    pub has_standby: bool,
    /// Whether the standby has taken over.
    pub is_failed_over: bool,
    /// Whether nothing new is started.
    pub is_cordoned: bool,
    /// Whether an order acts on it now: what it shows is no fault.
    pub is_busy: bool,
    /// Whether it is frozen for containment: not to be healed.
    pub is_isolated: bool,
    /// Bytes that it has on disk.
    pub disk_bytes: Option<u64>,
}

/// A target as it can be watched, beside what is observed of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// The targets that it calls.
    pub calls: Vec<String>,
    /// The URL that is asked as a client would.
    pub probe: Option<String>,
    /// The URLs of its counters, one of each of its processes.
    pub metrics: Vec<String>,
}

/// How a system moves, by which those go who watch it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// Seconds between two looks.
    pub look_s: u32,
    /// Whether it replaces by itself what is gone or halted, so that this says something only when it lasts.
    pub replaces: bool,
}

/// An order to act.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Order {
    /// On what.
    pub target: String,
    /// What to do.
    pub action: Action,
    /// How; an object, by action.
    #[serde(default)]
    pub params: Value,
    /// What makes it the same order when it is given again, at most [`KEY_BYTES_MAX`].
    pub key: String,
    /// How long it may take.
    pub limit_ms: u64,
}

impl Order {
    /// Holds key and limit to their bounds.
    ///
    /// # Errors
    /// [`ActuatorError::Refused`] for what is beyond them.
    pub fn check(&self) -> Result<(), ActuatorError> {
        if self.key.is_empty() || self.key.len() > KEY_BYTES_MAX {
            return Err(self.refused(format!("a key has 1 to {KEY_BYTES_MAX} bytes")));
        }
        if self.limit_ms == 0 || self.limit_ms > LIMIT_MS_MAX {
            return Err(self.refused(format!("limit_ms must be 1 to {LIMIT_MS_MAX}")));
        }
        Ok(())
    }

    /// It is not possible at its target.
    pub fn refused(&self, reason: impl Into<String>) -> ActuatorError {
        ActuatorError::Refused { target: self.target.clone(), reason: reason.into() }
    }

    /// It took longer than its limit.
    pub fn late(&self) -> ActuatorError {
        let (target, action) = (self.target.clone(), self.action.name().to_owned());
        ActuatorError::Timeout { target, action, limit_ms: self.limit_ms }
    }
}

/// What an order did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Effect {
    /// The target before.
    pub before: Observation,
    /// The target after.
    pub after: Observation,
    /// Whether this is the answer to an earlier order of the same key.
    #[serde(default)]
    pub is_repetition: bool,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ActuatorError {
    /// There is no such target.
    #[error("there is no target \"{0}\": take one of the actuator's targets")]
    UnknownTarget(String),
    /// It took too long.
    #[error("\"{target}\" did not {action} within {limit_ms} ms: look at it before the next order")]
    Timeout {
        /// The target.
        target: String,
        /// What it should have done.
        action: String,
        /// The limit.
        limit_ms: u64,
    },
    /// It is not possible there, or not now.
    #[error("\"{target}\" refuses: {reason}")]
    Refused {
        /// The target.
        target: String,
        /// Why, and what to do.
        reason: String,
    },
    /// What carries out orders cannot be reached.
    #[error("\"{target}\" cannot be reached: {reason}")]
    Unreachable {
        /// The target.
        target: String,
        /// Why.
        reason: String,
    },
    /// A crash cut the order off.
    #[error(
        "the order \"{key}\" on \"{target}\" was begun before a restart and may have had its effect: look at the target, then order anew under another key"
    )]
    Interrupted {
        /// The target.
        target: String,
        /// The order's key.
        key: String,
    },
}

/// What acts on the world.
#[async_trait]
pub trait Actuator: Send + Sync {
    /// Its name in requests: `process`, `kubernetes`, `webhook`.
    fn executor(&self) -> &'static str;

    /// Where all its targets are, where it knows: the namespace of a cluster.
    fn namespace(&self) -> Option<&str> {
        None
    }

    /// What it can act on, by name.
    async fn targets(&self) -> Result<Vec<Target>, ActuatorError>;

    /// A target as it is now.
    async fn observe(&self, target: &str) -> Result<Observation, ActuatorError>;

    /// A target as it is now, as far as that is known without asking it: one that hangs answers health checks late.
    async fn glance(&self, target: &str) -> Result<Observation, ActuatorError> {
        self.observe(target).await
    }

    /// How its targets are to be watched; None where they are not.
    fn pace(&self) -> Option<Pace> {
        None
    }

    /// What is to be watched.
    async fn watched(&self) -> Result<Vec<Watched>, ActuatorError> {
        Ok(Vec::new())
    }

    /// Carries out an order.
    async fn act(&self, order: &Order) -> Result<Effect, ActuatorError>;

    /// Takes an order back as far as possible, under a key of its own: brings the target to what it was before.
    async fn undo(&self, order: &Order, effect: &Effect, key: &str) -> Result<Effect, ActuatorError> {
        match reverse(order, effect, key) {
            Some(back) => self.act(&back).await,
            None => Err(order.refused(format!("{} leaves nothing to take back", order.action.name()))),
        }
    }
}

/// The order that takes another one back; None where nothing is left of it to take back.
pub fn reverse(order: &Order, effect: &Effect, key: &str) -> Option<Order> {
    let (before, after) = (&effect.before, &effect.after);
    let (action, params) = match order.action {
        Action::Start => (Action::Stop, Value::Null),
        Action::Stop => (Action::Start, Value::Null),
        Action::Scale => (Action::Scale, serde_json::json!({"replicas": before.wanted})),
        Action::Failover => (Action::Failover, serde_json::json!({"back": after.is_failed_over})),
        Action::Rollback => (Action::Rollback, serde_json::json!({"redo": true})),
        Action::ConfigCorrect => (Action::Rollback, Value::Null),
        // What is cordoned may be named.
        Action::Cordon => (Action::Uncordon, order.params.clone()),
        Action::Uncordon => (Action::Cordon, order.params.clone()),
        Action::Isolate => (Action::Resume, Value::Null),
        Action::Resume => (Action::Isolate, Value::Null),
        Action::Restart | Action::CleanDisk | Action::Rebalance => return None,
    };
    let nothing_done = matches!(order.action, Action::Rollback | Action::ConfigCorrect)
        && before.config_version == after.config_version;
    let reverse = Order { target: order.target.clone(), action, params, key: key.to_owned(), limit_ms: order.limit_ms };
    (!nothing_done).then_some(reverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_taken_back_has_a_reverse_order() {
        let order =
            |action| Order { target: "shop".into(), action, params: Value::Null, key: "a".into(), limit_ms: 1_000 };
        let before = Observation { wanted: 2, ..Observation::default() };
        let after = Observation { wanted: 5, config_version: Some(2), ..Observation::default() };
        let effect = Effect { before, after, is_repetition: false };
        let back = reverse(&order(Action::Scale), &effect, "b").unwrap();
        assert_eq!((back.action, back.params["replicas"].as_u64(), back.key.as_str()), (Action::Scale, Some(2), "b"));
        assert_eq!(reverse(&order(Action::Isolate), &effect, "b").unwrap().action, Action::Resume);
        assert!(reverse(&order(Action::Restart), &effect, "b").is_none());
        let node = Order { params: serde_json::json!({"node": "n1"}), ..order(Action::Cordon) };
        let back = reverse(&node, &effect, "b").unwrap();
        assert_eq!((back.action, back.params), (Action::Uncordon, node.params));
        let same = Effect { after: effect.before.clone(), ..effect };
        assert!(reverse(&order(Action::ConfigCorrect), &same, "b").is_none(), "nothing was changed");
    }

    #[test]
    fn a_name_is_what_serde_writes() {
        for action in [Action::Start, Action::ConfigCorrect, Action::CleanDisk, Action::Isolate] {
            assert_eq!(serde_json::to_value(action).unwrap(), action.name());
        }
    }
}
