//! What may be done about a threat, by whom, and what never.
//!
//! A response needs another person's approval where the threat is less sure than the policy `threats` asks for, where it shall last
//! longer than it allows, and where that was asked for. Addresses of this machine and of those who can release a block are never
//! blocked, and neither are approvers and admins themselves.
//!
//! **Invariant:** pure: no clock, no table; every rule gives its reason, and the first that denies decides.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::actuator;
use crate::operation::{Form, Member, Refusal, Refused};
use crate::role::Role;

/// What can be done about a threat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The target is frozen as it is.
    Isolate,
    /// The target is stopped.
    KillProcess,
    /// Juno's doors refuse an address.
    BlockIp,
    /// Juno's doors refuse a user or the name of a token.
    RevokeToken,
    /// What is known is kept.
    SnapshotForensics,
    /// Those who listen to events are told.
    Notify,
}

impl Action {
    const ALL: [Action; 6] = [
        Action::Isolate,
        Action::KillProcess,
        Action::BlockIp,
        Action::RevokeToken,
        Action::SnapshotForensics,
        Action::Notify,
    ];
    /// Their names.
    pub(crate) const NAMES: &'static [&'static str] =
        &["isolate", "kill_process", "block_ip", "revoke_token", "snapshot_forensics", "notify"];

    /// Its name in requests.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The action of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// What an actuator is ordered to do; none where juno does it itself.
    pub(crate) fn ordered(self) -> Option<actuator::Action> {
        match self {
            Action::Isolate => Some(actuator::Action::Isolate),
            Action::KillProcess => Some(actuator::Action::Stop),
            _ => None,
        }
    }

    /// The kind of what juno's doors refuse.
    pub(crate) fn blocked(self) -> Option<&'static str> {
        match self {
            Action::BlockIp => Some("address"),
            Action::RevokeToken => Some("user"),
            _ => None,
        }
    }

    /// Whether it keeps the threat from going on: then it expires, and is taken back.
    pub(crate) fn contains(self) -> bool {
        self.ordered().is_some() || self.blocked().is_some()
    }
}

const SAYS: Form = Form::Choice(&["allow", "needs_approval", "deny"]);
const SAID: &[Member] = &[
    Member::new("rule", Form::Text, "The rule."),
    Member::new("decision", SAYS, "What it says."),
    Member::new("reason", Form::Text, "Why."),
];
/// What is told of a [`Verdict`].
pub(crate) const VERDICT: &[Member] = &[
    Member::new("decision", SAYS, "What they say together."),
    Member::new("rules", Form::List(&Form::Object(SAID)), "What each rule says."),
];

/// Somebody who was seen at a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) role: Option<Role>,
    pub(crate) address: Option<IpAddr>,
}

/// Why an address is never blocked; none where it may be.
pub(crate) fn protected_address(address: IpAddr, people: &[Person]) -> Option<String> {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() {
        return Some(format!("{address} is this machine: juno would refuse itself"));
    }
    let is_there = |person: &&Person| person.address.map(|own| own.to_canonical()) == Some(address);
    let keeper = people.iter().filter(|person| person.role >= Some(Role::Responder)).find(is_there)?;
    Some(format!("{address} is where \"{}\" was last seen, who can release blocks", keeper.name))
}

/// Why a user is never refused; none where that may be.
pub(crate) fn protected_user(name: &str, actor: &str, people: &[Person]) -> Option<String> {
    if name == actor {
        return Some(format!("\"{name}\" is who asks"));
    }
    let person = people.iter().filter(|person| person.name == name).max_by_key(|person| person.role)?;
    let role = person.role.filter(|role| *role >= Role::Approver)?;
    Some(format!("\"{name}\" is in role {role}, which releases blocks: revoke the role first"))
}

/// The first of these responses, each with its target, that the rules do not always refuse; where there is none, somebody is told.
pub(crate) fn recommended(responses: &[(&str, String)], entity: &str) -> Value {
    let may_be = |(action, target): &&(&str, String)| {
        let address = target.parse::<IpAddr>().ok().filter(|_| *action == Action::BlockIp.name());
        address.and_then(|address| protected_address(address, &[])).is_none()
    };
    match responses.iter().find(may_be) {
        Some((action, target)) => json!({ "action": action, "target": target }),
        None => json!({ "action": Action::Notify.name(), "target": entity }),
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Proposal<'a> {
    pub(crate) action: Action,
    pub(crate) ttl_s: u64,
    /// Whether approval was asked for whatever the rules say.
    pub(crate) wants_approval: bool,
    pub(crate) approved_by: Option<&'a str>,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Situation {
    /// Whether somebody has called the threat a false positive, or resolved it.
    pub(crate) over: Option<&'static str>,
    /// Confidence in the threat, and what is asked of it.
    pub(crate) confidence: f64,
    pub(crate) confidence_min: f64,
    /// Responses of the last hour, and how many it may have.
    pub(crate) actions: u64,
    pub(crate) actions_max: f64,
    /// How long a response may last without approval, in seconds.
    pub(crate) ttl_max_s: f64,
    /// Why the target is never acted on.
    pub(crate) protected: Option<String>,
    /// The same response that is in force already.
    pub(crate) contained: Option<String>,
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ruling {
    pub(crate) rule: &'static str,
    /// What it is refused with; none where it passes or asks for approval.
    refused: Option<Refused>,
    asks: bool,
    pub(crate) reason: String,
}

/// What all rules say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) rules: Vec<Ruling>,
}

impl Verdict {
    /// Why another person must approve it.
    ///
    /// # Errors
    /// The first rule that denies it.
    pub(crate) fn approval(&self) -> Result<Option<String>, Refusal> {
        if let Some((kind, ruling)) = self.rules.iter().find_map(|ruling| ruling.refused.map(|kind| (kind, ruling))) {
            let refusal = Refusal::new(kind, ruling.reason.clone());
            return Err(if kind == Refused::BudgetExhausted { refusal.retry_after(60) } else { refusal });
        }
        let asking: Vec<&str> =
            self.rules.iter().filter(|ruling| ruling.asks).map(|ruling| ruling.reason.as_str()).collect();
        Ok((!asking.is_empty()).then(|| asking.join("; ")))
    }

    pub(crate) fn json(&self) -> Value {
        let said = |ruling: &Ruling| match (ruling.refused, ruling.asks) {
            (Some(_), _) => "deny",
            (None, true) => "needs_approval",
            (None, false) => "allow",
        };
        let worst =
            ["deny", "needs_approval"].into_iter().find(|word| self.rules.iter().any(|rule| said(rule) == *word));
        let rules = self
            .rules
            .iter()
            .map(|ruling| json!({ "rule": ruling.rule, "decision": said(ruling), "reason": ruling.reason }));
        json!({ "decision": worst.unwrap_or("allow"), "rules": rules.collect::<Vec<_>>() })
    }
}

/// Asks every rule.
pub(crate) fn verdict(proposal: &Proposal, situation: &Situation) -> Verdict {
    let Proposal { action, ttl_s, .. } = *proposal;
    let deny = |rule, kind: Refused, refused: Option<String>, passes: &str| Ruling {
        rule,
        refused: refused.is_some().then_some(kind),
        asks: false,
        reason: refused.unwrap_or_else(|| passes.to_owned()),
    };
    let ask = |rule, asks: bool, reason: String| Ruling {
        rule,
        refused: None,
        asks: asks && proposal.approved_by.is_none(),
        reason,
    };
    let over = situation.over.map(|over| format!("the threat is {over}: label it anew first"));
    let used = (action.contains() && situation.actions as f64 >= situation.actions_max)
        .then(|| format!("{} responses of this hour are all that it may have", situation.actions));
    let confidence = situation.confidence;
    let doubtful = action.contains() && confidence < situation.confidence_min;
    let long = action.contains() && ttl_s as f64 > situation.ttl_max_s;
    let wish = if proposal.wants_approval { "approval was asked for" } else { "no approval was asked for" };
    Verdict {
        rules: vec![
            deny("open", Refused::AlreadyResolved, over, "the threat is open"),
            deny("protected-target", Refused::ProtectedTarget, situation.protected.clone(), "it is not protected"),
            deny("contained", Refused::AlreadyContained, situation.contained.clone(), "it is not contained yet"),
            deny("actions_per_hour", Refused::BudgetExhausted, used, "there is room in this hour"),
            ask(
                "confidence_min",
                doubtful,
                format!("the confidence is {confidence}, {} is asked for", situation.confidence_min),
            ),
            ask("response_ttl_s", long, format!("it lasts {ttl_s} s, {} s need no approval", situation.ttl_max_s)),
            ask("approval", proposal.wants_approval, wish.to_owned()),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROPOSAL: Proposal =
        Proposal { action: Action::Isolate, ttl_s: 3_600, wants_approval: false, approved_by: None };

    fn situation() -> Situation {
        Situation {
            over: None,
            confidence: 0.95,
            confidence_min: 0.9,
            actions: 3,
            actions_max: 20.0,
            ttl_max_s: 3_600.0,
            protected: None,
            contained: None,
        }
    }

    fn person(name: &str, role: Role, address: &str) -> Person {
        Person { name: name.into(), role: Some(role), address: address.parse().ok() }
    }

    #[test]
    fn a_sure_threat_is_responded_to_at_once() {
        let found = verdict(&PROPOSAL, &situation());
        assert_eq!((found.approval(), &found.json()["decision"]), (Ok(None), &json!("allow")));
    }

    #[test]
    fn each_rule_denies_with_its_own_reason() {
        for (situation, kind) in [
            (Situation { over: Some("resolved"), ..situation() }, Refused::AlreadyResolved),
            (Situation { protected: Some("x".into()), ..situation() }, Refused::ProtectedTarget),
            (Situation { contained: Some("x".into()), ..situation() }, Refused::AlreadyContained),
            (Situation { actions: 20, ..situation() }, Refused::BudgetExhausted),
        ] {
            let found = verdict(&PROPOSAL, &situation);
            assert_eq!(found.approval().unwrap_err().kind, kind, "{situation:?}");
            assert_eq!(found.json()["decision"], "deny");
            let approved = verdict(&Proposal { approved_by: Some("bob"), ..PROPOSAL }, &situation);
            assert_eq!(approved.approval().unwrap_err().kind, kind, "an approval stands for no other rule");
        }
    }

    #[test]
    fn what_is_doubtful_long_or_asked_for_waits_for_another_person() {
        let doubtful = Situation { confidence: 0.6, ..situation() };
        for (proposal, situation) in [
            (PROPOSAL, doubtful.clone()),
            (Proposal { ttl_s: 3_601, ..PROPOSAL }, situation()),
            (Proposal { wants_approval: true, ..PROPOSAL }, situation()),
        ] {
            assert!(verdict(&proposal, &situation).approval().unwrap().is_some(), "{proposal:?}");
            let approved = Proposal { approved_by: Some("bob"), ..proposal };
            assert_eq!(verdict(&approved, &situation).approval(), Ok(None), "{proposal:?}");
        }
        let notify = Proposal { action: Action::Notify, ..PROPOSAL };
        assert_eq!(verdict(&notify, &doubtful).approval(), Ok(None), "telling somebody harms nobody");
    }

    #[test]
    fn this_machine_and_those_who_release_blocks_are_never_shut_out() {
        let people = [person("bob", Role::Approver, "192.0.2.1"), person("eve", Role::Viewer, "192.0.2.2")];
        for (address, protected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", true),
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("203.0.113.7", false),
        ] {
            assert_eq!(protected_address(address.parse().unwrap(), &people).is_some(), protected, "{address}");
        }
        for (name, protected) in [("ada", true), ("bob", true), ("eve", false), ("mallory", false)] {
            assert_eq!(protected_user(name, "ada", &people).is_some(), protected, "{name}");
        }
    }

    #[test]
    fn what_is_recommended_is_what_the_rules_let_pass() {
        let block = |address: &str| ("block_ip", address.to_owned());
        let isolate = ("isolate", "web1".to_owned());
        for (responses, action, target) in [
            (vec![isolate.clone(), block("203.0.113.7")], "isolate", "web1"),
            (vec![block("203.0.113.7")], "block_ip", "203.0.113.7"),
            (vec![block("127.0.0.1"), isolate], "isolate", "web1"),
            (vec![block("::1")], "notify", "eve"),
            (vec![], "notify", "eve"),
        ] {
            let found = recommended(&responses, "eve");
            assert_eq!(found, json!({ "action": action, "target": target }), "{responses:?}");
        }
    }

    #[test]
    fn an_action_has_one_name() {
        for action in Action::ALL {
            assert_eq!(Action::named(action.name()), Some(action));
        }
        assert_eq!((Action::ALL.len(), Action::named("rate_limit")), (Action::NAMES.len(), None));
    }
}
