//! Rules of the house: guard rails that an operator writes in Rego and gives at the start.
//!
//! A file is of the package `juno` and says in `deny` and `ask` why something may not be done, or not without another person's
//! consent. It is given what is asked for as `input`: `operation`, `actor`, `role`, `arguments`, `plan`, `approved_by`, and `at`
//! with `weekday` and `hour` (UTC). Nothing that juno does while it runs changes them, adaptive governance least of all.
//!
//! **Invariant:** rules only narrow what juno's own guards allow; what cannot be evaluated denies.

use std::num::NonZeroU32;
use std::time::Duration;

use regorus::Engine;
use regorus::utils::limits::ExecutionTimerConfig;
use serde_json::{Value, json};

/// The package of a file of rules.
const PACKAGE: &str = "data.juno";
/// The rules that are asked.
const RULES: [&str; 2] = ["deny", "ask"];
/// How long an evaluation may take, and after how many steps that is looked at.
const LIMIT: Duration = Duration::from_secs(1);
const STEPS: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);

/// Rules that were read.
#[derive(Debug, Clone)]
pub struct HouseRules {
    engine: Engine,
    /// Which of [`RULES`] there are.
    rules: [bool; 2],
    text: String,
}

impl PartialEq for HouseRules {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What rules say: the reasons of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruling {
    pub(crate) deny: Vec<String>,
    pub(crate) ask: Vec<String>,
}

impl HouseRules {
    /// Reads a file of rules; `name` is how errors name it.
    ///
    /// # Errors
    /// Where it is no Rego, is of another package, or has neither `deny` nor `ask`.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut engine = Engine::new();
        engine.set_strict_builtin_errors(true);
        engine.set_execution_timer_config(ExecutionTimerConfig { limit: LIMIT, check_interval: STEPS });
        let package = engine.add_policy(name.to_owned(), text.to_owned()).map_err(|error| error.to_string())?;
        if package != PACKAGE {
            return Err(format!("{name} is of {package}: begin it with package juno"));
        }
        let declared = |rule: &str| engine.has_declared_rule_rooted_at(name, rule).map_err(|error| error.to_string());
        let rules = [declared(RULES[0])?, declared(RULES[1])?];
        if rules == [false, false] {
            return Err(format!(
                "{name} has no reasons: write deny contains \"why\" if {{ … }}, or ask in place of deny"
            ));
        }
        let rules = Self { engine, rules, text: text.to_owned() };
        rules.judge(&json!({})).map(|_| rules)
    }

    /// What they say of what is asked for.
    ///
    /// # Errors
    /// Where they cannot be evaluated, or say something else than reasons.
    pub(crate) fn judge(&self, input: &Value) -> Result<Ruling, String> {
        let input = regorus::Value::from(input.clone());
        let say = |rule: usize| if self.rules[rule] { self.reasons(RULES[rule], &input) } else { Ok(Vec::new()) };
        Ok(Ruling { deny: say(0)?, ask: say(1)? })
    }

    /// The reasons of one rule.
    fn reasons(&self, rule: &str, input: &regorus::Value) -> Result<Vec<String>, String> {
        let mut engine = self.engine.clone();
        engine.set_input(input.clone());
        let said = engine.eval_rule(format!("{PACKAGE}.{rule}")).map_err(|error| error.to_string())?;
        let wrong = || format!("{rule} must be a set of texts, as in {rule} contains \"why\" if {{ … }}");
        match said {
            regorus::Value::Undefined => Ok(Vec::new()),
            regorus::Value::Set(all) => {
                all.iter().map(|one| one.as_string().map(|text| text.to_string()).map_err(|_| wrong())).collect()
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES_OF_A_SHOP: &str = r#"
        package juno

        deny contains "nobody restarts payments" if {
            input.operation == "healing_remediate"
            input.arguments.target.name == "payments"
            input.arguments.action in {"restart", "stop"}
        }

        ask contains sprintf("%v units are many", [input.arguments.to]) if {
            input.operation == "scaling_execute"
            input.arguments.to > 50
        }

        ask contains "policies are changed by day" if {
            startswith(input.operation, "governance_")
            not input.hour in numbers.range(8, 17)
        }
    "#;

    fn said(input: &Value) -> ([usize; 2], String) {
        let ruling = HouseRules::parse("shop.rego", RULES_OF_A_SHOP).unwrap().judge(input).unwrap();
        ([ruling.deny.len(), ruling.ask.len()], [ruling.deny, ruling.ask].concat().join("; "))
    }

    #[test]
    fn rules_deny_and_ask_with_their_reasons() {
        let restart = json!({"operation": "healing_remediate", "arguments": {"action": "restart", "target": {"name": "payments"}}});
        assert_eq!(said(&restart), ([1, 0], "nobody restarts payments".into()));
        let other =
            json!({"operation": "healing_remediate", "arguments": {"action": "restart", "target": {"name": "shop"}}});
        assert_eq!(said(&other).0, [0, 0]);
        let scale = json!({"operation": "scaling_execute", "arguments": {"to": 51}});
        assert_eq!(said(&scale), ([0, 1], "51 units are many".into()));
        let night = json!({"operation": "governance_propose", "hour": 3});
        assert_eq!(said(&night), ([0, 1], "policies are changed by day".into()));
        assert_eq!(said(&json!({"operation": "governance_propose", "hour": 9})).0, [0, 0]);
    }

    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        for (text, told) in [
            ("package juno\ndeny contains", "bad.rego"),
            ("package other\ndeny contains \"no\" if { true }", "package juno"),
            ("package juno\nallow := true", "no reasons"),
            ("package juno\ndeny := true", "set of texts"),
            ("package juno\ndeny contains 7 if { true }", "set of texts"),
        ] {
            let error = HouseRules::parse("bad.rego", text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_an_error() {
        let rules = "package juno\ndeny contains \"no\" if { to_number(input.operation) > 1 }";
        let rules = HouseRules::parse("odd.rego", rules).unwrap();
        assert!(rules.judge(&json!({"operation": "no number"})).is_err());
        let endless = "package juno\ndeny contains \"no\" if { some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a * b == input.never }";
        let endless = HouseRules::parse("slow.rego", endless);
        assert!(endless.is_err(), "it is given up");
    }
}
