//! juno's own functions and procedures as PostgreSQL's catalog tells of functions: for `\df`, and clients that list them.
//!
//! **Invariant:** a routine's number follows from its name and arguments alone.

use datafusion::common::ScalarValue;

use super::relation::oid;
use super::table::Row;

/// One function or procedure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Routine {
    pub(super) name: &'static str,
    /// As in `pg_proc`: f is a function, a an aggregate, w a window function, p a procedure.
    pub(super) kind: &'static str,
    pub(super) arguments: &'static str,
    pub(super) returns: &'static str,
}

const fn of(name: &'static str, kind: &'static str, arguments: &'static str, returns: &'static str) -> Routine {
    Routine { name, kind, arguments, returns }
}

const POINTS: &str = "value double precision, time timestamp with time zone";
const SERIES: &str = "time timestamp with time zone, value double precision";
const RELATION: &str = "relation text, value text, by text[] DEFAULT NULL, time text DEFAULT NULL";
const BUCKET: &str = "width interval, time timestamp with time zone";

/// All of them.
const ROUTINES: &[Routine] = &[
    of(
        "anomalies",
        "a",
        "time timestamp with time zone, value double precision, warm_up double precision DEFAULT 288, false_alarms double precision DEFAULT 0.1",
        "record[]",
    ),
    of(
        "anomalies",
        "f",
        "relation text, value text, by text[] DEFAULT NULL, time text DEFAULT NULL, warm_up double precision DEFAULT 288, false_alarms double precision DEFAULT 0.1",
        "SETOF record",
    ),
    of(
        "anomaly_pvalue",
        "w",
        "value double precision, time timestamp with time zone DEFAULT NULL, warm_up double precision DEFAULT 288",
        "double precision",
    ),
    of("anomaly_score", "w", "value double precision", "double precision"),
    of("approx_percentile", "a", "value double precision, percentile double precision", "double precision"),
    of(
        "change_points",
        "a",
        "time timestamp with time zone, value double precision, penalty double precision DEFAULT 6, least double precision DEFAULT 5",
        "record[]",
    ),
    of(
        "change_points",
        "f",
        "relation text, value text, by text[] DEFAULT NULL, time text DEFAULT NULL, penalty double precision DEFAULT 6, least double precision DEFAULT 5",
        "SETOF record",
    ),
    of("combined_pvalue", "a", "p double precision", "double precision"),
    of("compact", "p", "\"table\" text DEFAULT NULL", ""),
    of("decompose", "a", SERIES, "record[]"),
    of("decompose", "f", RELATION, "SETOF record"),
    of("delta", "a", POINTS, "double precision"),
    of("detect_seasonality", "a", SERIES, "record[]"),
    of("detect_seasonality", "f", RELATION, "SETOF record"),
    of(
        "diagnose",
        "f",
        "relation text, value text[], service text, metric text DEFAULT NULL, since timestamp with time zone DEFAULT NULL, until timestamp with time zone DEFAULT NULL, calls text DEFAULT NULL, symptom_service text DEFAULT NULL, symptom_metric text DEFAULT NULL, time text DEFAULT NULL",
        "SETOF record",
    ),
    of("first", "a", "value anyelement, time timestamp with time zone", "anyelement"),
    of("flush", "p", "\"table\" text DEFAULT NULL", ""),
    of(
        "forecast",
        "a",
        "time timestamp with time zone, value double precision, horizon text, level double precision DEFAULT 0.95, model text DEFAULT 'auto'",
        "record[]",
    ),
    of(
        "forecast",
        "f",
        "relation text, value text, by text[] DEFAULT NULL, horizon text DEFAULT NULL, level double precision DEFAULT 0.95, time text DEFAULT NULL, model text DEFAULT 'auto'",
        "SETOF record",
    ),
    of(
        "forecast_accuracy",
        "a",
        "time timestamp with time zone, value double precision, horizon text, level double precision DEFAULT 0.95, model text DEFAULT 'auto', origins bigint DEFAULT 5",
        "record[]",
    ),
    of(
        "forecast_accuracy",
        "f",
        "relation text, value text, by text[] DEFAULT NULL, horizon text DEFAULT NULL, level double precision DEFAULT 0.95, time text DEFAULT NULL, model text DEFAULT 'auto', origins bigint DEFAULT 5",
        "SETOF record",
    ),
    of("gen_random_uuid", "f", "", "uuid"),
    of(
        "histogram",
        "a",
        "value double precision, low double precision, high double precision, buckets integer",
        "bigint[]",
    ),
    of("increase", "a", POINTS, "double precision"),
    of("interpolate", "w", POINTS, "double precision"),
    of("irate", "a", POINTS, "double precision"),
    of("last", "a", "value anyelement, time timestamp with time zone", "anyelement"),
    of("locf", "w", "value anyelement", "anyelement"),
    of("max_by", "a", "value anyelement, by anyelement", "anyelement"),
    of("min_by", "a", "value anyelement, by anyelement", "anyelement"),
    of("rate", "a", POINTS, "double precision"),
    of("resets", "a", POINTS, "bigint"),
    of("time_bucket", "f", BUCKET, "timestamp with time zone"),
    of(
        "time_bucket",
        "f",
        "width interval, time timestamp with time zone, origin timestamp with time zone",
        "timestamp with time zone",
    ),
    of("time_bucket_gapfill", "f", BUCKET, "timestamp with time zone"),
    of(
        "time_bucket_gapfill",
        "f",
        "width interval, time timestamp with time zone, start timestamp with time zone, finish timestamp with time zone",
        "timestamp with time zone",
    ),
    of("time_weighted_avg", "a", POINTS, "double precision"),
    of(
        "width_bucket",
        "f",
        "value double precision, low double precision, high double precision, buckets integer",
        "integer",
    ),
];

impl Routine {
    fn oid(&self) -> i32 {
        oid("routine", &format!("{}({})", self.name, self.arguments))
    }
}

/// The routine of a number.
pub(super) fn by_oid(number: i64) -> Option<&'static Routine> {
    ROUTINES.iter().find(|routine| i64::from(routine.oid()) == number)
}

/// `pg_proc`: the rows that PostgreSQL's own lack.
pub(super) fn rows(namespace: i32) -> Vec<Row> {
    /// Any element, where a type has no number of its own here.
    const ANY: i32 = 2283;
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let number = |name: &str| match name {
        "double precision" => 701,
        "timestamp with time zone" => 1184,
        "uuid" => 2950,
        "bigint[]" => 1016,
        "" => 2278,
        "record[]" => 2287,
        "SETOF record" => 2249,
        _ => ANY,
    };
    let row = |routine: &Routine| {
        Row::from([
            ("oid", routine.oid().into()),
            ("proname", text(routine.name)),
            ("pronamespace", namespace.into()),
            ("proowner", 10.into()),
            ("prolang", 12.into()),
            ("prokind", text(routine.kind)),
            ("proretset", (routine.returns == "SETOF record").into()),
            ("provolatile", text("i")),
            ("proparallel", text("s")),
            ("prorettype", number(routine.returns).into()),
            ("proargtypes", text("")),
            ("prosrc", text(routine.name)),
        ])
    };
    ROUTINES.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_routines_have_one_number() {
        let numbers: std::collections::BTreeSet<i32> = ROUTINES.iter().map(Routine::oid).collect();
        assert_eq!(numbers.len(), ROUTINES.len());
    }
}
