//! What each guard stops.

use super::*;

const PROPOSAL: Proposal = Proposal {
    origin: Origin::Autopilot,
    risk: Risk::Low,
    is_autonomous: false,
    is_automated: false,
    targets: 1,
    dry_run: false,
    wants_approval: false,
    approved_by: None,
};

fn calm() -> Situation<'static> {
    Situation {
        now_us: 100_000_000,
        is_enabled: true,
        level: Automation::Medium,
        kill_switch: false,
        frozen: None,
        is_protected: false,
        locked_by: None,
        cooldown_until_us: None,
        fleet: 8,
        acted_on: 0,
        blast_radius: 0.25,
        actions: 0,
        actions_max: 10,
        circuit: Circuit::Closed,
        is_trying: false,
    }
}

fn decide(proposal: Proposal, situation: Situation) -> (Decision, Option<Guard>) {
    let verdict = verdict(&proposal, &situation);
    assert_eq!(verdict.rules.len(), 10, "every guard is asked");
    assert!(verdict.rules.iter().all(|ruling| !ruling.reason.is_empty()));
    (verdict.decision, verdict.refusal().map(|ruling| ruling.rule))
}

#[test]
fn each_guard_stops_alone_and_by_its_name() {
    assert_eq!(decide(PROPOSAL, calm()), (Decision::Allow, None));
    let cases = [
        (Guard::Enabled, Situation { is_enabled: false, ..calm() }),
        (Guard::KillSwitch, Situation { kill_switch: true, ..calm() }),
        (Guard::FreezeWindow, Situation { frozen: Some("release"), ..calm() }),
        (Guard::ProtectedTarget, Situation { is_protected: true, ..calm() }),
        (Guard::TargetLock, Situation { locked_by: Some("7"), ..calm() }),
        (Guard::CoolDown, Situation { cooldown_until_us: Some(100_000_001), ..calm() }),
        (Guard::BlastRadius, Situation { acted_on: 2, ..calm() }),
        (Guard::ActionBudget, Situation { actions: 10, ..calm() }),
        (Guard::CircuitBreaker, Situation { circuit: Circuit::Open { until_us: 200_000_000 }, ..calm() }),
        (Guard::CircuitBreaker, Situation { circuit: Circuit::HalfOpen, is_trying: true, ..calm() }),
    ];
    for (guard, situation) in cases {
        assert_eq!(decide(PROPOSAL, situation.clone()), (Decision::Deny, Some(guard)));
        // No approval and no autonomy stands for another guard.
        let approved = Proposal { approved_by: Some("ann"), is_autonomous: true, ..PROPOSAL };
        assert_eq!(decide(approved, situation), (Decision::Deny, Some(guard)));
    }
}

#[test]
fn what_passed_its_time_does_not_stop() {
    assert_eq!(decide(PROPOSAL, Situation { cooldown_until_us: Some(100_000_000), ..calm() }).0, Decision::Allow);
    assert_eq!(decide(PROPOSAL, Situation { circuit: Circuit::HalfOpen, ..calm() }).0, Decision::Allow);
    assert_eq!(decide(PROPOSAL, Situation { fleet: 1, blast_radius: 0.0, ..calm() }).0, Decision::Allow, "one may");
    let wide = Proposal { targets: 3, ..PROPOSAL };
    assert_eq!(decide(wide, calm()), (Decision::Deny, Some(Guard::BlastRadius)));
}

#[test]
fn levels_reach_so_far_and_autonomy_one_step_farther() {
    let levels = [Automation::Low, Automation::Medium, Automation::High, Automation::Full];
    let acts = |risk, is_autonomous| {
        let proposal = Proposal { risk, is_autonomous, ..PROPOSAL };
        levels.map(|level| decide(proposal, Situation { level, ..calm() }).0 == Decision::Allow)
    };
    assert_eq!(acts(Risk::Low, false), [false, true, true, true]);
    assert_eq!(acts(Risk::Medium, false), [false, false, true, true]);
    assert_eq!(acts(Risk::High, false), [false, false, false, true]);
    assert_eq!(acts(Risk::Low, true), [false, true, true, true]);
    assert_eq!(acts(Risk::Medium, true), [false, true, true, true]);
    assert_eq!(acts(Risk::High, true), [false, false, true, true]);
    let lifted = |risk, is_autonomous| {
        let proposal = Proposal { risk, is_autonomous, is_automated: true, ..PROPOSAL };
        levels.map(|level| decide(proposal, Situation { level, ..calm() }).0 == Decision::Allow)
    };
    for is_autonomous in [false, true] {
        for risk in [Risk::Low, Risk::Medium, Risk::High] {
            assert_eq!(lifted(risk, is_autonomous), acts(risk, true), "one step, for whatever reason");
        }
    }
    let person = Proposal { risk: Risk::High, is_automated: true, origin: Origin::Person("bob"), ..PROPOSAL };
    assert_eq!(decide(person, calm()).0, Decision::NeedsApproval, "people ask each other");
    let off = Situation { level: Automation::Off, ..calm() };
    assert_eq!(decide(PROPOSAL, off), (Decision::Deny, Some(Guard::Enabled)));
}

#[test]
fn approval_comes_from_another_person() {
    let risky = Proposal { risk: Risk::High, origin: Origin::Person("bob"), ..PROPOSAL };
    assert_eq!(decide(risky, calm()).0, Decision::NeedsApproval);
    assert_eq!(decide(Proposal { approved_by: Some("bob"), ..risky }, calm()).0, Decision::NeedsApproval);
    assert_eq!(decide(Proposal { approved_by: Some("ann"), ..risky }, calm()).0, Decision::Allow);
    assert_eq!(decide(Proposal { risk: Risk::Medium, ..risky }, calm()).0, Decision::Allow);
    let asked = Proposal { wants_approval: true, ..PROPOSAL };
    assert_eq!(decide(asked, Situation { level: Automation::Full, ..calm() }).0, Decision::NeedsApproval);
}

#[test]
fn a_dry_run_acts_on_nothing_and_tells_what_would_be() {
    let dry = Proposal { dry_run: true, ..PROPOSAL };
    assert_eq!(decide(dry, calm()).0, Decision::DryRun);
    assert_eq!(decide(dry, Situation { kill_switch: true, ..calm() }).0, Decision::Deny);
    assert_eq!(decide(Proposal { risk: Risk::High, ..dry }, calm()).0, Decision::NeedsApproval);
}
