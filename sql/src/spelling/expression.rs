//! Expressions: casts, operators and functions that the planner knows under another form.
//!
//! **Invariant:** the new expression means what PostgreSQL's documentation says of the old.

use datafusion::sql::sqlparser::ast::{
    Array, BinaryOperator, CharacterLength, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, ObjectName, Query, SelectItem, SetExpr, UnaryOperator, Value, ValueWithSpan, WindowSpec, WindowType,
};

use super::{ANY_OF, parsed, plain_name, take};
use crate::cast;
use crate::types::HIDDEN_PREFIX;

/// Changes one expression whose parts are changed already.
pub(super) fn adapt(expr: &mut Expr) {
    match expr {
        Expr::Cast { .. } => adapt_cast(expr),
        Expr::Function(call) => {
            if let Some(changed) = adapt_call(call) {
                *expr = changed;
            }
        }
        Expr::Identifier(ident)
            if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("localtimestamp") =>
        {
            replace(expr, "now()::TIMESTAMP");
        }
        Expr::Collate { expr: inner, collation } if is_plain(collation) => *expr = take(inner),
        Expr::UnaryOp { op, expr: inner } => {
            let changed = match op {
                UnaryOperator::BitwiseNot => format!("(-1 # ({inner}))"),
                UnaryOperator::PGAbs => format!("abs({inner})"),
                UnaryOperator::PGSquareRoot => format!("sqrt({inner})"),
                UnaryOperator::PGCubeRoot => format!("cbrt({inner})"),
                _ => return,
            };
            replace(expr, &changed);
        }
        Expr::BinaryOp { left, op, right } => {
            if let Some(changed) = adapt_operator(left, op, right) {
                *expr = changed;
            }
        }
        Expr::SimilarTo { negated, expr: inner, pattern, escape_char: None } => {
            if let Some(text) = literal(pattern) {
                let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
                let right = Expr::value(Value::SingleQuotedString(similar_to_regex(text)));
                *expr = Expr::BinaryOp { left: Box::new(take(inner)), op, right: Box::new(right) };
            }
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            unescape(pattern, escape_char)
        }
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } if is_parameter(right) => {
            *expr = any_of(left, right);
        }
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } if is_parameter(right) => {
            let found = Box::new(Expr::Nested(Box::new(any_of(left, right))));
            *expr = Expr::UnaryOp { op: UnaryOperator::Not, expr: found };
        }
        Expr::AnyOp { left, compare_op, right, .. } => {
            array_of_text(right);
            if let Expr::Subquery(rows) = right.as_ref() {
                let found = match compare_op {
                    BinaryOperator::Eq => format!("({left}) IN ({rows})"),
                    op => matching(left, &op.to_string(), rows),
                };
                replace(expr, &found);
            }
        }
        Expr::AllOp { left, compare_op, right } => {
            array_of_text(right);
            if let Expr::Subquery(rows) = right.as_ref() {
                let found = match compare_op {
                    BinaryOperator::NotEq => format!("({left}) NOT IN ({rows})"),
                    op => format!("NOT {}", unmatching(left, &op.to_string(), rows)),
                };
                replace(expr, &found);
            }
        }
        _ => {}
    }
}

fn is_parameter(expr: &Expr) -> bool {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => true,
        Expr::Nested(inner) => is_parameter(inner),
        _ => false,
    }
}

fn any_of(left: &mut Expr, right: &mut Expr) -> Expr {
    let op = BinaryOperator::Custom(ANY_OF.into());
    Expr::BinaryOp { left: Box::new(take(left)), op, right: Box::new(take(right)) }
}

fn replace(expr: &mut Expr, text: &str) {
    if let Some(changed) = parsed(text) {
        *expr = Expr::Nested(Box::new(changed));
    }
}

fn adapt_cast(expr: &mut Expr) {
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return };
    if matches!(&**inner, Expr::Value(value) if matches!(value.value, Value::Placeholder(_))) {
        return;
    }
    if let Some(function) = cast::function_for(data_type) {
        *expr = cast::call(function, [take(inner)]);
        return;
    }
    let is_literal = literal(inner).is_some();
    match data_type {
        DataType::Text if !is_literal => *expr = cast::call("cast_text", [take(inner)]),
        DataType::Varchar(length)
        | DataType::CharacterVarying(length)
        | DataType::CharVarying(length)
        | DataType::Char(length)
        | DataType::Character(length) => match length {
            Some(CharacterLength::IntegerLength { length, .. }) => {
                let limit = Expr::value(Value::Number(length.to_string(), false));
                *expr = cast::call("cast_text", [take(inner), limit]);
            }
            None if !is_literal => *expr = cast::call("cast_text", [take(inner)]),
            _ => {}
        },
        DataType::Array(_) => array_of_text(inner),
        _ => {}
    }
}

/// `'{a,b}'` where an array is meant.
fn array_of_text(expr: &mut Expr) {
    let Some(inside) = literal(expr).and_then(|text| text.trim().strip_prefix('{')?.strip_suffix('}')) else { return };
    if inside.contains(['"', '\\', '{']) {
        return;
    }
    let numbers = inside.split(',').all(|item| item.trim().parse::<f64>().is_ok());
    let item = |item: &str| {
        let item = item.trim();
        Expr::value(match item {
            null if null.eq_ignore_ascii_case("null") => Value::Null,
            number if numbers => Value::Number(number.to_owned(), false),
            text => Value::SingleQuotedString(text.to_owned()),
        })
    };
    let elem = if inside.trim().is_empty() { Vec::new() } else { inside.split(',').map(item).collect() };
    *expr = Expr::Array(Array { elem, named: true });
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

/// Collations that order by bytes, as juno does.
fn is_plain(collation: &ObjectName) -> bool {
    let name = collation.0.last().map(ToString::to_string).unwrap_or_default();
    ["C", "POSIX", "default", "ucs_basic"].contains(&name.trim_matches('"'))
}

fn adapt_operator(left: &mut Expr, op: &BinaryOperator, right: &mut Expr) -> Option<Expr> {
    match (left, op, right) {
        (left, BinaryOperator::PGStartsWith, right) => Some(cast::call("starts_with", [take(left), take(right)])),
        (Expr::Tuple(left), BinaryOperator::Eq | BinaryOperator::NotEq, Expr::Tuple(right))
            if left.len() == right.len() && !left.is_empty() =>
        {
            let pairs = left.iter().zip(right.iter()).map(|(left, right)| format!("({left}) = ({right})"));
            let all = pairs.collect::<Vec<_>>().join(" AND ");
            let not = if *op == BinaryOperator::NotEq { "NOT " } else { "" };
            parsed(&format!("{not}({all})")).map(|all| Expr::Nested(Box::new(all)))
        }
        _ => None,
    }
}

/// Whether a row of a sub-query stands to a value as an operator says. Null counts as no, as it does in WHERE.
fn matching(left: &Expr, op: &str, rows: &dyn std::fmt::Display) -> String {
    let column = format!("{HIDDEN_PREFIX}c");
    format!("EXISTS (SELECT 1 FROM ({rows}) AS {HIDDEN_PREFIX}s({column}) WHERE ({left}) {op} {column})")
}

fn unmatching(left: &Expr, op: &str, rows: &dyn std::fmt::Display) -> String {
    let column = format!("{HIDDEN_PREFIX}c");
    format!("EXISTS (SELECT 1 FROM ({rows}) AS {HIDDEN_PREFIX}s({column}) WHERE (({left}) {op} {column}) IS NOT TRUE)")
}

/// A pattern of SIMILAR TO as a regular expression over the whole text.
fn similar_to_regex(pattern: &str) -> String {
    let mut regex = "^(?:".to_owned();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '.' | '^' | '$' => regex.extend(['\\', c]),
            '\\' => regex.extend(std::iter::once('\\').chain(chars.next())),
            other => regex.push(other),
        }
    }
    regex + ")$"
}

/// A pattern with an escape of its own, with the backslash in its place.
fn unescape(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) {
    let Some(Value::SingleQuotedString(own)) = escape.as_ref().map(|escape| &escape.value) else { return };
    let Some(own) = own.chars().next().filter(|own| *own != '\\') else { return };
    let Some(text) = literal(pattern) else {
        // What stands for itself is put aside while the others change.
        let quoted = if own == '\'' { "''".to_owned() } else { own.to_string() };
        let text = format!(
            "replace(replace(replace(replace({pattern}, '\\', '\\\\'), '{quoted}{quoted}', chr(1)), '{quoted}', '\\'), chr(1), '{quoted}')"
        );
        if let Some(changed) = parsed(&text) {
            *pattern = changed;
            *escape = None;
        }
        return;
    };
    let (mut changed, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            c if c == own => changed.extend(std::iter::once('\\').chain(chars.next())),
            '\\' => changed.push_str("\\\\"),
            other => changed.push(other),
        }
    }
    *pattern = Expr::value(Value::SingleQuotedString(changed));
    *escape = None;
}

fn adapt_call(call: &mut Function) -> Option<Expr> {
    let name = plain_name(&call.name)?;
    match name.as_str() {
        "locf" | "interpolate" if call.over.is_none() => {
            call.over = Some(WindowType::WindowSpec(WindowSpec {
                window_name: None,
                partition_by: Vec::new(),
                order_by: Vec::new(),
                window_frame: None,
            }));
            None
        }
        "generate_subscripts" => match arguments(call)?.as_slice() {
            // Lists have one dimension.
            [list, dimension] => {
                let last = format!("CASE WHEN ({dimension}) = 1 THEN cardinality({list})::BIGINT ELSE 0 END");
                parsed(&format!("generate_series(1, {last})"))
            }
            _ => None,
        },
        "clock_timestamp" | "statement_timestamp" | "transaction_timestamp" => {
            call.name = named("now");
            None
        }
        "array" => match &mut call.args {
            // Not the sub-query itself, which ANY would take for its rows.
            FunctionArguments::Subquery(rows) => array_of_rows(rows).map(|rows| Expr::Nested(Box::new(rows))),
            _ => None,
        },
        "date_trunc" => {
            if let FunctionArguments::List(list) = &mut call.args
                && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(unit)))) = list.args.first_mut()
                && let Value::SingleQuotedString(unit) = &mut unit.value
                && unit.to_lowercase().ends_with("seconds")
            {
                unit.pop();
            }
            None
        }
        "mod" => match arguments(call)?.as_slice() {
            [a, b] => parsed(&format!("(({a}) % ({b}))")),
            _ => None,
        },
        "div" => match arguments(call)?.as_slice() {
            [a, b] => parsed(&format!("trunc(({a}) / ({b}))")),
            _ => None,
        },
        "jsonb_agg" | "json_agg" => {
            let convert = if name == "json_agg" { "to_json" } else { "to_jsonb" };
            let [value] = arguments(call)?.try_into().ok()?;
            Some(cast::call(&name, [collected(call, cast::call(convert, [value]))]))
        }
        "jsonb_object_agg" | "json_object_agg" => {
            let convert = if name == "json_object_agg" { "to_json" } else { "to_jsonb" };
            let [key, value] = arguments(call)?.try_into().ok()?;
            let keys = collected(call, cast::call("cast_text", [key]));
            Some(cast::call(&name, [keys, collected(call, cast::call(convert, [value]))]))
        }
        _ => None,
    }
}

/// `ARRAY(SELECT x FROM …)` as a sub-query that collects.
fn array_of_rows(rows: &mut Query) -> Option<Expr> {
    let order = rows.order_by.take().map_or(String::new(), |order| format!(" {order}"));
    let SetExpr::Select(select) = rows.body.as_mut() else { return None };
    let item = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] => item.clone(),
        _ => return None,
    };
    // ORDER BY 1 is by the item itself.
    let order = if order.ends_with(" 1") { format!(" ORDER BY {item}") } else { order };
    select.projection = vec![SelectItem::UnnamedExpr(parsed(&format!("array_agg({item}{order})"))?)];
    parsed(&format!("({rows})"))
}

fn named(name: &str) -> ObjectName {
    ObjectName::from(vec![Ident::new(name)])
}

/// The plain arguments of a call.
fn arguments(call: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &call.args else { return None };
    let plain = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

/// The same aggregate, with its order, filter and window, as `array_agg` of another argument.
fn collected(call: &Function, argument: Expr) -> Expr {
    let mut collected = call.clone();
    collected.name = named("array_agg");
    if let FunctionArguments::List(list) = &mut collected.args {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))];
    }
    Expr::Function(collected)
}

/// Whether there is a row, as a value: DataFusion plans EXISTS in conditions only.
pub(super) fn exists_as_value(subquery: &mut Query, negated: bool) -> Option<Expr> {
    if let SetExpr::Select(select) = subquery.body.as_mut()
        && select.projection.is_empty()
    {
        select.projection.push(SelectItem::UnnamedExpr(Expr::value(Value::Number("1".into(), false))));
    }
    let op = if negated { "=" } else { ">" };
    parsed(&format!("(SELECT count(*) {op} 0 FROM ({subquery}) AS {HIDDEN_PREFIX}e)"))
}
