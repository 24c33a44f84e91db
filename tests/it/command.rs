//! The commands of the binary: what they print, what they refuse, and their exit codes.
//!
//! **Invariant:** each test has a directory of its own and asks the real program.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::client::{Postgres, get, http};
use crate::{name_program, server, skip};

/// How a command ended: exit code, standard output, standard error.
struct Ended {
    code: Option<i32>,
    out: String,
    errors: String,
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("juno runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), out: text(&output.stdout), errors: text(&output.stderr) }
}

/// Runs juno to its end, in a directory where it finds nothing.
fn juno(directory: &Path, args: &[&str]) -> Ended {
    name_program();
    ended(juno_tests::juno(args).current_dir(directory))
}

/// Runs `juno sql` on `data` in a directory; it must succeed.
fn sql(directory: &Path, format: &str, statements: &str) -> String {
    let ended = juno(directory, &["sql", "--data", "data", "--format", format, statements]);
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{statements}");
    ended.out
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn a_command_line_that_means_nothing_is_exit_code_2() {
    let directory = directory();
    for args in [
        &["sing"][..],
        &[],
        &["sql"],
        &["sql", "SELECT 1", "--format", "xml"],
        &["import", "--table", "t"],
        &["serve", "--pg-addr", "5432"],
        &["serve", "--data"],
        &["config", "--colour", "red"],
    ] {
        let ended = juno(directory.path(), args);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{args:?}: {}", ended.errors);
        assert!(ended.errors.contains("--help"), "{args:?}: {}", ended.errors);
    }
    let help = juno(directory.path(), &["--help"]);
    assert_eq!(help.code, Some(0));
    for command in ["serve", "demo", "sql", "import", "config"] {
        assert!(help.out.lines().any(|line| line.trim_start().starts_with(command)), "{}", help.out);
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("the directory").count(), 0, "nothing was made");
}

#[test]
fn sql_prints_tables_csv_and_json() {
    let directory = directory();
    let at = directory.path();
    let create = "CREATE TABLE t (id INT PRIMARY KEY, s TEXT, d DECIMAL(5,2), at TIMESTAMPTZ); \
                  INSERT INTO t VALUES (1, 'a,b', 1.5, '2026-01-02T03:04:05Z'), (2, NULL, NULL, NULL)";
    assert_eq!(sql(at, "table", create), "CREATE TABLE\nINSERT 0 2\n");
    let all = "SELECT * FROM t ORDER BY id";
    let table = sql(at, "table", "SELECT id, s FROM t ORDER BY id");
    let expected = "+----+-----+\n| id | s   |\n+----+-----+\n| 1  | a,b |\n| 2  |     |\n+----+-----+\n(2 rows)\n";
    assert_eq!(table, expected);
    let csv = "id,s,d,at\r\n1,\"a,b\",1.50,2026-01-02T03:04:05.000000Z\r\n2,,,\r\n";
    assert_eq!(sql(at, "csv", all), csv);
    let rows: Value = serde_json::from_str(&sql(at, "json", all)).expect("JSON");
    let first = json!({"id": 1, "s": "a,b", "d": 1.5, "at": "2026-01-02T03:04:05.000000Z"});
    assert_eq!(rows, json!([first, {"id": 2, "s": null, "d": null, "at": null}]));
    assert_eq!(sql(at, "json", "SELECT * FROM t WHERE id > 2"), "[]\n");
    assert_eq!(sql(at, "csv", "UPDATE t SET s = 'x' WHERE id = 2"), "");
}

#[test]
fn sql_says_what_failed_and_reads_statements_from_the_standard_input() {
    let directory = directory();
    let failed = juno(
        directory.path(),
        &["sql", "--data", "data", "CREATE TABLE t (a INT); SELECT * FROM nowhere; DROP TABLE t"],
    );
    assert_eq!((failed.code, failed.out.as_str()), (Some(1), "CREATE TABLE\n"));
    assert!(failed.errors.contains("nowhere") && failed.errors.contains("42P01"), "{}", failed.errors);
    let mut command = juno_tests::juno(&["sql", "--data", "data", "--format", "csv", "-"]);
    command.current_dir(directory.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("juno runs");
    child
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(b"INSERT INTO t VALUES (7);\nSELECT a FROM t\n")
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), "a\r\n7\r\n"));
}

#[test]
fn import_takes_every_format_and_importing_again_changes_nothing() {
    let directory = directory();
    let at = directory.path();
    let csv = "time,host,v\n2026-01-01T00:00:00Z,a,1\n2026-01-01T00:01:00Z,a,2\n";
    std::fs::write(at.join("rows.csv"), csv).expect("a file");
    std::fs::write(at.join("rows.jsonl"), "{\"time\":\"2026-01-01T00:02:00Z\",\"host\":\"a\",\"v\":3}\n")
        .expect("a file");
    let mut zipped = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    zipped
        .write_all(b"cpu,host=a v=4 1767225780000\ncpu,host=a v=5 1767225840000\n")
        .expect("memory takes every write");
    std::fs::write(at.join("rows.lp.gz"), zipped.finish().expect("memory takes every write")).expect("a file");
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_767_225_900_000_000]).with_timezone("UTC"));
    let hosts: ArrayRef = Arc::new(StringArray::from(vec!["b"]));
    let values: ArrayRef = Arc::new(Float64Array::from(vec![6.0]));
    let batch = RecordBatch::try_from_iter([("time", times), ("host", hosts), ("v", values)]).expect("one length");
    let file = std::fs::File::create(at.join("rows.parquet")).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("a whole file");
    for _ in 0..2 {
        let files = ["import", "rows.csv", "rows.jsonl", "rows.lp.gz", "rows.parquet"];
        let ended = juno(at, &[&files[..], &["--table", "cpu", "--precision", "ms", "--data", "data"]].concat());
        assert_eq!(
            (ended.code, ended.out.starts_with("imported 6 rows in ")),
            (Some(0), true),
            "{}{}",
            ended.out,
            ended.errors
        );
        assert_eq!(
            sql(at, "csv", "SELECT host, v FROM cpu ORDER BY time"),
            "host,v\r\na,1.0\r\na,2.0\r\na,3.0\r\na,4.0\r\na,5.0\r\nb,6.0\r\n"
        );
    }
    std::fs::write(at.join("rows.csv"), csv.replace(",2\n", ",22\n")).expect("a file");
    assert_eq!(juno(at, &["import", "rows.csv", "--table", "cpu", "--data", "data"]).code, Some(0));
    assert_eq!(
        sql(at, "csv", "SELECT count(*) AS n, sum(v) AS s FROM cpu"),
        "n,s\r\n6,41.0\r\n",
        "the last write wins"
    );
}

#[test]
fn import_names_what_it_cannot_store() {
    let directory = directory();
    let at = directory.path();
    std::fs::write(at.join("rows.csv"), "time,v\n2026-01-01T00:00:00Z,1\n").expect("a file");
    std::fs::write(at.join("lines.lp"), "m v=1 1000\nm v= 2000\nm v=\"x\" 3000\nm v=4 4000\n").expect("a file");
    std::fs::write(at.join("notes.txt"), "x").expect("a file");
    std::fs::write(at.join("cut.parquet"), b"PAR1 and no more").expect("a file");
    std::fs::write(at.join("odd.csv"), "time,v\nnever,1\n").expect("a file");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["rows.csv"], 2, &["--table"]),
        (&["notes.txt", "--table", "t"], 2, &["notes.txt", ".parquet", ".csv"]),
        (&["rows.csv", "--table", "t", "--precision", "ages"], 2, &["ages", "ms"]),
        (&["missing.csv", "--table", "t"], 1, &["missing.csv"]),
        (&["cut.parquet", "--table", "t"], 1, &["cut.parquet", "Parquet"]),
        (&["odd.csv", "--table", "t"], 1, &["odd.csv", "row 1"]),
        (&["rows.csv", "--table", "threat_events"], 1, &["threat_events", "primary key"]),
        (&["lines.lp"], 1, &["lines.lp:2: ", "lines.lp:3: ", "2 lines were refused"]),
    ];
    for (args, code, words) in cases {
        let ended = juno(at, &[&["import", "--data", "data"], *args].concat());
        assert_eq!(ended.code, Some(*code), "{args:?}: {}{}", ended.out, ended.errors);
        assert!(words.iter().all(|word| ended.errors.contains(word)), "{args:?}: {}", ended.errors);
    }
    assert_eq!(sql(at, "csv", "SELECT v FROM m ORDER BY time"), "v\r\n1.0\r\n4.0\r\n", "the good lines are stored");
    let missing = juno(at, &["sql", "--data", "data", "SELECT * FROM t"]);
    assert!(missing.errors.contains("42P01"), "nothing else was made: {}", missing.errors);
}

#[test]
fn config_says_where_each_setting_comes_from() {
    let directory = directory();
    name_program();
    let mut command = juno_tests::juno(&["config", "--http-addr", "127.0.0.1:9999"]);
    command.env("JUNO_DATA", "/somewhere").env("JUNO_PGADDR", "127.0.0.1:1").current_dir(directory.path());
    let ended = ended(&mut command);
    let line = |name: &str| ended.out.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    for (name, value, source) in [
        ("data", "/somewhere", "environment JUNO_DATA"),
        ("pg-addr", "127.0.0.1:5432", "default"),
        ("http-addr", "127.0.0.1:9999", "flag --http-addr"),
        ("device", "auto", "default"),
        ("log", "info", "default"),
    ] {
        assert!(line(name).contains(value) && line(name).contains(source), "{name}:\n{}", ended.out);
    }
    assert_eq!(ended.code, Some(0));
    assert!(ended.errors.contains("warning") && ended.errors.contains("JUNO_PGADDR"), "{}", ended.errors);
    assert!(!ended.errors.contains("JUNO_DATA"), "{}", ended.errors);
}

#[test]
fn config_check_shows_the_settings_and_names_each_problem_on_a_line() {
    let directory = directory();
    let at = directory.path();
    let good = juno(at, &["config", "check", "--phase", "3"]);
    assert_eq!((good.code, good.errors.as_str()), (Some(0), ""));
    assert!(good.out.lines().any(|line| line.starts_with("phase") && line.contains("flag --phase")), "{}", good.out);
    std::fs::write(at.join("juno.conf"), "JUNO_PHASE=9\nJUNO_PHASES=1\n").expect("a file");
    let bad = juno(at, &["config", "check", "--config", "juno.conf", "--rl-learning-rate", "0"]);
    assert_eq!((bad.code, bad.errors.lines().count()), (Some(2), 3), "{}", bad.errors);
    for part in ["juno.conf:1: JUNO_PHASE: ", "juno.conf:2: JUNO_PHASES is no setting", "--rl-learning-rate: "] {
        assert!(bad.errors.lines().any(|line| line.starts_with(part)), "{part}: {}", bad.errors);
    }
    let files = juno(at, &["config", "--fleet", "gone.json", "--escalation-url", "https://example.org/call", "check"]);
    assert_eq!((files.code, files.errors.lines().count()), (Some(2), 2), "{}", files.errors);
    assert!(files.errors.contains("--fleet (JUNO_FLEET)") && files.errors.contains("JUNO_WEBHOOK_SECRET"));
    let odd = juno(at, &["config", "check", "--colour", "red"]);
    assert_eq!((odd.code, odd.errors.lines().count()), (Some(2), 1), "{}", odd.errors);
    assert!(odd.errors.contains("--colour"), "{}", odd.errors);
}

#[test]
fn a_server_that_cannot_start_says_what_to_change() {
    let server = server();
    let scratch = server.scratch("other").display().to_string();
    let (data, pg, http) =
        (server.data().display().to_string(), server.pg_port(), server.url("").replace("http://", ""));
    let pg = format!("127.0.0.1:{pg}");
    let free = "127.0.0.1:0";
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["serve", "--data", &scratch, "--pg-addr", &pg, "--http-addr", free], 1, &["--pg-addr", "JUNO_PG_ADDR", &pg]),
        (&["serve", "--data", &scratch, "--pg-addr", free, "--http-addr", &http], 1, &["--http-addr", &http]),
        (
            &["serve", "--data", &scratch, "--pg-addr", "0.0.0.0:0", "--http-addr", free],
            1,
            &["--pg-addr", "juno user add"],
        ),
        (
            &["serve", "--data", &scratch, "--pg-addr", free, "--http-addr", "192.0.2.1:80"],
            1,
            &["--http-addr", "192.0.2.1"],
        ),
        (&["serve", "--data", &data, "--pg-addr", free, "--http-addr", free], 1, &[&data, "another juno"]),
        (&["sql", "--data", &data, "SELECT 1"], 1, &[&data, "another juno"]),
        (&["serve", "--data", "/dev/null/x", "--pg-addr", free, "--http-addr", free], 1, &["/dev/null/x"]),
        (
            &["serve", "--data", &scratch, "--device", "toaster", "--pg-addr", free, "--http-addr", free],
            1,
            &["toaster", "JUNO_DEVICE"],
        ),
        (&["serve", "--data", &scratch, "--log", "!!", "--pg-addr", free, "--http-addr", free], 1, &["!!", "JUNO_LOG"]),
    ];
    for (args, code, words) in cases {
        let ended = ended(&mut juno_tests::juno(args));
        assert_eq!(ended.code, Some(*code), "{args:?}: {}{}", ended.out, ended.errors);
        assert!(words.iter().all(|word| ended.errors.contains(word)), "{args:?}: {}", ended.errors);
        assert!(!ended.out.contains("ready"), "{args:?}: {}", ended.out);
    }
    assert_eq!(get(&server, "/readyz").status, 200, "the first server goes on");
}

#[test]
fn cuda_where_there_is_none_is_an_error_at_the_start() {
    let directory = directory();
    name_program();
    let run = |device: &str| {
        let mut command = juno_tests::juno(&["sql", "--data", "data", "--format", "csv", "SELECT 1 AS one"]);
        ended(command.env("JUNO_DEVICE", device).current_dir(directory.path()))
    };
    let cuda = run("cuda");
    if cuda.code == Some(0) {
        return skip("this machine has CUDA", "JUNO_REQUIRE_NO_GPU");
    }
    assert_eq!(cuda.code, Some(1), "{}", cuda.errors);
    for word in ["JUNO_DEVICE", "'cuda'", "cpu or auto"] {
        assert!(cuda.errors.contains(word), "{}", cuda.errors);
    }
    assert_eq!((run("auto").code, run("cpu").out), (Some(0), "one\r\n1\r\n".into()));
}

#[test]
fn sigterm_flushes_and_everything_is_there_after_the_next_start() {
    let mut server = server();
    let postgres = Postgres::connect(&server);
    postgres.rows("CREATE TABLE k (id INT PRIMARY KEY, s TEXT)");
    postgres.rows("INSERT INTO k VALUES (1, 'kept')");
    assert_eq!(http(&server, "POST", "/write", &[], b"m,host=a v=1 1000\nm,host=a v=2 2000").status, 204);
    let parts = |server: &juno_tests::Server| {
        let metrics = get(server, "/metrics").text();
        let value = metrics.lines().find_map(|line| line.strip_prefix("juno_parts ")).expect("the number of parts");
        value.parse::<u32>().expect("a number")
    };
    assert_eq!(parts(&server), 0, "nothing is flushed yet");
    assert_eq!(server.stop().expect("it runs"), Some(0), "an open connection does not hold it up");
    server.run().expect("it starts again");
    assert!(parts(&server) > 0, "rows in memory were flushed to parts");
    let postgres = Postgres::connect(&server);
    assert_eq!(postgres.rows("SELECT s FROM k"), ["kept"]);
    assert_eq!(postgres.rows("SELECT v FROM m ORDER BY time"), ["1", "2"]);
    assert_eq!(server.stop().expect("it runs"), Some(0));
    let data = server.data().display().to_string();
    let embedded =
        ended(&mut juno_tests::juno(&["sql", "--data", &data, "--format", "csv", "SELECT sum(v) AS s FROM m"]));
    assert_eq!(embedded.out, "s\r\n3.0\r\n", "{}", embedded.errors);
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a line of the demo's screen prints when it is typed into a shell.
fn typed(line: &str) -> String {
    let output = Command::new("timeout").args(["60", "sh", "-c", line]).output().expect("a shell");
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}\n{out}{errors}");
    out.into_owned()
}

#[test]
fn the_lines_that_the_demo_prints_work_as_printed() {
    for program in ["psql", "curl"] {
        if Command::new(program).arg("--version").output().is_err() {
            return skip(&format!("{program} is not installed"), "JUNO_REQUIRE_CLIENTS");
        }
    }
    name_program();
    let directory = directory();
    let data = directory.path().join("demo").display().to_string();
    let args = ["demo", "--data", &data, "--pg-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
    let mut demo = Running(juno_tests::juno(&args).stdout(Stdio::piped()).spawn().expect("juno runs"));
    let mut screen = BufReader::new(demo.0.stdout.take().expect("stdout is piped"));
    let (mut lines, mut line) = (vec![], String::new());
    while !line.starts_with("Ctrl-C") {
        line.clear();
        assert!(screen.read_line(&mut line).expect("UTF-8") > 0, "the demo ended after {lines:#?}");
        lines.push(line.trim_end().to_owned());
    }
    std::thread::spawn(move || screen.read_to_end(&mut vec![]));
    let below = |what: &str| {
        let at = lines.iter().position(|line| line.starts_with("# ") && line.contains(what));
        let at = at.unwrap_or_else(|| panic!("nothing to try about {what}: {lines:#?}"));
        lines[at + 1..].iter().take_while(|line| !line.is_empty()).map(|line| typed(line)).collect::<Vec<_>>()
    };
    let forecast = &below("next 24 hours")[0];
    for column in ["service", "region", "time", "forecast", "lower", "upper", "(5 rows)"] {
        assert!(forecast.contains(column), "{column}:\n{forecast}");
    }
    let planted = lines.iter().find(|line| line.contains("latency_spike")).expect("the spike that was planted");
    let from = planted.split("from ").nth(1).expect("its start").get(..16).expect("a time");
    let scores = &below("spike")[0];
    let highest: Vec<&str> = scores.lines().skip(2).take(5).collect();
    assert!(highest.iter().any(|row| row.contains(from)), "the spike of {from} is not on top:\n{scores}");
    let status: Value = serde_json::from_str(&below("operations")[0]).expect("JSON");
    assert_eq!((&status["state"], &status["open_incidents"]), (&json!("degraded"), &json!(1)));
    let incidents: Value = serde_json::from_str(&below("incidents of")[0]).expect("JSON");
    assert_eq!(incidents["items"].as_array().map(Vec::len), Some(2), "{incidents}");
    let point = below("line protocol");
    assert!(point[0].starts_with("HTTP/1.1 204") && point[1].contains("21.5"), "{point:?}");
    // The first live rows are written beside the lines above.
    let live = || serde_json::from_str::<Value>(&below("SQL over HTTP")[0]).expect("JSON")["rows"][0][0].as_u64();
    assert!((0..100).any(|_| live().is_some_and(|rows| rows > 0)), "no live rows came");
    let (psql, count) = (
        lines.iter().find(|line| line.starts_with("psql")).expect("a psql line"),
        "SELECT count(*) FROM service_metrics",
    );
    assert!(typed(&format!("{psql} -Atc '{count}'")).trim().parse::<u64>().is_ok_and(|rows| rows >= 120_960));
    assert!(Command::new("kill").arg(demo.0.id().to_string()).status().expect("kill").success());
    assert_eq!(demo.0.wait().expect("it ends").code(), Some(0));
}
