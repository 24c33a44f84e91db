//! The examples of docs/sql.md, run from the first to the last by one client, as a reader would.
//!
//! **Invariant:** an example that is not run is named here with the reason.

use std::path::Path;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::server;

/// What the examples are about, once the first of them has made its tables.
const ROWS: &str = "
ALTER TABLE cpu ADD COLUMN usage_user DOUBLE PRECISION;
ALTER TABLE cpu ADD COLUMN usage_iowait DOUBLE PRECISION;
INSERT INTO cpu SELECT to_timestamp(1767225600 + 60 * i), h, 'eu', u + CASE WHEN i = 1500 THEN 500 ELSE 0 END, u, i * 7919 % 11
  + CASE WHEN h = 'b' AND i >= 2040 THEN 60 ELSE 0 END
  FROM (SELECT i, h, 20 + 5 * sin(i / 38.197) + (i * 7919 % 101) / 50.0 + CASE WHEN i >= 800 THEN 6 ELSE 0 END AS u
        FROM generate_series(0, 2099) AS g (i), (VALUES ('a'), ('b')) AS v (h)) AS t;
CREATE TABLE metrics (time TIMESTAMPTZ, service TEXT, metric TEXT, value DOUBLE PRECISION);
INSERT INTO metrics SELECT to_timestamp(1767344400 + 10 * i), s, m, 10 + (i * 7919 % 101) / 50.0
  + CASE WHEN i >= 360 AND (m = 'latency' OR s = 'cart') THEN 40 ELSE 0 END
  FROM generate_series(0, 449) AS g (i), (VALUES ('shop', 'latency'), ('shop', 'cpu'), ('cart', 'latency'), ('cart', 'cpu')) AS v (s, m);
CREATE TABLE calls (caller TEXT, callee TEXT);
INSERT INTO calls VALUES ('shop', 'cart');
CREATE TABLE requests (time TIMESTAMPTZ, src_ip TEXT, method TEXT, path TEXT, bytes BIGINT, label BIGINT) WITH (tags = 'src_ip');
INSERT INTO requests SELECT to_timestamp(1767225600 + i), '10.0.0.' || (i % 50), CASE WHEN i % 5 = 0 THEN 'POST' ELSE 'GET' END,
  CASE WHEN i % 40 = 0 THEN '/shop?id=' || i || ''' OR 1=1 --' ELSE '/shop/' || (i % 90) END, CASE WHEN i % 40 = 0 THEN 9000 ELSE 300 + i * 7919 % 101 END,
  CASE WHEN i % 40 = 0 THEN 1 ELSE 0 END FROM generate_series(1, 6000) AS g (i);
CREATE TABLE net (time TIMESTAMPTZ, host TEXT, packets BIGINT);
INSERT INTO net SELECT to_timestamp(1767225600 + 10 * i), 'a', i * 100 FROM generate_series(0, 99) AS g (i);
";

/// How the examples begin that are not run, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("COPY cpu FROM STDIN", "needs a client that sends rows: copy.rs has them"),
    ("COPY cpu (time, host, usage) FROM", "needs a file in the import folder: copy.rs has them"),
    ("COPY (SELECT * FROM cpu WHERE host = 'a') TO", "writes a file of the server: copy.rs has them"),
    ("CALL backup('/mnt/", "the directory is the reader's: backup.rs has them"),
    ("CREATE USER", "users close the door that this test came in by: users.rs has them"),
    ("ALTER USER", "the same"),
    ("GRANT admin", "the same"),
    ("REVOKE admin", "the same"),
    ("DROP USER", "the same"),
];

/// Chapters whose examples are run elsewhere: the .slt file of each behaviour makes its events and runs its example.
const CHAPTERS_LEFT_OUT: &[&str] = &["Behaviours"];

/// The SQL blocks of a page with the heading that each is under.
fn blocks(page: &str) -> Vec<(String, String)> {
    let (mut blocks, mut heading, mut open) = (Vec::new(), String::new(), None::<String>);
    for line in page.lines() {
        match (&mut open, line) {
            (None, "```sql") => open = Some(String::new()),
            (Some(text), "```") => {
                blocks.push((heading.clone(), std::mem::take(text)));
                open = None;
            }
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, line) if line.starts_with('#') => heading = line.trim_start_matches('#').trim().to_owned(),
            (None, _) => {}
        }
    }
    blocks
}

/// The statements of a text, without their comments.
fn statements(text: &str) -> Vec<String> {
    let (mut all, mut one, mut quoted, mut chars) = (Vec::new(), String::new(), false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\'' => quoted = !quoted,
            '-' if !quoted && chars.peek() == Some(&'-') => {
                chars.by_ref().find(|c| *c == '\n');
                one.push('\n');
                continue;
            }
            ';' if !quoted => {
                all.push(std::mem::take(&mut one).trim().to_owned());
                continue;
            }
            _ => {}
        }
        one.push(c);
    }
    assert!(one.trim().is_empty(), "an example without a semicolon at its end: {one}");
    all
}

async fn rows(client: &Client, sql: &str) -> Result<usize, String> {
    let messages = client.simple_query(sql).await.map_err(|error| match error.as_db_error() {
        Some(error) => format!("({}) {}", error.code().code(), error.message()),
        None => error.to_string(),
    })?;
    Ok(messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count())
}

#[test]
fn every_example_of_the_sql_reference_runs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql.md");
    let page = std::fs::read_to_string(page).expect("docs/sql.md");
    let machine_learning = page.split("\n## ").find(|part| part.starts_with("Machine learning")).expect("a chapter");
    let server = server();
    let config = format!("host=127.0.0.1 port={} user=reader dbname=juno", server.pg_port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("a connection");
        tokio::spawn(connection);
        let mut ran = 0;
        for (number, (heading, block)) in blocks(&page).into_iter().enumerate() {
            if CHAPTERS_LEFT_OUT.contains(&heading.as_str()) {
                continue;
            }
            for statement in statements(&block) {
                if LEFT_OUT.iter().any(|(begin, _)| statement.starts_with(begin)) {
                    continue;
                }
                let found =
                    rows(&client, &statement).await.unwrap_or_else(|error| panic!("{heading}: {error}\n{statement}"));
                // What depends on the time of the reader may find nothing here.
                let must_find = statement.starts_with("SELECT") && !statement.contains("now()");
                assert!(
                    found > 0 || !must_find || !machine_learning.contains(&block),
                    "{heading}: no rows\n{statement}"
                );
                ran += 1;
            }
            if number == 0 {
                for statement in statements(ROWS) {
                    rows(&client, &statement).await.unwrap_or_else(|error| panic!("{error}\n{statement}"));
                }
            }
        }
        assert!(ran >= 45, "only {ran} examples were found");
    });
}
