//! What the JSON columns of views hold, where juno alone writes them; the others may hold any JSON.
//!
//! **Invariant:** declarations only; a column that is not named here holds what its writer put there.

use crate::operation::answer::{CI95, PROBLEM};
use crate::operation::{Form, Member};
use crate::ops::healing::policy::cause::CAUSE_NAMES;
use crate::ops::rl::train::answer::{HYPERPARAMETERS, REWARD};
use crate::ops::scaling::plan;

const ARGUMENTS: Member = Member::new("arguments", Form::Map(&Form::Any), "What was asked for.").or_null();
const PLAN: Member = Member::new("plan", Form::Any, "What was decided.").or_null();

const LINKS: &[Member] = &[Member::new("self", Form::Text, "Where it is.")];
const JOBS: &[Member] = &[
    ARGUMENTS,
    PLAN,
    Member::new("result", Form::Any, "What came of it.").or_null(),
    Member::new("error", Form::Object(PROBLEM), "Why nothing came of it.").or_null(),
    Member::new("links", Form::Object(LINKS), "Where more is."),
];

const COMPONENT: &[Member] = &[
    Member::new("enabled", Form::Boolean, "Whether it is switched on."),
    Member::new("state", Form::Text, "How it is."),
    Member::new("last_run_at", Form::Time, "When it ran last.").or_null().sometimes(),
    Member::new("last_error", Form::Text, "What went wrong then.").or_null().sometimes(),
    Member::new("lag_s", Form::Number, "How long ago that was, in seconds.").or_null().sometimes(),
];
const BACKEND: &[Member] =
    &[Member::new("kind", Form::Text, "cpu or cuda."), Member::new("device", Form::Text, "Its name.")];
const BUDGET: &[Member] = &[
    Member::new("slo", Form::Number, "The share of good time that is aimed at."),
    Member::new("window", Form::Text, "Over which time."),
    Member::new("remaining", Form::Number, "The share of the error budget that is left."),
];
const TIME_TARGET: &[Member] = &[
    Member::new("target", Form::Number, "What is aimed at."),
    Member::new("p50", Form::Number, "The median.").or_null(),
    Member::new("p95", Form::Number, "The 95 % quantile.").or_null(),
    Member::new("n", Form::Integer, "Of how many."),
];
const RATE_TARGET: &[Member] = &[
    Member::new("target", Form::Number, "What is aimed at."),
    Member::new("value", Form::Number, "The share.").or_null(),
    Member::new("n", Form::Integer, "Of how many."),
];
const SLO_TARGETS: &[Member] = &[
    Member::new("detection_s", Form::Object(TIME_TARGET), "Seconds until incidents are detected."),
    Member::new("diagnosis_s", Form::Object(TIME_TARGET), "Seconds until something is done about them."),
    Member::new("remediation_s", Form::Object(TIME_TARGET), "Seconds until incidents are resolved."),
    Member::new("success_rate", Form::Object(RATE_TARGET), "The share of incidents that were healed."),
];
const STATUS: &[Member] = &[
    Member::new("components", Form::Map(&Form::Object(COMPONENT)), "Each part of the server."),
    Member::new("backend", Form::Object(BACKEND), "What computes."),
    Member::new("error_budget", Form::Object(BUDGET), "How much may still go wrong."),
    Member::new("slo_targets", Form::Object(SLO_TARGETS), "What is aimed at, and what is."),
];

const RUNBOOK: &[Member] = &[
    Member::new("name", Form::Text, "Its name."),
    Member::new("version", Form::Integer, "Its version."),
    Member::new("risk", Form::Choice(&["low", "medium", "high"]), "Its risk."),
    Member::new("auto_approved", Form::Boolean, "Whether it is done without asking, against some cause."),
    Member::new("auto_approved_for", Form::List(&Form::Choice(&CAUSE_NAMES)), "Against which causes."),
    Member::new("success_rate", Form::Number, "The share of its remediations that healed.").or_null(),
    Member::new("beta", Form::Object(BETA), "What is known of that share: a Beta distribution."),
    Member::new("circuit", Form::Choice(&["closed", "open", "half_open"]), "Whether it may be tried."),
    Member::new("cooldown_until", Form::Time, "Until when targets rest after it.").or_null(),
];
const QUANTILES: &[Member] = &[
    Member::new("p50", Form::Number, "The median.").or_null(),
    Member::new("p95", Form::Number, "The 95 % quantile.").or_null(),
];
const STATS: &[Member] = &[
    Member::new("window", Form::Text, "Over which time."),
    Member::new("n", Form::Integer, "Incidents."),
    Member::new("resolved", Form::Integer, "Those that are resolved."),
    Member::new("detection_s", Form::Object(QUANTILES), "Seconds until they were detected."),
    Member::new("diagnosis_s", Form::Object(QUANTILES), "Seconds until something was done."),
    Member::new("remediation_s", Form::Object(QUANTILES), "Seconds until they were resolved."),
    Member::new("success_rate", Form::Object(RATE), "The share that was healed."),
];
const RATE: &[Member] =
    &[Member::new("value", Form::Number, "The share.").or_null(), Member::new("ci95", CI95, "Wilson's interval.")];
const DETECTOR: &[Member] = &[
    Member::new("name", Form::Text, "The loop, or the detector."),
    Member::new("last_run_at", Form::Time, "When a loop last ran.").sometimes(),
    Member::new("lag_s", Form::Number, "How far behind it is, in seconds.").sometimes(),
    Member::new("stage", Form::Text, "Whether a detector learns or tells.").sometimes(),
    Member::new("series", Form::Integer, "How many series a detector watches.").or_null().sometimes(),
    Member::new("newest_at", Form::Time, "The newest point that a detector saw.").sometimes(),
];
const ACTIONS: &[Member] = &[
    Member::new("actions_used_1h", Form::Integer, "Remediations of the last hour."),
    Member::new("limit", Form::Integer, "The most in an hour."),
];
const BETA: &[Member] =
    &[Member::new("a", Form::Number, "Successes and one."), Member::new("b", Form::Number, "Failures and one.")];
const HEALING: &[Member] = &[
    Member::new("detectors", Form::List(&Form::Object(DETECTOR)), "What watches."),
    Member::new("runbooks", Form::List(&Form::Object(RUNBOOK)), "What can be done."),
    Member::new("budget", Form::Object(ACTIONS), "What is left to do."),
    Member::new("stats", Form::Object(STATS), "How it went."),
];

const POLICIES: &[Member] = &[
    Member::new("action_space", Form::Map(&Form::List(&Form::Number)), "The rungs of each knob."),
    Member::new("hyperparameters", Form::Object(HYPERPARAMETERS), "How it learned."),
    Member::new("reward", Form::Object(REWARD), "What it is to reach."),
    Member::new("metrics", Form::Map(&Form::Any), "How it was judged."),
];

/// The JSON columns of each view of which something is known.
pub const COLUMNS: &[(&str, &[Member])] = &[
    ("operations_jobs", JOBS),
    ("approvals", &[ARGUMENTS, PLAN]),
    ("audit", &[Member::new("record", Form::Map(&Form::Any), "What was written down.")]),
    ("operations_events", &[Member::new("data", Form::Map(&Form::Any), "What happened.")]),
    ("operations_status", STATUS),
    ("healing_status", HEALING),
    (
        "scaling_plans",
        &[
            plan::STEPS,
            plan::EXPECTED,
            plan::WARNINGS,
            Member::new("request", Form::Map(&Form::Any), "What it was made from."),
        ],
    ),
    (
        "scaling_autoscaled",
        &[
            Member::new("request", Form::Map(&Form::Any), "How it is scaled."),
            Member::new("decision", Form::Map(&Form::Any), "The last decision.").or_null(),
        ],
    ),
    ("rl_policies", POLICIES),
    ("governance_policies", &[Member::new("policy", Form::Map(&Form::Any), "Its members.")]),
];
