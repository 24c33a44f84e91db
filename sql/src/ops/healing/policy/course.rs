//! What to do next about an incident.
//!
//! What healed the same cause of the same service [`HOLDS_TIMES`] times within a short while does not hold: another runbook is taken
//! where one is likely to heal.
//!
//! A runbook runs where it is probable enough that the service has one of the causes that it is for: whether errors or slowness
//! is what ails it need not be known where a restart is the answer to both.
//!
//! **Invariant:** acts on a cause only while its evidence is there, on one cause of a service once per runbook, and not
//! more often than [`ATTEMPTS_MAX`].

use std::collections::{BTreeMap, BTreeSet};

use super::cause::Cause;
use super::diagnosis::{Candidate, Diagnosis, PROBABLE};
use super::runbook::{Choice, Runbook};
use super::track_record::TrackRecord;
use crate::ops::actuator::{Observation, Target};

/// The most attempts of one incident.
pub const ATTEMPTS_MAX: usize = 8;

/// How often a runbook may heal the same within [`Patience::holds_us`] before it counts as one that does not hold.
pub const HOLDS_TIMES: usize = 3;

/// Another runbook is taken in its place that heals more probably than not.
const OTHER_CHANCE_MIN: f64 = 0.5;

/// Something that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The service that it was done to.
    pub service: String,
    /// The cause that it was done for.
    pub cause: Cause,
    /// The runbook.
    pub runbook: String,
    /// Whether it was verified.
    pub success: bool,
    /// When it was over.
    pub ended_us: i64,
}

/// An incident that nobody works on at the moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress<'a> {
    /// What was tried so far, in order.
    pub attempts: &'a [Attempt],
    /// What was tried in earlier incidents.
    pub earlier: &'a [Attempt],
    /// Since when its services show nothing; None while they do.
    pub calm_since_us: Option<i64>,
    /// When it was noticed.
    pub detected_us: i64,
    /// Now.
    pub now_us: i64,
}

/// How patient the course is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// The probability that a runbook is for what ails a service, from which on it runs.
    pub act_min: f64,
    /// For how long after a success what travels up the calls may be an echo of what was healed.
    pub echo_us: i64,
    /// For how long what a runbook healed should stay healed.
    pub holds_us: i64,
    /// How long its services are calm before it is over, where nothing was done.
    pub calm_us: i64,
    /// How long it is diagnosed before people are called.
    pub inconclusive_us: i64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            act_min: 0.8,
            echo_us: 4_000_000,
            holds_us: 600_000_000,
            calm_us: 10_000_000,
            inconclusive_us: 60_000_000,
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next<'a> {
    /// Look again later.
    Wait,
    /// Run a runbook.
    Run {
        /// What for.
        candidate: Candidate,
        /// The runbook.
        runbook: &'a Runbook,
        /// Its chance of success.
        chance: f64,
        /// What it has achieved.
        record: TrackRecord,
    },
    /// It is over.
    Resolve {
        /// Whether something that was done healed it; None where it passed by itself.
        success: Option<bool>,
    },
    /// Nothing is left to try.
    Fail {
        /// Why, in a sentence.
        reason: String,
    },
    /// People must look.
    Escalate {
        /// Why, in a sentence.
        reason: String,
    },
}

/// What can be acted on: targets by the service that they run, as they are now.
pub type Targets = BTreeMap<String, (Target, Observation)>;

/// What to do next about an incident, given the diagnosis of this moment.
pub fn next<'a>(
    progress: &Progress,
    diagnosis: &Diagnosis,
    targets: &Targets,
    choice: &Choice<'a>,
    patience: &Patience,
) -> Next<'a> {
    let mut stuck: Option<&Candidate> = None;
    let mut echoes = false;
    for candidate in diagnosis.strongest() {
        let is_sure = candidate.probability >= patience.act_min;
        match run(progress, candidate, targets, choice, patience) {
            _ if is_echo(progress, candidate, patience) => echoes |= is_sure,
            Some((next, runbook)) if diagnosis.answered_by(&candidate.service, runbook) >= patience.act_min => {
                match progress.attempts.len() < ATTEMPTS_MAX {
                    true => return next,
                    false => stuck = stuck.or(Some(candidate)),
                }
            }
            None if is_sure => stuck = stuck.or(Some(candidate)),
            _ => {}
        }
    }
    if echoes {
        return Next::Wait;
    }
    if let Some(candidate) = stuck {
        let (service, cause) = (&candidate.service, candidate.cause.name());
        return match progress.attempts.is_empty() {
            true => Next::Escalate { reason: format!("no runbook fits {cause} of {service}") },
            false => Next::Fail { reason: format!("{cause} of {service} is still there, and nothing is left to try") },
        };
    }
    // A cause that is probable, though not enough to act on, is no calm.
    let is_ill = diagnosis.next(PROBABLE, |_| false).is_some();
    let calm_us = progress.calm_since_us.filter(|_| !is_ill).map(|since_us| progress.now_us - since_us);
    match (calm_us, progress.attempts.last()) {
        (Some(_), Some(last)) if last.success => Next::Resolve { success: Some(true) },
        (Some(calm_us), last) if calm_us >= patience.calm_us => Next::Resolve { success: last.map(|_| true) },
        (Some(_), _) => Next::Wait,
        (None, _) if progress.now_us - progress.detected_us >= patience.inconclusive_us => {
            Next::Escalate { reason: "no cause is probable enough to act on".to_owned() }
        }
        (None, _) => Next::Wait,
    }
}

/// Whether what a candidate shows may be left over from another service that was healed just now.
fn is_echo(progress: &Progress, candidate: &Candidate, patience: &Patience) -> bool {
    let is_recent = |attempt: &&Attempt| progress.now_us - attempt.ended_us < patience.echo_us;
    let mut healed = progress.attempts.iter().filter(is_recent).filter(|attempt| attempt.success);
    candidate.cause.travels() && healed.any(|attempt| attempt.service != candidate.service)
}

/// The runbook against a candidate, where one is left.
fn run<'a>(
    progress: &Progress,
    candidate: &Candidate,
    targets: &Targets,
    choice: &Choice<'a>,
    patience: &Patience,
) -> Option<(Next<'a>, &'a Runbook)> {
    let target = targets.get(&candidate.service)?;
    // One that healed may be needed again when the same comes back while the incident lasts; one that did not may not.
    let failed = |attempt: &&Attempt| {
        attempt.service == candidate.service && attempt.cause == candidate.cause && !attempt.success
    };
    let tried: BTreeSet<&str> =
        progress.attempts.iter().filter(failed).map(|attempt| attempt.runbook.as_str()).collect();
    let worn: BTreeSet<&str> = tried.iter().copied().chain(worn(progress, candidate, patience)).collect();
    let other = choice.choose(candidate.cause, target, &worn).filter(|(_, chance)| *chance > OTHER_CHANCE_MIN);
    let (runbook, chance) = other.or_else(|| choice.choose(candidate.cause, target, &tried))?;
    let record = choice.record(&runbook.name, candidate.cause);
    Some((Next::Run { candidate: candidate.clone(), runbook, chance, record }, runbook))
}

/// The runbooks that healed a candidate so often lately that they do not hold.
fn worn<'a>(progress: &Progress<'a>, candidate: &Candidate, patience: &Patience) -> Vec<&'a str> {
    let is_same = |attempt: &&Attempt| {
        attempt.success
            && (attempt.service.as_str(), attempt.cause) == (candidate.service.as_str(), candidate.cause)
            && progress.now_us - attempt.ended_us < patience.holds_us
    };
    let healed = progress.earlier.iter().chain(progress.attempts).filter(is_same);
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    healed.for_each(|attempt| *times.entry(attempt.runbook.as_str()).or_default() += 1);
    times.into_iter().filter(|(_, times)| *times >= HOLDS_TIMES).map(|(runbook, _)| runbook).collect()
}

#[cfg(test)]
mod tests {
    use super::super::runbook::built_in;
    use super::*;
    use crate::ops::actuator::Action;

    fn candidate(service: &str, cause: Cause, probability: f64) -> Candidate {
        Candidate { service: service.into(), cause, probability, explained_by: None }
    }

    fn attempt(cause: Cause, runbook: &str, success: bool) -> Attempt {
        Attempt { service: "shop".into(), cause, runbook: runbook.into(), success, ended_us: -60_000_000 }
    }

    /// What comes next, as a word.
    fn word(attempts: &[Attempt], candidates: &[Candidate], calm_since_us: Option<i64>, now_us: i64) -> String {
        word_after(&[], attempts, candidates, calm_since_us, now_us)
    }

    fn word_after(
        earlier: &[Attempt],
        attempts: &[Attempt],
        candidates: &[Candidate],
        calm_since_us: Option<i64>,
        now_us: i64,
    ) -> String {
        let actions = vec![Action::Restart, Action::Failover, Action::Rollback, Action::CleanDisk];
        let target = Target { name: "shop".into(), kind: "process".into(), is_protected: false, actions };
        let observed = Observation { has_standby: true, ..Observation::default() };
        let targets = [("shop".to_owned(), (target, observed))].into();
        let (runbooks, records) = (built_in(), BTreeMap::new());
        let choice = Choice { runbooks: &runbooks, records: &records };
        let progress = Progress { attempts, earlier, calm_since_us, detected_us: 0, now_us };
        let diagnosis = Diagnosis { candidates: candidates.to_vec(), inconclusive: candidates.is_empty() };
        match next(&progress, &diagnosis, &targets, &choice, &Patience::default()) {
            Next::Wait => "wait".into(),
            Next::Run { candidate, runbook, .. } => format!("{} {}", runbook.name, candidate.service),
            Next::Resolve { success } => format!("resolve {success:?}"),
            Next::Fail { .. } => "fail".into(),
            Next::Escalate { reason } => format!("escalate: {reason}"),
        }
    }

    #[test]
    fn a_probable_cause_is_acted_on_and_the_next_runbook_follows_one_that_failed() {
        let errors = [candidate("shop", Cause::Errors, 0.9)];
        assert_eq!(word(&[], &errors, None, 1), "restart shop");
        let failed = [attempt(Cause::Errors, "restart", false)];
        assert_eq!(word(&failed, &errors, None, 1), "failover shop");
        let all = [attempt(Cause::Errors, "restart", false), attempt(Cause::Errors, "failover", false)];
        assert_eq!(word(&all, &errors, None, 1), "fail");
        let healed = [attempt(Cause::Errors, "restart", true)];
        assert_eq!(word(&healed, &errors, None, 1), "restart shop", "it came back");
        let often = vec![attempt(Cause::Errors, "restart", true); ATTEMPTS_MAX];
        assert_eq!(word(&often, &errors, None, 1), "fail");
    }

    #[test]
    fn what_is_one_of_two_causes_with_the_same_answer_is_acted_on() {
        let either = [candidate("shop", Cause::Errors, 0.61), candidate("shop", Cause::Slow, 0.37)];
        assert_eq!(word(&[], &either, None, 1), "restart shop");
        let other = [candidate("shop", Cause::Errors, 0.61), candidate("shop", Cause::DiskFull, 0.37)];
        assert_eq!(word(&[], &other, None, 1), "wait", "a restart cleans no disk");
        let apart = [candidate("shop", Cause::Errors, 0.61), candidate("mail", Cause::Slow, 0.37)];
        assert_eq!(word(&[], &apart, None, 1), "wait", "of two services");
    }

    #[test]
    fn what_comes_back_again_and_again_gets_another_runbook_where_there_is_one() {
        let errors = [candidate("shop", Cause::Errors, 0.9)];
        let twice = vec![attempt(Cause::Errors, "restart", true); 2];
        assert_eq!(word_after(&twice, &[], &errors, None, 1), "restart shop");
        let often = vec![attempt(Cause::Errors, "restart", true); 3];
        assert_eq!(word_after(&often, &[], &errors, None, 1), "failover shop");
        assert_eq!(word_after(&often, &[], &errors, None, 700_000_000), "restart shop", "that was long ago");
        let slow = [candidate("shop", Cause::Hang, 0.9)];
        assert_eq!(word_after(&often, &[], &slow, None, 1), "restart shop", "of another cause");
        let leak = [candidate("shop", Cause::MemoryLeak, 0.9)];
        let leaks = vec![attempt(Cause::MemoryLeak, "restart", true); 3];
        assert_eq!(word_after(&leaks, &[], &leak, None, 1), "restart shop", "there is no other");
        let full = [candidate("shop", Cause::DiskFull, 0.9)];
        let cleaned = vec![attempt(Cause::DiskFull, "clean_disk", true); 3];
        assert_eq!(word_after(&cleaned, &[], &full, None, 1), "clean_disk shop", "a failover leaves the disk as it is");
    }

    #[test]
    fn what_may_be_an_echo_of_what_was_healed_just_now_waits() {
        let healed = [Attempt {
            service: "mail".into(),
            cause: Cause::Errors,
            runbook: "restart".into(),
            success: true,
            ended_us: 1_000_000,
        }];
        let slow = [candidate("shop", Cause::Slow, 0.9)];
        assert_eq!(word(&healed, &slow, None, 3_000_000), "wait");
        assert_eq!(word(&healed, &slow, None, 5_000_000), "restart shop");
        let gone = [candidate("shop", Cause::ProcessDown, 0.9)];
        assert_eq!(word(&healed, &gone, None, 3_000_000), "restart shop", "that is nobody's echo");
    }

    #[test]
    fn what_is_not_sure_waits_and_then_calls_people() {
        let unsure = [candidate("shop", Cause::Slow, 0.6)];
        assert_eq!(word(&[], &unsure, None, 1), "wait");
        assert!(word(&[], &unsure, None, 60_000_000).starts_with("escalate"));
        let elsewhere = [candidate("unknown", Cause::Hang, 0.99)];
        assert_eq!(word(&[], &elsewhere, None, 1), "escalate: no runbook fits hang of unknown");
    }

    #[test]
    fn calm_ends_it_at_once_after_an_action_and_later_without_one() {
        let healed = [attempt(Cause::Errors, "restart", true)];
        assert_eq!(word(&healed, &[], Some(5), 5), "resolve Some(true)");
        assert_eq!(word(&[], &[], Some(5_000_000), 14_999_999), "wait");
        assert_eq!(word(&[], &[], Some(5_000_000), 15_000_000), "resolve None");
        let unsure = [candidate("shop", Cause::Slow, 0.6)];
        assert_eq!(word(&[], &unsure, Some(5_000_000), 15_000_000), "wait", "something is probable");
    }
}
