//! Orders to other systems: the actuators that a database was given, and a row before and after each order.
//!
//! **Invariant:** an order's row is there before the order is given; one that the end of the process cut off is marked when the
//! database is opened, and never given again.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::{Invocation, rfc3339};
use crate::actuator::shown::contradiction;
use crate::actuator::{Action, Actuator, ActuatorError, Effect, Observation, Order, Target, reverse};
use crate::operation::{Refusal, Refused};
use crate::session::Session;
use crate::{Error, Result};

/// How long after its answer an order may take until it is seen to be carried out, in microseconds.
const SEEN_US: u64 = 5_000_000;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// A target, and what acts on it.
pub(crate) struct Found {
    pub(crate) actuator: Arc<dyn Actuator>,
    pub(crate) target: Target,
    pub(crate) observed: Observation,
    /// How many targets there are in all.
    pub(crate) fleet: usize,
}

impl Found {
    /// How much of all that can be acted on an order to it touches.
    pub(crate) fn blast_radius(&self) -> Value {
        json!({ "targets": 1, "pct_of_fleet": 100.0 / self.fleet.max(1) as f64 })
    }
}

/// What the actuators know.
#[derive(Default)]
pub(crate) struct Known {
    /// Every target, with what acts on it.
    pub(crate) targets: Vec<(Arc<dyn Actuator>, Target)>,
    /// The actuators that gave no answer, and why.
    silent: Vec<(&'static str, ActuatorError)>,
}

/// On whose behalf an order is given.
#[derive(Clone, Copy)]
pub(crate) struct Mandate<'a> {
    pub(crate) operation: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) job: Option<&'a str>,
    /// The incident, plan or threat that it is about.
    pub(crate) subject: Option<&'a str>,
}

impl Invocation {
    /// The mandate of this request.
    pub(crate) fn mandate<'a>(&'a self, subject: Option<&'a str>) -> Mandate<'a> {
        let job = self.job.as_ref().map(|job| job.id.as_str());
        Mandate { operation: self.operation.name, actor: self.actor(), job, subject }
    }
}

impl Session {
    /// Sets what acts on other systems; without any, nothing does.
    pub fn set_actuators(&self, actuators: Vec<Arc<dyn Actuator>>) {
        *self.shared.operations.actuators.write() = actuators.into();
    }

    /// All targets, each with what acts on it. An actuator that gives no answer is warned of once and left out: nobody is kept
    /// from the targets of the others.
    pub(crate) async fn targets(&self) -> Known {
        let actuators = Arc::clone(&self.shared.operations.actuators.read());
        let (mut asked, mut known) = (Vec::new(), Known::default());
        for actuator in actuators.iter() {
            asked.push(actuator.targets());
        }
        for (actuator, answer) in actuators.iter().zip(join_all(asked).await) {
            self.operations().note_silence(actuator.executor(), answer.as_ref().err());
            match answer {
                Ok(targets) => {
                    known.targets.extend(targets.into_iter().map(|target| (Arc::clone(actuator), target)));
                }
                Err(error) => known.silent.push((actuator.executor(), error)),
            }
        }
        known
    }

    /// A target by its name, and by its executor where that is given.
    ///
    /// # Errors
    /// [`Refused::UnknownTarget`] where no actuator knows it, [`Refused::TargetTimeout`] where it cannot be looked at, or where
    /// nobody knows it who answers.
    pub(crate) async fn target(&self, executor: Option<&str>, name: &str) -> Result<Found> {
        let Known { targets: all, silent } = self.targets().await;
        let known: Vec<String> = all.iter().map(|(_, target)| target.name.clone()).collect();
        let fleet = all.len();
        let is_meant = |actuator: &Arc<dyn Actuator>, target: &Target| {
            target.name == name && executor.is_none_or(|executor| actuator.executor() == executor)
        };
        let Some((actuator, target)) = all.into_iter().find(|(actuator, target)| is_meant(actuator, target)) else {
            if let Some((silent, error)) =
                silent.iter().find(|(silent, _)| executor.is_none_or(|executor| executor == *silent))
            {
                let text = format!("nobody who answers knows \"{name}\", and {silent} does not answer: {error}");
                return Err(Refusal::new(kind(error), text).at("/target").into());
            }
            let by = executor.map_or(String::new(), |executor| format!(" of {executor}"));
            let none = "none: start juno with --fleet, --kubernetes-namespace or --webhook-url";
            let known = if known.is_empty() { none.to_owned() } else { known.join(", ") };
            let text = format!("there is no target \"{name}\"{by}; there is {known}");
            return Err(Refusal::new(Refused::UnknownTarget, text).at("/target").into());
        };
        let observed = actuator.glance(&target.name).await.map_err(refused)?;
        Ok(Found { actuator, target, observed, fleet })
    }

    /// Gives an order, with a row before and after it; gives the order as it was given, and what it did.
    pub(crate) async fn give_order(
        &self,
        mandate: Mandate<'_>,
        found: &Found,
        (action, params, limit_ms): (Action, Value, u64),
    ) -> Result<(Order, Effect)> {
        let key = self.db().system().uuid_v7().to_string();
        let order = Order { target: found.target.name.clone(), action, params, key: key.clone(), limit_ms };
        self.intend(mandate, found, &order, false).await?;
        let outcome = found.actuator.act(&order).await;
        self.ended(&key, &outcome).await?;
        Ok((order, outcome.map_err(refused)?))
    }

    /// Waits until a target shows nothing that contradicts an order, which was answered as carried out.
    ///
    /// # Errors
    /// [`Refused::TargetTimeout`] where it still does after a while, or cannot be looked at.
    pub(crate) async fn see_done(&self, found: &Found, order: &Order, effect: &Effect) -> Result<()> {
        let clock = self.db().system().clock();
        let until_us = clock.monotonic_us() + SEEN_US;
        loop {
            let doubt = match found.actuator.glance(&order.target).await {
                Ok(now) => contradiction(order, (&found.observed, &effect.after), &now),
                Err(error) => Some(format!("\"{}\" cannot be looked at: {error}", order.target)),
            };
            // It may have been done: whatever is in doubt is a time-out and no refusal.
            let doubt = doubt.map(|text| {
                let text = format!("{} was answered as done, and {text}: look at the target", order.action.name());
                Refusal::new(Refused::TargetTimeout, text).into()
            });
            match doubt {
                None => return Ok(()),
                Some::<Error>(error) if clock.monotonic_us() >= until_us => return Err(error),
                Some(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Takes an order back, with a row before and after; None where nothing of it can be taken back.
    pub(crate) async fn take_back(
        &self,
        mandate: Mandate<'_>,
        found: &Found,
        (order, effect): (&Order, &Effect),
    ) -> Result<Option<Effect>> {
        let key = self.db().system().uuid_v7().to_string();
        let Some(back) = reverse(order, effect, &key) else { return Ok(None) };
        self.intend(mandate, found, &back, true).await?;
        let outcome = found.actuator.undo(order, effect, &key).await;
        self.ended(&key, &outcome).await?;
        outcome.map(Some).map_err(refused)
    }

    async fn intend(&self, mandate: Mandate<'_>, found: &Found, order: &Order, is_undo: bool) -> Result<()> {
        let insert = "INSERT INTO juno_intents (id, at, operation, actor, job_id, subject, executor, target, action, params, \
                      is_undo, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'intended')";
        let values = [
            order.key.as_str().into(),
            self.now().into(),
            mandate.operation.into(),
            mandate.actor.into(),
            mandate.job.into(),
            mandate.subject.into(),
            found.actuator.executor().into(),
            order.target.as_str().into(),
            order.action.name().into(),
            order.params.clone(),
            is_undo.into(),
        ];
        self.changed_rows(insert, &values).await.map(drop)
    }

    async fn ended(&self, key: &str, outcome: &Result<Effect, ActuatorError>) -> Result<()> {
        let (state, effect, error) = match outcome {
            Ok(effect) => ("done", json!(effect), Value::Null),
            Err(error) => ("failed", Value::Null, error.to_string().into()),
        };
        let update = "UPDATE juno_intents SET state = $2, ended_at = $3, effect = $4, error = $5 WHERE id = $1";
        self.changed_rows(update, &[key.into(), state.into(), self.now().into(), effect, error]).await.map(drop)
    }

    /// When the database is opened: what was under way is marked.
    pub(super) async fn interrupt_orders(&self) -> Result<()> {
        let some = "SELECT id FROM juno_intents WHERE state = 'intended' LIMIT 1";
        if !self.objects(some, &[]).await?.is_empty() {
            let mark = "UPDATE juno_intents SET state = 'interrupted', ended_at = $1 WHERE state = 'intended'";
            self.changed_rows(mark, &[self.now().into()]).await?;
        }
        let some = "SELECT id FROM juno_remediations WHERE state = 'running' LIMIT 1";
        if !self.objects(some, &[]).await?.is_empty() {
            let mark = "UPDATE juno_remediations SET state = 'interrupted', ended_at = $1 WHERE state = 'running'";
            self.changed_rows(mark, &[self.now().into()]).await?;
        }
        Ok(())
    }

    /// Now, as tables and answers have it.
    pub(crate) fn now(&self) -> String {
        rfc3339(self.db().system().clock().now_us())
    }
}

/// What an actuator answered, as a refusal.
pub(crate) fn refused(error: ActuatorError) -> Error {
    Refusal::new(kind(&error), error.to_string()).into()
}

fn kind(error: &ActuatorError) -> Refused {
    match error {
        ActuatorError::UnknownTarget(_) => Refused::UnknownTarget,
        ActuatorError::Timeout { .. } | ActuatorError::Unreachable { .. } => Refused::TargetTimeout,
        ActuatorError::Refused { .. } => Refused::Conflict,
        ActuatorError::Interrupted { .. } => Refused::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::actuator::fake::World;

    /// One that is never there.
    struct Silent;

    fn silence(target: &str) -> ActuatorError {
        ActuatorError::Unreachable { target: target.to_owned(), reason: "no connection".into() }
    }

    #[async_trait]
    impl Actuator for Silent {
        fn executor(&self) -> &'static str {
            "silent"
        }

        async fn targets(&self) -> Result<Vec<Target>, ActuatorError> {
            Err(silence("all"))
        }

        async fn observe(&self, target: &str) -> Result<Observation, ActuatorError> {
            Err(silence(target))
        }

        async fn act(&self, order: &Order) -> Result<Effect, ActuatorError> {
            Err(silence(&order.target))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_actuator_that_gives_no_answer_keeps_nobody_from_the_others() {
        let world = World::open().await;
        let fake: Arc<dyn Actuator> = Arc::<crate::actuator::fake::Fake>::clone(&world.fake);
        world.own.set_actuators(vec![Arc::new(Silent), fake]);
        let found = world.own.target(None, "shop").await.unwrap();
        assert_eq!((found.actuator.executor(), found.fleet), ("fake", 3));
        let refusal = async |executor: Option<&str>, name: &str| match world.own.target(executor, name).await {
            Err(Error::Refused(refusal)) => (refusal.kind, refusal.detail.clone()),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it was found"),
        };
        for (executor, name) in [(None, "till"), (Some("silent"), "shop")] {
            let (kind, text) = refusal(executor, name).await;
            assert_eq!(kind, Refused::TargetTimeout, "{text}");
            assert!(text.contains("silent does not answer") && text.contains("no connection"), "{text}");
        }
        assert_eq!(refusal(Some("fake"), "till").await.0, Refused::UnknownTarget);
    }
}
