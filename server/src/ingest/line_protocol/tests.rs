//! Line protocol: what is kept, what is refused and how it is said.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;

const NOW_US: i64 = 1_700_000_000_000_000;

fn parsed(text: &str) -> Parsed {
    parse(text.as_bytes(), Precision::Nanoseconds, NOW_US, &|_| None)
}

fn into(known: &Known, text: &str) -> Parsed {
    parse(text.as_bytes(), Precision::Nanoseconds, NOW_US, &|_| Some(known.clone()))
}

fn cpu() -> Known {
    let fields = [("usage", DataType::Float64), ("cores", DataType::Int64)];
    let fields = fields.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
    Known { name: "cpu".into(), time: Some("ts".into()), tags: vec!["host".into()], fields }
}

fn messages(parsed: &Parsed) -> Vec<(u64, &str)> {
    parsed.rejected.iter().map(|bad| (bad.line, bad.message.as_str())).collect()
}

#[test]
fn a_line_becomes_tags_time_and_fields_of_their_kinds() {
    let parsed = parsed("cpu,host=a\\ b usage=1,n=2i,u=3u,ok=t,note=\"x \\\"y\\\"\" 1500\ncpu,host=c usage=2 -1\n");
    assert_eq!((parsed.accepted, parsed.rejected_total), (2, 0));
    let incoming = &parsed.incoming[0];
    assert_eq!(
        (incoming.table.as_str(), incoming.time.as_str(), &incoming.tags),
        ("cpu", "time", &vec!["host".to_owned()])
    );
    let rows = &incoming.rows;
    assert_eq!(rows["time"].as_primitive::<TimestampMicrosecondType>().values(), &[1, -1]);
    let hosts = rows["host"].as_dictionary::<Int32Type>().downcast_dict::<arrow::array::StringArray>().unwrap();
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), [Some("a b"), Some("c")]);
    assert_eq!(rows["usage"].as_primitive::<Float64Type>().values(), &[1.0, 2.0]);
    assert_eq!(rows["n"].as_primitive::<Int64Type>().value(0), 2);
    assert!(rows["n"].is_null(1) && rows["ok"].is_null(1) && rows["note"].is_null(1));
    assert_eq!(rows["note"].as_string::<i32>().value(0), "x \"y\"");
    assert_eq!(rows["u"].data_type(), &DataType::UInt64);
}

#[test]
fn a_point_without_time_is_now_and_comments_are_no_lines_of_data() {
    let parsed = parsed("# it's a \"comment\n\n  \r\nm v=1\r\n");
    assert_eq!((parsed.accepted, parsed.rejected_total), (1, 0));
    assert_eq!(parsed.incoming[0].rows["time"].as_primitive::<TimestampMicrosecondType>().value(0), NOW_US);
}

#[test]
fn bad_lines_are_named_and_the_good_ones_kept() {
    let parsed = parsed("m v=1 1000\nm v=\nm 5\nm v=2 2000\nm,t v=1\nm v=1 x\nm v=3 3000");
    assert_eq!((parsed.accepted, parsed.rejected_total), (3, 4));
    assert_eq!(parsed.rejected.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 5, 6]);
    assert_eq!(parsed.incoming[0].rows["v"].as_primitive::<Float64Type>().values(), &[1.0, 2.0, 3.0]);
}

#[test]
fn not_a_number_infinities_and_times_out_of_range_are_refused() {
    let parsed = parsed("m v=NaN 1\nm v=+Inf 1\nm v=1e999 1\nm v=99999999999999999999i 1\nm v=1 99999999999999999999");
    assert_eq!(parsed.rejected_total, 5);
    let said = messages(&parsed);
    assert!(
        said[0].1.contains("NaN") && said[1].1.contains("infinities") && said[2].1.contains("not a finite number"),
        "{said:?}"
    );
    let seconds = parse(b"m v=1 9223372036854775807", Precision::Seconds, NOW_US, &|_| None);
    assert!(seconds.rejected[0].message.contains("out of range"), "{:?}", seconds.rejected);
}

#[test]
fn a_newline_in_quotes_belongs_to_the_value() {
    let parsed = parsed("m s=\"a\nb\" 1\nm s=oops 2\n");
    assert_eq!(parsed.incoming[0].rows["s"].as_string::<i32>().value(0), "a\nb");
    assert_eq!(parsed.rejected[0].line, 3);
}

#[test]
fn quotes_that_do_not_close_cost_one_line_only() {
    let parsed = parsed("m s=\"a 1\nm v=1 2\nm v=2 3\n");
    assert_eq!((parsed.accepted, messages(&parsed).len(), parsed.rejected[0].line), (2, 1, 1));
    let twice = self::parsed("m s=\"a 1\nm s=\"good\" 2\nm v=2 3");
    assert_eq!((twice.accepted, twice.rejected[0].line), (2, 1));
}

#[test]
fn bytes_that_are_not_utf_8_cost_their_line_only() {
    let parsed = parse(b"m v=1 1\nm,t=\xff v=1 2\nm v=2 3", Precision::Nanoseconds, NOW_US, &|_| None);
    assert_eq!((parsed.accepted, parsed.rejected[0].line), (2, 2));
    assert!(parsed.rejected[0].message.contains("UTF-8"));
}

#[test]
fn the_tables_types_decide_and_integers_go_into_floats() {
    let parsed = into(
        &cpu(),
        "cpu,host=a usage=1i,cores=2i 1000\ncpu,host=a cores=2.5\ncpu,host=a usage=\"x\"\ncpu,host=a usage=t",
    );
    assert_eq!((parsed.accepted, parsed.rejected_total), (1, 3));
    assert_eq!(parsed.incoming[0].rows["usage"].data_type(), &DataType::Float64);
    assert_eq!(parsed.incoming[0].time, "ts");
    let said = messages(&parsed);
    assert_eq!(said[0], (2, "\"cores\" is an integer field, this line has a float field"));
}

#[test]
fn kinds_that_conflict_inside_one_text_are_refused_by_line() {
    let parsed = parsed("m v=1i 1\nm v=\"x\" 2\nm,v=tag w=1 3\nm v=2 4\nm v=3i 5");
    assert_eq!((parsed.accepted, parsed.rejected.iter().map(|bad| bad.line).collect::<Vec<_>>()), (2, vec![2, 3, 4]));
    assert_eq!(parsed.incoming[0].rows.num_columns(), 2, "a refused line adds no column");
}

#[test]
fn new_tags_are_taken_names_of_the_time_and_doubles_refused() {
    let parsed = into(&cpu(), "cpu,rack=1 usage=1\ncpu,host=a ts=1\ncpu usage=1,usage=2\ncpu,host=a time=1\ncpu new=1");
    assert_eq!((parsed.accepted, parsed.rejected_total), (2, 3));
    assert_eq!(parsed.rejected.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 4]);
    let fresh = self::parsed("m a=1,a=2\nm a=1");
    assert_eq!((fresh.accepted, fresh.rejected[0].line), (1, 1));
}

#[test]
fn a_table_with_a_primary_key_takes_no_lines() {
    let key_table = Known { name: "threat_events".into(), ..Known::default() };
    let parsed = into(&key_table, "threat_events severity=\"x\"");
    assert_eq!((parsed.accepted, parsed.incoming.len()), (0, 0));
    assert!(parsed.rejected[0].message.contains("by SQL"));
}

#[test]
fn a_table_that_is_refused_later_counts_as_bad_lines_under_its_first() {
    let mut parsed = parsed("a v=1 1\nb v=1 1\nb w=2 2\nm v=\n");
    assert_eq!(parsed.origins, [Origin { first: 1, count: 1 }, Origin { first: 2, count: 2 }]);
    parsed.refuse(parsed.origins[1], "b is a view".into());
    assert_eq!((parsed.accepted, parsed.rejected_total), (1, 3));
    assert_eq!(messages(&parsed)[0], (2, "b is a view"));
}

#[test]
fn a_part_leaves_the_line_that_may_go_on() {
    let text = b"m v=1 1\nm v=2 2\nm v=3";
    let part = parse_part(text, false, Precision::Nanoseconds, NOW_US, &|_| None);
    assert_eq!((part.accepted, part.lines, &text[part.consumed..]), (2, 2, &b"m v=3"[..]));
    let all = parse_part(text, true, Precision::Nanoseconds, NOW_US, &|_| None);
    assert_eq!((all.accepted, all.consumed), (3, text.len()));
}

#[test]
fn a_line_without_end_is_refused_and_not_searched_for_ever() {
    let text = format!("m s=\"{}\nm v=1 1", "x".repeat(3 << 20));
    let parsed = parsed(&text);
    assert_eq!((parsed.accepted, parsed.rejected_total), (1, 1));
}

proptest! {
    /// A field in quotes keeps a line from the quick way, and its column can be left out of the comparison.
    #[test]
    fn plain_lines_are_taken_as_the_full_parser_takes_them(
        lines in proptest::collection::vec(
            ("(m|n)", "(,h=(a|b|ä|c=d)){0,2}", "(,os=x){0,1}", "( |  )a=(-?[0-9]{1,19}|[0-9]{0,4}\\.[0-9]{0,14}|1e5|t)(i|u|)", "(,b=-?[0-9]{1,3}(i|)){0,2}", "( -?[0-9]{1,20}| |)"),
            0..12,
        ),
    ) {
        let text = |quoted: &str| -> String {
            let line = |(m, h, os, a, b, time): &(String, String, String, String, String, String)| {
                format!("{m}{h}{os}{a}{b}{quoted}{time}\n")
            };
            lines.iter().map(line).collect()
        };
        let (quick, full) = (parsed(&text("")), parsed(&text(",q=\"\"")));
        prop_assert_eq!(quick.accepted, full.accepted);
        prop_assert_eq!(quick.lines, full.lines);
        prop_assert_eq!(&quick.origins, &full.origins);
        let numbers = |parsed: &Parsed| parsed.rejected.iter().map(|bad| bad.line).collect::<Vec<_>>();
        prop_assert_eq!(numbers(&quick), numbers(&full));
        for (quick, full) in quick.incoming.iter().zip(&full.incoming) {
            prop_assert_eq!((&quick.table, &quick.tags), (&full.table, &full.tags));
            for (field, column) in quick.rows.schema().fields().iter().zip(quick.rows.columns()) {
                let other = full.rows.column_by_name(field.name()).unwrap();
                let plain = |column| arrow::compute::cast(column, &DataType::Utf8).unwrap();
                prop_assert_eq!(&plain(column), &plain(other), "{}", field.name());
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_every_line_is_accounted_for(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let parsed = parse(&text, Precision::Nanoseconds, NOW_US, &|_| Some(cpu()));
        prop_assert_eq!(parsed.consumed, text.len());
        let rows: usize = parsed.incoming.iter().map(|incoming| incoming.rows.num_rows()).sum();
        prop_assert_eq!(rows as u64, parsed.accepted);
    }

    #[test]
    fn text_that_looks_like_lines_never_panics(text in "([a,= \\\\\"\n1itm#.-]{0,40}\n?){0,6}") {
        let parsed = parsed(&text);
        prop_assert!(parsed.accepted + parsed.rejected_total <= parsed.lines);
    }
}
