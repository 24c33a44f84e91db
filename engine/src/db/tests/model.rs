//! Random commands against a map from keys to fields.
//!
//! **Invariant:** the map is the truth; snapshots are compared with the map of their own moment.

use std::sync::Arc;

use arrow::array::{Int64Array, Scalar};
use proptest::prelude::*;

use super::fields::{Contents, FIELDS, Fields, contents, wide, write};
use super::support::*;
use crate::system::MemoryDisk;
use crate::{Comparison, FieldFilter, Options, ScanRequest, Snapshot, TagFilter, TimeRange};

const HOUR: i64 = 3_600_000_000;

#[derive(Debug, Clone)]
enum Command {
    Write(Change),
    Flush,
    Compact,
    Reopen,
    Hold,
    Scan(TimeRange, Vec<String>, [bool; FIELDS], Option<i64>),
}

/// One write: deletes, and rows that name some of the fields.
#[derive(Debug, Clone)]
struct Change {
    rows: Vec<(CpuKey, Fields)>,
    named: [bool; FIELDS],
    deletes: Vec<CpuKey>,
}

impl Change {
    fn apply(&self, map: &mut Contents) {
        map.retain(|key, _| !self.deletes.contains(key));
        for (key, fields) in &self.rows {
            let row = map.entry(key.clone()).or_default();
            for field in (0..FIELDS).filter(|&field| self.named[field]) {
                row[field] = fields[field].or(row[field]);
            }
        }
    }
}

fn key() -> impl Strategy<Value = (Option<String>, Option<String>, i64)> {
    let host = prop_oneof![1 => Just(None), 9 => (0..4).prop_map(|host| Some(format!("h{host}")))];
    let region = prop_oneof![1 => Just(None), 3 => Just(Some("eu".to_string()))];
    (host, region, prop_oneof![0..5_i64, (0..2000_i64).prop_map(|hour| hour * HOUR)])
}

fn rows() -> impl Strategy<Value = Vec<(CpuKey, Fields)>> {
    let value = || prop_oneof![1 => Just(None), 2 => (0..1000_i64).prop_map(Some)];
    prop::collection::vec((key(), prop::array::uniform4(value())), 1..60)
}

fn named() -> impl Strategy<Value = [bool; FIELDS]> {
    prop_oneof![Just([true; FIELDS]), prop::array::uniform4(any::<bool>())]
}

fn change() -> impl Strategy<Value = Change> {
    let keys = || prop::collection::vec(key(), 1..60);
    prop_oneof![
        4 => (rows(), named()).prop_map(|(rows, named)| Change { rows, named, deletes: vec![] }),
        2 => keys().prop_map(|deletes| Change { rows: vec![], named: [true; FIELDS], deletes }),
        2 => (rows(), named()).prop_map(|(rows, named)| {
            let deletes = rows.iter().map(|row| row.0.clone()).collect();
            Change { rows, named, deletes }
        }),
        1 => (rows(), named(), keys()).prop_map(|(rows, named, deletes)| Change { rows, named, deletes }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let range = (0..2000_i64, 0..2000_i64).prop_map(|(a, b)| TimeRange { from: a.min(b) * HOUR, to: a.max(b) * HOUR });
    let range = prop_oneof![Just(TimeRange::ALL), range];
    let hosts = prop::collection::vec((0..5).prop_map(|host| format!("h{host}")), 0..3);
    prop_oneof![
        8 => change().prop_map(Command::Write),
        3 => Just(Command::Flush),
        2 => Just(Command::Compact),
        1 => Just(Command::Reopen),
        1 => Just(Command::Hold),
        3 => (range, hosts, named(), prop::option::of(0..1000_i64))
            .prop_map(|(range, hosts, named, least)| Command::Scan(range, hosts, named, least)),
    ]
}

/// A filtered scan gives exactly the rows that the filters select; `least` is a bound of the second field.
fn check_scan(
    snapshot: &Snapshot,
    map: &Contents,
    (time, hosts): (TimeRange, Vec<String>),
    named: [bool; FIELDS],
    least: Option<i64>,
) {
    let tags: Vec<_> = if hosts.is_empty() { vec![] } else { vec![TagFilter { column: 1, any_of: hosts.clone() }] };
    let bound = |least: i64| FieldFilter {
        column: 4,
        comparison: Comparison::GreaterOrEqual,
        value: Scalar::new(Arc::new(Int64Array::from(vec![least]))),
    };
    let fields = least.map(bound).into_iter().collect();
    let found = contents(snapshot, ScanRequest { time, tags, fields, ..ScanRequest::default() }, named);
    let selected =
        |key: &CpuKey| time.contains(key.2) && (hosts.is_empty() || key.0.as_ref().is_some_and(|h| hosts.contains(h)));
    let reaches = |fields: &Fields| least.is_none_or(|least| fields[1].is_some_and(|value| value >= least));
    let wanted = map.iter().filter(|(key, fields)| selected(key) && reaches(fields)).map(|(key, fields)| {
        let seen = std::array::from_fn(|field| fields[field].filter(|_| named[field]));
        (key.clone(), seen)
    });
    assert_eq!(found, wanted.collect::<Contents>());
}

fn check(commands: Vec<Command>) {
    let disk = MemoryDisk::default();
    let limits = || Options { memtable_bytes_max: 8000, frozen_bytes_max: 8000, ..options(&disk) };
    let mut db = crate::Db::open_with(DIR, limits()).unwrap();
    db.create_table(wide()).unwrap();
    let mut map = Contents::new();
    let mut held: Vec<(Snapshot, Contents)> = Vec::new();
    for command in commands {
        match command {
            Command::Write(change) => {
                db.commit(vec![write(&change.rows, change.named, &change.deletes)]).unwrap();
                change.apply(&mut map);
            }
            Command::Flush => drop(db.flush(None).unwrap()),
            Command::Compact => drop(db.compact(None).unwrap()),
            Command::Reopen => {
                // What another opens is no longer kept for these.
                held.drain(..).for_each(|(snapshot, map)| check_held(&snapshot, &map));
                drop(db);
                db = crate::Db::open_with(DIR, limits()).unwrap();
            }
            Command::Hold => held.push((db.snapshot(), map.clone())),
            Command::Scan(time, hosts, named, least) => {
                check_scan(&db.snapshot(), &map, (time, hosts), named, least);
            }
        }
    }
    held.push((db.snapshot(), map));
    held.iter().for_each(|(snapshot, map)| check_held(snapshot, map));
}

/// A snapshot shows what the table held when it was taken.
fn check_held(snapshot: &Snapshot, map: &Contents) {
    assert_eq!(contents(snapshot, ScanRequest::default(), [true; FIELDS]), *map);
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
