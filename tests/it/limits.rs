//! Limits of a server: memory of queries, idle transactions, locks.
//!
//! **Invariant:** each limit is set low for its test; none is reached by waiting longer.

use juno_tests::Server;

use crate::client::Postgres;
use crate::{name_program, server};

#[test]
fn a_query_that_wants_more_memory_than_it_may_have_is_refused() {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    server.set("JUNO_QUERY_MEMORY", "16MiB");
    server.run().expect("a server");
    let client = Postgres::connect(&server);
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
