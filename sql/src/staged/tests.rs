//! Ends of a table read in stages against all of it sorted, through whole sessions.

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use juno_engine::Db;
use juno_kernels::Device;

use crate::Session;

async fn run(session: &Session, sql: &str) -> Vec<RecordBatch> {
    session.collect(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn text(session: &Session, sql: &str) -> String {
    pretty_format_batches(&run(session, sql).await).expect("values have text").to_string()
}

/// Five days of twelve hosts, a part for each day; late rows and rows that are gone besides.
async fn session() -> (tempfile::TempDir, Session) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let session = Session::open(Db::open(directory.path()).expect("empty"), Device::cpu()).await.expect("migrations");
    run(&session, "CREATE TABLE cpu (time TIMESTAMPTZ, host TEXT, usage DOUBLE PRECISION, n BIGINT)").await;
    for day in 0..5 {
        let day = format!(
            "INSERT INTO cpu SELECT to_timestamp(1767225605 + 60 * (m + 1440 * {day})), 'h' || h, (m * 7 + h) % 101, m \
             FROM generate_series(0, 1439) AS a (m) CROSS JOIN generate_series(0, 11) AS b (h)"
        );
        run(&session, &day).await;
        run(&session, "CALL flush(table => 'cpu')").await;
    }
    run(
        &session,
        "INSERT INTO cpu VALUES ('2026-01-03 12:00:01', 'late', 1000, 1), ('2026-01-06 00:00:30', 'h3', 1, 2)",
    )
    .await;
    run(&session, "DELETE FROM cpu WHERE time >= '2026-01-05 23:50:00' AND host IN ('h1', 'h2')").await;
    (directory, session)
}

/// Questions whose order is by time, of which `@` is in the place.
const BY_TIME: &[&str] = &[
    "SELECT * FROM cpu ORDER BY @ DESC, host LIMIT 7",
    "SELECT time, usage FROM cpu ORDER BY @, host DESC LIMIT 25 OFFSET 13",
    "SELECT n, host FROM cpu WHERE usage > 99 ORDER BY @ DESC, host LIMIT 40",
    "SELECT n + 1 AS m, host FROM cpu WHERE host LIKE 'l%' ORDER BY @ DESC LIMIT 3",
    "SELECT host, usage FROM cpu WHERE time < '2026-01-05 10:00:00' ORDER BY @ DESC, host LIMIT 20000",
    "SELECT count(*), max(n), min(host) FROM (SELECT * FROM cpu ORDER BY @ DESC, host LIMIT 30000) AS newest",
    "SELECT host FROM cpu WHERE usage = 1000 ORDER BY @ LIMIT 2",
    "SELECT host FROM cpu WHERE usage < 0 ORDER BY @ DESC LIMIT 2",
];

#[tokio::test]
async fn the_newest_and_the_oldest_rows_are_those_of_the_whole_table_sorted() {
    let (_directory, session) = session().await;
    for question in BY_TIME {
        let staged = question.replace('@', "time");
        let whole = question.replace('@', "time + INTERVAL '0 seconds'");
        assert_eq!(text(&session, &staged).await, text(&session, &whole).await, "{question}");
        assert!(text(&session, &format!("EXPLAIN {staged}")).await.contains("StagedExec: stages="), "{question}");
        assert!(!text(&session, &format!("EXPLAIN {whole}")).await.contains("StagedExec"), "{question}");
    }
}

#[tokio::test]
async fn the_newest_and_the_oldest_groups_are_whole() {
    let (_directory, session) = session().await;
    let buckets =
        ["date_trunc('minute', time)", "time_bucket('7 minutes', time)", "date_bin(INTERVAL '5 hours', time)"];
    for bucket in buckets {
        for order in ["DESC", "ASC"] {
            for rest in ["", "WHERE usage < 60", "WHERE host <> 'h3' AND time < '2026-01-05 03:03:03'"] {
                let question = |order_by: &str| {
                    format!(
                        "SELECT b, host, c, u FROM (SELECT {bucket} AS b, host, count(*) AS c, max(usage) AS u FROM cpu \
                         {rest} GROUP BY 1, 2) AS g ORDER BY {order_by} {order}, host LIMIT 15"
                    )
                };
                let (staged, whole) = (question("b"), question("b + INTERVAL '0 seconds'"));
                // Blocks would answer for some.
                run(&session, "SET juno.aggregates = off").await;
                assert_eq!(text(&session, &staged).await, text(&session, &whole).await, "{staged}");
                assert!(text(&session, &format!("EXPLAIN {staged}")).await.contains("StagedExec"), "{staged}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_needed_is_not_read() {
    let (_directory, session) = session().await;
    let analysed = text(&session, "EXPLAIN ANALYZE SELECT * FROM cpu ORDER BY time DESC LIMIT 5").await;
    let counts = |name: &str| -> Vec<usize> {
        let mut found = Vec::new();
        for rest in analysed.split(&format!(" {name}=")).skip(1) {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            found.push(digits.parse().expect("a number"));
        }
        found
    };
    let parts = counts("parts");
    assert!(parts.len() > 1 && parts[0] < 2 && parts[1..].iter().all(|&parts| parts == 0), "{analysed}");
    // A table by another key has no end in time.
    run(&session, "CREATE TABLE orders (id BIGINT PRIMARY KEY, time TIMESTAMPTZ)").await;
    let keyed = text(&session, "EXPLAIN SELECT * FROM orders ORDER BY time DESC LIMIT 5").await;
    assert!(!keyed.contains("StagedExec"), "{keyed}");
}
