//! Pages: parameters into SQL, cursors, links.

use std::sync::Arc;

use arrow::array::{Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};

use super::*;

const NOW_US: i64 = 1_700_000_000_000_000;
const LIST: List<'static> = List {
    path: "/x",
    sql: "SELECT * FROM v",
    time: "at",
    last_day: true,
    filters: &[Filter::new("severity", "severity = {}", Kind::Text)],
};

fn pairs(query: &[(&str, &str)]) -> Pairs {
    query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn asked(query: &[(&str, &str)]) -> Result<Request, Problem> {
    read(&LIST, &pairs(query), NOW_US, None)
}

#[test]
fn the_first_page_is_the_last_day_newest_first() {
    let request = asked(&[]).unwrap();
    assert_eq!(request.job.sql, "SELECT * FROM v WHERE at >= $1 ORDER BY at DESC, id DESC LIMIT 101");
    assert_eq!(request.job.values, ["2023-11-13T22:13:20.000000Z"]);
}

#[test]
fn the_next_page_goes_on_behind_the_last_row_in_the_range_of_the_first() {
    let range = Range { from_us: Some(5), to_us: None };
    let cursor = Cursor { order: Order::Descending, time_us: 7, range, issued_us: NOW_US, id: "u.1".into() };
    let request = asked(&[("cursor", &write_cursor(&cursor)), ("limit", "2"), ("severity", "high")]).unwrap();
    assert_eq!(
        request.job.sql,
        "SELECT * FROM v WHERE at >= $1 AND (severity = $2) AND at <= $3 AND (at < $3 OR id < $4) \
         ORDER BY at DESC, id DESC LIMIT 3"
    );
    assert_eq!(request.job.values[0], "1970-01-01T00:00:00.000005Z");
    assert_eq!(request.job.values[3], "u.1");
    assert_eq!(request.range, range);
}

#[test]
fn rows_may_be_looked_for_in_a_part_of_the_range_only() {
    let since = |query: &[(&str, &str)]| read(&LIST, &pairs(query), NOW_US, Some(5)).unwrap();
    let first = since(&[]);
    assert_eq!(first.job.sql, "SELECT * FROM v WHERE at >= $1 AND at >= $2 ORDER BY at DESC, id DESC LIMIT 101");
    assert_eq!((first.newest_us, first.job.values[1].as_str()), (None, Some("1970-01-01T00:00:00.000005Z")));
    assert_eq!(since(&[("cursor", "d7...1700000000000000.x")]).newest_us, Some(7));
    assert_eq!(since(&[("to", "1970-01-01T00:00:00.000009Z"), ("from", "1970-01-01T00:00:00Z")]).newest_us, Some(9));
}

#[test]
fn ascending_order_turns_the_comparison_round() {
    let request = asked(&[("order", "asc"), ("cursor", "a7...1700000000000000.x")]).unwrap();
    assert!(request.job.sql.contains("at >= $1 AND (at > $1 OR id > $2)"), "{}", request.job.sql);
    assert!(request.job.sql.contains("ORDER BY at ASC, id ASC"), "{}", request.job.sql);
}

#[test]
fn what_the_endpoint_does_not_take_is_400() {
    for query in [
        ("colour", "red"),
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "x"),
        ("order", "up"),
        ("cursor", "zzz"),
        ("cursor", "d7...x"),
        ("cursor", "a7...1700000000000000.x"),
        ("cursor", "d7...1700000000000000."),
        ("count", "perhaps"),
        ("from", "yesterday"),
    ] {
        assert_eq!(asked(&[query]).unwrap_err().status, 400, "{query:?}");
    }
    assert_eq!(asked(&[("limit", "1"), ("limit", "2")]).unwrap_err().status, 400);
}

#[test]
fn cursors_read_back_and_are_plain_in_addresses() {
    for range in [Range::default(), Range { from_us: Some(-1), to_us: Some(9) }] {
        let cursor = Cursor { order: Order::Ascending, time_us: -5, range, issued_us: 3, id: "0190-a.b".into() };
        let text = write_cursor(&cursor);
        assert_eq!(parse_cursor(&text), Some(cursor));
        assert_eq!(percent(&text), text);
    }
}

#[test]
fn a_cursor_expires_a_day_after_it_was_given_out() {
    let asked_at = |now_us: i64| {
        let range = Range::default();
        let cursor = Cursor { order: Order::Descending, time_us: 7, range, issued_us: NOW_US, id: "u".into() };
        read(&LIST, &pairs(&[("cursor", &write_cursor(&cursor))]), now_us, None)
    };
    assert!(asked_at(NOW_US + CURSOR_US_MAX).is_ok());
    let expired = asked_at(NOW_US + CURSOR_US_MAX + 1).unwrap_err();
    assert_eq!((expired.status, expired.kind.as_str()), (410, "/problems/cursor-expired"));
    assert!(expired.detail.contains("start anew") && expired.errors[0].pointer == "?cursor", "{}", expired.detail);
}

#[test]
fn rows_are_counted_under_the_filters_and_not_under_the_cursor() {
    let query =
        [("severity", "high"), ("cursor", "d7...1700000000000000.x"), ("count", "exact"), ("from", "1"), ("to", "2")];
    let (wanted, conditions) = asked(&query).unwrap().counted.unwrap();
    assert_eq!((wanted, conditions.values.len()), (Wanted::Exact, 3));
    assert_eq!(conditions.clause(), " WHERE at >= $1 AND at < $2 AND (severity = $3)");
    assert!(asked(&[]).unwrap().counted.is_none());
}

#[test]
fn the_link_keeps_the_filters_and_replaces_the_cursor() {
    let pairs = pairs(&[("severity", "a b&c"), ("cursor", "old"), ("from", "now-7d"), ("limit", "2")]);
    assert_eq!(link("/x", &pairs, "d1...u"), "</x?severity=a%20b%26c&limit=2&cursor=d1...u>; rel=\"next\"");
}

#[test]
fn the_document_says_whether_there_is_more() {
    let times = TimestampMicrosecondArray::from(vec![7]).with_timezone("+00:00");
    let kind = times.data_type().clone();
    let schema = Schema::new(vec![Field::new("at", kind, false), Field::new("id", DataType::Utf8, false)]);
    let rows =
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(times), Arc::new(StringArray::from(vec!["u"]))]).unwrap();
    let next = cursor_after(&LIST, &asked(&[]).unwrap(), &rows).unwrap();
    let json: serde_json::Value = serde_json::from_str(&document(&rows, Some(&next), None).unwrap()).unwrap();
    assert_eq!(json["items"][0]["at"], "1970-01-01T00:00:00.000007Z");
    assert_eq!((json["has_more"].as_bool(), json["next_cursor"].as_str()), (Some(true), Some(next.as_str())));
    let last: serde_json::Value = serde_json::from_str(&document(&rows, None, None).unwrap()).unwrap();
    assert_eq!((last["has_more"].as_bool(), last["next_cursor"].is_null()), (Some(false), true));
    let count = Some(Count { rows: 12, is: "estimate" });
    let counted: serde_json::Value = serde_json::from_str(&document(&rows, None, count).unwrap()).unwrap();
    assert_eq!((counted["count"].as_i64(), counted["count_is"].as_str()), (Some(12), Some("estimate")));
    assert!(last.get("count").is_none(), "{last}");
}
