//! What a training answers with, and what is told of one before it begins.
//!
//! **Invariant:** declarations only.

use super::ALGORITHMS;
use crate::operation::answer::CI95;
use crate::operation::{Form, Member};
use crate::ops::rl::request::GOALS;
use crate::ops::rl::{load, scene};

/// The stages of a policy.
pub(crate) const STAGES: Form = Form::Choice(&["candidate", "shadow", "canary", "active", "retired"]);

const POLICY: Member = Member::new("policy", Form::Text, "The name of the policy.");
const ALGORITHM: Member = Member::new("algorithm", Form::Choice(ALGORITHMS), "How it learns.");
const ENVIRONMENT: Member = Member::new("environment", Form::Choice(&["simulator", "replay"]), "What it learns from.");
const CONSTRAINT: &[Member] =
    &[Member::new("metric", Form::Text, "What is bounded."), Member::new("max", Form::Number, "The most of it.")];
const WEIGHTS: &[Member] = &[
    Member::new("performance", Form::Number, "Of slowness."),
    Member::new("cost", Form::Number, "Of cost."),
    Member::new("reliability", Form::Number, "Of violations."),
];
/// What a policy is to reach.
pub(crate) const REWARD: &[Member] = &[
    Member::new("type", Form::Choice(GOALS), "Which measures count."),
    Member::new("weights", Form::Object(WEIGHTS), "How much each aim counts."),
    Member::new("constraint", Form::Object(CONSTRAINT), "What must be kept."),
];
/// How a policy learns.
pub(crate) const HYPERPARAMETERS: &[Member] = &[
    Member::new("seed", Form::Integer, "What decides all that is drawn."),
    Member::new("steps", Form::Integer, "Decisions to try for each member."),
    Member::new("members", Form::Integer, "Networks whose mean is the policy."),
    Member::new("learning_rate", Form::Number, "How fast it learns."),
    Member::new("discount", Form::Number, "What a reward counts an epoch later."),
    Member::new("exploration_rate", Form::Number, "How much is tried."),
    Member::new("divergence_max", Form::Number, "How far a warm start may go, in nats."),
];
const DECISIONS: &[Member] = &[Member::new("decisions", Form::Integer, "Logged decisions.")];
const MADE: &[Member] = &[Member::new("made_days", Form::Integer, "Days of a made load.")];
const LEARNS_FROM: Form = Form::Either(&[Form::Object(load::TOLD), Form::Object(DECISIONS), Form::Object(MADE)]);

/// What would be trained.
pub(super) const PLAN: &[Member] = &[
    POLICY,
    ALGORITHM,
    ENVIRONMENT,
    Member::new("seed", Form::Integer, "What decides all that is drawn."),
    Member::new("hyperparameters", Form::Object(HYPERPARAMETERS), "How it learns."),
    Member::new("reward", Form::Object(REWARD), "What is to be reached."),
    Member::new("learns_from", LEARNS_FROM, "The telemetry, the decisions or the made load."),
];

const STEP: &[Member] = &[
    Member::new("step", Form::Integer, "Decisions tried so far."),
    Member::new("reward", Form::Number, "The mean reward then.").or_null(),
    Member::new("violation", Form::Number, "The share of requests without capacity then.").or_null(),
];
const PROMOTION: &[Member] = &[
    Member::new("state", STAGES, "How far it was promoted."),
    Member::new("reasons", Form::List(&Form::Text), "What stood against more."),
];
const TUNED: &[Member] = &[
    Member::new("knobs", Form::Object(scene::KNOBS), "Its knobs."),
    Member::new("reward", Form::Number, "Its reward."),
    Member::new("violation", Form::Number, "Its share of requests without capacity."),
    Member::new("improvement_pct", Form::Number, "The lead over it, in percent."),
    Member::new("ci95", CI95, "Where 95 % of the resamples of that lie."),
];
const ACTIVE: &[Member] = &[
    Member::new("id", Form::Id, "The active version.").sometimes(),
    Member::new("reward", Form::Number, "Its reward."),
    Member::new("improvement_pct", Form::Number, "The lead over it, in percent."),
    Member::new("ci95", CI95, "Where 95 % of the resamples of that lie."),
];
const PARTS: &[Member] = &[
    Member::new("learned_from", Form::Integer, "Decisions that were learned from."),
    Member::new("judged_by", Form::Integer, "Later ones, to judge by."),
];

/// What was trained, and how it was judged.
pub(super) const ANSWER: &[Member] = &[
    Member::new("policy_id", Form::Id, "The new version."),
    POLICY,
    Member::new("version", Form::Integer, "Its number."),
    Member::new("state", STAGES, "Its stage."),
    Member::new("etag", Form::Text, "Its ETag."),
    Member::new("checksum", Form::Text, "The SHA-256 of its artefact."),
    ALGORITHM,
    ENVIRONMENT,
    Member::new("learning_curve", Form::List(&Form::Object(STEP)), "How it did as it learned."),
    Member::new("seeds", Form::Integer, "Members, each of its own seed."),
    Member::new("promotion", Form::Object(PROMOTION), "What became of it."),
    Member::new("took_s", Form::Number, "How long it took, in seconds."),
    Member::new("backend", Form::Text, "What computed it."),
    Member::new("converged", Form::Boolean, "Whether it learned nothing more at the end."),
    Member::new("stability_pct", Form::Number, "How much its members differ, in percent.").or_null(),
    Member::new("kl_to_active", Form::Number, "How far it is from the active version, in nats.").or_null(),
    Member::new("price", Form::Number, "What a violation costs, in replica shares."),
    Member::new("judged_by", Form::Text, "simulator, dr, or null where nothing judges it.").or_null(),
    Member::new("not_judged", Form::Text, "Why nothing judges it.").sometimes(),
    Member::new("offline_value", Form::Number, "Its reward on what it was not trained on.").sometimes(),
    Member::new("violation", Form::Number, "Its share of requests without capacity there.").sometimes(),
    Member::new("baseline_reward", Form::Number, "The reward of what it is compared with.").sometimes(),
    Member::new("baseline_violation", Form::Number, "The violations of what it is compared with.").sometimes(),
    Member::new("improvement_pct", Form::Number, "Its lead, in percent.").sometimes(),
    Member::new("ci95", CI95, "Where 95 % of the resamples of that lie.").sometimes(),
    Member::new("tuned_static", Form::Object(TUNED), "The best fixed rule.").sometimes(),
    Member::new("active", Form::Object(ACTIVE), "The active version beside it.").or_null().sometimes(),
    Member::new("simulated", Form::Object(scene::TOLD), "How the load was cut.").sometimes(),
    Member::new("decisions", Form::Object(PARTS), "How the log was cut.").sometimes(),
    Member::new("learned_until", Form::Time, "The last that it learned from.").or_null().sometimes(),
];
