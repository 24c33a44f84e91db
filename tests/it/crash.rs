//! kill −9 while rows come in and are flushed: what was acknowledged is there, and no batch is there by half.
//!
//! **Invariant:** each round's moment of death is drawn from the seed; a failing round is named.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};

use crate::client::{Postgres, http};
use crate::name_program;
use juno_tests::Server;

const ROUNDS: u64 = 50;
const WRITERS: u64 = 3;
/// Rows of one batch: one request body, so all or nothing.
const BATCH_ROWS: usize = 25;
/// A round ends after 1 to so many acknowledgements.
const ACKNOWLEDGED_MAX: u64 = 12;

/// SplitMix64: a seed gives the same rounds again.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn a_killed_server_keeps_every_acknowledged_batch_whole() {
    name_program();
    let seed = std::env::var("JUNO_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123);
    eprintln!("seed {seed}; JUNO_TEST_SEED repeats it");
    let mut seeded = Seeded(seed);
    let mut server = Server::prepare().expect("a directory");
    let batch = AtomicU64::new(0);
    let acknowledged = Mutex::new(HashSet::new());
    for round in 0..ROUNDS {
        server.run().unwrap_or_else(|error| panic!("round {round}: {error:#}"));
        check(&server, round, &acknowledged.lock().expect("no writer panicked"), batch.load(Ordering::Relaxed));
        write_until_killed(
            &mut server,
            &batch,
            &acknowledged,
            1 + seeded.next() % ACKNOWLEDGED_MAX,
            seeded.next().is_multiple_of(2),
        );
    }
    server.run().expect("the last start");
    let acknowledged = acknowledged.into_inner().expect("no writer panicked");
    check(&server, ROUNDS, &acknowledged, batch.load(Ordering::Relaxed));
    assert!(
        acknowledged.len() as u64 >= ROUNDS,
        "only {} batches were acknowledged in {ROUNDS} rounds",
        acknowledged.len()
    );
}

fn write_until_killed(
    server: &mut Server,
    batch: &AtomicU64,
    acknowledged: &Mutex<HashSet<u64>>,
    until: u64,
    flush: bool,
) {
    let (tell, told) = mpsc::channel();
    let pid = server.pid();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            let (tell, server) = (tell.clone(), &*server);
            scope.spawn(move || {
                loop {
                    let id = batch.fetch_add(1, Ordering::Relaxed);
                    let lines: String =
                        (0..BATCH_ROWS).map(|row| format!("crash,batch=b{id} row={row}i {}\n", row * 1_000)).collect();
                    // A refused connection is the end that was asked for.
                    match ureq::post(server.url("/write?precision=us")).send(lines) {
                        Ok(answer) if answer.status() == 204 => {
                            acknowledged.lock().expect("no writer panicked").insert(id);
                            let _ = tell.send(());
                        }
                        Ok(answer) => panic!("a write was answered {}", answer.status()),
                        Err(_) => return,
                    }
                }
            });
        }
        if flush {
            let server = &*server;
            scope.spawn(
                move || {
                    while ureq::post(server.url("/api/v4/query")).send(r#"{"sql": "CALL flush()"}"#).is_ok() {}
                },
            );
        }
        drop(tell);
        for _ in 0..until {
            told.recv().expect("writers go on until the end");
        }
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill");
        assert!(killed.success());
    });
    server.kill().expect("it is dead");
}

fn check(server: &Server, round: u64, acknowledged: &HashSet<u64>, sent: u64) {
    if sent == 0 {
        return;
    }
    let postgres = Postgres::connect(server);
    let rows = postgres.rows("SELECT batch, count(*), sum(row) FROM crash GROUP BY batch");
    let mut found = HashMap::new();
    for row in rows {
        let fields: Vec<&str> = row.split('|').collect();
        let id: u64 = fields[0].trim_start_matches('b').parse().expect("a batch number");
        found.insert(id, (fields[1].parse::<usize>().expect("a count"), fields[2].parse::<usize>().expect("a sum")));
    }
    for id in acknowledged {
        assert!(found.contains_key(id), "round {round}: batch {id} was acknowledged and is gone");
    }
    for (id, whole) in found {
        assert!(id < sent, "round {round}: batch {id} was never sent");
        assert_eq!(
            whole,
            (BATCH_ROWS, BATCH_ROWS * (BATCH_ROWS - 1) / 2),
            "round {round}: batch {id} is there by half"
        );
    }
    let health = http(server, "GET", "/readyz", &[], b"");
    assert_eq!(health.status, 200, "round {round}: {}", health.text());
}
