//! The whole loop on a fleet that is only imagined: a second a step, each fault with the numbers that it would show.

use std::collections::BTreeMap;

use super::alarm::{Alarm, Kind};
use super::budget::Budget;
use super::cause::Cause;
use super::circuit::Circuit;
use super::course::{Attempt, Next, Patience, Progress, Targets, next};
use super::diagnosis::diagnose;
use super::evidence::{Evidence, Process};
use super::graph::Graph;
use super::group::{Watch, groups};
use super::guard::{Decision, Origin, Proposal, Situation, verdict};
use super::runbook::{Choice, Risk, built_in};
use super::status::Status;
use super::verification::{Outcome, Sample};
use crate::operation::Automation;
use crate::ops::actuator::{Action, Observation, Target};

const SERVICES: [&str; 4] = ["shop", "orders", "store", "mail"];

fn graph() -> Graph {
    Graph::new([("shop", "orders"), ("orders", "store"), ("orders", "mail")])
}

/// What a broken service shows, what its callers do, and which action mends it.
fn broken(cause: Cause) -> (Evidence, Action) {
    let fails = Evidence { process: Process::Running, error_share: Some(0.8), error_usual: Some(0.0), ..calm() };
    match cause {
        Cause::ProcessDown => {
            (Evidence { process: Process::Gone, checks_failed: 3, ..Evidence::default() }, Action::Restart)
        }
        Cause::Hang => {
            (Evidence { process: Process::Running, checks_failed: 3, ..Evidence::default() }, Action::Restart)
        }
        Cause::DiskFull => (Evidence { disk_share: Some(1.0), ..fails }, Action::CleanDisk),
        Cause::MemoryLeak => {
            (Evidence { memory_growth: Some(30.0), memory_ratio: Some(3.0), ..calm() }, Action::Restart)
        }
        Cause::BadConfiguration => (Evidence { changed_s: Some(5.0), ..fails }, Action::Rollback),
        Cause::DependencyDown => (Evidence { call_error_share: Some(0.9), ..fails }, Action::Failover),
        Cause::Saturation => (Evidence { traffic_ratio: Some(3.0), latency_ratio: Some(8.0), ..calm() }, Action::Scale),
        Cause::Errors => (fails, Action::Restart),
        Cause::Slow => (Evidence { latency_ratio: Some(20.0), ..calm() }, Action::Restart),
    }
}

fn calm() -> Evidence {
    let process = Process::Running;
    Evidence {
        process,
        latency_ratio: Some(1.0),
        error_share: Some(0.0),
        error_usual: Some(0.0),
        ..Evidence::default()
    }
}

/// The fleet with faults: callers of what fails or is slow show it too.
fn fleet(faults: &BTreeMap<&str, Cause>) -> BTreeMap<String, Evidence> {
    let mut all: BTreeMap<String, Evidence> = SERVICES.map(|service| (service.to_owned(), calm())).into();
    for (service, cause) in faults {
        let (shown, _) = broken(*cause);
        if shown.illness() > 0.5 {
            for caller in SERVICES.iter().filter(|caller| graph().reached(caller).contains(service)) {
                let caller = all.get_mut(*caller).expect("one of the fleet");
                *caller = Evidence {
                    error_share: Some(0.8),
                    call_error_share: Some(0.8),
                    latency_ratio: Some(9.0),
                    ..calm()
                };
            }
        }
    }
    for (service, cause) in faults {
        all.insert((*service).to_owned(), broken(*cause).0);
    }
    all
}

fn targets() -> Targets {
    use Action::{CleanDisk, ConfigCorrect, Failover, Restart, Rollback, Scale};
    let target = |service: &str| {
        let actions = vec![Restart, Scale, Failover, Rollback, ConfigCorrect, CleanDisk];
        let target = Target { name: service.into(), kind: "process".into(), is_protected: false, actions };
        (service.to_owned(), (target, Observation { has_previous: true, has_standby: true, ..Observation::default() }))
    };
    SERVICES.map(target).into()
}

/// Whether the guards let a runbook act.
fn may(risk: Risk, cooldown_until_us: Option<i64>, now_us: i64) -> bool {
    let proposal = Proposal {
        origin: Origin::Autopilot,
        risk,
        is_autonomous: false,
        is_automated: false,
        targets: 1,
        dry_run: false,
        wants_approval: false,
        approved_by: None,
    };
    let situation = Situation {
        now_us,
        is_enabled: true,
        level: Automation::High,
        kill_switch: false,
        frozen: None,
        is_protected: false,
        locked_by: None,
        cooldown_until_us,
        fleet: SERVICES.len(),
        acted_on: 0,
        blast_radius: 0.25,
        actions: 0,
        actions_max: 20,
        circuit: Circuit::Closed,
        is_trying: false,
    };
    verdict(&proposal, &situation).decision == Decision::Allow
}

/// Runs the loop until the incident is over; gives how, and what was done where.
fn heal(mut faults: BTreeMap<&'static str, Cause>) -> (Status, Vec<(String, Action)>) {
    let (runbooks, records, mut done) = (built_in(), BTreeMap::new(), Vec::new());
    let (mut attempts, mut calm_since_us, mut status) = (Vec::new(), None, Status::Diagnosing);
    let mut resting: BTreeMap<String, i64> = BTreeMap::new();
    for second in 0..600 {
        let now_us = second * 1_000_000;
        let known = fleet(&faults);
        let diagnosis = diagnose(&known, &graph());
        calm_since_us = known.values().all(|own| own.illness() < 0.2).then_some(calm_since_us.unwrap_or(now_us));
        let progress = Progress { attempts: &attempts, earlier: &[], calm_since_us, detected_us: 0, now_us };
        let choice = Choice { runbooks: &runbooks, records: &records };
        let (candidate, runbook) = match next(&progress, &diagnosis, &targets(), &choice, &Patience::default()) {
            Next::Wait => continue,
            Next::Run { candidate, runbook, .. } => (candidate, runbook),
            Next::Resolve { .. } => return (status.becoming(Status::Resolved).unwrap(), done),
            Next::Fail { .. } => return (status.becoming(Status::Failed).unwrap(), done),
            Next::Escalate { .. } => return (status.becoming(Status::Escalated).unwrap(), done),
        };
        if !may(runbook.risk, resting.get(&candidate.service).copied(), now_us) {
            continue;
        }
        resting.insert(candidate.service.clone(), now_us + i64::from(runbook.cooldown_s) * 1_000_000);
        status = status.becoming(Status::Remediating).unwrap().becoming(Status::Verifying).unwrap();
        let service = SERVICES.into_iter().find(|service| *service == candidate.service).unwrap();
        for step in &runbook.steps {
            done.push((candidate.service.clone(), step.action));
            if faults.get(service).is_some_and(|cause| broken(*cause).1 == step.action) {
                faults.remove(service);
            }
        }
        let after = &fleet(&faults)[service];
        let values: BTreeMap<String, f64> = [
            ("healthy", if after.silence() > 0.0 { 0.0 } else { 1.0 }),
            ("error_excess", after.error_share.unwrap_or_default()),
            ("latency_ratio", after.latency_ratio.unwrap_or(1.0)),
            ("disk_share", after.disk_share.unwrap_or(0.3)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let samples: Vec<Sample> = (1..=3).map(|i| Sample { at_us: now_us + i, values: values.clone() }).collect();
        let outcome = runbook.verify.outcome(&samples, now_us, now_us + 100_000_000);
        let (cause, success) = (candidate.cause, matches!(outcome, Outcome::Passed { .. }));
        attempts.push(Attempt {
            service: service.into(),
            cause,
            runbook: runbook.name.clone(),
            success,
            ended_us: now_us,
        });
        status = status.becoming(Status::Diagnosing).unwrap();
    }
    panic!("it never ends: {done:?}");
}

#[test]
fn every_fault_alone_is_healed_by_one_action_where_it_is() {
    for cause in super::cause::CAUSES {
        for service in SERVICES {
            let (status, done) = heal([(service, cause)].into());
            assert_eq!(status, Status::Resolved, "{cause:?} of {service}: {done:?}");
            assert_eq!(done, [(service.to_owned(), broken(cause).1)], "{cause:?}");
        }
    }
}

#[test]
fn two_faults_at_once_are_both_healed_and_nothing_else_is_touched() {
    let local = [Cause::ProcessDown, Cause::Hang, Cause::DiskFull, Cause::MemoryLeak, Cause::BadConfiguration];
    for first in local {
        for second in super::cause::CAUSES {
            for (one, other) in [("shop", "store"), ("store", "mail"), ("orders", "store")] {
                let (status, done) = heal([(one, first), (other, second)].into());
                assert_eq!(status, Status::Resolved, "{first:?} {second:?}: {done:?}");
                assert!(
                    done.iter().all(|(service, _)| service == one || service == other),
                    "{first:?} {second:?}: {done:?}"
                );
            }
        }
    }
}

#[test]
fn a_calm_fleet_is_left_alone() {
    let (status, done) = heal(BTreeMap::new());
    assert_eq!((status, done.len()), (Status::Resolved, 0));
}

#[test]
fn a_day_of_weak_alarms_opens_nothing_and_a_fault_among_them_does() {
    let watch = Watch { series: SERVICES.map(|service| (service.to_owned(), 7)).into(), step_us: 1_000_000 };
    let budget = Budget::of(0.8).unwrap();
    let alarm = |service: &str, metric: &str, second: i64, p_value| Alarm {
        service: service.into(),
        metric: metric.into(),
        labels: BTreeMap::new(),
        at_us: second * 1_000_000,
        p_value,
        kind: Kind::Point,
    };
    // Five an hour, as strong as the detector of a short warm-up can tell.
    let mut alarms: Vec<Alarm> = (0..120).map(|i| alarm(SERVICES[i % 4], "latency", 720 * i as i64, 1e-6)).collect();
    let found = groups(&alarms, &graph(), 5_000_000);
    assert!(found.len() == 120 && found.iter().all(|group| !group.is_incident(&watch, &budget)));
    alarms.extend([alarm("store", "errors", 40_000, 1e-6), alarm("store", "latency", 40_001, 1e-6)]);
    let found = groups(&alarms, &graph(), 5_000_000);
    let incidents: Vec<_> = found.iter().filter(|group| group.is_incident(&watch, &budget)).collect();
    assert!(incidents.len() == 1 && incidents[0].first_us == 40_000_000_000, "{incidents:?}");
}
