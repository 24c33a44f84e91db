//! InfluxDB line protocol over HTTP: what is stored, what is refused, and how the refusal is said.
//!
//! **Invariant:** whatever a body holds, its good lines are stored, its bad lines are named, and nothing else is lost.

use std::io::{Read, Write};
use std::net::TcpStream;

use flate2::Compression;
use flate2::write::GzEncoder;
use juno_tests::Server;
use serde_json::{Value, json};

use crate::client::{Answer, Postgres, http};
use crate::server;

const GZIP: &[(&str, &str)] = &[("Content-Encoding", "gzip")];

fn write(server: &Server, lines: &str) -> Answer {
    http(server, "POST", "/write", &[], lines.as_bytes())
}

/// Writes lines that are all good.
fn stored(server: &Server, path: &str, lines: &str) {
    let answer = http(server, "POST", path, &[], lines.as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{path} {lines}");
}

/// Writes lines of which some are bad; gives the numbers of the bad ones and what is said of each.
fn refused(server: &Server, path: &str, lines: &[u8], accepted: u64) -> Vec<(u64, String)> {
    let answer = http(server, "POST", path, &[], lines);
    let text = answer.text();
    assert_eq!((answer.status, answer.content_type.as_str()), (400, "application/json"), "{text}");
    let said = answer.json();
    let errors = said["errors"].as_array().expect("a list of errors");
    let bad: Vec<(u64, String)> = errors
        .iter()
        .map(|error| {
            (error["line"].as_u64().expect("a line"), error["message"].as_str().expect("a message").to_owned())
        })
        .collect();
    assert_eq!((&said["accepted"], &said["rejected"]), (&json!(accepted), &json!(bad.len())), "{text}");
    // What clients of InfluxDB look at.
    assert_eq!((&said["code"], &said["line"]), (&json!("invalid"), &json!(bad[0].0)), "{text}");
    let first = format!("partial write: line {}: {}", bad[0].0, bad[0].1);
    assert!(said["message"].as_str().is_some_and(|message| message.starts_with(&first)), "{text}");
    bad
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).expect("memory takes every write");
    encoder.finish().expect("memory takes every write")
}

/// A problem's status and the last word of its type.
fn problem(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.content_type, "application/problem+json", "{}", answer.text());
    let kind = answer.json()["type"].as_str().expect("a type").to_owned();
    (answer.status, kind.replace("/problems/", ""))
}

fn tables(postgres: &Postgres, name: &str) -> String {
    postgres.value(&format!("SELECT count(*) FROM information_schema.tables WHERE table_name = '{name}'"))
}

#[test]
fn every_kind_of_value_and_every_escape_is_stored_as_written() {
    let server = server();
    stored(
        &server,
        "/write",
        "esc\\,a\\ b,ta\\=g=va\\ l\\,u\\=e fi\\ eld=\"say \\\"hi\\\" \\\\ , = back\",i=-3i,u=18446744073709551615u,b=true,c=F,f=-1.5e3 2000\r\n\
         # a comment, and a blank line\r\n\r\n\
         Wetter,Ort=Zürich lage=\"☀\nund warm\",grad=21 1000\r\n",
    );
    let postgres = Postgres::connect(&server);
    let row = postgres.rows("SELECT \"ta=g\", \"fi eld\", i, b, c, f FROM \"esc,a b\"");
    assert_eq!(row, ["va l,u=e|say \"hi\" \\ , = back|-3|t|f|-1500"]);
    let unsigned = http(&server, "POST", "/api/v4/query", &[], br#"{"sql": "SELECT u FROM \"esc,a b\""}"#).json();
    assert_eq!(unsigned["rows"], json!([[u64::MAX]]));
    assert_eq!(postgres.value("SELECT u FROM \"esc,a b\""), u64::MAX.to_string());
    assert_eq!(postgres.rows("SELECT \"Ort\", lage, grad FROM \"Wetter\""), ["Zürich|☀\nund warm|21"]);
}

#[test]
fn timestamps_are_counted_in_the_unit_that_the_request_names() {
    let server = server();
    for (query, count, host) in [
        ("", "3600000000000", "ns by default"),
        ("?precision=ns", "3600000000000", "ns"),
        ("?precision=n", "3600000000999", "n"),
        ("?precision=us", "3600000000", "us"),
        ("?precision=u", "3600000000", "u"),
        ("?precision=ms&db=x&rp=y", "3600000", "ms"),
        ("?precision=s&u=me&p=secret", "3600", "s"),
        ("?precision=m", "60", "m"),
        ("?precision=h", "1", "h"),
    ] {
        for path in ["/write", "/api/v2/write"] {
            let lines = format!("p,unit={} v=1 {count}", host.replace(' ', "\\ "));
            stored(&server, &format!("{path}{query}"), &lines);
        }
    }
    stored(&server, "/api/v2/write?bucket=b&org=o&precision=s", "p,unit=before\\ 1970 v=1 -1");
    let postgres = Postgres::connect(&server);
    assert_eq!(postgres.value("SELECT count(*) FROM p WHERE time = '1970-01-01T01:00:00Z'"), "9");
    assert_eq!(postgres.value("SELECT unit FROM p WHERE time = '1969-12-31T23:59:59Z'"), "before 1970");
    let odd = http(&server, "POST", "/write?precision=fortnights", &[], b"p v=1 1");
    assert_eq!(problem(&odd), (400, "invalid-parameter-value".into()));
    let odd = http(&server, "POST", "/write?colour=red", &[], b"p v=1 1");
    assert_eq!(problem(&odd), (400, "unknown-parameter".into()));
    assert_eq!(postgres.value("SELECT count(*) FROM p"), "10");
}

#[test]
fn a_line_without_a_timestamp_is_of_now() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let before = postgres.value("SELECT now()");
    stored(&server, "/write?precision=h", "m v=1");
    assert_eq!(postgres.value(&format!("SELECT count(*) FROM m WHERE time >= '{before}' AND time <= now()")), "1");
}

#[test]
fn new_fields_widen_the_table_and_the_same_point_again_replaces_the_old() {
    let server = server();
    stored(&server, "/write", "m,host=a v=1 1000\nm,host=a v=2,note=\"x\" 2000");
    stored(&server, "/write", "m,host=a ok=t,v=3 3000\nm v=4i 4000");
    let postgres = Postgres::connect(&server);
    let rows = ["a|1|NULL|NULL", "a|2|x|NULL", "a|3|NULL|t", "NULL|4|NULL|NULL"];
    assert_eq!(postgres.rows("SELECT host, v, note, ok FROM m ORDER BY time"), rows);
    stored(&server, "/write", "m,host=a v=2,note=\"y\" 2000\nm,host=a v=9,note=\"z\" 2000");
    assert_eq!(postgres.rows("SELECT count(*), sum(v), max(note) FROM m"), ["4|17|z"]);
    postgres.rows("CALL flush()");
    stored(&server, "/write", "m,host=a v=7 1000");
    assert_eq!(postgres.rows("SELECT count(*), sum(v) FROM m"), ["4|23"], "a point in a part is replaced too");
}

#[test]
fn bad_lines_are_named_and_the_good_ones_stored() {
    let server = server();
    stored(&server, "/write", "m,host=a v=1,n=1i,s=\"x\",ok=t 1000");
    let lines = "m,host=a v=\"text\" 2000\nm,host=a v=2 3000\nm,host=a n=1.5 4000\nm,host=a ok=1i 5000\nm,host=a s=5 6000\n\
                 m,host=a,rack=7 v=1 7000\nm,host=a v= 8000\nm 9000\nm,host v=1 9000\nm,host=a v=1,v=2 9000\n\
                 m,host=a time=5 9000\nm,host=a v=3i 9000\nother v=1 1000\n\nm,host=a host=1 9500";
    let bad = refused(&server, "/write", lines.as_bytes(), 4);
    let expected: &[(u64, &str)] = &[
        (1, "\"v\" is a float field, this line has a text field"),
        (3, "\"n\" is an integer field, this line has a float field"),
        (4, "\"ok\" is a boolean field, this line has an integer field"),
        (5, "\"s\" is a text field, this line has a float field"),
        (7, "m,host=a v= 8000"),
        (8, "m 9000"),
        (9, "m,host v=1 9000"),
        (10, "\"v\" stands twice"),
        (11, "\"time\" is the name of the time column"),
        (15, "\"host\""),
    ];
    assert_eq!(
        bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
        expected.iter().map(|(line, _)| *line).collect::<Vec<_>>()
    );
    for ((line, message), (_, part)) in bad.iter().zip(expected) {
        assert!(message.contains(part), "line {line}: {message} lacks {part}");
    }
    let postgres = Postgres::connect(&server);
    assert_eq!(postgres.rows("SELECT v, rack FROM m ORDER BY time"), ["1|NULL", "2|NULL", "1|7", "3|NULL"]);
    assert_eq!(postgres.value("SELECT count(*) FROM other"), "1");
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'm' ORDER BY column_name";
    assert_eq!(postgres.rows(columns), ["host", "n", "ok", "rack", "s", "time", "v"], "a refused line adds no column");
}

#[test]
fn a_new_tag_tells_points_apart_and_is_null_in_those_before_it() {
    let server = server();
    stored(&server, "/write", "m,host=a v=1 1000\nm,host=b v=2 1000");
    let postgres = Postgres::connect(&server);
    postgres.rows("CALL flush()");
    stored(&server, "/write", "m,host=a,rack=r1 v=3 1000\nm,host=a v=4 1000\nm,host=a,rack=r1,zone=z v=5 1000");
    let rows = ["a|NULL|NULL|4", "a|r1|NULL|3", "a|r1|z|5", "b|NULL|NULL|2"];
    let wanted = "SELECT host, rack, zone, v FROM m ORDER BY host, rack NULLS FIRST, zone NULLS FIRST";
    assert_eq!(postgres.rows(wanted), rows);
    postgres.rows("CALL flush()");
    postgres.rows("CALL compact()");
    assert_eq!(postgres.rows(wanted), rows);
    assert_eq!(postgres.rows("SELECT v FROM m WHERE rack = 'r1' ORDER BY v"), ["3", "5"]);
    assert_eq!(postgres.rows("SELECT host, v FROM m WHERE rack IS NULL ORDER BY host"), ["a|4", "b|2"]);
}

#[test]
fn not_a_number_infinities_and_times_out_of_range_are_refused() {
    let server = server();
    let lines = "m v=NaN 1\nm v=Inf 1\nm v=-inf 1\nm v=+Infinity 1\nm v=1e400 1\nm v=9223372036854775808i 1\nm v=1 9223372036854775808\n\
                 m v=1 tomorrow\nm v=1.5 1000";
    let bad = refused(&server, "/write", lines.as_bytes(), 1);
    assert_eq!(bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(bad[0].1.contains("NaN") && bad[4].1.contains("finite"), "{bad:?}");
    let edges =
        b"m v=1 9223372036854775807\nm v=2 253402300799\nm v=3 253402300800\nm v=4 -62135596800\nm v=5 -62135596801";
    let bad = refused(&server, "/write?precision=s", edges, 2);
    assert_eq!(bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3, 5]);
    assert!(bad.iter().all(|(_, message)| message.contains("out of range")), "{bad:?}");
    let rows = Postgres::connect(&server).rows("SELECT time, v FROM m ORDER BY time");
    assert_eq!(rows, ["0001-01-01 00:00:00+00|4", "1970-01-01 00:00:00.000001+00|1.5", "9999-12-31 23:59:59+00|2"]);
}

#[test]
fn damaged_bytes_and_open_quotes_cost_their_line_only() {
    let server = server();
    let bad = refused(&server, "/write", b"m v=1 1000\nm,t=\xff v=1 2000\nm s=\"open 3000\nm v=2 4000\nm v=3 5000", 3);
    assert_eq!(bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
    assert!(bad[0].1.contains("UTF-8"), "{bad:?}");
    assert_eq!(Postgres::connect(&server).value("SELECT sum(v) FROM m"), "6");
}

#[test]
fn tables_that_take_no_lines_refuse_them_and_the_others_are_stored() {
    let server = server();
    let bad = refused(&server, "/write", b"threat_events v=1 1\nm v=1 1000\noperations_status v=1 1\nm v=2 2000", 2);
    assert_eq!(bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
    assert!(bad[0].1.contains("by SQL") && bad[1].1.contains("view"), "{bad:?}");
    let postgres = Postgres::connect(&server);
    assert_eq!(
        (postgres.value("SELECT count(*) FROM m"), postgres.value("SELECT count(*) FROM threat_events")),
        ("2".into(), "0".into())
    );
}

#[test]
fn a_body_of_bad_lines_only_stores_nothing_and_lists_a_hundred() {
    let server = server();
    let answer = write(&server, &"m v=\n".repeat(2500));
    let said: Value = answer.json();
    assert_eq!((answer.status, &said["accepted"], &said["rejected"]), (400, &json!(0), &json!(2500)));
    assert_eq!(said["errors"].as_array().map(Vec::len), Some(100));
    assert_eq!(tables(&Postgres::connect(&server), "m"), "0");
}

#[test]
fn bodies_of_nothing_are_fine_and_make_no_table() {
    let server = server();
    let names =
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'";
    let before = Postgres::connect(&server).value(names);
    for lines in ["", "\n\n", "# only a comment\n", " \r\n"] {
        stored(&server, "/write", lines);
    }
    assert_eq!(Postgres::connect(&server).value(names), before);
}

#[test]
fn gzip_is_read_and_what_is_no_gzip_is_refused_whole() {
    let server = server();
    let post = |headers: &[(&str, &str)], body: &[u8]| http(&server, "POST", "/write", headers, body);
    assert_eq!(post(GZIP, &zipped(b"g v=1 1000\n")).status, 204);
    let members = [zipped(b"g v=2 2000\n"), zipped(b"g v=3 3000\n")].concat();
    assert_eq!(post(GZIP, &members).status, 204);
    let whole = zipped(b"g v=4 4000\ng v=5 5000\n");
    assert_eq!(problem(&post(GZIP, &whole[..whole.len() - 9])), (400, "unreadable-body".into()));
    assert_eq!(problem(&post(GZIP, b"g v=6 6000")), (400, "unreadable-body".into()));
    assert_eq!(problem(&post(&[("Content-Encoding", "br")], b"g v=7 7000")), (415, "unsupported-media-type".into()));
    assert_eq!(Postgres::connect(&server).value("SELECT sum(v) FROM g"), "6");
}

#[test]
fn bodies_over_the_limit_are_413_before_and_after_gunzip() {
    let server = server();
    let lines = "g v=1 1000\n".repeat((65 << 20) / 11);
    let bomb = http(&server, "POST", "/write", GZIP, &zipped(lines.as_bytes()));
    assert_eq!(problem(&bomb), (413, "too-large".into()));
    let mut stream = TcpStream::connect(server.url("").replace("http://", "")).expect("a connection");
    let head =
        format!("POST /write HTTP/1.1\r\nHost: juno\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", lines.len());
    stream.write_all(head.as_bytes()).expect("the head is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer before the body was sent");
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("64 MiB"), "{answer}");
    let unzipped = write(&server, &lines);
    assert_eq!(problem(&unzipped), (413, "too-large".into()), "a client sees it that sends all before it reads");
    let postgres = Postgres::connect(&server);
    assert_eq!(tables(&postgres, "g"), "0");
    stored(&server, "/write", "g v=1 1000");
    assert_eq!(postgres.value("SELECT count(*) FROM g"), "1");
}

#[test]
fn fields_of_one_point_are_merged_in_one_body_and_over_bodies() {
    let server = server();
    stored(&server, "/write?precision=s", "system,host=a load1=0.5,load5=0.25 10\nsystem,host=b load1=7 10");
    stored(
        &server,
        "/write?precision=s",
        "system,host=c load1=1,load5=2 20\nsystem,host=d load1=3 20\nsystem,host=c uptime=60i 20\n\
         system,host=c uptime_format=\"1 min\",load5=4 20\nsystem load1=5 20\nsystem uptime=70i 20",
    );
    let postgres = Postgres::connect(&server);
    let rows =
        || postgres.rows("SELECT host, load1, load5, uptime, uptime_format FROM system ORDER BY time, host NULLS LAST");
    let wanted =
        ["a|0.5|0.25|NULL|NULL", "b|7|NULL|NULL|NULL", "c|1|4|60|1 min", "d|3|NULL|NULL|NULL", "NULL|5|NULL|70|NULL"];
    assert_eq!(rows(), wanted);
    postgres.rows("CALL flush()");
    stored(&server, "/write?precision=s", "system,host=a load1=9 10");
    assert_eq!(rows()[0], "a|9|0.25|NULL|NULL", "a later body leaves the fields that it does not have");
    stored(&server, "/write?precision=s", "system,host=a uptime=1i 10");
    assert_eq!(rows()[0], "a|9|0.25|1|NULL");
    let partial = write(&server, "scaling_history v=1 1000\nscaling_history w=1 1000\nm v=1 1000\nm w=2 1000").json();
    let counts = (&partial["accepted"], &partial["rejected"], &partial["line"]);
    assert_eq!(counts, (&json!(2), &json!(2), &json!(1)), "lines are counted, not points");
    assert_eq!(postgres.rows("SELECT v, w FROM m"), ["1|2"]);
}

#[test]
fn a_column_that_another_writer_settles_costs_only_the_lines_that_do_not_fit() {
    let server = server();
    for round in 0..12 {
        stored(&server, "/write", &format!("race{round} first=1 1"));
        std::thread::scope(|scope| {
            for (writer, v) in ["1i", "1.5", "\"x\"", "t"].into_iter().enumerate() {
                let server = &server;
                scope.spawn(move || {
                    let (own, shared) = (writer + 1, writer + 11);
                    let lines = format!("race{round} own=1 {own}000\nrace{round} v={v} {shared}000");
                    let answer = write(server, &lines);
                    assert!([204, 400].contains(&answer.status), "{}: {}", answer.status, answer.text());
                });
            }
        });
        let postgres = Postgres::connect(&server);
        assert_eq!(postgres.value(&format!("SELECT count(own) FROM race{round}")), "4", "round {round}");
    }
}

#[test]
fn writers_that_widen_one_table_at_once_lose_nothing() {
    let server = server();
    let writers = 6;
    let accepted: u64 = std::thread::scope(|scope| {
        let writing = |writer: u64| {
            let server = &server;
            move || {
                let mut accepted = 0;
                for round in 0..5 {
                    stored(server, "/write", &format!("m,writer=w{writer} own{writer}={round} {round}000"));
                    // Half of the writers hold v for an integer: whoever is first settles it.
                    let v = if writer.is_multiple_of(2) { "1i" } else { "1.5" };
                    let answer = write(server, &format!("m,writer=w{writer} v={v} {}000", round + 10));
                    assert!([204, 400].contains(&answer.status), "{}: {}", answer.status, answer.text());
                    accepted += 1 + u64::from(answer.status == 204);
                }
                accepted
            }
        };
        let running: Vec<_> = (0..writers).map(|writer| scope.spawn(writing(writer))).collect();
        running.into_iter().map(|thread| thread.join().expect("a writer")).sum()
    });
    let postgres = Postgres::connect(&server);
    assert_eq!(postgres.value("SELECT count(*) FROM m"), accepted.to_string());
    for writer in 0..writers {
        assert_eq!(postgres.rows(&format!("SELECT count(own{writer}), sum(own{writer}) FROM m")), ["5|10"], "{writer}");
    }
    let of_v = postgres.value("SELECT count(v) FROM m").parse::<u64>().expect("a count");
    assert!(of_v >= 15 && of_v + 5 * writers == accepted, "{of_v} of {accepted}");
}
