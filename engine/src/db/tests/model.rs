//! Random commands against a map.
//!
//! **Invariant:** the map is the truth; snapshots are compared with the map of their own moment.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::support::*;
use crate::system::MemoryDisk;
use crate::{Options, ScanRequest, Snapshot, TagFilter, TimeRange};

const HOUR: i64 = 3_600_000_000;

#[derive(Debug, Clone)]
enum Command {
    Upsert(Vec<CpuRow>),
    Delete(Vec<CpuRow>),
    Flush,
    Reopen,
    Hold,
    Scan(TimeRange, Vec<String>),
}

fn key() -> impl Strategy<Value = (Option<String>, Option<String>, i64)> {
    let host = prop_oneof![1 => Just(None), 9 => (0..4).prop_map(|host| Some(format!("h{host}")))];
    let region = prop_oneof![1 => Just(None), 3 => Just(Some("eu".to_string()))];
    (host, region, prop_oneof![0..5_i64, (0..2000_i64).prop_map(|hour| hour * HOUR)])
}

fn rows() -> impl Strategy<Value = Vec<CpuRow>> {
    let value = prop_oneof![1 => Just(None), 9 => (0..1000).prop_map(|value| Some(f64::from(value)))];
    prop::collection::vec((key(), value), 1..60)
}

fn command() -> impl Strategy<Value = Command> {
    let range = (0..2000_i64, 0..2000_i64).prop_map(|(a, b)| TimeRange { from: a.min(b) * HOUR, to: a.max(b) * HOUR });
    let range = prop_oneof![Just(TimeRange::ALL), range];
    let hosts = prop::collection::vec((0..5).prop_map(|host| format!("h{host}")), 0..3);
    prop_oneof![
        6 => rows().prop_map(Command::Upsert),
        2 => rows().prop_map(Command::Delete),
        2 => Just(Command::Flush),
        1 => Just(Command::Reopen),
        1 => Just(Command::Hold),
        3 => (range, hosts).prop_map(|(range, hosts)| Command::Scan(range, hosts)),
    ]
}

type Map = BTreeMap<(Option<String>, Option<String>, i64), Option<f64>>;

/// A filtered scan gives exactly the rows that the filters select, beside others that the caller filters out.
fn check_scan(snapshot: &Snapshot, map: &Map, time: TimeRange, hosts: Vec<String>) {
    let tags: Vec<_> = if hosts.is_empty() { vec![] } else { vec![TagFilter { column: 1, any_of: hosts.clone() }] };
    let found = cpu_rows_found(snapshot, ScanRequest { time, tags, ..ScanRequest::default() });
    let selected = |key: &(Option<String>, Option<String>, i64)| {
        time.contains(key.2) && (hosts.is_empty() || key.0.as_ref().is_some_and(|host| hosts.contains(host)))
    };
    let wanted = |map: Map| map.into_iter().filter(|(key, _)| selected(key)).collect::<Map>();
    assert_eq!(wanted(found), wanted(map.clone()));
}

fn check(commands: Vec<Command>) {
    let disk = MemoryDisk::default();
    let limits = || Options { memtable_bytes_max: 8000, frozen_bytes_max: 8000, ..options(&disk) };
    let mut db = crate::Db::open_with(DIR, limits()).unwrap();
    db.create_table(cpu()).unwrap();
    let mut map = Map::new();
    let mut held: Vec<(Snapshot, Map)> = Vec::new();
    for command in commands {
        match command {
            Command::Upsert(rows) => {
                db.commit(vec![cpu_write(&rows)]).unwrap();
                map.extend(rows);
            }
            Command::Delete(rows) => {
                db.commit(vec![cpu_delete(&rows)]).unwrap();
                map.retain(|key, _| rows.iter().all(|(deleted, _)| deleted != key));
            }
            Command::Flush => drop(db.flush(None).unwrap()),
            Command::Reopen => {
                drop(db);
                db = crate::Db::open_with(DIR, limits()).unwrap();
            }
            Command::Hold => held.push((db.snapshot(), map.clone())),
            Command::Scan(time, hosts) => check_scan(&db.snapshot(), &map, time, hosts),
        }
    }
    held.push((db.snapshot(), map));
    for (snapshot, map) in held {
        assert_eq!(cpu_rows_found(&snapshot, ScanRequest::default()), map);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scans_agree_with_a_map_through_writes_deletes_flushes_and_reopening(
        commands in prop::collection::vec(command(), 1..40)
    ) {
        check(commands);
    }
}
