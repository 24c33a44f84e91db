//! `count=exact|estimate` of a list: how many rows all of its pages have together.
//!
//! An exact count reads every row that the filters let through. An estimate takes what the engine knows of the table, where nothing
//! is filtered and the view shows its table whole; else it counts up to [`COUNTED_MAX`] rows and says so where there are more.
//!
//! **Invariant:** counts under the filters and the range of the pages, never under their cursor.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use axum::http::{HeaderName, HeaderValue};

use super::{List, single};
use crate::http::answer::{self, Job};
use crate::http::problem::Problem;
use crate::http::{Gate, identity};
use crate::v4::Pairs;
use crate::v4::filter::{Conditions, invalid};

/// The count, in every format: `<rows>;is=<exact|estimate|at_least>`.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-juno-count");
/// Rows that an estimate counts.
const COUNTED_MAX: i64 = 10_000;

/// What is to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// As many as cost little.
    Estimate,
    /// All.
    Exact,
}

/// How many rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::v4) struct Count {
    pub(super) rows: i64,
    /// `exact`, `estimate` or `at_least`.
    pub(super) is: &'static str,
}

impl Wanted {
    /// What the parameters want.
    pub(super) fn of(pairs: &Pairs) -> Result<Option<Wanted>, Problem> {
        match single(pairs, "count")? {
            None => Ok(None),
            Some("estimate") => Ok(Some(Wanted::Estimate)),
            Some("exact") => Ok(Some(Wanted::Exact)),
            Some(text) => Err(invalid("count", text, "estimate or exact")),
        }
    }
}

impl Count {
    pub(super) fn header(self) -> HeaderValue {
        let Count { rows, is } = self;
        HeaderValue::from_str(&format!("{rows};is={is}")).expect("digits and words are plain ASCII")
    }

    /// What a count of so many rows says.
    fn counted(wanted: Wanted, rows: i64) -> Count {
        match wanted {
            Wanted::Estimate if rows > COUNTED_MAX => Count { rows: COUNTED_MAX, is: "at_least" },
            Wanted::Estimate | Wanted::Exact => Count { rows, is: "exact" },
        }
    }
}

/// Counts the rows of a list.
pub(super) async fn count(
    gate: &Gate,
    list: &List<'_>,
    wanted: Wanted,
    conditions: Conditions,
) -> Result<Count, Problem> {
    let sql = statement(list.sql, wanted, &conditions.clause());
    if wanted == Wanted::Estimate
        && conditions.values.is_empty()
        && let Some(rows) = known(gate, list.sql).await?
    {
        return Ok(Count { rows, is: "estimate" });
    }
    let job = Job { sql, values: conditions.values, types: conditions.types };
    let table = answer::collect(gate, job).await?;
    let counted = table.batches.iter().find(|batch| batch.num_rows() == 1);
    let rows = counted.and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>()).map(|rows| rows.value(0));
    let missing = || Problem::new("internal-error", format!("the rows of {} cannot be counted", list.path));
    Ok(Count::counted(wanted, rows.ok_or_else(missing)?))
}

fn statement(sql: &str, wanted: Wanted, clause: &str) -> String {
    match wanted {
        Wanted::Exact => format!("SELECT count(*) FROM ({sql}{clause}) AS counted"),
        Wanted::Estimate => format!("SELECT count(*) FROM ({sql}{clause} LIMIT {}) AS counted", COUNTED_MAX + 1),
    }
}

/// What the engine knows of the rows of a view; none where it does more than show a table.
async fn known(gate: &Gate, sql: &str) -> Result<Option<i64>, Problem> {
    let doors = gate.doors()?;
    let (session, sql) = (doors.session.connect_as(identity::user()), sql.to_owned());
    let found = doors.query.spawn(async move { session.rows_estimate(&sql).await });
    let found = found.await.map_err(|error| Problem::new("internal-error", format!("a worker failed: {error}")))?;
    Ok(found?.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_exact_or_says_that_it_is_not() {
        assert_eq!(Count::counted(Wanted::Exact, 20_000), Count { rows: 20_000, is: "exact" });
        assert_eq!(Count::counted(Wanted::Estimate, 10_000), Count { rows: 10_000, is: "exact" });
        let more = Count::counted(Wanted::Estimate, 10_001);
        assert_eq!(more, Count { rows: 10_000, is: "at_least" });
        assert_eq!(more.header(), "10000;is=at_least");
    }

    #[test]
    fn an_estimate_reads_no_more_rows_than_it_may() {
        let sql = statement("SELECT * FROM v", Wanted::Estimate, " WHERE a = $1");
        assert_eq!(sql, "SELECT count(*) FROM (SELECT * FROM v WHERE a = $1 LIMIT 10001) AS counted");
        let sql = statement("SELECT * FROM v", Wanted::Exact, "");
        assert_eq!(sql, "SELECT count(*) FROM (SELECT * FROM v) AS counted");
    }
}
