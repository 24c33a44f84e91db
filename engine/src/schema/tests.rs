//! What a table definition may be.
//!
//! **Invariant:** touches no disk.

use super::*;

fn cpu() -> TableSchema {
    TableSchema {
        name: "cpu".into(),
        columns: vec![
            Column::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
            Column::new("host", TableSchema::tag_type(), true),
            Column::new("usage", DataType::Float64, true),
        ],
        key: vec![1, 0],
        kind: TableKind::Telemetry { time: 0 },
        retention: None,
    }
}

#[test]
fn a_telemetry_table_knows_its_tags_and_its_time() {
    let table = cpu();
    table.validate().unwrap();
    assert_eq!(table.tags(), [1]);
    assert_eq!(table.time(), Some(0));
    assert_eq!(table.column("usage"), Some(2));
}

#[test]
fn bad_definitions_are_refused_with_a_reason() {
    type Spoil = fn(&mut TableSchema);
    let bad: [(&str, Spoil); 7] = [
        ("begins with two underscores", |t| t.columns[2].name = DELETED.into()),
        ("defined twice", |t| t.columns[2].name = "host".into()),
        ("must end with the time", |t| t.key = vec![0, 1]),
        ("is a float", |t| t.key = vec![1, 2, 0]),
        ("must be a timestamp in microseconds", |t| t.columns[0].nullable = true),
        ("not stored", |t| t.columns[2].data_type = DataType::Utf8View),
        ("each only once", |t| t.key = vec![]),
    ];
    for (reason, spoil) in bad {
        let mut table = cpu();
        spoil(&mut table);
        let error = table.validate().unwrap_err().to_string();
        assert!(error.contains(reason), "{error} should say {reason}");
    }
}

#[test]
fn every_stored_type_has_a_name_that_reads_back() {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    for data_type in [DataType::Boolean, DataType::Int16, utc, DataType::Decimal128(5, 2), TableSchema::tag_type()] {
        let name = type_name(&data_type).unwrap();
        assert_eq!(type_named(&name), Some(data_type));
    }
    assert_eq!(type_named("decimal(x,2)"), None);
}
