//! The door in conversation: a real session behind it, real sockets before it, raw messages and the Rust driver.
//!
//! **Invariant:** no test waits for time to pass; each waits for what it tests.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use futures::TryStreamExt;
use juno_sql::engine::Db;
use juno_sql::kernels::Device;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{CONNECTIONS_MAX, listen};
use crate::serve::Doors;
use crate::telemetry::Counters;

/// A statement that runs until it is stopped.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 9000000000000)";

/// A door on a port of its own.
struct Server {
    port: u16,
    doors: Arc<Doors>,
    shutdown: watch::Sender<bool>,
    listening: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Server {
    async fn start() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(directory.path()).unwrap();
        let session = juno_sql::Session::open(db, Device::cpu()).await.unwrap();
        let query = tokio::runtime::Handle::current();
        let doors = Arc::new(Doors { session, query, counters: Counters::new() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (shutdown, ending) = watch::channel(false);
        let listening = tokio::spawn(listen(Arc::clone(&doors), listener, Arc::default(), ending));
        Server { port, doors, shutdown, listening, _directory: directory }
    }

    async fn driver(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=anyone dbname=any", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A connection that was greeted.
    async fn raw(&self) -> Raw {
        let mut raw = Raw(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap());
        raw.startup().await;
        assert_eq!(raw.until(b'Z').await.last().unwrap().1, b"I");
        raw
    }

    fn open_connections(&self) -> bool {
        let mut text = String::new();
        self.doors.counters.encode(&mut text);
        !text
            .lines()
            .any(|line| line.starts_with("juno_connections{") && line.contains("gwire") && line.ends_with(" 0"))
    }
}

/// A socket that speaks in messages.
struct Raw(TcpStream);

impl Raw {
    async fn startup(&mut self) {
        let body = b"\0\x03\0\0user\0anyone\0\0";
        let mut packet = BytesMut::new();
        packet.put_u32(body.len() as u32 + 4);
        packet.put_slice(body);
        self.0.write_all(&packet).await.unwrap();
    }

    async fn send(&mut self, messages: &[(u8, &[u8])]) {
        let mut bytes = BytesMut::new();
        for (kind, body) in messages {
            bytes.put_u8(*kind);
            bytes.put_u32(body.len() as u32 + 4);
            bytes.put_slice(body);
        }
        self.0.write_all(&bytes).await.unwrap();
    }

    /// The next message; None at the end.
    async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let kind = self.0.read_u8().await.ok()?;
        let length = self.0.read_u32().await.ok()? as usize;
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    }

    /// All messages up to the first of this kind, or the end.
    async fn until(&mut self, last: u8) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            let kind = message.0;
            messages.push(message);
            if kind == last {
                break;
            }
        }
        messages
    }
}

fn kinds(messages: &[(u8, Vec<u8>)]) -> String {
    messages.iter().map(|(kind, _)| char::from(*kind)).collect()
}

/// The SQLSTATE of an ErrorResponse among the messages.
fn code(messages: &[(u8, Vec<u8>)]) -> String {
    let (_, body) = messages.iter().find(|(kind, _)| *kind == b'E').expect("an error");
    let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'C')).unwrap();
    String::from_utf8(field[1..].to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_is_declined_and_any_user_is_greeted() {
    let server = Server::start().await;
    let mut raw = Raw(TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
    raw.0.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await.unwrap();
    assert_eq!(raw.0.read_u8().await.unwrap(), b'N');
    raw.startup().await;
    let greeting = raw.until(b'Z').await;
    assert_eq!(greeting[0], (b'R', vec![0, 0, 0, 0]));
    assert!(greeting.iter().any(|(kind, body)| *kind == b'S' && body == b"standard_conforming_strings\0on\0"));
    assert!(greeting.iter().any(|(kind, body)| *kind == b'K' && body.len() == 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_error_of_a_message_stops_the_rest_of_it() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    raw.send(&[(b'Q', b"SELECT 1; SELECT nope; SELECT 3\0")]).await;
    let answer = raw.until(b'Z').await;
    assert_eq!((kinds(&answer).as_str(), code(&answer).as_str()), ("TDCEZ", "42703"));
    raw.send(&[(b'Q', b" ; \0")]).await;
    assert_eq!(kinds(&raw.until(b'Z').await), "IZ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_transaction_shows_until_its_end() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    let mut status = Vec::new();
    for sql in [&b"BEGIN\0"[..], b"SELECT nope\0", b"SELECT 1\0", b"ROLLBACK\0"] {
        raw.send(&[(b'Q', sql)]).await;
        status.push(char::from(raw.until(b'Z').await.last().unwrap().1[0]));
    }
    assert_eq!(status, ['T', 'E', 'E', 'I']);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_pipeline_skips_to_the_sync() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    let parse_bad: (u8, &[u8]) = (b'P', b"\0SELECT nope\0\0\0");
    let parse_good: (u8, &[u8]) = (b'P', b"\0SELECT 1\0\0\0");
    let bind: (u8, &[u8]) = (b'B', b"\0\0\0\0\0\0\0\0");
    let execute: (u8, &[u8]) = (b'E', b"\0\0\0\0\0");
    let sync: (u8, &[u8]) = (b'S', b"");
    raw.send(&[parse_bad, bind, execute, parse_good, sync, parse_good, bind, execute, sync]).await;
    assert_eq!(kinds(&raw.until(b'Z').await), "EZ");
    assert_eq!(kinds(&raw.until(b'Z').await), "12DCZ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_gives_its_rows_in_pieces() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    let parse: (u8, &[u8]) = (b'P', b"\0SELECT * FROM generate_series(1, 5)\0\0\0");
    let bind: (u8, &[u8]) = (b'B', b"\0\0\0\0\0\0\0\0");
    let two: (u8, &[u8]) = (b'E', b"\0\0\0\0\x02");
    let rest: (u8, &[u8]) = (b'E', b"\0\0\0\0\0");
    raw.send(&[parse, bind, two, two, rest, rest, (b'S', b"")]).await;
    let answer = raw.until(b'Z').await;
    assert_eq!(kinds(&answer), "12DDsDDsDCCZ");
    assert_eq!(answer[9].1, b"SELECT 1\0");
    assert_eq!(answer[10].1, b"SELECT 0\0");
    raw.send(&[two, (b'S', b"")]).await;
    assert_eq!(code(&raw.until(b'Z').await), "34000");
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_values_go_in_and_come_back() {
    let server = Server::start().await;
    let client = server.driver().await;
    let insert = "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score, \
                  false_positive) VALUES ($1, $2, $3, $4, $5, 0.75, $6)";
    let id = "01932d7a-5c00-7000-8000-000000000001".parse::<uuid::Uuid>().unwrap();
    let at: chrono::DateTime<chrono::Utc> = "2026-11-23T16:00:00.5Z".parse().unwrap();
    let json = serde_json::json!({"ports": [22, 80]});
    let inserted = client.execute(insert, &[&id, &at, &"scan", &"high", &json, &None::<bool>]).await.unwrap();
    assert_eq!(inserted, 1);
    let row = client.query_one("SELECT * FROM threat_events WHERE id = $1", &[&id]).await.unwrap();
    assert_eq!(row.get::<_, uuid::Uuid>("id"), id);
    assert_eq!(row.get::<_, chrono::DateTime<chrono::Utc>>("detected_at"), at);
    assert_eq!(row.get::<_, serde_json::Value>("indicators"), json);
    assert_eq!(row.get::<_, Option<bool>>("false_positive"), None);
    assert_eq!(row.columns()[2].type_().name(), "varchar");
    let again = client.execute(insert, &[&id, &at, &"scan", &"high", &json, &None::<bool>]).await.unwrap_err();
    let again = again.as_db_error().unwrap();
    assert_eq!((again.code().code(), again.constraint()), ("23505", Some("threat_events_pkey")));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_arrive_in_order() {
    let server = Server::start().await;
    let client = server.driver().await;
    let none: [&str; 0] = [];
    let rows = client.query_raw("SELECT n FROM generate_series(1, 50000) AS s (n)", none).await.unwrap();
    let values: Vec<i64> = rows.map_ok(|row| row.get::<_, i64>(0)).try_collect().await.unwrap();
    assert!(values.iter().copied().eq(1..=50_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_stops_the_statement_and_the_connection_goes_on() {
    let server = Server::start().await;
    let client = server.driver().await;
    let token = client.cancel_token();
    let endless = client.simple_query(ENDLESS);
    tokio::pin!(endless);
    let stopped = loop {
        tokio::select! {
            biased;
            ended = &mut endless => break ended,
            asked = token.cancel_query(NoTls) => asked.unwrap(),
        }
    };
    assert_eq!(stopped.unwrap_err().code().unwrap().code(), "57014");
    let rows = client.simple_query("SELECT 1 AS one").await;
    // A cancel that came late may still meet this statement, as in PostgreSQL.
    match rows {
        Ok(rows) => assert!(rows.iter().any(|row| matches!(row, SimpleQueryMessage::Row(_)))),
        Err(error) => assert_eq!(error.code().unwrap().code(), "57014"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_takes_its_statement_with_it() {
    let server = Server::start().await;
    let idle = server.doors.query.metrics().num_alive_tasks();
    for endless in [
        ENDLESS,
        "SELECT n FROM generate_series(1, 9000000000000) AS s (n) ORDER BY n % 7919 DESC",
        "SELECT n, count(*) FROM generate_series(1, 9000000000000) AS s (n) GROUP BY n",
        "SELECT count(*) FROM generate_series(1, 9000000) AS a (n) JOIN generate_series(1, 9000000) AS b (n) ON a.n % 10 = b.n % 10",
        "SELECT sum(v) FROM (SELECT sum(n) OVER (ORDER BY n % 7) AS v FROM generate_series(1, 9000000000000) AS s (n))",
    ] {
        let mut raw = server.raw().await;
        raw.send(&[(b'Q', [endless.as_bytes(), b"\0"].concat().as_slice())]).await;
        drop(raw);
    }
    let mut raw = server.raw().await;
    raw.send(&[(b'Q', b"SELECT * FROM generate_series(1, 9000000000000)\0")]).await;
    assert_eq!(raw.message().await.unwrap().0, b'T');
    drop(raw);
    while server.open_connections() || server.doors.query.metrics().num_alive_tasks() > idle {
        tokio::task::yield_now().await;
    }
}

/// Parse, Bind and Execute of a statement without parameters.
fn executed(sql: &str) -> [(u8, Vec<u8>); 3] {
    let parse = [b"\0", sql.as_bytes(), b"\0\0\0"].concat();
    [(b'P', parse), (b'B', vec![0; 8]), (b'E', vec![0; 5])]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_between_two_syncs_is_stored_together_or_not_at_all() {
    let server = Server::start().await;
    let client = server.driver().await;
    client.batch_execute("CREATE TABLE p (id INTEGER PRIMARY KEY)").await.unwrap();
    let mut raw = server.raw().await;
    let send = async |raw: &mut Raw, statements: &[&str]| {
        let messages: Vec<_> = statements.iter().flat_map(|sql| executed(sql)).collect();
        let mut messages: Vec<(u8, &[u8])> = messages.iter().map(|(kind, body)| (*kind, body.as_slice())).collect();
        messages.push((b'S', b""));
        raw.send(&messages).await;
        raw.until(b'Z').await
    };
    let failing =
        ["INSERT INTO p VALUES (1)", "CREATE TABLE q (a INTEGER)", "SELECT 1 / 0", "INSERT INTO p VALUES (2)"];
    let answer = send(&mut raw, &failing).await;
    assert_eq!((kinds(&answer).as_str(), code(&answer).as_str()), ("12C12C12EZ", "22012"));
    let count = async || client.query_one("SELECT count(*) FROM p", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count().await, 0);
    assert!(client.batch_execute("SELECT * FROM q").await.is_err());
    let answer = send(&mut raw, &["INSERT INTO p VALUES (1)", "SELECT id FROM p", "INSERT INTO p VALUES (2)"]).await;
    assert_eq!(kinds(&answer), "12C12DC12CZ");
    assert_eq!(count().await, 2);
    // A block that is opened there goes on behind the Sync.
    let answer = send(&mut raw, &["INSERT INTO p VALUES (3)", "BEGIN", "INSERT INTO p VALUES (4)"]).await;
    assert_eq!((kinds(&answer).as_str(), answer.last().unwrap().1.as_slice()), ("12C12C12CZ", b"T".as_slice()));
    assert_eq!(count().await, 2);
    assert_eq!(kinds(&send(&mut raw, &["ROLLBACK"]).await), "12CZ");
    assert_eq!(count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_refuses_clients_by_the_code_for_it() {
    let server = Server::start().await;
    let mut guests = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        guests.push(server.raw().await);
    }
    let mut late = Raw(TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
    late.startup().await;
    assert_eq!(code(&late.until(b'E').await), "53300");
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_have_a_limit_and_close_makes_room() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    let names: Vec<Vec<u8>> = (0..=1000).map(|number| format!("s{number}\0\0\0\0").into_bytes()).collect();
    let parses: Vec<(u8, &[u8])> = names.iter().map(|body| (b'P', body.as_slice())).collect();
    raw.send(&parses).await;
    raw.send(&[(b'S', b"")]).await;
    let answer = raw.until(b'Z').await;
    assert_eq!((answer.iter().filter(|(kind, _)| *kind == b'1').count(), code(&answer)), (1000, "54000".to_owned()));
    raw.send(&[(b'C', b"Ss7\0"), parses[1000], (b'Q', b"DEALLOCATE s8\0"), (b'P', b"s9\0\0\0\0"), (b'S', b"")]).await;
    assert_eq!(kinds(&raw.until(b'Z').await), "31CZ");
    assert_eq!(code(&raw.until(b'Z').await), "42P05");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_says_goodbye_and_ends_the_listener() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    server.shutdown.send(true).unwrap();
    assert_eq!(code(&raw.until(b'E').await), "57P01");
    assert!(raw.message().await.is_none());
    server.listening.await.unwrap();
}
