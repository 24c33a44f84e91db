//! Newest rows and block aggregates against the rows themselves.
//!
//! **Invariant:** a plain scan is the truth; series are dense enough that parts have blocks.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::fields::wide;
use super::support::*;
use crate::{Alteration, BlockSpan, Blocks, Db, Measure, Rollup, ScanRequest, Snapshot, TimeRange, Write};

const MINUTE: i64 = 60_000_000;

#[derive(Debug, Clone)]
enum Command {
    /// Rows every minute for some hosts from a minute on; one in `nulls` has no value.
    Rows {
        hosts: u8,
        from: i64,
        minutes: i64,
        nulls: i64,
        seed: i64,
    },
    Delete {
        host: u8,
        from: i64,
        minutes: i64,
    },
    Flush,
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let command = prop_oneof![
        6 => (1..6_u8, 0..4_000_i64, prop_oneof![1..20_i64, 300..900_i64], 2..9_i64, 0..1000_i64).prop_map(
            |(hosts, from, minutes, nulls, seed)| Command::Rows { hosts, from, minutes, nulls, seed }
        ),
        1 => (0..6_u8, 0..4_000_i64, 1..200_i64).prop_map(|(host, from, minutes)| Command::Delete { host, from, minutes }),
        3 => Just(Command::Flush),
    ];
    prop::collection::vec(command, 1..14)
}

fn tags(host: u8) -> (Option<String>, Option<String>) {
    let region = (!host.is_multiple_of(3)).then(|| format!("r{}", host % 2));
    (Some(format!("h{}", host / 2)), region)
}

fn row(host: u8, minute: i64, usage: Option<f64>) -> CpuRow {
    let (name, region) = tags(host);
    ((name, region, minute * MINUTE), usage)
}

fn apply(db: &Db, command: &Command) {
    match *command {
        Command::Rows { hosts, from, minutes, nulls, seed } => {
            let value = |minute: i64| (minute % nulls > 0).then(|| ((minute * 7919 + seed) % 1000) as f64 / 10.0);
            let rows = (0..hosts).flat_map(|host| (from..from + minutes).map(move |at| row(host, at, value(at))));
            let rows: Vec<CpuRow> = rows.collect();
            let batch = cpu_rows(&rows);
            let integers: Int64Array = rows.iter().map(|((_, _, at), _)| Some(at / MINUTE * 3 - seed)).collect();
            let names = batch.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
            let mut columns: Vec<_> = names.into_iter().zip(batch.columns().to_vec()).collect();
            columns.push(("idle".into(), std::sync::Arc::new(integers) as _));
            let batch =
                RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
            db.commit(vec![Write::rows("cpu", batch)]).unwrap();
        }
        Command::Delete { host, from, minutes } => {
            let rows: Vec<CpuRow> = (from..from + minutes).map(|at| row(host, at, None)).collect();
            db.commit(vec![cpu_delete(&rows)]).unwrap();
        }
        Command::Flush => drop(db.flush(None).unwrap()),
    }
}

/// Usage and idle by key.
type Rows = BTreeMap<CpuKey, (Option<f64>, Option<i64>)>;

fn rows_of(batches: &[RecordBatch]) -> Rows {
    let mut rows = Rows::new();
    for batch in batches {
        let tags = [1, 2].map(|column| cast(batch.column(column), &DataType::Utf8).unwrap());
        let text = |tag: usize, row: usize| {
            let tags = tags[tag].as_string::<i32>();
            tags.is_valid(row).then(|| tags.value(row).to_string())
        };
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        let (usage, idle) =
            (batch.column(3).as_primitive::<Float64Type>(), batch.column(4).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            let key = (text(0, row), text(1, row), times.value(row));
            let usage = usage.is_valid(row).then(|| usage.value(row));
            let value = (usage, idle.is_valid(row).then(|| idle.value(row)));
            assert_eq!(rows.insert(key, value), None);
        }
    }
    rows
}

const PROJECTION: [usize; 5] = [0, 1, 2, 3, 4];

fn request(time: TimeRange) -> ScanRequest {
    ScanRequest { projection: PROJECTION.to_vec(), time, ..ScanRequest::default() }
}

fn check_latest(snapshot: &Snapshot, all: &Rows, time: TimeRange) {
    let latest = rows_of(&[snapshot.table("cpu").unwrap().latest(&request(time)).unwrap()]);
    let mut expected: BTreeMap<_, (CpuKey, _)> = BTreeMap::new();
    // Of each series the last in order of the key stays.
    for (key, value) in all.iter().filter(|(key, _)| time.contains(key.2)) {
        expected.insert((key.0.clone(), key.1.clone()), (key.clone(), *value));
    }
    assert_eq!(latest, expected.into_values().collect(), "{time:?}");
}

/// What the blocks of one span say of each series.
fn check_span(span: &BlockSpan, all: &Rows) {
    let within: Vec<_> = all.iter().filter(|(key, _)| span.time.contains(key.2)).collect();
    assert_eq!(within.len() as u64, span.rows, "{:?}", span.time);
    if span.rows == 0 {
        return;
    }
    let every = BooleanArray::from(vec![true; span.blocks.series()]);
    let blocks = span.blocks.select(&every, std::slice::from_ref(&(span.number..span.number + 1))).unwrap();
    let double = |name: &str, measure| {
        let column = blocks.measure(name, &DataType::Float64, measure).unwrap().unwrap();
        column.as_primitive::<Float64Type>().clone()
    };
    let integer = |name: &str, measure| {
        let column = blocks.measure(name, &DataType::Int64, measure).unwrap().unwrap();
        column.as_primitive::<Int64Type>().clone()
    };
    let get = |column: &Float64Array, row: usize| column.is_valid(row).then(|| column.value(row));
    let tags = ["host", "region"].map(|tag| cast(&span.blocks.tag(tag), &DataType::Utf8).unwrap());
    let text = |tag: usize, row: usize| {
        let (tags, row) = (tags[tag].as_string::<i32>(), blocks.series().value(row) as usize);
        tags.is_valid(row).then(|| tags.value(row).to_string())
    };
    let measures = [Measure::Min, Measure::Max, Measure::First, Measure::Last, Measure::Sum];
    let [min, max, first, last, sum] = measures.map(|measure| double("usage", measure));
    let (idle_sum, idle_max) = (integer("idle", Measure::Sum), integer("idle", Measure::Max));
    let usage_count = integer("usage", Measure::Count);
    let (rows, first_times, last_times) =
        (blocks.rows().unwrap(), blocks.first_times().unwrap(), blocks.last_times().unwrap());
    let mut own: BTreeMap<_, Vec<_>> = BTreeMap::new();
    within.iter().for_each(|(key, value)| own.entry((key.0.clone(), key.1.clone())).or_default().push((key.2, *value)));
    assert_eq!(own.len(), blocks.len());
    for row in 0..blocks.len() {
        let own = &own[&(text(0, row), text(1, row))];
        let (oldest, newest) = (own[0], own[own.len() - 1]);
        assert_eq!(rows.value(row), own.len() as i64);
        assert_eq!((first_times.value(row), last_times.value(row)), (oldest.0, newest.0));
        let values: Vec<f64> = own.iter().filter_map(|(_, value)| value.0).collect();
        assert_eq!(usage_count.value(row), values.len() as i64);
        assert_eq!(get(&min, row), values.iter().copied().reduce(f64::min));
        assert_eq!(get(&max, row), values.iter().copied().reduce(f64::max));
        assert_eq!((get(&first, row), get(&last, row)), (oldest.1.0, newest.1.0));
        assert_eq!(get(&sum, row).is_some(), !values.is_empty());
        assert!((get(&sum, row).unwrap_or(0.0) - values.iter().sum::<f64>()).abs() < 1e-6);
        let idle: Vec<i64> = own.iter().filter_map(|(_, value)| value.1).collect();
        assert_eq!(idle_sum.value(row), idle.iter().sum::<i64>());
        assert_eq!(idle_max.value(row), *idle.iter().max().unwrap());
    }
}

fn roll_up(db: &Db, name: &str, width_us: i64, columns: Vec<String>) {
    db.alter_table("cpu", Alteration::AddRollup(Rollup { name: name.into(), width_us, columns })).unwrap();
}

const HOUR: i64 = 60 * MINUTE;

/// The spans of a width that know everything of both columns.
fn spans(db: &Db, range: TimeRange, width_us: i64) -> Vec<BlockSpan> {
    let snapshot = db.snapshot();
    let knows = |blocks: &Blocks| ["usage", "idle"].iter().all(|name| blocks.knows(name, Measure::Sum));
    snapshot.table("cpu").unwrap().block_spans(&[range], width_us, knows).unwrap()
}

fn spanned_rows(db: &Db, width_us: i64) -> u64 {
    spans(db, TimeRange::ALL, width_us).iter().map(|span| span.rows).sum()
}

fn check(commands: &[Command], bounds: (i64, i64)) {
    let (_disk, db) = opened_with(&[wide()]);
    for (place, command) in commands.iter().enumerate() {
        if place == commands.len() / 3 {
            let columns = vec!["usage".into(), "idle".into()];
            roll_up(&db, "fine", 5 * MINUTE, columns);
            roll_up(&db, "part", 10 * MINUTE, vec!["usage".into()]);
        }
        apply(&db, command);
    }
    let snapshot = db.snapshot();
    let all = rows_of(&scan(&snapshot, "cpu", &request(TimeRange::ALL)).unwrap());
    let bounded = TimeRange { from: bounds.0 * MINUTE, to: (bounds.0 + bounds.1) * MINUTE };
    for time in [TimeRange::ALL, bounded, TimeRange { from: i64::MIN, to: bounded.to }] {
        check_latest(&snapshot, &all, time);
        for width_us in snapshot.table("cpu").unwrap().block_widths(time).unwrap() {
            let spans = spans(&db, time, width_us);
            assert!(spans.windows(2).all(|pair| pair[0].time.to <= pair[1].time.from), "spans overlap");
            assert!(spans.iter().all(|span| time.from <= span.time.from && span.time.to <= time.to));
            spans.iter().for_each(|span| check_span(span, &all));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn newest_rows_and_blocks_agree_with_a_scan(
        commands in commands(), bounds in (0..4_500_i64, 1..2_000_i64)
    ) {
        check(&commands, bounds);
    }
}

#[test]
fn blocks_speak_for_all_rows_of_a_part_that_is_alone_and_for_none_that_late_rows_touch() {
    let (_disk, db) = opened_with(&[wide()]);
    let day = Command::Rows { hosts: 4, from: 0, minutes: 1440, nulls: 7, seed: 3 };
    apply(&db, &day);
    apply(&db, &Command::Flush);
    let rows = |db: &Db| spanned_rows(db, HOUR);
    assert_eq!(rows(&db), 4 * 1440);
    // A late row in the memory takes its hour away, a flush of it no more than that.
    apply(&db, &Command::Rows { hosts: 1, from: 90, minutes: 1, nulls: 2, seed: 1 });
    assert_eq!(rows(&db), 4 * 1440 - 4 * 60);
    apply(&db, &Command::Flush);
    assert_eq!(rows(&db), 4 * 1440 - 4 * 60);
    // Rows of the next day touch nothing.
    apply(&db, &Command::Rows { hosts: 4, from: 1440, minutes: 1440, nulls: 7, seed: 3 });
    assert_eq!(rows(&db), 4 * 1440 - 4 * 60);
    apply(&db, &Command::Flush);
    assert_eq!(rows(&db), 8 * 1440 - 4 * 60);
}

#[test]
fn a_row_that_is_no_number_takes_minimum_maximum_and_sum_away_and_leaves_the_rest() {
    let (_disk, db) = opened_with(&[wide()]);
    let value = |minute: i64| if minute == 77 { f64::NAN } else { minute as f64 };
    let rows: Vec<CpuRow> = (0..2_880).map(|minute| row(1, minute, Some(value(minute)))).collect();
    db.commit(vec![cpu_write(&rows)]).unwrap();
    db.flush(None).unwrap();
    let snapshot = db.snapshot();
    let spans = snapshot.table("cpu").unwrap().block_spans(&[TimeRange::ALL], HOUR, |_| true).unwrap();
    let blocks = &spans[0].blocks;
    assert!([Measure::Min, Measure::Max, Measure::Sum].into_iter().all(|measure| !blocks.knows("usage", measure)));
    assert!([Measure::Count, Measure::First, Measure::Last].into_iter().all(|measure| blocks.knows("usage", measure)));
    // A column that no row of the part names is null throughout.
    let every = BooleanArray::from(vec![true; blocks.series()]);
    let selected = blocks.select(&every, std::slice::from_ref(&(i64::MIN..i64::MAX))).unwrap();
    let absent = selected.measure("idle", &DataType::Int64, Measure::Max).unwrap().unwrap();
    assert_eq!((absent.null_count(), absent.len()), (48, 48));
}

#[test]
fn a_series_that_only_an_older_part_has_is_among_the_newest_rows() {
    const DAY_MINUTES: i64 = 24 * 60;
    let (_disk, db) = opened_with(&[wide()]);
    let write = |hosts: std::ops::Range<u8>, day: i64| {
        let minutes = day * DAY_MINUTES..(day + 1) * DAY_MINUTES;
        let rows: Vec<CpuRow> =
            hosts.flat_map(|host| minutes.clone().map(move |minute| row(host, minute, Some(minute as f64)))).collect();
        db.commit(vec![cpu_write(&rows)]).unwrap();
        db.flush(None).unwrap();
    };
    // Series that go, series that come, and the same ones again.
    write(0..4, 0);
    write(1..5, 9);
    write(2..6, 18);
    write(2..6, 27);
    write(2..5, 36);
    let snapshot = db.snapshot();
    let all = rows_of(&scan(&snapshot, "cpu", &request(TimeRange::ALL)).unwrap());
    for days in [0..1, 0..10, 0..19, 9..30, 0..37] {
        let minute = |day: i64| day * DAY_MINUTES * MINUTE;
        check_latest(&snapshot, &all, TimeRange { from: minute(days.start), to: minute(days.end) });
    }
}

#[test]
fn slices_cut_in_two_give_the_rows_of_the_whole() {
    let (_disk, db) = opened_with(&[wide()]);
    let rows: Vec<CpuRow> =
        (0..3).flat_map(|host| (0..3_000).map(move |minute| row(host, minute, Some(minute as f64)))).collect();
    db.commit(vec![cpu_write(&rows)]).unwrap();
    db.flush(None).unwrap();
    db.commit(vec![cpu_write(&[row(1, 2_999, None), row(1, 3_001, Some(1.0))])]).unwrap();
    let slices = db.snapshot().table("cpu").unwrap().scan(&request(TimeRange::ALL)).unwrap();
    let read = |range: TimeRange| -> Rows {
        let cut = slices.iter().map(|slice| slice.within(range));
        rows_of(
            &cut.flat_map(|slice| slice.read().unwrap().collect::<Result<Vec<_>, _>>().unwrap()).collect::<Vec<_>>(),
        )
    };
    let all = read(TimeRange::ALL);
    assert_eq!(all.len(), 9_001);
    for cut in [0, 1_500, 2_999, 3_000, 3_001, 9_999].map(|minute| minute * MINUTE) {
        let (mut older, newer) =
            (read(TimeRange { from: i64::MIN, to: cut }), read(TimeRange { from: cut, to: i64::MAX }));
        assert!(older.keys().all(|key| key.2 < cut) && newer.keys().all(|key| key.2 >= cut));
        older.extend(newer);
        assert_eq!(older, all);
    }
}
