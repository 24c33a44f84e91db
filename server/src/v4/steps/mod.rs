//! Rows of a view by steps of time, with a summary of all of them: `from`, `to`, `step`, and the endpoint's filters. As Arrow,
//! Parquet, CSV and NDJSON the rows of the steps alone.
//!
//! **Invariant:** the SQL is the program's own; what a client sends is bound, but for the step, which was read as a number.

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::Pairs;
use super::filter::{Conditions, Filter, invalid, only_known};
use super::page::single;
use super::range::{self, Range};
use crate::http::Gate;
use crate::http::accept::{Format, negotiate};
use crate::http::answer::encode::Encoder;
use crate::http::answer::{self, Job, Table};
use crate::http::problem::Problem;
use crate::json::{self, RowShape};

/// Steps of one answer.
const STEPS_MAX: i64 = 11_000;
/// Steps of an answer as Arrow, whose readers take more.
const ARROW_STEPS_MAX: i64 = 500_000;
/// The parameters that every such endpoint takes.
pub(super) const PARAMETERS: &[&str] = &["from", "to", "step"];
const STEP_DEFAULT: &str = "1h";
/// The same in microseconds.
pub(super) const STEP_DEFAULT_US: i64 = 3_600_000_000;

/// What is selected from the rows of a view: `{rows}` stands for them, `{step}` for the step.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// The time column that from and to bound.
    pub time: &'static str,
    /// One row a step.
    pub series: &'static str,
    /// One row.
    pub summary: &'static str,
    /// The parameters beside from, to and step.
    pub filters: &'static [Filter],
}

/// How learned policies do, step by step.
pub(super) const RL_SERIES: &str = include_str!("rl_series.sql");
/// How they do over all days: means of days, as neighbouring decisions are alike; the interval is that of the difference of two
/// means of days. They have converged in the hour from which on the mean reward so far stayed within 5 % of that of all hours, once
/// that has lasted for a day; what became active has adapted when it took its first decision.
pub(super) const RL_SUMMARY: &str = include_str!("rl_summary.sql");

/// Statements of one request.
struct Asked {
    step: String,
    series: Job,
    summary: Job,
}

/// The handler.
pub(super) async fn steps(
    gate: &Gate,
    (sql, steps): (&str, &Steps),
    pairs: &Pairs,
    headers: &HeaderMap,
    now_us: i64,
) -> Result<Response, Problem> {
    let format = negotiate(headers, Format::ROWS)?;
    let asked = read(sql, steps, pairs, now_us, format)?;
    if format != Format::Json {
        return encoded(gate, asked.series, format).await;
    }
    let series = rows(gate, asked.series).await?;
    let summary = rows(gate, asked.summary).await?;
    let summary = if summary.is_empty() { "null" } else { &summary };
    let mut body = String::from("{\"step\":");
    json::string(&asked.step, &mut body);
    body.push_str(&format!(",\"series\":[{series}],\"summary\":{summary}}}\n"));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The rows of the steps in a format for rows.
async fn encoded(gate: &Gate, series: Job, format: Format) -> Result<Response, Problem> {
    let Table { schema, batches } = answer::collect(gate, series).await?;
    answer::blocking(move || {
        let mut encoder = Encoder::new(format, schema)?;
        for batch in &batches {
            encoder.batch(batch)?;
        }
        Ok(([(header::CONTENT_TYPE, format.content_type())], encoder.finish("SELECT")?).into_response())
    })
    .await
}

async fn rows(gate: &Gate, job: Job) -> Result<String, Problem> {
    let table = answer::collect(gate, job).await?;
    let (mut out, mut first) = (String::new(), true);
    for batch in &table.batches {
        json::rows(&table.schema, batch, RowShape::Object, (",", &mut first, ""), &mut out)
            .map_err(juno_sql::Error::from)?;
    }
    Ok(out)
}

fn read(sql: &str, steps: &Steps, pairs: &Pairs, now_us: i64, format: Format) -> Result<Asked, Problem> {
    only_known(pairs, steps.filters, PARAMETERS)?;
    let range = Range::read(single(pairs, "from")?, single(pairs, "to")?, true, now_us)?;
    let step = single(pairs, "step")?.unwrap_or(STEP_DEFAULT);
    let step_us = range::step(step).ok_or_else(|| invalid("step", step, "a step such as 15m, 1h or 1d"))?;
    let span_us = range.to_us.unwrap_or(now_us).saturating_sub(range.from_us.unwrap_or(now_us));
    let most = if format == Format::Arrow { ARROW_STEPS_MAX } else { STEPS_MAX };
    if span_us / step_us > most {
        let text = format!("{} steps are more than {most}", span_us / step_us);
        return Err(Problem::new("range-too-large", text).at("?step"));
    }
    let mut conditions = Conditions::default();
    conditions.within(steps.time, range);
    conditions.filters(steps.filters, pairs, now_us)?;
    let rows = format!("({sql}{})", conditions.clause());
    let job = |template: &str| Job {
        sql: filled(template, &rows, step_us),
        values: conditions.values.clone(),
        types: conditions.types.clone(),
    };
    Ok(Asked { step: step.to_owned(), series: job(steps.series), summary: job(steps.summary) })
}

/// A statement with its rows and its step in place.
pub(super) fn filled(template: &str, rows: &str, step_us: i64) -> String {
    template.replace("{rows}", rows).replace("{step}", &format!("{} milliseconds", step_us / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v4::filter::Kind;

    const NOW_US: i64 = 1_700_000_000_000_000;
    const STEPS: Steps = Steps {
        time: "at",
        series: "SELECT time_bucket(INTERVAL '{step}', at) FROM {rows} AS d",
        summary: "SELECT count(*) FROM {rows} AS d",
        filters: &[Filter::new("policy", "policy = {}", Kind::Text)],
    };

    fn asked_as(format: Format, query: &[(&str, &str)]) -> Result<Asked, Problem> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read("SELECT * FROM v", &STEPS, &pairs, NOW_US, format)
    }

    fn asked(query: &[(&str, &str)]) -> Result<Asked, Problem> {
        asked_as(Format::Json, query)
    }

    #[test]
    fn as_arrow_an_answer_may_have_more_steps() {
        let refused = |format, step| asked_as(format, &[("step", step)]).err().map(|problem| problem.status);
        assert_eq!((refused(Format::Csv, "1s"), refused(Format::Arrow, "1s")), (Some(422), None));
        assert_eq!(refused(Format::Arrow, "100ms"), Some(422));
    }

    #[test]
    fn steps_and_conditions_stand_in_both_statements() {
        let asked = asked(&[("policy", "x'; --"), ("step", "15m")]).unwrap();
        let rows = "(SELECT * FROM v WHERE at >= $1 AND (policy = $2))";
        assert_eq!(
            asked.series.sql,
            format!("SELECT time_bucket(INTERVAL '900000 milliseconds', at) FROM {rows} AS d")
        );
        assert_eq!(asked.summary.sql, format!("SELECT count(*) FROM {rows} AS d"));
        assert_eq!(asked.summary.values[1], "x'; --");
    }

    #[test]
    fn the_usual_step_is_as_long_as_it_says() {
        assert_eq!(range::step(STEP_DEFAULT), Some(STEP_DEFAULT_US));
    }

    #[test]
    fn what_is_not_known_or_too_fine_is_refused() {
        for (query, status) in [
            (("colour", "red"), 400),
            (("step", "soon"), 400),
            (("from", "x"), 400),
            (("step", "1s"), 422),
            (("from", "now-401d"), 422),
        ] {
            assert_eq!(asked(&[query]).err().map(|problem| problem.status), Some(status), "{query:?}");
        }
    }
}
