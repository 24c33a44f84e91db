//! Query parameters as the arguments of an operation: numbers and truths are read, lists are split at commas, what is nested is JSON.
//!
//! **Invariant:** pure; what the operation does not declare is refused, and every fault names its parameter as `?name`.

use juno_sql::{Kind, Parameter, check};
use serde_json::{Map, Value};

use super::Pairs;
use super::filter::invalid;
use crate::http::problem::Problem;

/// The arguments that a query says.
pub(super) fn read(parameters: &[Parameter], pairs: &Pairs) -> Result<Map<String, Value>, Problem> {
    let mut arguments = Map::new();
    for (name, text) in pairs {
        let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name) else {
            let known: Vec<&str> = parameters.iter().map(|parameter| parameter.name).collect();
            return Err(Problem::unknown_parameter(name, &known));
        };
        let wrong = || invalid(name, text, &parameter.kind.wanted());
        let value = value(&parameter.kind, text).ok_or_else(wrong)?;
        let alone = [Parameter { required: false, ..*parameter }];
        check(&alone, Map::from_iter([(name.clone(), value.clone())])).map_err(|_| wrong())?;
        if arguments.insert(name.clone(), value).is_some() {
            return Err(invalid(name, text, "given once"));
        }
    }
    for parameter in parameters.iter().filter(|parameter| parameter.required) {
        if !arguments.contains_key(parameter.name) {
            let text = format!("{} is missing: it takes {}", parameter.name, parameter.kind.wanted());
            return Err(Problem::new("invalid-parameter-value", text).at(format!("?{}", parameter.name)));
        }
    }
    Ok(arguments)
}

/// A problem that points into a body, pointing to query parameters instead.
pub(super) fn named(mut problem: Problem) -> Problem {
    for fault in &mut problem.errors {
        if let Some(name) = fault.pointer.strip_prefix('/') {
            fault.pointer = format!("?{name}");
        }
    }
    problem
}

/// A text as a value of a kind; none where it is none.
fn value(kind: &Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Text | Kind::Choice(_) | Kind::Id | Kind::Time | Kind::Duration => Some(text.into()),
        Kind::Boolean => text.parse::<bool>().ok().map(Value::from),
        Kind::Integer(..) => text.parse::<i64>().ok().map(Value::from),
        Kind::Number(..) => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
        Kind::List(item, _) if !is_nested(item) => text.split(',').map(|one| value(item, one.trim())).collect(),
        Kind::List(..) | Kind::Object(_) | Kind::Map | Kind::Any => serde_json::from_str(text).ok(),
    }
}

fn is_nested(kind: &Kind) -> bool {
    matches!(kind, Kind::Object(_) | Kind::Map | Kind::List(..) | Kind::Any)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DEMAND: &[Parameter] = &[Parameter::new("metric", Kind::Text, "Which.").required()];
    const PARAMETERS: &[Parameter] = &[
        Parameter::new("service", Kind::Text, "Whose.").required(),
        Parameter::new("quantiles", Kind::List(&Kind::Number(0.0, 1.0), 3), "Which."),
        Parameter::new("demand", Kind::List(&Kind::Object(DEMAND), 2), "Of what."),
        Parameter::new("horizon", Kind::Duration, "How far."),
        Parameter::new("origins", Kind::Integer(1, 9), "How many."),
        Parameter::new("exact", Kind::Boolean, "How."),
    ];

    fn asked(pairs: &[(&str, &str)]) -> Result<Value, Problem> {
        let pairs = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        read(PARAMETERS, &pairs).map(Value::Object)
    }

    #[test]
    fn texts_become_what_the_operation_declares() {
        let found = asked(&[
            ("service", "12"),
            ("quantiles", ".5, 0.95"),
            ("demand", r#"[{"metric": "a.b"}]"#),
            ("origins", "3"),
            ("exact", "true"),
        ]);
        let expected = json!({
            "service": "12", "quantiles": [0.5, 0.95], "demand": [{"metric": "a.b"}], "origins": 3, "exact": true,
        });
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn what_is_unknown_missing_twice_or_wrong_is_refused_with_its_name() {
        let service = ("service", "shop");
        for (pairs, slug, pointer) in [
            (vec![service, ("x", "1")], "unknown-parameter", "?x"),
            (vec![("horizon", "1h")], "invalid-parameter-value", "?service"),
            (vec![service, service], "invalid-parameter-value", "?service"),
            (vec![service, ("horizon", "soon")], "invalid-parameter-value", "?horizon"),
            (vec![service, ("quantiles", "0.5,2")], "invalid-parameter-value", "?quantiles"),
            (vec![service, ("quantiles", "0.5,,1")], "invalid-parameter-value", "?quantiles"),
            (vec![service, ("demand", "cpu")], "invalid-parameter-value", "?demand"),
            (vec![service, ("demand", r#"[{"x": 1}]"#)], "invalid-parameter-value", "?demand"),
            (vec![service, ("origins", "1.5")], "invalid-parameter-value", "?origins"),
            (vec![service, ("exact", "yes")], "invalid-parameter-value", "?exact"),
        ] {
            let problem = asked(&pairs).unwrap_err();
            assert_eq!(
                (problem.kind.as_str(), problem.status),
                (format!("/problems/{slug}").as_str(), 400),
                "{pairs:?}"
            );
            assert_eq!(problem.errors[0].pointer, pointer, "{pairs:?}");
        }
    }

    #[test]
    fn what_the_operation_refuses_points_to_the_query() {
        let problem = named(Problem::new("not-found", "x").at("/service").at("?step"));
        let pointers: Vec<&str> = problem.errors.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["?service", "?step"]);
    }
}
