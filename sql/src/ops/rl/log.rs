//! Logged decisions, read from the table `rl_experience`.
//!
//! **Invariant:** decisions without an outcome are not read, and nothing else of the window is left out in silence.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use super::policy::action::ActionSpace;
use super::policy::experience::{DECISIONS_MAX, Decision, Experience};
use super::policy::refusal::{self, Refusal};
use super::policy::reward::{COMPONENT_NAMES, Components};
use super::policy::state::{FEATURE_NAMES, FEATURES, State};
use super::scene::knobs_of;
use crate::Result;
use crate::session::{Session, rfc3339};

/// Which decisions.
#[derive(Clone, Debug)]
pub(crate) struct Decisions {
    /// The name that they were taken under.
    pub(crate) policy: String,
    /// The service; any where it is None.
    pub(crate) service: Option<String>,
    /// From when, up to before when.
    pub(crate) window_us: (i64, i64),
}

impl Decisions {
    fn condition(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let service = self.service.as_ref().map(|service| format!(" AND service = {}", quoted(service)));
        format!(
            "policy = {}{} AND outcome IS NOT NULL AND at >= TIMESTAMPTZ '{}' AND at < TIMESTAMPTZ '{}'",
            quoted(&self.policy),
            service.unwrap_or_default(),
            rfc3339(self.window_us.0),
            rfc3339(self.window_us.1)
        )
    }
}

/// Decisions that were read.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) experience: Experience,
    /// When each was taken, in microseconds.
    pub(crate) at_us: Vec<i64>,
}

/// How many decisions there are.
pub(crate) async fn count(own: &Session, which: &Decisions) -> Result<usize> {
    let sql = format!("SELECT count(*) AS n FROM rl_experience WHERE {}", which.condition());
    let row = own.objects(&sql, &[]).await?.pop().unwrap_or_default();
    Ok(row.get("n").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or_default())
}

/// The decisions in order of time, taken on the arms of a grid; or why they say nothing.
pub(crate) async fn read(own: &Session, which: &Decisions, space: &ActionSpace) -> Result<refusal::Result<Log>> {
    let sql = format!(
        "SELECT state, action, propensity, outcome, at FROM rl_experience WHERE {} ORDER BY at, id LIMIT {}",
        which.condition(),
        DECISIONS_MAX + 1
    );
    let (mut decisions, mut at_us) = (Vec::new(), Vec::new());
    for batch in own.collect(&sql).await? {
        if let Err(refused) = add(&batch, space, &mut decisions)? {
            return Ok(Err(refused));
        }
        let times = cast(batch.column(4), &DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())))?;
        at_us.extend(times.as_primitive::<TimestampMicrosecondType>().values());
    }
    Ok(Experience::new(decisions, space).map(|experience| Log { experience, at_us }))
}

fn add(batch: &RecordBatch, space: &ActionSpace, decisions: &mut Vec<Decision>) -> Result<refusal::Result<()>> {
    let text = |at: usize| cast(batch.column(at), &DataType::Utf8);
    let (states, actions, outcomes) = (text(0)?, text(1)?, text(3)?);
    let (states, actions, outcomes) =
        (states.as_string::<i32>(), actions.as_string::<i32>(), outcomes.as_string::<i32>());
    let propensities = cast(batch.column(2), &DataType::Float64)?;
    let propensities = propensities.as_primitive::<Float64Type>();
    for row in 0..batch.num_rows() {
        let number = decisions.len();
        let one = || -> refusal::Result<Decision> {
            Ok(Decision {
                state: state(states.value(row), number)?,
                arm: arm(actions.value(row), space, number)?,
                propensity: if propensities.is_valid(row) { propensities.value(row) } else { f64::NAN },
                outcome: outcome(outcomes.value(row), number)?,
            })
        };
        match one() {
            Ok(decision) => decisions.push(decision),
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Ok(Ok(()))
}

/// Numbers by name, in this order.
fn numbers<const N: usize>(text: &str, names: &[&str; N], (what, number): (&str, usize)) -> refusal::Result<[f64; N]> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let mut found = [0.0; N];
    for (place, name) in found.iter_mut().zip(names) {
        *place = value[*name].as_f64().ok_or_else(|| {
            let all = names.join(", ");
            Refusal::Parameter(format!("the {what} of decision {number} has no number {name}: it needs {all}"))
        })?;
    }
    Ok(found)
}

fn state(text: &str, number: usize) -> refusal::Result<State> {
    numbers::<FEATURES>(text, &FEATURE_NAMES, ("state", number))
}

fn outcome(text: &str, number: usize) -> refusal::Result<Components> {
    numbers(text, &COMPONENT_NAMES, ("outcome", number)).map(Components::of)
}

/// The arm that has just these knobs.
fn arm(text: &str, space: &ActionSpace, number: usize) -> refusal::Result<usize> {
    let action = serde_json::from_str::<Value>(text).ok().and_then(|action| knobs_of(&action));
    let same = |arm: &usize| {
        let own = space.knobs(*arm).array();
        action.is_some_and(|action| own.iter().zip(action.array()).all(|(own, other)| (own - other).abs() < 1e-9))
    };
    (0..space.arms()).find(same).ok_or_else(|| {
        Refusal::Parameter(format!(
            "decision {number} took {text}, which is no arm of the policy: log decisions on its action_space"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_read_by_name_and_faults_by_their_place() {
        let all: serde_json::Map<String, Value> =
            FEATURE_NAMES.iter().map(|name| ((*name).into(), 0.5.into())).collect();
        assert_eq!(state(&Value::Object(all.clone()).to_string(), 0).unwrap(), [0.5; FEATURES]);
        let mut short = all;
        short.remove("volatility_1h");
        let refused = state(&Value::Object(short).to_string(), 7).unwrap_err().to_string();
        assert!(refused.contains("decision 7") && refused.contains("volatility_1h"), "{refused}");
        let space = ActionSpace::default();
        assert_eq!(arm(r#"{"k": 0, "hold_s": 60, "guard": 1.15}"#, &space, 0).unwrap(), 1);
        assert!(arm(r#"{"k": 0.5, "hold_s": 60, "guard": 1.15}"#, &space, 0).is_err() && arm("7", &space, 0).is_err());
        assert!(outcome(r#"{"cost": 1}"#, 3).unwrap_err().to_string().contains("decision 3"));
    }
}
