//! What an optimisation answers with, and what is told of one before it begins.
//!
//! **Invariant:** declarations only.

use crate::operation::answer::CI95;
use crate::operation::{Form, Member};
use crate::ops::rl::policy::action::KNOB_NAMES;
use crate::ops::rl::train::answer::REWARD;
use crate::ops::rl::{load, scene, store};

const OF: &[Member] = &[
    Member::new("service", Form::Text, "The service."),
    Member::new("namespace", Form::Text, "The namespace of the rows.").sometimes(),
    Member::new("labels", Form::Map(&Form::Text), "The tags that chose the rows.").sometimes(),
];
const BY: &[Member] = &[
    Member::new("by", Form::Text, "policy, or tuned static rule."),
    Member::new("policy", Form::Object(store::TOLD), "The policy.").sometimes(),
    Member::new("reason", Form::Text, "Why no policy does.").sometimes(),
];
const SCOPE: Member = Member::new("scope", Form::Object(OF), "Of what.");
const DECIDES: Member = Member::new("decides", Form::Object(BY), "What decides.");
const BASELINE: Member = Member::new("baseline", Form::Text, "What it is held against.");
const TELEMETRY: Member = Member::new("telemetry", Form::Object(load::TOLD), "The load that is simulated.");

/// What would be done.
pub(super) const PLAN: &[Member] = &[
    SCOPE,
    Member::new("objective", Form::Object(REWARD), "What is to be better."),
    Member::new("max_change_pct", Form::Number, "How far one decision may move a knob, in percent of its range."),
    TELEMETRY,
    DECIDES,
    BASELINE,
    Member::new("apply", Form::Boolean, "Whether better knobs are put in force."),
    TRIAL,
];
/// The trial that a request asks for.
const TRIAL: Member = Member::new("trial", Form::Object(TRIED), "The trial that begins, where one does.").or_null();
const TRIED: &[Member] = &[
    Member::new("evaluation", Form::Choice(&["shadow", "canary"]), "How the knobs are tried."),
    Member::new("state", Form::Choice(&["running"]), "That it is under way."),
    Member::new("began_at", Form::Time, "When it begins."),
    Member::new("ends_at", Form::Time, "When it is over."),
];

const METRICS: &[Member] = &[
    Member::new("cost", Form::Number, "Billed replicas that were not needed, in shares of the mean need."),
    Member::new("idle", Form::Number, "The share of billed capacity that no request used."),
    Member::new("violation", Form::Number, "The share of requests that found no capacity."),
    Member::new("slow", Form::Number, "What latencies were above their target, in targets."),
    Member::new("latency", Form::Number, "Latencies, in targets."),
    Member::new("churn", Form::Number, "The mean change of the number of replicas within 15 s, as a share of them."),
    Member::new("reward", Form::Number, "What counts of all that."),
];
const KNOB: &[Member] = &[
    Member::new("knob", Form::Choice(&KNOB_NAMES), "The knob."),
    Member::new("old", Form::Number, "What it is, where that is known.").or_null(),
    Member::new("new", Form::Number, "What it should be."),
    Member::new("evidence", Form::Text, "What speaks for it."),
];

/// What was found.
pub(super) const ANSWER: &[Member] = &[
    Member::new("optimization_id", Form::Id, "The row of the history, where there is a proposal.").or_null(),
    SCOPE,
    DECIDES,
    BASELINE,
    TELEMETRY,
    Member::new("simulated", Form::Object(scene::TOLD), "How the load was cut."),
    Member::new("baseline_metrics", Form::Object(METRICS), "What it is held against."),
    Member::new("proposed_metrics", Form::Object(METRICS), "What is proposed."),
    Member::new("improvement_pct", Form::Number, "The lead in reward, in percent."),
    Member::new("ci95", CI95, "Where 95 % of the resamples of that lie."),
    Member::new("verdict", Form::Choice(&["better", "worse", "inconclusive"]), "What the interval says."),
    Member::new("rl_reward", Form::Number, "The reward of what is proposed."),
    Member::new("recommended", Form::List(&Form::Object(KNOB)), "The knobs to change."),
    Member::new("warnings", Form::List(&Form::Text), "What deserves caution."),
    Member::new("applied", Form::Boolean, "Whether they are in force."),
    TRIAL,
];
