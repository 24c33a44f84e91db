//! Uploads to `POST /api/v4/ingest`: Parquet, Arrow, NDJSON and CSV, whole or not at all.
//!
//! **Invariant:** after a refused upload the table holds what it held before, row by row and column by column.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, DurationSecondArray,
    Float32Array, Float64Array, Int8Array, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt16Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use juno_tests::Server;
use parquet::arrow::ArrowWriter;
use serde_json::json;

use crate::client::{Answer, Postgres, http};
use crate::server;

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";
const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";

fn upload(server: &Server, query: &str, media: &str, body: &[u8]) -> Answer {
    http(server, "POST", &format!("/api/v4/ingest?{query}"), &[("Content-Type", media)], body)
}

/// Uploads rows that are all good.
fn stored(server: &Server, query: &str, media: &str, body: &[u8], rows: usize) {
    let answer = upload(server, query, media, body);
    assert_eq!(answer.status, 200, "{media} {query}: {}", answer.text());
    assert_eq!(answer.json()["rows"], rows, "{media} {query}");
}

/// Uploads what must be refused; gives what is said.
fn refused(server: &Server, query: &str, media: &str, body: &[u8], status: u16, slug: &str) -> String {
    let answer = upload(server, query, media, body);
    let text = answer.text();
    assert_eq!((answer.status, answer.content_type.as_str()), (status, "application/problem+json"), "{query}: {text}");
    let said = answer.json();
    assert_eq!(said["type"], format!("/problems/{slug}"), "{query}: {text}");
    said["detail"].as_str().expect("a detail").to_owned()
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(vec![], batch.schema(), None).expect("a writer");
    writer.write(batch).expect("rows");
    writer.into_inner().expect("a file")
}

fn arrow(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(vec![], &batch.schema()).expect("a writer");
    writer.write(batch).expect("rows");
    writer.into_inner().expect("a stream")
}

fn times(micros: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("+00:00"))
}

/// Rows of one time, with one more column.
fn with(name: &str, column: ArrayRef) -> RecordBatch {
    let time = times(&(0..column.len() as i64).map(|row| row * 1_000_000).collect::<Vec<_>>());
    RecordBatch::try_from_iter([("time", time), (name, column)]).expect("columns of one length")
}

/// What a table is: its columns with their types, and all of its rows.
fn picture(postgres: &Postgres, table: &str) -> Vec<String> {
    let columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name =";
    let mut found = postgres.rows(&format!("{columns} '{table}' ORDER BY ordinal_position"));
    found.extend(postgres.rows(&format!("SELECT * FROM {table} ORDER BY time")));
    found
}

#[test]
fn the_four_formats_store_the_same_rows() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let batch = RecordBatch::try_from_iter([
        ("time", times(&[1_767_225_600_000_000, 1_767_225_660_000_001])),
        ("host", Arc::new(StringArray::from(vec![Some("a"), Some("b,\"c\"")])) as ArrayRef),
        ("v", Arc::new(Float64Array::from(vec![Some(1.5), None]))),
        ("ok", Arc::new(BooleanArray::from(vec![None, Some(true)]))),
    ])
    .expect("columns of one length");
    let csv = b"time,host,v,ok\n2026-01-01T00:00:00Z,a,1.5,\n2026-01-01 00:01:00.000001,\"b,\"\"c\"\"\",,true\n";
    let ndjson = b"{\"time\":\"2026-01-01T00:00:00Z\",\"host\":\"a\",\"v\":1.5}\n\
                   {\"ok\":true,\"host\":\"b,\\\"c\\\"\",\"time\":\"2026-01-01T01:01:00.000001+01:00\"}\n";
    let bodies = [
        ("c", CSV, csv.to_vec()),
        ("n", NDJSON, ndjson.to_vec()),
        ("s", ARROW, arrow(&batch)),
        ("p", PARQUET, parquet(&batch)),
    ];
    for (table, media, body) in &bodies {
        stored(&server, &format!("table={table}"), media, body, 2);
        // Uploading it again replaces each row by itself.
        stored(&server, &format!("table={table}"), &format!("{media}; charset=utf-8"), body, 2);
        let rows = postgres.rows(&format!("SELECT time, host, v, ok FROM {table} ORDER BY time"));
        let expected = ["2026-01-01 00:00:00+00|a|1.5|NULL", "2026-01-01 00:01:00.000001+00|b,\"c\"|NULL|t"];
        assert_eq!(rows, expected, "{media}");
    }
    let mut zipped = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    zipped.write_all(csv).expect("memory takes every write");
    let zipped = zipped.finish().expect("memory takes every write");
    let headers = [("Content-Type", CSV), ("Content-Encoding", "gzip")];
    assert_eq!(http(&server, "POST", "/api/v4/ingest?table=z", &headers, &zipped).status, 200);
    assert_eq!(postgres.value("SELECT count(*) FROM z"), "2");
    let mut file = FileWriter::try_new(vec![], &batch.schema()).expect("a writer");
    file.write(&batch).expect("rows");
    let file = file.into_inner().expect("a file");
    stored(&server, "table=f", "application/vnd.apache.arrow.file", &file, 2);
}

#[test]
fn the_request_names_time_tags_and_unit() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let csv = b"at,when,host,rack,v\n1,1700000000,a,1,1\n1,1700000000,b,1,2\n";
    stored(&server, "table=t&time=when&precision=s&tags=host,rack", CSV, csv, 2);
    assert_eq!(
        postgres.rows("SELECT \"when\", host, rack, v FROM t ORDER BY host"),
        ["2023-11-14 22:13:20+00|a|1|1", "2023-11-14 22:13:20+00|b|1|2"]
    );
    let two = b"time,host,note,v\n2026-01-01,a,x,1\n2026-01-01,a,y,2\n";
    stored(&server, "table=field&tags=host", CSV, two, 2);
    assert_eq!(postgres.rows("SELECT note, v FROM field"), ["y|2"], "a text that is no tag is a field");
    stored(&server, "table=tag", CSV, two, 2);
    assert_eq!(postgres.value("SELECT count(*) FROM tag"), "2", "texts of a new table are tags where none are named");
    let words: &[(&str, u16, &str, &str)] = &[
        ("table=u&time=nothing", 422, "unstorable-rows", "nothing"),
        ("table=u&tags=nothing", 422, "unstorable-rows", "nothing"),
        ("table=field&tags=v", 422, "unstorable-rows", "(host)"),
        ("table=u&precision=fortnights", 400, "invalid-parameter-value", "fortnights"),
        ("table=u&colour=red", 400, "unknown-parameter", "colour"),
        ("table=", 400, "invalid-parameter-value", "table=NAME"),
        ("", 400, "invalid-parameter-value", "table=NAME"),
    ];
    for (query, status, slug, word) in words {
        let said = refused(&server, query, CSV, two, *status, slug);
        assert!(said.contains(word), "{query}: {said}");
    }
    let said = refused(&server, "table=u", CSV, b"time,v\n1700000000,1\n", 422, "unstorable-rows");
    assert!(said.contains("precision="), "{said}");
}

#[test]
fn narrow_columns_widen_and_times_of_any_unit_are_microseconds() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let dictionary: DictionaryArray<Int32Type> = vec!["a"].into_iter().collect();
    let decimal = Decimal128Array::from(vec![12_345]).with_precision_and_scale(10, 2).expect("a decimal");
    let batch = RecordBatch::try_from_iter([
        ("time", Arc::new(TimestampNanosecondArray::from(vec![1_999])) as ArrayRef),
        ("host", Arc::new(dictionary)),
        ("big", Arc::new(LargeStringArray::from(vec!["b"]))),
        ("f32", Arc::new(Float32Array::from(vec![0.5]))),
        ("i8", Arc::new(Int8Array::from(vec![-7]))),
        ("u16", Arc::new(UInt16Array::from(vec![65_535]))),
        ("u64", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        ("dec", Arc::new(decimal)),
        ("day", Arc::new(Date32Array::from(vec![1]))),
    ])
    .expect("columns of one length");
    stored(&server, "table=w", PARQUET, &parquet(&batch), 1);
    let sql = br#"{"sql": "SELECT time, host, big, f32, i8, u16, u64, dec, day FROM w"}"#;
    let rows = http(&server, "POST", "/api/v4/query", &[], sql).json()["rows"].clone();
    let (time, day) = ("1970-01-01T00:00:00.000001Z", "1970-01-02T00:00:00.000000Z");
    assert_eq!(rows, json!([[time, "a", "b", 0.5, -7, 65_535, u64::MAX, 123.45, day]]));
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1]));
    let integers: ArrayRef = Arc::new(Int64Array::from(vec![5]));
    let batch = RecordBatch::try_from_iter([("time", seconds), ("f32", integers)]).expect("columns of one length");
    stored(&server, "table=w", ARROW, &arrow(&batch), 1);
    assert_eq!(
        postgres.rows("SELECT f32, host FROM w WHERE time = '1970-01-01T00:00:01Z'"),
        ["5|NULL"],
        "an integer goes into a float"
    );
    let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 1.0]));
    stored(&server, "table=nan", PARQUET, &parquet(&with("v", nan)), 2);
    assert_eq!(postgres.rows("SELECT v FROM nan ORDER BY time"), ["NULL", "1"], "NaN is no value");
}

/// A table with one row that every refused upload must leave alone.
fn settled(server: &Server, postgres: &Postgres) -> Vec<String> {
    let ndjson = b"{\"time\":\"2026-01-01T00:00:00Z\",\"host\":\"a\",\"v\":1.5,\"ok\":true}\n";
    stored(server, "table=t&tags=host", NDJSON, ndjson, 1);
    picture(postgres, "t")
}

#[test]
fn text_that_is_damaged_or_does_not_fit_stores_nothing() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let before = settled(&server, &postgres);
    let good = "2026-01-02T00:00:00Z,a,1";
    let csv: &[(String, u16, &str, &str)] = &[
        (format!("time,host,v\n{good}\n2026-01-03T00:00:00Z,a\n"), 400, "unreadable-body", "line 3"),
        (format!("time,host,v\n{good}\n2026-01-03T00:00:00Z,a,oops\n"), 400, "unreadable-body", "oops"),
        (format!("time,host,v\n{good}\nnever,a,1\n"), 422, "unstorable-rows", "row 2"),
        (format!("time,host,v\n{good}\n,a,1\n"), 422, "unstorable-rows", "row 2"),
        (format!("time,host,v\n{good}\n99999-01-01 00:00:00,a,1\n"), 422, "unstorable-rows", "row 2"),
        (format!("time,host,v\n{good}\n2026-01-03T00:00:00Z,a,inf\n"), 422, "unstorable-rows", "row 2"),
        ("host,v\na,1\n".into(), 422, "unstorable-rows", "host, v"),
        (String::new(), 422, "unstorable-rows", "time"),
    ];
    for (body, status, slug, word) in csv {
        let said = refused(&server, "table=t", CSV, body.as_bytes(), *status, slug);
        assert!(said.contains(word), "{body}: {said}");
    }
    let line = "{\"time\":\"2026-01-02T00:00:00Z\",\"host\":\"a\",\"v\":1}";
    let ndjson: &[(String, u16, &str, &str)] = &[
        (format!("{line}\n{{\"time\":\"2026-01-03T"), 400, "unreadable-body", "EOF"),
        (format!("{line}\n[1]\n"), 400, "unreadable-body", "object"),
        (format!("{line}\n{{\"time\":\"2026-01-03T00:00:00Z\",\"v\":\"text\"}}\n"), 400, "unreadable-body", "text"),
        (
            format!("{line}\n{{\"time\":\"2026-01-03T00:00:00Z\",\"deep\":{{\"x\":1}}}}\n"),
            422,
            "unstorable-rows",
            "\"deep\"",
        ),
        (format!("{line}\n{{\"time\":\"2026-01-03T00:00:00Z\",\"list\":[1]}}\n"), 422, "unstorable-rows", "\"list\""),
        (format!("{line}\n{{\"v\":1}}\n"), 422, "unstorable-rows", "row 2"),
    ];
    for (body, status, slug, word) in ndjson {
        let said = refused(&server, "table=t", NDJSON, body.as_bytes(), *status, slug);
        assert!(said.contains(word), "{body}: {said}");
    }
    assert_eq!(picture(&postgres, "t"), before);
}

#[test]
fn parquet_and_arrow_that_are_damaged_store_nothing() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let before = settled(&server, &postgres);
    let numbers: ArrayRef = Arc::new(Float64Array::from_iter_values((0..5000).map(|n| f64::from(n).sin())));
    let (file, stream) = (parquet(&with("v", Arc::clone(&numbers))), arrow(&with("v", numbers)));
    for keep in [0, 4, 12, file.len() / 3, file.len() / 2, file.len() - 1] {
        refused(&server, "table=t", PARQUET, &file[..keep], 400, "unreadable-body");
    }
    // The head of the first page, and the footer that says where the pages are.
    for place in [4, file.len() - 30] {
        let mut damaged = file.clone();
        damaged[place..place + 16].fill(0xFF);
        refused(&server, "table=t", PARQUET, &damaged, 400, "unreadable-body");
    }
    for keep in [0, 6, 40, stream.len() / 2] {
        refused(&server, "table=t", ARROW, &stream[..keep], 400, "unreadable-body");
    }
    refused(&server, "table=t", ARROW, &file, 400, "unreadable-body");
    refused(&server, "table=t", PARQUET, &stream, 400, "unreadable-body");
    assert_eq!(picture(&postgres, "t"), before);
    stored(&server, "table=t", PARQUET, &file, 5000);
}

#[test]
fn columns_that_telemetry_does_not_have_are_refused_by_name() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let before = settled(&server, &postgres);
    let item = Arc::new(Field::new("inner", DataType::Int64, true));
    let nested: ArrayRef = Arc::new(StructArray::from(vec![(item, Arc::new(Int64Array::from(vec![1])) as ArrayRef)]));
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)])]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"x"]));
    let duration: ArrayRef = Arc::new(DurationSecondArray::from(vec![1]));
    for odd in [nested, list, bytes, duration] {
        let batch = with("odd", odd);
        for (media, body) in [(PARQUET, parquet(&batch)), (ARROW, arrow(&batch))] {
            // Parquet keeps a duration as the integer that it is.
            if media == PARQUET && matches!(batch["odd"].data_type(), DataType::Duration(_)) {
                continue;
            }
            for table in ["t", "fresh"] {
                let said = refused(&server, &format!("table={table}"), media, &body, 422, "unstorable-rows");
                assert!(said.contains("\"odd\""), "{said}");
            }
        }
    }
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let said = refused(&server, "table=t", PARQUET, &parquet(&with("v", text)), 422, "unstorable-rows");
    assert!(said.contains("\"v\""), "{said}");
    let infinite: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::INFINITY]));
    let said = refused(&server, "table=t", ARROW, &arrow(&with("v", infinite)), 422, "unstorable-rows");
    assert!(said.contains("row 2"), "{said}");
    let late = RecordBatch::try_from_iter([
        ("time", times(&[i64::MAX])),
        ("v", Arc::new(Float64Array::from(vec![1.0])) as ArrayRef),
    ]);
    let late = arrow(&late.expect("columns of one length"));
    assert!(refused(&server, "table=t", ARROW, &late, 422, "unstorable-rows").contains("row 1"));
    assert_eq!(picture(&postgres, "t"), before);
    assert_eq!(postgres.error("SELECT * FROM fresh").0, "42P01", "a refused upload makes no table");
}

#[test]
fn what_is_no_upload_is_refused_before_it_is_read() {
    let server = server();
    let csv = b"time,v\n2026-01-01T00:00:00Z,1\n";
    for media in ["application/json", "application/x-www-form-urlencoded", "text/plain", ""] {
        let said = refused(&server, "table=t", media, csv, 415, "unsupported-media-type");
        assert!(said.contains(PARQUET) && said.contains(CSV), "{said}");
    }
    let said = refused(&server, "table=threat_events", CSV, csv, 422, "unstorable-rows");
    assert!(said.contains("primary key"), "{said}");
    let said = refused(&server, "table=threats_alerts", CSV, csv, 422, "invalid-definition");
    assert!(said.contains("view"), "{said}");
    let mut stream = TcpStream::connect(server.url("").replace("http://", "")).expect("a connection");
    let head = "POST /api/v4/ingest?table=t HTTP/1.1\r\nHost: juno\r\nConnection: close\r\nContent-Type: text/csv\r\n\
                Content-Length: 20000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("the head is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer before the body was sent");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(Postgres::connect(&server).error("SELECT * FROM t").0, "42P01");
}

#[test]
fn an_upload_of_many_batches_is_stored_whole_or_not_at_all() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let mut csv = String::from("time,v\n");
    for row in 0..70_000 {
        csv.push_str(&format!("{row},{}\n", row % 7));
    }
    let cut = refused(
        &server,
        "table=t&precision=s",
        CSV,
        format!("{csv}9223372036854775807,1\n").as_bytes(),
        422,
        "unstorable-rows",
    );
    assert!(cut.contains("row 70001"), "{cut}");
    assert_eq!(postgres.error("SELECT * FROM t").0, "42P01");
    stored(&server, "table=t&precision=s", CSV, csv.as_bytes(), 70_000);
    assert_eq!(
        postgres.rows("SELECT count(*), sum(v) FROM t"),
        [format!("70000|{}", (0..70_000).map(|row| row % 7).sum::<i64>())]
    );
    let metrics = http(&server, "GET", "/metrics", &[], b"").text();
    assert!(metrics.contains("juno_rows_ingested_total{format=\"csv\"} 70000\n"), "{metrics}");
    postgres.rows("CALL flush()");
    assert_eq!(postgres.value("SELECT count(*) FROM t WHERE v = 6"), "10000");
}

#[test]
fn a_long_upload_is_kept_in_a_file_and_stored_whole_or_not_at_all() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let filler = "y".repeat(4000);
    let rows = 22_000;
    let mut csv = String::from("time,host,message,n\n");
    for n in 0..rows {
        writeln!(csv, "2026-01-01T{:02}:{:02}:{:02}Z,h{},{n}{filler},{n}", n / 3600, n / 60 % 60, n % 60, n % 7)
            .expect("memory");
    }
    let query = "table=logs&tags=host";
    let bad = format!("{csv}never,h,m,1\n");
    refused(&server, query, CSV, bad.as_bytes(), 422, "unstorable-rows");
    assert_eq!(postgres.error("SELECT * FROM logs").0, "42P01", "not even the table was made");
    for _ in 0..2 {
        stored(&server, query, CSV, csv.as_bytes(), rows);
        let sum = rows * (rows - 1) / 2;
        assert_eq!(postgres.value("SELECT count(*) || ' ' || sum(n)::BIGINT FROM logs"), format!("{rows} {sum}"));
    }
    let before = picture(&postgres, "logs").len();
    refused(&server, query, CSV, format!("{csv}2026-01-02T00:00:00Z,h,\"m,1\n").as_bytes(), 400, "unreadable-body");
    assert_eq!(picture(&postgres, "logs").len(), before);
    let mut names =
        std::fs::read_dir(server.data()).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    assert!(names.all(|name| !name.to_string_lossy().starts_with(".tmp")), "bodies are gone");
}
