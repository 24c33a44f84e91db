//! The gates before every operation, and who may decide about an approval.
//!
//! **Invariant:** pure; what stands in the way is told by name, with what to do about it.

use crate::operation::{Component, Effect, Refusal, Refused};

/// The phase from which on juno acts.
const ACTING_PHASE: u8 = 4;

/// What may stand in the way of an operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates {
    /// The feature level that the server runs at.
    pub(crate) phase: u8,
    /// The operation's component, where it is switched off.
    pub(crate) disabled: Option<Component>,
    /// Why the kill switch is engaged, where it is.
    pub(crate) killed: Option<String>,
    /// The freeze windows that are open.
    pub(crate) freezes: Vec<Freeze>,
    /// The service or target that would be acted on.
    pub(crate) target: Option<String>,
}

/// A maintenance window in which nothing is acted on.
#[derive(Debug, Clone)]
pub(crate) struct Freeze {
    pub(crate) name: String,
    /// Whose; everybody's where none is named.
    pub(crate) service: Option<String>,
    /// How long it still is.
    pub(crate) left_s: u64,
}

impl Gates {
    /// The freeze window that it is in; of several the one that lasts longest.
    pub(crate) fn frozen(&self) -> Option<&Freeze> {
        let touches =
            |freeze: &&Freeze| freeze.service.is_none() || self.target.is_none() || freeze.service == self.target;
        self.freezes.iter().filter(touches).max_by_key(|freeze| freeze.left_s)
    }
}

/// Lets an operation through or says what is in its way. What only tells what it would do is stopped by a component that is off,
/// and by nothing else; what else would stop it is for the operation to tell.
pub(crate) fn gate(effect: Effect, dry_run: bool, gates: &Gates) -> Result<(), Refusal> {
    if let Some(component) = gates.disabled {
        let text = format!("{} is switched off: set {}=true", component.name(), component.variable());
        return Err(Refusal::new(Refused::ComponentDisabled, text));
    }
    if effect != Effect::Acts || dry_run {
        return Ok(());
    }
    if gates.phase < ACTING_PHASE {
        let text = format!("juno runs at phase {} and acts from {ACTING_PHASE} on: set JUNO_PHASE=4", gates.phase);
        return Err(Refusal::new(Refused::PhaseTooLow, text));
    }
    if let Some(reason) = &gates.killed {
        let text = format!("the kill switch is engaged ({reason}): an approver releases it by kill_switch");
        return Err(Refusal::new(Refused::KillSwitch, text));
    }
    match gates.frozen() {
        Some(freeze) => {
            let text = format!("maintenance window \"{}\" freezes this for another {} s", freeze.name, freeze.left_s);
            Err(Refusal::new(Refused::Frozen, text).retry_after(freeze.left_s.max(1)))
        }
        None => Ok(()),
    }
}

/// Whether somebody may decide about an approval: not who asked, and once.
pub(crate) fn may_decide(actor: &str, asked_by: &str, state: &str, expired: bool) -> Result<(), Refusal> {
    if state != "pending" && !expired {
        return Err(Refusal::new(Refused::Conflict, format!("it is decided already: it is {state}")));
    }
    if expired {
        return Err(Refusal::new(Refused::Conflict, "it is too old: ask for the operation anew"));
    }
    if actor == asked_by {
        let text = format!("\"{actor}\" asked for it, so that another approver must decide");
        return Err(Refusal::new(Refused::OwnRequest, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Gates {
        Gates { phase: 4, ..Gates::default() }
    }

    fn refused(effect: Effect, dry_run: bool, gates: &Gates) -> Option<Refused> {
        gate(effect, dry_run, gates).err().map(|refusal| refusal.kind)
    }

    #[test]
    fn each_gate_stops_what_acts_and_lets_the_rest_through() {
        let freeze =
            |service: Option<&str>| Freeze { name: "w".into(), service: service.map(str::to_owned), left_s: 60 };
        let cases = [
            (open(), None),
            (Gates { phase: 3, ..open() }, Some(Refused::PhaseTooLow)),
            (Gates { killed: Some("drill".into()), ..open() }, Some(Refused::KillSwitch)),
            (Gates { freezes: vec![freeze(None)], ..open() }, Some(Refused::Frozen)),
            (Gates { freezes: vec![freeze(Some("a"))], target: Some("a".into()), ..open() }, Some(Refused::Frozen)),
            (Gates { freezes: vec![freeze(Some("a"))], ..open() }, Some(Refused::Frozen)),
            (Gates { freezes: vec![freeze(Some("a"))], target: Some("b".into()), ..open() }, None),
        ];
        for (gates, expected) in cases {
            assert_eq!(refused(Effect::Acts, false, &gates), expected, "{gates:?}");
            assert_eq!(refused(Effect::Acts, true, &gates), None, "{gates:?}");
            assert_eq!(refused(Effect::Changes, false, &gates), None, "{gates:?}");
        }
        let off = Gates { disabled: Some(Component::Scaling), ..open() };
        for effect in [Effect::Acts, Effect::Changes, Effect::Computes] {
            assert_eq!(refused(effect, true, &off), Some(Refused::ComponentDisabled));
        }
    }

    #[test]
    fn nobody_approves_what_they_asked_for_and_nothing_is_decided_twice() {
        assert!(may_decide("bob", "ada", "pending", false).is_ok());
        for (actor, state, expired, kind) in [
            ("ada", "pending", false, Refused::OwnRequest),
            ("bob", "approved", false, Refused::Conflict),
            ("bob", "pending", true, Refused::Conflict),
        ] {
            assert_eq!(may_decide(actor, "ada", state, expired).unwrap_err().kind, kind);
        }
    }
}
