//! Learned policies in service: every quarter of an hour the knobs of a service's scaling rule are decided, and what came of the
//! decision before is written beside it in `rl_experience`.
//!
//! The recommendation of the active version is drawn to one of the arms around it, whose mean it is, so that each decision has a
//! chance to be logged with. Where a canary is there, a share of the decisions is its own: that of RL_EXPLORATION_RATE, at most
//! `exploration_max` of the policy `rl`, and none while the service is over its error budget. Without an active version the fixed
//! rule decides, and knobs that are on trial take a canary's share.
//!
//! **Invariant:** a decision is in the table before it is in force; its propensity is the chance that it was drawn with.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::policy::Policy;
use super::policy::action::{ActionSpace, Knobs};
use super::policy::gate::drawn;
use super::policy::refusal::Refusal as Judged;
use super::policy::reward::{COMPONENT_NAMES, Components};
use super::policy::simulator::live::Moment;
use super::policy::simulator::load::measured;
use super::policy::simulator::{EPOCH_SLOTS, HOLD_MAX_S, SLOT_S, Service};
use super::policy::stage::Stage;
use super::policy::state::{FEATURE_NAMES, State};
use super::scene::{knobs_json, knobs_of};
use super::store::{self, Stored};
use crate::Result;
use crate::operation::Component;
use crate::ops::governance;
use crate::ops::operations::optimize::trial;
use crate::session::{Session, blocking, rfc3339};

/// How long a decision holds, in microseconds.
const EPOCH_US: i64 = EPOCH_SLOTS as i64 * SLOT_US;
const SLOT_US: i64 = SLOT_S as i64 * 1_000_000;
/// The knobs of the fixed rule where nobody has set others.
const FIXED: Knobs = Knobs { k: 2.0, hold_s: 300.0, guard: 1.15 };
/// Decisions whose violations are remembered.
const REMEMBERED: usize = 200;

/// A service's rule.
pub(crate) struct Rule {
    /// The name that decisions are taken under.
    policy: String,
    service: String,
    recent_violation: f64,
    epoch: Option<Epoch>,
    /// Replicas that were asked for lately, with when.
    asked: VecDeque<(i64, f64)>,
}

/// A decision in force.
struct Epoch {
    id: String,
    ends_us: i64,
    knobs: Knobs,
    by: Option<i64>,
    /// Ready and billed replicas since it began, with when they were seen.
    seen: Vec<(i64, f64, f64)>,
    /// What the outcome is worth.
    worth: Option<Policy>,
}

/// What is known of the service now.
pub(crate) struct Seen<'a> {
    /// The load of every step up to now, oldest first.
    pub(crate) samples: &'a [f64],
    pub(crate) step_s: f64,
    pub(crate) now_us: i64,
    /// What one replica carries, in the unit of the load.
    pub(crate) service: Service,
    pub(crate) ready: f64,
    pub(crate) billed: f64,
}

/// What the rule asks for.
pub(crate) struct Asks {
    pub(crate) replicas: u32,
    pub(crate) knobs: Knobs,
    /// The version that decided; none where the fixed rule did.
    pub(crate) version: Option<i64>,
}

impl Asks {
    /// What decided, in words.
    pub(crate) fn by(&self) -> String {
        self.version.map_or_else(|| "the fixed rule".to_owned(), |version| format!("version {version}"))
    }

    /// As rows have it.
    pub(crate) fn told(&self) -> Value {
        json!({ "knobs": knobs_json(&self.knobs), "version": self.version })
    }
}

/// One draw.
struct Drawn {
    arm: usize,
    propensity: f64,
    explored: bool,
}

impl Rule {
    /// The rule of a service, with what it remembers.
    pub(crate) async fn open(own: &Session, policy: &str, service: &str) -> Result<Self> {
        let last = format!(
            "SELECT CAST(outcome ->> 'violation' AS DOUBLE PRECISION) AS violation FROM rl_experience WHERE policy = $1 \
             AND service = $2 AND outcome IS NOT NULL ORDER BY at DESC, id DESC LIMIT {REMEMBERED}"
        );
        let last = own.objects(&last, &[policy.into(), service.into()]).await?;
        let violations = last.iter().rev().filter_map(|row| row["violation"].as_f64());
        let of = |violation| Components { violation, ..Components::default() };
        let recent_violation = violations.fold(0.0, |recent, violation| Moment::remembered(recent, &of(violation)));
        let (policy, service) = (policy.to_owned(), service.to_owned());
        Ok(Self { policy, service, recent_violation, epoch: None, asked: VecDeque::new() })
    }

    /// The name that it decides under.
    pub(crate) fn policy(&self) -> &str {
        &self.policy
    }

    /// What it asks for now; none where too little of the load is known, less than two days.
    pub(crate) async fn ask(&mut self, own: &Session, seen: &Seen<'_>) -> Result<Option<Asks>> {
        let load = match measured(seen.samples, seen.step_s) {
            Ok(load) => load,
            Err(_) => return Ok(None),
        };
        let service = seen.service;
        let moment = match blocking(move || Ok(Moment::new(load, service))).await? {
            Ok(moment) => moment,
            Err(Judged::InsufficientExperience(_)) => return Ok(None),
            Err(refusal) => return Err(super::work::refused(refusal)),
        };
        if let Some(epoch) = &mut self.epoch {
            epoch.seen.push((seen.now_us, seen.ready, seen.billed));
        }
        if self.epoch.as_ref().is_none_or(|epoch| epoch.ends_us <= seen.now_us) {
            let before = self.epoch.take();
            let in_force = before.as_ref().map(|epoch| epoch.knobs);
            if let Some(before) = before {
                self.close(own, before, &moment, seen.now_us).await?;
            }
            self.epoch = Some(self.decide(own, &moment, in_force, seen).await?);
        }
        let Some(epoch) = &self.epoch else { return Ok(None) };
        let asks = moment.wanted(&epoch.knobs);
        self.asked.push_back((seen.now_us, asks));
        self.asked.retain(|(at_us, _)| seen.now_us - at_us < (HOLD_MAX_S * 1e6) as i64);
        // Fewer only when nothing within the hold asked for more.
        let hold_us = (epoch.knobs.hold_s * 1e6) as i64;
        let held = self.asked.iter().filter(|(at_us, _)| seen.now_us - at_us < hold_us).map(|(_, asks)| *asks);
        let replicas = held.fold(asks, f64::max).clamp(0.0, f64::from(u32::MAX)) as u32;
        Ok(Some(Asks { replicas, knobs: epoch.knobs, version: epoch.by }))
    }

    /// Writes down what a decision brought. One whose end was seen too late, for juno did not run, stays without an outcome.
    async fn close(&mut self, own: &Session, epoch: Epoch, moment: &Moment, now_us: i64) -> Result<()> {
        if now_us - epoch.ends_us >= EPOCH_US {
            return Ok(());
        }
        let begins_us = now_us - EPOCH_US;
        let replicas: Vec<(f64, f64)> = (0..EPOCH_SLOTS as i64)
            .map(|slot| {
                let at_us = begins_us + slot * SLOT_US;
                let last = epoch.seen.iter().rev().find(|(seen_us, ..)| *seen_us <= at_us).or(epoch.seen.first());
                last.map_or((0.0, 0.0), |(_, ready, billed)| (*ready, *billed))
            })
            .collect();
        let outcome = moment.outcome(&replicas);
        self.recent_violation = Moment::remembered(self.recent_violation, &outcome);
        let told = named(&COMPONENT_NAMES, &outcome.array());
        let reward = epoch.worth.map(|policy| policy.objective().reward(&outcome, policy.price()));
        let update = "UPDATE rl_experience SET outcome = $2, reward = $3 WHERE id = $1";
        own.changed_rows(update, &[epoch.id.as_str().into(), told, reward.into()]).await.map(drop)
    }

    async fn decide(&self, own: &Session, moment: &Moment, in_force: Option<Knobs>, seen: &Seen<'_>) -> Result<Epoch> {
        let learned = own.operation_settings().enabled(Component::Rl);
        let active = if learned { store::in_stage(own, &self.policy, Stage::Active).await? } else { None };
        let canary = if learned { store::in_stage(own, &self.policy, Stage::Canary).await? } else { None };
        let state = moment.state(self.recent_violation);
        let space = active
            .as_ref()
            .or(canary.as_ref())
            .map_or_else(ActionSpace::default, |stored| stored.policy.space().clone());
        let canary = canary.filter(|canary| *canary.policy.space() == space);
        let in_force = match in_force {
            Some(knobs) => Some(knobs),
            None => self.last(own).await?,
        };
        let rails = governance::stored(own, "rl").await?.policy;
        let rail = |key: &str| rails.get(key).and_then(Value::as_f64).unwrap_or_default();
        let recommended = match &active {
            None => self.fixed(own).await?,
            Some(active) => in_force.map_or_else(
                || active.policy.recommend(&state),
                |old| space.moved(&old, active.policy.recommend_after(&old, &state), rail("change_pct")),
            ),
        };
        let on_trial = match (&active, &canary) {
            (None, None) if learned => trial::canary(own, &self.service, seen.now_us).await?,
            _ => None,
        };
        let is_over = self.recent_violation > seen.service.violation_max;
        let rate = own.operation_settings().rl_exploration_rate.min(rail("exploration_max"));
        let other = match (&canary, &on_trial) {
            (Some(canary), _) => Some(canary.policy.distribution(&state)),
            (None, on_trial) => on_trial.as_ref().map(|knobs| space.spread(knobs)),
        };
        let share = if is_over { 0.0 } else { rate };
        let id = own.db().system().uuid_v7();
        let (high, low) = id.as_u64_pair();
        let drawn = draw(&space.spread(&recommended), other.as_deref().map(|other| (other, share)), high ^ low);
        let decided = if drawn.explored { canary.as_ref() } else { active.as_ref() };
        let worth = active.as_ref().or(canary.as_ref()).map(|stored| stored.policy.clone());
        let (id, by) = (id.to_string(), decided.map(|stored| stored.version));
        let knobs = space.knobs(drawn.arm);
        self.keep(own, (&id, seen.now_us), &state, &knobs, (&drawn, decided)).await?;
        let ends_us = seen.now_us + EPOCH_US;
        Ok(Epoch { id, ends_us, knobs, by, seen: vec![(seen.now_us, seen.ready, seen.billed)], worth })
    }

    /// The knobs of the fixed rule: those that were put in force for the service, where there are any.
    async fn fixed(&self, own: &Session) -> Result<Knobs> {
        let set = "SELECT knobs FROM juno_scaling_knobs WHERE service = $1";
        let row = own.objects(set, &[self.service.as_str().into()]).await?.pop();
        Ok(row.and_then(|row| knobs_of(&row["knobs"])).unwrap_or(FIXED))
    }

    /// The knobs that were decided last.
    async fn last(&self, own: &Session) -> Result<Option<Knobs>> {
        let last =
            "SELECT action FROM rl_experience WHERE policy = $1 AND service = $2 ORDER BY at DESC, id DESC LIMIT 1";
        let row = own.objects(last, &[self.policy.as_str().into(), self.service.as_str().into()]).await?.pop();
        Ok(row.and_then(|row| knobs_of(&row["action"])))
    }

    async fn keep(
        &self,
        own: &Session,
        (id, at_us): (&str, i64),
        state: &State,
        knobs: &Knobs,
        (drawn, decided): (&Drawn, Option<&Stored>),
    ) -> Result<()> {
        let insert = "INSERT INTO rl_experience (id, at, policy, policy_id, policy_version, service, state, action, propensity, \
                      explored) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let values = [
            id.into(),
            rfc3339(at_us).into(),
            self.policy.as_str().into(),
            decided.map(|stored| stored.id.clone()).into(),
            decided.map(|stored| stored.version).into(),
            self.service.as_str().into(),
            named(&FEATURE_NAMES, state),
            knobs_json(knobs),
            drawn.propensity.into(),
            drawn.explored.into(),
        ];
        own.changed_rows(insert, &values).await.map(drop)
    }
}

/// Numbers by their names.
fn named<const N: usize>(names: &[&str; N], numbers: &[f64; N]) -> Value {
    names.iter().zip(numbers).map(|(name, number)| ((*name).to_owned(), Value::from(*number))).collect()
}

/// Draws an arm: from `usual`, or for a share of the draws from others.
fn draw(usual: &[f64], other: Option<(&[f64], f64)>, seed: u64) -> Drawn {
    let mut random = juno_kernels::SplitMix::new(seed, 0);
    let share = other.map_or(0.0, |(_, share)| share);
    let explored = random.unit() < share;
    let chances = other.filter(|_| explored).map_or(usual, |(other, _)| other);
    let arm = drawn(chances, random.unit());
    let of_other = other.map_or(0.0, |(other, share)| share * other[arm]);
    Drawn { arm, propensity: (1.0 - share) * usual[arm] + of_other, explored }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::actuator::fake::World;

    #[test]
    fn draws_come_as_often_as_their_propensity_says() {
        let (usual, other) = ([0.25, 0.75, 0.0], [0.0, 0.5, 0.5]);
        let mut counts = [0.0f64; 3];
        let mut explored = 0.0f64;
        for seed in 0..20_000 {
            let drawn = draw(&usual, Some((&other, 0.2)), seed);
            counts[drawn.arm] += 1.0 / 20_000.0;
            explored += f64::from(u8::from(drawn.explored)) / 20_000.0;
            let expected = [0.8 * 0.25, 0.8 * 0.75 + 0.2 * 0.5, 0.2 * 0.5][drawn.arm];
            assert!((drawn.propensity - expected).abs() < 1e-12, "{}", drawn.propensity);
        }
        assert!(
            (counts[0] - 0.2).abs() < 0.015 && (counts[1] - 0.7).abs() < 0.015 && (counts[2] - 0.1).abs() < 0.015,
            "{counts:?}"
        );
        assert!((explored - 0.2).abs() < 0.015, "{explored}");
    }

    #[test]
    fn without_a_canary_the_arms_around_a_recommendation_are_drawn() {
        let space = ActionSpace::default();
        let knobs = Knobs { k: 1.5, hold_s: 300.0, guard: 1.0 };
        let chances = space.spread(&knobs);
        let mean = (0..2_000).map(|seed| space.knobs(draw(&chances, None, seed).arm).k).sum::<f64>() / 2_000.0;
        assert!((mean - 1.5).abs() < 0.05, "{mean}");
        let drawn = draw(&space.spread(&FIXED), None, 1);
        assert_eq!((space.knobs(drawn.arm), drawn.propensity, drawn.explored), (FIXED, 1.0, false));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn knobs_that_were_put_in_force_are_those_of_the_fixed_rule() {
        let world = World::open().await;
        let rule = Rule::open(&world.own, "shop", "shop").await.unwrap();
        assert_eq!(rule.fixed(&world.own).await.unwrap(), FIXED);
        let knobs = Knobs { k: 1.0, hold_s: 60.0, guard: 1.0 };
        let insert = "INSERT INTO juno_scaling_knobs (service, knobs, optimization_id, applied_at, applied_by) \
                      VALUES ('shop', $1, '00000000-0000-7000-8000-000000000001', now(), 'ada')";
        world.own.changed_rows(insert, &[knobs_json(&knobs)]).await.unwrap();
        assert_eq!(rule.fixed(&world.own).await.unwrap(), knobs);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_decision_brought_is_written_beside_it_when_it_is_over() {
        const BEGAN_US: i64 = 1_767_225_600_000_000;
        let world = World::open().await;
        let day = |minute: u32| 40.0 + 10.0 * (f64::from(minute) / 1_440.0 * std::f64::consts::TAU).sin();
        let samples: Vec<f64> = (0..3 * 1_440).map(day).collect();
        let service = Service { replicas_min: 1.0, replicas_max: 100.0, ..Service::sized(40.0, 4.0, 60.0) };
        let seen = |epoch: i64, replicas: f64| Seen {
            samples: &samples,
            step_s: 60.0,
            now_us: BEGAN_US + epoch * EPOCH_US,
            service,
            ready: replicas,
            billed: replicas,
        };
        let mut rule = Rule::open(&world.own, "shop", "shop").await.unwrap();
        let asks = rule.ask(&world.own, &seen(0, 8.0)).await.unwrap().unwrap();
        assert!((4..=8).contains(&asks.replicas) && asks.version.is_none(), "{}", asks.replicas);
        rule.ask(&world.own, &seen(1, 1.0)).await.unwrap().unwrap();
        assert_eq!(rule.recent_violation, 0.0, "eight replicas are enough");
        rule.ask(&world.own, &seen(2, 1.0)).await.unwrap().unwrap();
        assert!(rule.recent_violation > 0.0, "one is not");
        // Nobody looked for an hour.
        rule.ask(&world.own, &seen(7, 8.0)).await.unwrap().unwrap();
        let rows = world.rows("SELECT outcome, reward FROM rl_experience ORDER BY at").await;
        let violation = |row: usize| rows[row]["outcome"]["violation"].as_f64();
        assert_eq!(
            (rows.len(), violation(0), rows[2]["outcome"].is_null(), rows[3]["outcome"].is_null()),
            (4, Some(0.0), true, true)
        );
        assert!(violation(1).unwrap() > 0.5, "{rows:?}");
        let again = Rule::open(&world.own, "shop", "shop").await.unwrap();
        assert!((again.recent_violation - rule.recent_violation).abs() < 1e-12, "it is remembered");
        let short = Seen { samples: &samples[..1_000], ..seen(8, 8.0) };
        assert!(rule.ask(&world.own, &short).await.unwrap().is_none(), "two days are needed");
    }
}
