//! Totals over the rows of a history: what `summary=true` answers in the place of a page.
//!
//! **Invariant:** the SQL is the program's own, and what a client sends is bound; the rows are those that the pages would show.

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use juno_sql::rfc3339;

use super::Pairs;
use super::filter::{Conditions, invalid, only_known};
use super::page::{self, List, single};
use super::range::Range;
use crate::http::Gate;
use crate::http::accept::{Format, negotiate};
use crate::http::answer::{self, Job, Table};
use crate::http::problem::Problem;
use crate::json::{self, RowShape};

/// The parameter that asks for it.
pub(super) const PARAMETER: &str = "summary";

/// What is selected from the rows of a view, which `{rows}` stands for: counts of threats, and how many of those labelled were right.
pub(super) const THREATS: &str = include_str!("threats.sql");
/// Counts of changes of units, and what they brought.
pub(super) const SCALING: &str = include_str!("scaling.sql");

/// A page, or the totals.
pub(super) async fn history(
    gate: &Gate,
    (list, summary): (&List<'_>, &str),
    mut pairs: Pairs,
    headers: &HeaderMap,
    now_us: i64,
) -> Result<Response, Problem> {
    let is_wanted = match single(&pairs, PARAMETER)? {
        None | Some("false") => false,
        Some("true") => true,
        Some(text) => return Err(invalid(PARAMETER, text, "true or false")),
    };
    pairs.retain(|(name, _)| name != PARAMETER);
    if !is_wanted {
        return page::page(gate, list, pairs, headers, now_us).await;
    }
    negotiate(headers, &[Format::Json])?;
    let (job, range) = read((list, summary), &pairs, now_us)?;
    let Table { schema, batches } = answer::collect(gate, job).await?;
    let mut body = String::from("{");
    for (name, end_us) in [("from", range.from_us), ("to", Some(range.to_us.unwrap_or(now_us)))] {
        json::string(name, &mut body);
        body.push(':');
        match end_us {
            Some(us) => json::string(&rfc3339(us), &mut body),
            None => body.push_str("null"),
        }
        body.push(',');
    }
    body.push_str("\"summary\":");
    let mut first = true;
    for batch in &batches {
        json::rows(&schema, batch, RowShape::Object, (",", &mut first, ""), &mut body)
            .map_err(juno_sql::Error::from)?;
    }
    body.push_str("}\n");
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Turns the parameters into the statement of the totals.
fn read((list, summary): (&List<'_>, &str), pairs: &Pairs, now_us: i64) -> Result<(Job, Range), Problem> {
    only_known(pairs, list.filters, &["from", "to", PARAMETER])?;
    let range = Range::read(single(pairs, "from")?, single(pairs, "to")?, list.last_day, now_us)?;
    let mut conditions = Conditions::default();
    conditions.within(list.time, range);
    conditions.filters(list.filters, pairs, now_us)?;
    let sql = summary.replace("{rows}", &format!("({}{})", list.sql, conditions.clause()));
    Ok((Job { sql, values: conditions.values, types: conditions.types }, range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v4::filter::{Filter, Kind};

    const NOW_US: i64 = 1_700_000_000_000_000;
    const FILTERS: &[Filter] = &[Filter::new("severity", "severity = {}", Kind::Text)];

    fn asked(query: &[(&str, &str)]) -> Result<(Job, Range), Problem> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let list = List { path: "/h", sql: "SELECT * FROM h", time: "at", last_day: true, filters: FILTERS };
        read((&list, "SELECT count(*) FROM {rows} AS a CROSS JOIN {rows} AS b"), &pairs, NOW_US)
    }

    #[test]
    fn the_rows_of_a_summary_are_those_of_the_pages() {
        let (job, range) = asked(&[("severity", "x'; --"), ("to", "now")]).unwrap();
        let rows = "(SELECT * FROM h WHERE at >= $1 AND at < $2 AND (severity = $3))";
        assert_eq!(job.sql, format!("SELECT count(*) FROM {rows} AS a CROSS JOIN {rows} AS b"));
        assert_eq!((job.values[2].as_str(), job.types.len()), (Some("x'; --"), 3));
        assert_eq!(range.to_us, Some(NOW_US));
    }

    #[test]
    fn what_belongs_to_pages_or_is_not_known_is_refused() {
        for (name, value, status) in [
            ("limit", "10", 400),
            ("cursor", "d1", 400),
            ("order", "asc", 400),
            ("colour", "red", 400),
            ("from", "now-401d", 422),
        ] {
            assert_eq!(asked(&[(name, value)]).err().map(|problem| problem.status), Some(status), "{name}");
        }
    }
}
