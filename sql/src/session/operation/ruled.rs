//! The rules of the house at a request: what acts on other systems, and what changes the policies that guards read.
//!
//! **Invariant:** a decision only becomes stricter here; rules that cannot be evaluated deny.

use chrono::{Datelike, Timelike};
use serde_json::{Value, json};

use super::Invocation;
use crate::Result;
use crate::operation::{Decision, Effect, Refusal, Refused};

/// Changes that rules are asked about as they are about what acts. What makes things safer is not among them.
const CHANGES: [&str; 2] = ["governance_propose", "rl_policies_promote"];
/// Is asked about too where its plan says that it makes a policy looser.
const BACK: &str = "governance_rollback";

impl Invocation {
    /// The decision with what the rules of the house say of it.
    pub(super) fn ruled(&self, decision: Option<Decision>) -> Result<Option<Decision>> {
        let name = self.operation.name;
        let is_looser = || decision.as_ref().is_some_and(|decision| decision.plan["looser"] == true);
        let asks = self.operation.effect == Effect::Acts || CHANGES.contains(&name) || (name == BACK && is_looser());
        let Some(rules) = self.settings.rules.as_ref().filter(|_| asks) else { return Ok(decision) };
        let plan = decision.as_ref().map(|decision| decision.plan.clone());
        let ruling = rules.judge(&self.input(plan)).map_err(|error| {
            Refusal::new(Refused::PolicyDenied, format!("the rules of JUNO_GUARD_RAILS cannot be evaluated: {error}"))
        })?;
        if !ruling.deny.is_empty() {
            let text = format!("the rules of JUNO_GUARD_RAILS deny it: {}", ruling.deny.join("; "));
            return Err(Refusal::new(Refused::PolicyDenied, text).into());
        }
        if ruling.ask.is_empty() || self.approved_by.is_some() {
            return Ok(decision);
        }
        let Decision { plan, approval } = decision.unwrap_or(Decision { plan: Value::Null, approval: None });
        let reasons: Vec<String> = approval.into_iter().chain(ruling.ask).collect();
        Ok(Some(Decision { plan, approval: Some(reasons.join("; ")) }))
    }

    /// What rules are given.
    fn input(&self, plan: Option<Value>) -> Value {
        let user = self.session.user();
        let at = chrono::DateTime::from_timestamp_micros(self.now_us()).unwrap_or(chrono::DateTime::UNIX_EPOCH);
        json!({
            "operation": self.operation.name,
            "actor": user.name,
            "role": user.role.map(|role| role.to_string()),
            "arguments": self.arguments,
            "plan": plan,
            "approved_by": self.approved_by,
            "at": self.now(),
            "weekday": at.weekday().to_string(),
            "hour": at.hour(),
        })
    }
}
