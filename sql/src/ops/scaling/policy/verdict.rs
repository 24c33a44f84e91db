//! Whether a change of units may be executed now.
//!
//! **Invariant:** a pure judgement: nothing is changed and no clock is read. More units are never refused for a cool-down.

use serde::{Deserialize, Serialize};

use super::Bounds;

/// A change that somebody asks for, and what is known of its target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Now, in seconds since 1970.
    pub now_s: i64,
    /// Units there are, starting ones too.
    pub from: u32,
    /// Units there shall be.
    pub to: u32,
    /// How many there may be.
    pub bounds: Bounds,
    /// When there last were made fewer, in seconds since 1970.
    pub reduced_at_s: Option<i64>,
    /// The least seconds between two reductions.
    pub cooldown_s: u32,
    /// Of the plan that the change is a step of; none for a change that a person asks for.
    pub plan: Option<PlanTrust>,
}

/// What is known of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanTrust {
    /// When it is too old, in seconds since 1970.
    pub expires_at_s: i64,
    /// How far its forecast may be trusted.
    pub confidence: f64,
    /// Below this somebody must agree.
    pub confidence_threshold: f64,
    /// Somebody who may has agreed.
    pub approved: bool,
}

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case")]
pub enum Refusal {
    /// The plan is too old.
    #[error("the plan expired at {expires_at_s} s: make a new one")]
    PlanExpired {
        /// Since when.
        expires_at_s: i64,
    },
    /// There may not be so many.
    #[error(
        "{to} units from {from} is outside of {min} to {max} units, {max_step} at a time (0: any): ask within them"
    )]
    OutOfBounds {
        /// Units there are.
        from: u32,
        /// Units asked for.
        to: u32,
        /// The fewest.
        min: u32,
        /// The most.
        max: u32,
        /// The largest change.
        max_step: u32,
    },
    /// There are so many.
    #[error("there are {to} units already: nothing to do")]
    AlreadyAtTarget {
        /// Units there are.
        to: u32,
    },
    /// The forecast is not trusted enough.
    #[error(
        "the confidence of the plan is {confidence:.2}, {threshold:.2} is required: execute it with force and an approver"
    )]
    LowConfidence {
        /// That of the plan.
        confidence: f64,
        /// That which is required.
        threshold: f64,
    },
    /// A reduction came too soon after another.
    #[error("units were reduced less than the cool-down ago: wait until {until_s} s")]
    CooldownActive {
        /// When it is over, in seconds since 1970.
        until_s: i64,
    },
}

impl Refusal {
    /// Its name in problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PlanExpired { .. } => "plan-expired",
            Self::OutOfBounds { .. } => "out-of-bounds",
            Self::AlreadyAtTarget { .. } => "already-at-target",
            Self::LowConfidence { .. } => "low-confidence",
            Self::CooldownActive { .. } => "cooldown-active",
        }
    }
}

/// A change that may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Units before.
    pub from: u32,
    /// Units afterwards.
    pub to: u32,
    /// Until then there may not be fewer again, in seconds since 1970; for more units what was so before.
    pub cooldown_until_s: Option<i64>,
}

/// Judges a change. Of several objections the first counts: what is too old, what may never be, what is done already, what nobody
/// vouches for, what must wait.
///
/// # Errors
/// The objection.
pub fn verdict(ask: &Ask) -> Result<Permit, Refusal> {
    let Ask { now_s, from, to, bounds: Bounds { min, max, max_step }, .. } = *ask;
    if let Some(plan) = ask.plan
        && now_s >= plan.expires_at_s
    {
        return Err(Refusal::PlanExpired { expires_at_s: plan.expires_at_s });
    }
    let change_max = if max_step == 0 { u32::MAX } else { max_step };
    if !(min..=max).contains(&to) || from.abs_diff(to) > change_max {
        return Err(Refusal::OutOfBounds { from, to, min, max, max_step });
    }
    if from == to {
        return Err(Refusal::AlreadyAtTarget { to });
    }
    if let Some(PlanTrust { confidence, confidence_threshold: threshold, approved: false, .. }) = ask.plan
        && (confidence < threshold || confidence.is_nan())
    {
        return Err(Refusal::LowConfidence { confidence, threshold });
    }
    let ends = |reduced_at_s: i64| reduced_at_s.saturating_add(i64::from(ask.cooldown_s));
    let until_s = ask.reduced_at_s.map(ends).filter(|&until_s| until_s > now_s);
    match until_s {
        Some(until_s) if to < from => Err(Refusal::CooldownActive { until_s }),
        _ => Ok(Permit { from, to, cooldown_until_s: if to < from { Some(ends(now_s)) } else { until_s } }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: PlanTrust =
        PlanTrust { expires_at_s: 2_000, confidence: 0.95, confidence_threshold: 0.9, approved: false };
    const ASK: Ask = Ask {
        now_s: 1_000,
        from: 10,
        to: 8,
        bounds: Bounds { min: 2, max: 20, max_step: 5 },
        reduced_at_s: None,
        cooldown_s: 300,
        plan: Some(PLAN),
    };

    fn code(ask: Ask) -> &'static str {
        verdict(&ask).map_or_else(|refusal| refusal.code(), |_| "permitted")
    }

    #[test]
    fn a_sound_change_is_permitted_and_a_reduction_begins_a_cooldown() {
        assert_eq!(verdict(&ASK), Ok(Permit { from: 10, to: 8, cooldown_until_s: Some(1_300) }));
        assert_eq!(verdict(&Ask { to: 12, ..ASK }), Ok(Permit { from: 10, to: 12, cooldown_until_s: None }));
        assert_eq!(code(Ask { plan: None, ..ASK }), "permitted", "a person needs no plan");
    }

    #[test]
    fn each_objection_has_its_code() {
        assert_eq!(code(Ask { now_s: 2_000, ..ASK }), "plan-expired");
        assert_eq!(code(Ask { to: 1, ..ASK }), "out-of-bounds");
        assert_eq!(code(Ask { to: 16, ..ASK }), "out-of-bounds");
        assert_eq!(code(Ask { to: 10, ..ASK }), "already-at-target");
        let doubtful = PlanTrust { confidence: 0.5, ..PLAN };
        assert_eq!(code(Ask { plan: Some(doubtful), ..ASK }), "low-confidence");
        assert_eq!(code(Ask { plan: Some(PlanTrust { confidence: f64::NAN, ..PLAN }), ..ASK }), "low-confidence");
        assert_eq!(code(Ask { plan: Some(PlanTrust { approved: true, ..doubtful }), ..ASK }), "permitted");
        assert_eq!(code(Ask { reduced_at_s: Some(701), ..ASK }), "cooldown-active");
    }

    #[test]
    fn a_cooldown_ends_on_time_and_never_blocks_more_units() {
        let recent = Ask { reduced_at_s: Some(900), ..ASK };
        assert_eq!(verdict(&recent), Err(Refusal::CooldownActive { until_s: 1_200 }));
        assert_eq!(code(Ask { now_s: 1_200, ..recent }), "permitted");
        let more = verdict(&Ask { to: 15, ..recent });
        assert_eq!(more, Ok(Permit { from: 10, to: 15, cooldown_until_s: Some(1_200) }));
    }
}
