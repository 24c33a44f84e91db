//! Answers from blocks and newest rows against answers from rows, through whole sessions.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use juno_engine::Db;
use juno_kernels::Device;

use crate::Session;

async fn session() -> (tempfile::TempDir, Session) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(directory.path()).expect("an empty database");
    let session = Session::open(db, Device::cpu()).await.expect("migrations");
    run(&session, "CREATE TABLE cpu (time TIMESTAMPTZ, host TEXT, region TEXT, usage DOUBLE PRECISION, n BIGINT)")
        .await;
    (directory, session)
}

async fn run(session: &Session, sql: &str) -> Vec<RecordBatch> {
    session.collect(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Rows every minute of some hosts, from a minute on.
fn rows(hosts: usize, from: usize, minutes: usize, seed: usize) -> String {
    format!(
        "INSERT INTO cpu SELECT to_timestamp(1767225600 + 60 * (m + {from})), 'h' || (h / 2), \
         CASE WHEN h % 3 > 0 THEN 'r' || (h % 2) END, \
         CASE WHEN m % 7 > 0 THEN ((m * 7919 + h * 31 + {seed}) % 1000) / 10.0 END, m * 3 - {seed} + h \
         FROM generate_series(0, {minutes} - 1) AS a (m) CROSS JOIN generate_series(0, {hosts} - 1) AS b (h)"
    )
}

/// Every value as text, doubles rounded so that the order of a sum does not matter; rows sorted.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        let texts = |column: &arrow::array::ArrayRef| -> Vec<String> {
            let text = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
            match column.data_type() {
                DataType::Float64 => {
                    let values = column.as_primitive::<Float64Type>().iter();
                    values.map(|value| text(value.map(|value| format!("{value:.9e}")))).collect()
                }
                _ => {
                    let values = cast(column, &DataType::Utf8).expect("text");
                    values.as_string::<i32>().iter().map(|value| text(value.map(str::to_owned))).collect()
                }
            }
        };
        let columns: Vec<Vec<String>> = batch.columns().iter().map(texts).collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join("|"));
        }
    }
    lines.sort();
    lines
}

/// The newest rows of groups in more forms; of rows with one time in one group none that could be another.
const NEWEST: &[&str] = &[
    "SELECT DISTINCT ON (host) host, time FROM cpu ORDER BY host DESC, time DESC",
    "SELECT DISTINCT ON (region, host) n + 1, usage AS u, region FROM cpu AS c ORDER BY c.region, host, time DESC",
    "SELECT DISTINCT ON (host) time FROM cpu WHERE region = 'r1' ORDER BY host, time DESC",
    "SELECT DISTINCT ON (host, region) * FROM cpu WHERE usage > 50 ORDER BY host, region, time DESC",
    "SELECT DISTINCT ON (host, region) * FROM cpu ORDER BY host, region, time",
    "SELECT DISTINCT ON (host) host, n FROM cpu ORDER BY host, n DESC",
    "SELECT DISTINCT ON (host) host, region, n FROM cpu ORDER BY host, time DESC, region, n",
    "SELECT host, n FROM (SELECT DISTINCT ON (host, region) * FROM cpu ORDER BY host, region, time DESC) AS d WHERE usage > 50",
    "SELECT count(*), max(time) FROM (SELECT DISTINCT ON (host) host, time FROM cpu ORDER BY host, time DESC) AS d",
    "SELECT m.t, c.usage, m.h, m.r FROM (SELECT max(time) AS t, host AS h, region AS r FROM cpu GROUP BY host, region) AS m \
     JOIN cpu AS c ON m.t = c.time AND c.host = m.h AND c.region = m.r",
    "SELECT count(*), min(n) FROM cpu JOIN (SELECT host, max(time) AS time FROM cpu GROUP BY host) AS m USING (host, time)",
    "SELECT c.*, m.* FROM cpu AS c JOIN (SELECT region AS r, max(time) AS t FROM cpu GROUP BY region) AS m \
     ON c.region = m.r AND c.time = m.t",
    "SELECT c.n FROM cpu AS c JOIN (SELECT host AS h, max(time) AS t FROM cpu GROUP BY host) AS m \
     ON c.host = m.h AND c.time = m.t AND c.usage > 5",
    "SELECT c.n FROM cpu AS c JOIN (SELECT host AS h, max(time) AS t FROM cpu GROUP BY host) AS m ON c.time = m.t",
    "SELECT c.n FROM cpu AS c LEFT JOIN (SELECT host AS h, max(time) AS t FROM cpu GROUP BY host) AS m \
     ON c.host = m.h AND c.time = m.t",
    "SELECT c.n FROM cpu AS c JOIN (SELECT host AS h, max(n) AS t FROM cpu GROUP BY host) AS m ON c.host = m.h AND c.n = m.t",
];

const BUCKETS: &[&str] = &[
    "time_bucket('1 hour', time)",
    "time_bucket('3 hours', time)",
    "time_bucket('90 minutes', time)",
    "time_bucket('10 minutes', time)",
    "time_bucket('1 month', time)",
    "date_bin(INTERVAL '2 hours', time, TIMESTAMP '1970-01-01 00:30:00')",
    "date_bin(INTERVAL '1 day', time)",
    "date_trunc('day', time)",
];

const MEASURES: &str = "count(*), count(usage), sum(usage), avg(usage), min(usage), max(usage), sum(n), avg(n), min(n), max(n), \
                        min(time), max(time)";

/// Only where a group is one series: of equal times any row may win.
const EDGES: &str = "first(usage, time), last(usage, time), last(n, time)";

const FILTERS: &[&str] = &[
    "",
    "WHERE time >= '2026-01-01 05:17:03' AND time < '2026-01-02 11:00:00'",
    "WHERE time > '2026-01-01 05:59:00' AND time <= '2026-01-01 23:00:00' AND host = 'h1'",
    "WHERE host IN ('h0', 'h2') AND region IS NOT NULL",
    "WHERE time < '2026-01-01 12:00:00' AND region LIKE 'r%'",
    "WHERE usage > 50",
];

fn queries() -> Vec<String> {
    let mut queries = Vec::new();
    for (place, filter) in FILTERS.iter().enumerate() {
        // Each filter with some of the buckets, each bucket with some of the filters.
        for bucket in BUCKETS.iter().skip(place % 3).step_by(3) {
            queries.push(format!("SELECT {bucket} AS b, host, {MEASURES} FROM cpu {filter} GROUP BY b, host"));
            queries.push(format!(
                "SELECT {bucket} AS b, host, region, {EDGES} FROM cpu {filter} GROUP BY b, host, region"
            ));
            queries.push(format!("SELECT {bucket} AS b, avg(usage) FROM cpu {filter} GROUP BY b"));
        }
        queries.push(format!("SELECT {MEASURES} FROM cpu {filter}"));
        queries.push(format!("SELECT region, {MEASURES} FROM cpu {filter} GROUP BY region"));
        queries.push(format!("SELECT avg(usage * 2), max(usage) FROM cpu {filter}"));
        queries.push(format!("SELECT host, count(DISTINCT n), max(usage) FROM cpu {filter} GROUP BY host"));
        queries.push(format!("SELECT host, max(usage) FILTER (WHERE n > 9) FROM cpu {filter} GROUP BY host"));
        queries.push(format!("SELECT DISTINCT ON (host, region) * FROM cpu {filter} ORDER BY host, region, time DESC"));
        queries
            .push(format!("SELECT host, region, last(usage, time), max(time) FROM cpu {filter} GROUP BY host, region"));
        queries.push(format!("SELECT DISTINCT host, region FROM cpu {filter}"));
        queries.push(format!("SELECT host, max(time), min(time) FROM cpu {filter} GROUP BY host"));
        queries.push(format!(
            "SELECT c.* FROM (SELECT * FROM cpu {filter}) c JOIN (SELECT host AS h, max(time) AS t FROM cpu {filter} GROUP BY host) m \
             ON c.host = m.h AND c.time = m.t"
        ));
    }
    queries.extend(NEWEST.iter().map(|&query| query.to_owned()));
    queries.push(
        "SELECT count(*) FROM (SELECT time_bucket('1 hour', time) AS b, host FROM cpu GROUP BY b, host) AS g".into(),
    );
    queries.push(
        "SELECT cpu.* FROM cpu JOIN (SELECT host AS h, max(time) AS t FROM cpu WHERE region = 'r1' GROUP BY host) m \
         ON cpu.host = m.h AND cpu.time = m.t"
            .into(),
    );
    queries
}

async fn compare(session: &Session) {
    for query in queries() {
        run(session, "SET juno.aggregates = off").await;
        let expected = texts(&run(session, &query).await);
        run(session, "SET juno.aggregates = on").await;
        assert_eq!(texts(&run(session, &query).await), expected, "{query}");
    }
}

#[tokio::test]
async fn answers_are_those_of_the_rows_with_late_rows_deletes_nulls_parts_and_memtables() {
    let (_directory, session) = session().await;
    compare(&session).await;
    run(&session, "CREATE ROLLUP fine ON cpu EVERY '10 minutes'").await;
    run(&session, "CREATE ROLLUP some ON cpu (n) EVERY '5 minutes'").await;
    let steps: &[&str] = &[
        &rows(6, 0, 1440, 1),
        "CALL flush(table => 'cpu')",
        &rows(6, 1440, 1000, 2),
        &rows(2, 700, 3, 5),
        "CALL flush(table => 'cpu')",
        &rows(4, 2440, 20, 7),
        "DELETE FROM cpu WHERE host = 'h1' AND time > '2026-01-02 15:00:00'",
        "CALL flush(table => 'cpu')",
        &rows(5, 100, 2, 9),
    ];
    for (place, step) in steps.iter().enumerate() {
        run(&session, step).await;
        if [1, 4, 8].contains(&place) {
            compare(&session).await;
        }
    }
}

/// Numbers that look random and are the same for a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }
}

/// Something that changes the table, its parts or its rollups.
fn step(dice: &mut Dice) -> String {
    let (hosts, from, seed) = (1 + dice.roll(5), dice.roll(1500), dice.roll(1000));
    match dice.roll(9) {
        0 | 1 => rows(hosts, from, 1 + dice.roll(9), seed),
        2 => rows(hosts, from, 200 + dice.roll(200), seed),
        3 => {
            let (host, value) = (dice.roll(3), dice.roll(100));
            format!("DELETE FROM cpu WHERE host = 'h{host}' AND usage > {value} AND n % 7 = 0")
        }
        4 => format!("UPDATE cpu SET usage = NULL WHERE n % 100 = {}", dice.roll(100)),
        5 | 6 => "CALL flush(table => 'cpu')".into(),
        7 => "CALL compact(table => 'cpu')".into(),
        _ => {
            let every = dice.of(&["1 minute", "5 minutes", "10 minutes", "30 minutes", "1 hour", "4 hours"]);
            let columns = dice.of(&["", "(n)", "(usage)", "(usage, n)"]);
            let name = dice.of(&["r1", "r2", "r3"]);
            match dice.roll(4) {
                0 => format!("DROP ROLLUP IF EXISTS {name}"),
                _ => format!("CREATE ROLLUP IF NOT EXISTS {name} ON cpu {columns} EVERY '{every}'"),
            }
        }
    }
}

/// An aggregate over a random window.
fn question(dice: &mut Dice) -> String {
    let bucket = match dice.roll(6) {
        0 => "time_bucket('1 minute', time)",
        1 => "time_bucket('15 minutes', time)",
        2 => "date_bin(INTERVAL '20 minutes', time, TIMESTAMP '1970-01-01 00:10:00')",
        _ => dice.of(BUCKETS),
    };
    let window = match dice.roll(3) {
        0 => String::new(),
        _ => {
            let (from, width) = (dice.roll(100_000), dice.roll(100_000));
            let tag = dice.of(&["", " AND host = 'h1'", " AND region IS NULL"]);
            let from = 1_767_225_600 + from;
            format!("WHERE time >= to_timestamp({from}) AND time < to_timestamp({from} + {width}){tag}")
        }
    };
    match dice.roll(4) {
        0 => format!("SELECT {MEASURES} FROM cpu {window}"),
        1 => format!("SELECT {bucket} AS b, sum(n), max(n) FROM cpu {window} GROUP BY b"),
        2 => format!("SELECT {bucket} AS b, host, region, {EDGES} FROM cpu {window} GROUP BY b, host, region"),
        _ => format!("SELECT {bucket} AS b, host, {MEASURES} FROM cpu {window} GROUP BY b, host"),
    }
}

#[tokio::test]
async fn answers_are_those_of_the_rows_whatever_came_before() {
    for seed in 0..3 {
        let (_directory, session) = session().await;
        let mut dice = Dice(seed);
        let mut done = Vec::new();
        for _ in 0..3 {
            for _ in 0..4 {
                let step = step(&mut dice);
                run(&session, &step).await;
                done.push(step);
            }
            for _ in 0..3 {
                let query = question(&mut dice);
                run(&session, "SET juno.aggregates = off").await;
                let expected = texts(&run(&session, &query).await);
                run(&session, "SET juno.aggregates = on").await;
                assert_eq!(texts(&run(&session, &query).await), expected, "seed {seed}: {query} after {done:#?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_number_is_the_greatest_beside_blocks_too() {
    let (_directory, session) = session().await;
    run(&session, &rows(4, 0, 600, 1)).await;
    run(&session, "CALL flush(table => 'cpu')").await;
    run(&session, "INSERT INTO cpu (time, host, usage) VALUES ('2026-01-01 03:10:00', 'h1', 'NaN')").await;
    for by in ["date_trunc('day', time)", "date_bin(INTERVAL '1 day', time)", "time_bucket('5 hours', time)"] {
        let query = format!(
            "SELECT {by} AS b, host, max(usage), min(usage), sum(usage), count(usage) FROM cpu GROUP BY b, host"
        );
        run(&session, "SET juno.aggregates = off").await;
        let expected = texts(&run(&session, &query).await);
        assert!(expected.iter().any(|line| line.contains("NaN")), "{expected:?}");
        run(&session, "SET juno.aggregates = on").await;
        assert_eq!(texts(&run(&session, &query).await), expected, "{by}");
        assert!(plan(&session, &query).await.contains("BlockScan"));
    }
}

#[tokio::test]
async fn explain_shows_the_rollup_that_answers_and_what_is_left_to_rows() {
    let (_directory, session) = session().await;
    run(&session, "CREATE ROLLUP fine ON cpu EVERY '10 minutes'").await;
    run(&session, &rows(4, 0, 1440, 1)).await;
    run(&session, "CALL flush(table => 'cpu')").await;
    let query = |bucket: &str, from: &str| {
        format!(
            "SELECT time_bucket('{bucket}', time) AS b, host, avg(usage) FROM cpu WHERE time >= '2026-01-01 {from}' AND time < '2026-01-01 20:30:00' GROUP BY b, host"
        )
    };
    let aligned = plan(&session, &query("1 hour", "08:00:00")).await;
    assert!(
        aligned.contains("times=[12 of 1 hour, 3 of 10 minutes from rollup fine], in place of rows=3000"),
        "{aligned}"
    );
    assert!(!aligned.contains(" Scan: "), "{aligned}");
    let fine = plan(&session, &query("20 minutes", "07:55:00")).await;
    assert!(fine.contains("times=[75 of 10 minutes from rollup fine], in place of rows=3000"), "{fine}");
    assert!(fine.contains(" Scan: "), "five minutes are left: {fine}");
    let finer = plan(&session, &query("5 minutes", "08:00:00")).await;
    assert!(!finer.contains("BlockScan"), "{finer}");
    // Another rollup of other columns is none for this question.
    run(&session, "DROP ROLLUP fine").await;
    run(&session, "CREATE ROLLUP fine ON cpu (n) EVERY '10 minutes'").await;
    run(&session, "CALL compact(table => 'cpu')").await;
    assert!(!plan(&session, &query("20 minutes", "07:55:00")).await.contains("BlockScan"));
}

async fn plan(session: &Session, query: &str) -> String {
    let batches = run(session, &format!("EXPLAIN {query}")).await;
    texts(&batches).join("\n")
}

#[tokio::test]
async fn explain_names_the_shortcut_and_off_takes_none() {
    let (_directory, session) = session().await;
    run(&session, &rows(4, 0, 1440, 1)).await;
    run(&session, "CALL flush(table => 'cpu')").await;
    let hourly = "SELECT time_bucket('1 hour', time) AS b, host, avg(usage) FROM cpu WHERE time < '2026-01-01 20:30:00' GROUP BY b, host";
    let last = "SELECT host, last(usage, time) FROM cpu GROUP BY host";
    let distinct = "SELECT DISTINCT ON (host) * FROM cpu ORDER BY host, time DESC";
    let join = "SELECT cpu.* FROM cpu JOIN (SELECT host AS h, max(time) AS t FROM cpu GROUP BY host) m ON cpu.host = m.h AND cpu.time = m.t";
    assert!(
        plan(&session, hourly)
            .await
            .contains("BlockScan: table=cpu, parts=1, times=[20 of 1 hour], in place of rows=4800")
    );
    for query in [last, distinct, join] {
        let plan = plan(&session, query).await;
        assert!(plan.contains("LatestScan: table=cpu") && !plan.contains(" Scan: "), "{plan}");
    }
    let fine = "SELECT time_bucket('10 minutes', time) AS b, avg(usage) FROM cpu GROUP BY b";
    let bounded_value = "SELECT host, last(usage, time) FROM cpu WHERE usage > 5 GROUP BY host";
    for query in [fine, bounded_value] {
        let plan = plan(&session, query).await;
        assert!(!plan.contains("BlockScan") && !plan.contains("LatestScan"), "{plan}");
    }
    run(&session, "SET juno.aggregates = off").await;
    for query in [hourly, last, distinct, join] {
        let plan = plan(&session, query).await;
        assert!(!plan.contains("BlockScan") && !plan.contains("LatestScan"), "{plan}");
    }
}
