//! Rows that need no file: gauges of many hosts, the same in every run.
//!
//! **Invariant:** a row follows from its host and its tick alone.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use juno_sql::engine::{Column, TableKind, TableSchema};

/// 2026-01-01T00:00:00Z in microseconds.
pub const START_US: i64 = 1_767_225_600_000_000;

/// The fields of a row.
pub const FIELDS: [&str; 5] = ["usage", "load", "memory", "reads", "writes"];

/// A telemetry table of hosts: time, the tag `host`, and gauges with two decimals.
pub fn table(name: &str) -> TableSchema {
    let zone = Some("+00:00".into());
    let mut columns = vec![
        Column::new("time", DataType::Timestamp(TimeUnit::Microsecond, zone), false),
        Column::new("host", TableSchema::tag_type(), true),
    ];
    columns.extend(FIELDS.map(|field| Column::new(field, DataType::Float64, true)));
    TableSchema { name: name.into(), columns, key: vec![1, 0], kind: TableKind::Telemetry { time: 0 }, retention: None }
}

/// The name of a host.
pub fn host(number: usize) -> String {
    format!("host_{number}")
}

/// The value of a host's field at a tick: 0 to 99.99.
pub fn value(host: usize, tick: usize, field: usize) -> f64 {
    let mixed = (host as u64 * 31 + field as u64 * 7 + tick as u64 / 8).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let slow = (tick as f64 / 50.0 + host as f64).sin() * 4000.0 + 5000.0;
    (slow + (mixed % 999) as f64).floor() / 100.0
}

/// The rows of some hosts at some ticks, tick by tick as they would be measured; a tick is `step_us` long.
///
/// # Errors
/// Never for ranges that are not empty.
pub fn batch(
    hosts: std::ops::Range<usize>,
    ticks: std::ops::Range<usize>,
    first_us: i64,
    step_us: i64,
) -> Result<RecordBatch, ArrowError> {
    let places = ticks.flat_map(|tick| hosts.clone().map(move |host| (tick, host)));
    let places: Vec<(usize, usize)> = places.collect();
    let times = places.iter().map(|(tick, _)| first_us + *tick as i64 * step_us);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("+00:00");
    let keys = Int32Array::from_iter_values(places.iter().map(|(_, host)| (host - hosts.start) as i32));
    let names = StringArray::from_iter_values(hosts.clone().map(host));
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("time", Arc::new(times)), ("host", Arc::new(DictionaryArray::try_new(keys, Arc::new(names))?))];
    for (index, field) in FIELDS.iter().enumerate() {
        let values = places.iter().map(|&(tick, host)| value(host, tick, index));
        columns.push((field, Arc::new(Float64Array::from_iter_values(values))));
    }
    RecordBatch::try_from_iter(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_of_the_table_and_in_order_of_time() {
        let batch = batch(3..5, 0..2, START_US, 1_000_000).unwrap();
        assert_eq!(batch.num_rows(), 4);
        let table = table("m");
        for (field, column) in batch.schema().fields().iter().zip(&table.columns) {
            assert_eq!((field.name(), field.data_type()), (&column.name, &column.data_type));
        }
        assert!((0..500).all(|tick| (0.0..100.0).contains(&value(7, tick, 2))));
    }
}
