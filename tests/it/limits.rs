//! Limits of a server: memory of queries, idle transactions, locks, clients that are slow or gone.
//!
//! **Invariant:** each limit is set low for its test; none is reached by waiting longer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use juno_tests::Server;

use crate::client::Postgres;
use crate::{name_program, server};

/// A server whose queries may hold so much each.
fn with_query_memory(size: &str) -> Server {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    server.set("JUNO_QUERY_MEMORY", size);
    server.run().expect("a server");
    server
}

#[test]
fn a_query_that_wants_more_memory_than_it_may_have_is_refused() {
    let server = with_query_memory("16MiB");
    let client = Postgres::connect(&server);
    let join =
        "SELECT count(*) FROM generate_series(1, 2000000) AS a (n) JOIN generate_series(1, 2000000) AS b (m) ON n = m";
    assert_eq!(client.error(join).0, "53200", "one side of a join must be in memory");
    let greedy =
        "SELECT max(n) FROM (SELECT n FROM generate_series(1, 3000000) AS s (n) ORDER BY n % 7919 LIMIT 2900000)";
    assert_eq!(client.error(greedy).0, "53200");
    assert_eq!(client.value("SELECT count(*) FROM generate_series(1, 3000000)"), "3000000");
}

#[test]
fn a_transaction_that_is_left_open_ends_and_a_lock_is_not_waited_for() {
    let server = server();
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    client.rows("SET lock_timeout = '5s'");
    assert_eq!(client.value("SHOW lock_timeout"), "5s");
    client.rows("SET idle_in_transaction_session_timeout = 1");
    client.rows("BEGIN; INSERT INTO t VALUES (1)");
    let gone = client.run(async |client| {
        while !client.is_closed() {
            tokio::task::yield_now().await;
        }
        client.simple_query("COMMIT").await
    });
    assert!(gone.is_err());
    assert_eq!(Postgres::connect(&server).value("SELECT count(*) FROM t"), "0");
}

/// Files below a directory.
fn files(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[test]
fn a_sort_that_does_not_fit_in_memory_goes_on_in_files_that_are_gone_afterwards() {
    let (small, large) = (with_query_memory("32MiB"), server());
    let (client, other) = (Postgres::connect(&small), Postgres::connect(&large));
    let sorted = "SELECT sum(r * n % 1000003) FROM \
                  (SELECT n, row_number() OVER (ORDER BY n % 7919, n) AS r FROM generate_series(1, 1000000) AS s (n)) AS t";
    assert_eq!(client.rows(sorted), other.rows(sorted));
    let spilled = |client: &Postgres| {
        let plan = client.rows(&format!("EXPLAIN ANALYZE {sorted}")).join("\n");
        plan.split("spill_count=").skip(1).any(|rest| rest.starts_with(|digit: char| ('1'..='9').contains(&digit)))
    };
    assert!(spilled(&client) && !spilled(&other));
    assert_eq!(files(&small.data().join("tmp")), 0);
}

#[test]
fn a_lock_that_another_holds_too_long_is_given_up_with_55p03() {
    let server = server();
    let (holder, client) = (Postgres::connect(&server), Postgres::connect(&server));
    holder.rows("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 1)");
    holder.rows("BEGIN; UPDATE t SET n = 2 WHERE id = 1");
    client.rows("SET lock_timeout = '1ms'");
    for sql in [
        "UPDATE t SET n = 3 WHERE id = 1",
        "DELETE FROM t",
        "INSERT INTO t VALUES (1, 4) ON CONFLICT (id) DO NOTHING",
        "SELECT n FROM t FOR UPDATE",
    ] {
        assert_eq!(client.error(sql).0, "55P03", "{sql}");
    }
    assert_eq!(client.value("SELECT n FROM t"), "1", "reading waits for nobody");
    holder.rows("COMMIT");
    client.rows("UPDATE t SET n = n + 1 WHERE id = 1");
    assert_eq!(client.value("SELECT n FROM t"), "3");
    // Who reads for an update has the lock to the end of the transaction, and sees what was committed before.
    holder.rows("BEGIN");
    assert_eq!(holder.value("SELECT n FROM t WHERE id = 1 FOR UPDATE"), "3");
    assert_eq!(client.error("UPDATE t SET n = 9").0, "55P03");
    holder.rows("UPDATE t SET n = 4 WHERE id = 1");
    holder.rows("COMMIT");
    assert_eq!(client.value("SELECT n FROM t FOR SHARE"), "4");
    client.rows("BEGIN READ ONLY");
    assert_eq!(client.error("SELECT n FROM t FOR UPDATE").0, "25006");
    client.rows("ROLLBACK");
}

/// A client that has asked for rows, and has read the first of them.
fn asked(server: &Server, sql: &str) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", server.pg_port())).expect("a connection");
    let names = b"user\0anyone\0database\0juno\0\0";
    let length = (8 + names.len() as u32).to_be_bytes();
    socket.write_all(&[&length[..], &196_608_u32.to_be_bytes(), names].concat()).expect("a greeting");
    while message(&mut socket) != b'Z' {}
    let length = (5 + sql.len() as u32).to_be_bytes();
    socket.write_all(&[b"Q", &length[..], sql.as_bytes(), b"\0"].concat()).expect("a query");
    while message(&mut socket) != b'D' {}
    socket
}

/// Reads one message; gives its kind.
fn message(socket: &mut TcpStream) -> u8 {
    let mut head = [0; 5];
    socket.read_exact(&mut head).expect("a message");
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    socket.read_exact(&mut vec![0; length as usize - 4]).expect("a whole message");
    head[0]
}

/// A table with one part of 5,000 rows with texts of 20,000 characters: more than a socket takes from a query at once.
fn with_big_table() -> Server {
    let server = server();
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE big (id INTEGER PRIMARY KEY, n INTEGER, t TEXT)");
    client.rows("INSERT INTO big SELECT n, n, repeat('x', 20000) FROM generate_series(1, 5000) AS s (n)");
    client.rows("CALL flush('big')");
    server
}

#[test]
fn the_query_of_a_client_that_went_away_ends() {
    let server = with_big_table();
    let socket = asked(&server, "SELECT * FROM big");
    let client = Postgres::connect(&server);
    client.rows("DROP TABLE big");
    let parts = server.data().join("parts");
    assert_eq!(files(&parts), 1, "who reads a table keeps its files");
    drop(socket);
    while files(&parts) > 0 {
        client.rows("SELECT 1");
    }
}

#[test]
fn a_client_that_reads_slowly_holds_up_nobody_and_fills_no_memory() {
    let server = with_big_table();
    let resident_kib = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let client = Postgres::connect(&server);
    let sum = "SELECT sum(n) FROM big";
    assert_eq!(client.value(sum), "12502500");
    let endless = "SELECT a.n, b.n FROM big AS a, generate_series(1, 1000000000) AS b (n)";
    let before = resident_kib();
    let sleepers: Vec<TcpStream> = (0..8).map(|_| asked(&server, endless)).collect();
    for _ in 0..100 {
        assert_eq!(client.value(sum), "12502500");
    }
    let after = resident_kib();
    assert!(after < before + (256 << 10), "{before} KiB have become {after} KiB");
    drop(sleepers);
}
