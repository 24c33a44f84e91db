//! Sub-queries that stand for a value: DataFusion joins them to their statement only where they are an aggregate.
//!
//! **Invariant:** changes a sub-query of one column that groups nothing and names a relation outside of it; its value stays what
//! PostgreSQL gives.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, LimitClause, Query, SelectItem, SetExpr, Statement, TableFactor, Value, VisitMut, VisitorMut,
};

use super::{each_part, parsed, plain_name};
use crate::definition::folded;

/// Aggregates, which make one row of many already.
const AGGREGATES: &[&str] = &[
    "anomalies",
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "change_points",
    "combined_pvalue",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "decompose",
    "delta",
    "detect_seasonality",
    "every",
    "first",
    "first_value",
    "forecast",
    "forecast_accuracy",
    "histogram",
    "increase",
    "irate",
    "json_agg",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_object_agg",
    "last",
    "last_value",
    "max",
    "max_by",
    "mean",
    "median",
    "min",
    "min_by",
    "mode",
    "nth_value",
    "percentile_cont",
    "percentile_disc",
    "rate",
    "regr_slope",
    "resets",
    "single_value",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "time_weighted_avg",
    "var",
    "var_pop",
    "var_samp",
    "variance",
    "unnest",
    "generate_series",
];

/// Changes all of a statement's.
pub(super) fn adapt(statement: &mut Statement) {
    struct Values;
    impl VisitorMut for Values {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Subquery(query) = expr
                && looks_out(query)
            {
                one_value(query);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = VisitMut::visit(statement, &mut Values);
}

/// Whether a query names a column of a relation that is not its own.
fn looks_out(query: &mut Query) -> bool {
    #[derive(Default)]
    struct Names {
        own: Vec<String>,
        named: Vec<String>,
    }
    impl VisitorMut for Names {
        type Break = ();
        fn pre_visit_table_factor(&mut self, relation: &mut TableFactor) -> ControlFlow<()> {
            let alias = match relation {
                TableFactor::Table { alias, name, .. } => {
                    let last = name.0.last().and_then(|part| part.as_ident());
                    self.own.extend(last.filter(|_| alias.is_none()).map(folded));
                    alias
                }
                TableFactor::Derived { alias, .. } => alias,
                _ => return ControlFlow::Continue(()),
            };
            self.own.extend(alias.as_ref().map(|alias| folded(&alias.name)));
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::CompoundIdentifier(parts) = expr
                && let [.., relation, _] = parts.as_slice()
            {
                self.named.push(folded(relation));
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names::default();
    let _ = VisitMut::visit(query, &mut names);
    names.named.iter().any(|name| !names.own.contains(name))
}

fn one_value(query: &mut Query) {
    let first = match &query.limit_clause {
        None => false,
        Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by }) if limit_by.is_empty() => {
            if !is_one(limit) {
                return;
            }
            true
        }
        Some(_) => return,
    };
    let order = match (&query.order_by, first) {
        (Some(order), true) => format!(" {order}"),
        // The order of one row is none.
        _ => String::new(),
    };
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let grouped =
        !matches!(&select.group_by, GroupByExpr::Expressions(list, more) if list.is_empty() && more.is_empty());
    if grouped
        || select.distinct.is_some()
        || select.having.is_some()
        || select.from.is_empty()
        || query.fetch.is_some()
    {
        return;
    }
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
        select.projection.as_mut_slice()
    else {
        return;
    };
    if is_aggregate(item) || order.split(|c: char| !c.is_alphanumeric()).any(|word| word.parse::<u32>().is_ok()) {
        return;
    }
    let text = if first { format!("first_value({item}{order})") } else { format!("single_value({item})") };
    if let Some(changed) = parsed(&text) {
        select.projection = vec![SelectItem::UnnamedExpr(changed)];
        query.order_by = None;
        query.limit_clause = None;
    }
}

fn is_one(limit: &Expr) -> bool {
    matches!(limit, Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number == "1"))
}

/// Whether an expression holds an aggregate or a window, outside of its own sub-queries.
fn is_aggregate(item: &mut Expr) -> bool {
    let mut found = false;
    each_part(item, |part| {
        if let Expr::Function(call) = part {
            let known = || plain_name(&call.name).is_none_or(|name| AGGREGATES.contains(&name.as_str()));
            found |= call.over.is_some() || known();
        }
    });
    found
}
