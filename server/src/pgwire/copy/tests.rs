//! COPY's formats without a socket: bytes in pieces of any size, and back.
//!
//! **Invariant:** what is cut where makes no difference to what is read.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use juno_sql::engine::Db;
use juno_sql::kernels::Device;
use juno_sql::{CopyIn, Error, Outcome, Session};
use proptest::prelude::*;

use super::input::Input;
use super::output::Output;
use crate::pgwire::encode::Encode;
use crate::pgwire::zone;

struct Bench {
    session: Session,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new(table: &str) -> Bench {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(directory.path()).unwrap();
        let session = runtime.block_on(Session::open(db, Device::cpu())).unwrap();
        let bench = Bench { session, runtime, _directory: directory };
        bench.runtime.block_on(bench.session.collect(table)).unwrap();
        bench
    }

    fn outcome(&self, sql: &str) -> Outcome {
        self.runtime.block_on(self.session.query(sql)).unwrap()
    }

    fn copy(&self, sql: &str) -> CopyIn {
        match self.outcome(sql) {
            Outcome::CopyIn(copy) => *copy,
            _ => panic!("{sql} is no COPY FROM"),
        }
    }

    /// Stores an input that comes in pieces of this size.
    fn store(&self, sql: &str, bytes: &[u8], piece: usize) -> Result<String, Error> {
        let copy = self.copy(sql);
        let mut input = Input::new(&copy, zone(&self.session))?;
        let mut batches = Vec::new();
        for block in bytes.chunks(piece) {
            input.block(block)?;
            batches.extend(input.batch()?);
        }
        input.close()?;
        while let Some(batch) = input.batch()? {
            batches.push(batch);
        }
        let rows = futures::stream::iter(batches.into_iter().map(Ok));
        match self.runtime.block_on(self.session.copy_in(&copy, rows))? {
            Outcome::Done { tag, .. } => Ok(tag),
            _ => panic!("a COPY ends with its tag"),
        }
    }

    fn written(&self, sql: &str) -> Vec<u8> {
        let Outcome::CopyOut { schema, options, stream, .. } = self.outcome(sql) else { panic!("{sql} is no COPY TO") };
        let mut output = Output::new(&schema, options, zone(&self.session), false).unwrap();
        let batches = self.runtime.block_on(stream.collect::<Vec<_>>());
        let mut bytes = Vec::new();
        for batch in batches {
            for chunk in output.chunks(&batch.unwrap()).unwrap() {
                bytes.extend_from_slice(&chunk.unwrap().bytes);
            }
        }
        bytes.extend_from_slice(&output.tail().unwrap());
        bytes
    }
}

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT, f DOUBLE PRECISION, at TIMESTAMPTZ, ok BOOLEAN, \
                     n NUMERIC(6,2), u UUID, j JSONB, b BYTEA, d DATE DEFAULT '2026-01-02')";

#[test]
fn escapes_and_nulls_of_the_text_format_are_read_wherever_the_input_is_cut() {
    let text = b"1\ta\\tb\\\\\\n\\x41\\101\\q\t1.5\t2026-01-02 03:04:05+02\tt\t12.34\t0192F0C1-7B4E-7C3A-8D5E-0123456789AB\t{\"b\": 1}\t\\\\x00ff\t2026-02-03\n\
                 2\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n\\.\nwhat follows is not read";
    for piece in [1, 3, 7, 1000] {
        let bench = Bench::new(TABLE);
        assert_eq!(bench.store("COPY t FROM STDIN", text, piece).unwrap(), "COPY 2");
        let back = String::from_utf8(bench.written("COPY (SELECT * FROM t ORDER BY id) TO STDOUT")).unwrap();
        let first = "1\ta\\tb\\\\\\nAAq\t1.5\t2026-01-02 01:04:05+00\tt\t12.34\t0192f0c1-7b4e-7c3a-8d5e-0123456789ab\t{\"b\": 1}\t\\\\x00ff\t2026-02-03\n";
        assert_eq!(back, format!("{first}2\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"));
    }
}

#[test]
fn csv_keeps_the_empty_text_apart_from_null_and_a_default_fills_what_is_not_named() {
    let bench = Bench::new(TABLE);
    let text = b"id,s\r\n1,\"\"\r\n2,\r\n3,\"a,\"\"b\"\"\nc\"\r\n";
    assert_eq!(bench.store("COPY t (id, s) FROM STDIN (FORMAT csv, HEADER match)", text, 5).unwrap(), "COPY 3");
    let back =
        bench.written("COPY (SELECT id, s, d FROM t ORDER BY id) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE (id))");
    let wanted = "id,s,d\n\"1\",\"\",2026-01-02\n\"2\",,2026-01-02\n\"3\",\"a,\"\"b\"\"\nc\",2026-01-02\n";
    assert_eq!(String::from_utf8(back).unwrap(), wanted);
    let odd = bench.store("COPY t (id, s) FROM STDIN (FORMAT csv, HEADER match)", b"s,id\n", 9).unwrap_err();
    assert_eq!(crate::error::sqlstate(&odd), "22P04");
}

#[test]
fn an_error_names_line_and_column_and_leaves_nothing() {
    let bench = Bench::new("CREATE TABLE t (id INTEGER PRIMARY KEY, s VARCHAR(3) NOT NULL, u UUID)");
    for (input, code, place) in [
        (&b"1\ta\n"[..], "22P04", "COPY t, line 1: \"1\ta\""),
        (b"1\ta\t\\N\n2\tb\t\\N\tc\n", "22P04", "line 2"),
        (b"1\ta\t\\N\nx\tb\t\\N\n", "22P02", "COPY t, line 2, column id: \"x\""),
        (b"1\ta\t\\N\n99999999999\tb\t\\N\n", "22003", "line 2, column id"),
        (b"1\ta\t\\N\n2\t\\N\t\\N\n", "23502", "line 2, column s"),
        (b"1\ta\t\\N\n2\tb\t\\N\n3\tabcd\t\\N\n", "22001", "line 3"),
        (b"1\ta\t\\N\n2\tb\tno uuid\n", "22P02", "line 2"),
        (b"1\ta\t\\N\n1\tb\t\\N\n", "23505", ""),
        (b"1\t\xff\t\\N\n", "22021", "line 1, column s"),
    ] {
        let error = bench.store("COPY t FROM STDIN", input, 4).unwrap_err();
        assert_eq!(crate::error::sqlstate(&error), code, "{error}");
        assert!(error.to_string().contains(place), "{error}");
    }
    assert_eq!(bench.written("COPY t TO STDOUT"), b"");
    let quoted = bench.store("COPY t FROM STDIN CSV", b"1,\"a\n\n,2", 3).unwrap_err();
    assert!(quoted.to_string().contains("unterminated CSV quoted field"), "{quoted}");
}

#[test]
fn binary_and_parquet_come_back_as_they_went_out() {
    let bench = Bench::new(TABLE);
    let insert = "INSERT INTO t VALUES (1, 'ä', -0.5, '2026-01-02 03:04:05.123456+00', true, 1.25, \
                  '0192f0c1-7b4e-7c3a-8d5e-0123456789ab', '[1]', '\\x00ff', '1999-12-31'), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";
    bench.outcome(insert);
    let text = bench.written("COPY t TO STDOUT");
    for format in ["binary", "parquet"] {
        let bytes = bench.written(&format!("COPY t TO STDOUT (FORMAT {format})"));
        bench.outcome("DELETE FROM t");
        let copied = bench.store(&format!("COPY t FROM STDIN (FORMAT {format})"), &bytes, 11).unwrap();
        assert_eq!((copied.as_str(), bench.written("COPY t TO STDOUT")), ("COPY 2", text.clone()), "{format}");
        let cut = bench.store(&format!("COPY t FROM STDIN (FORMAT {format})"), &bytes[..bytes.len() - 9], 64);
        assert_eq!(crate::error::sqlstate(&cut.unwrap_err()), "22P04", "{format}");
    }
    assert_eq!(bench.written("COPY (SELECT 1 WHERE false) TO STDOUT (FORMAT binary)").len(), 21);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_comes_back_by_every_format(texts in proptest::collection::vec(proptest::option::of("\\PC*|[\\\\\"',;\t\n\r.N]{0,6}"), 1..8), piece in 1usize..40) {
        let bench = BENCH.with(Arc::clone);
        bench.outcome("DELETE FROM t");
        let rows = texts.iter().enumerate();
        let literal = |text: &Option<String>| text.as_ref().map_or("NULL".into(), |text| format!("'{}'", text.replace('\'', "''")));
        let values: Vec<String> = rows.map(|(id, text)| format!("({id}, {})", literal(text))).collect();
        bench.outcome(&format!("INSERT INTO t (id, s) VALUES {}", values.join(", ")));
        let before = bench.written("COPY (SELECT id, s FROM t ORDER BY id) TO STDOUT (FORMAT binary)");
        for options in ["", "(FORMAT csv)", "(FORMAT csv, QUOTE '''', ESCAPE '\\', DELIMITER ';', NULL 'N')", "(FORMAT binary)", "(DELIMITER ',', NULL '\\N')"] {
            let text = bench.written(&format!("COPY (SELECT id, s FROM t ORDER BY id) TO STDOUT {options}"));
            bench.outcome("DELETE FROM t");
            bench.store(&format!("COPY t (id, s) FROM STDIN {options}"), &text, piece).unwrap();
            let after = bench.written("COPY (SELECT id, s FROM t ORDER BY id) TO STDOUT (FORMAT binary)");
            prop_assert_eq!(&after, &before, "{} {:?}", options, String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), signed in any::<bool>()) {
        let bench = BENCH.with(Arc::clone);
        let mut input = Vec::new();
        if signed {
            input.extend_from_slice(super::binary::HEADER);
        }
        input.extend_from_slice(&bytes);
        for format in ["text", "csv", "binary", "parquet"] {
            let copy = bench.copy(&format!("COPY t FROM STDIN (FORMAT {format})"));
            let mut reader = Input::new(&copy, zone(&bench.session)).unwrap();
            let _ = reader.block(&input).and_then(|()| reader.batch()).and_then(|_| reader.close()).and_then(|()| reader.batch());
        }
    }
}

thread_local! {
    static BENCH: Arc<Bench> = Arc::new(Bench::new(TABLE));
}

#[test]
fn an_input_without_its_end_stores_nothing() {
    let bench = Bench::new(TABLE);
    let copy = bench.copy("COPY t (id) FROM STDIN");
    let (feed, batches) = super::input::pipe(Input::new(&copy, zone(&bench.session)).unwrap());
    feed.data("1\n2\n".into()).now_or_never().unwrap();
    drop(feed);
    let ended = bench.runtime.block_on(bench.session.copy_in(&copy, batches));
    assert!(matches!(ended, Err(Error::Cancelled)));
    assert_eq!(bench.written("COPY t TO STDOUT"), b"");
}
