//! COPY by the clients that people use: psql's `\copy`, psycopg, asyncpg, and files on the server.
//!
//! **Invariant:** each test has a server of its own; what was not copied whole is not there.

use std::io::Write;
use std::process::Command;

use crate::client::Postgres;
use crate::drivers::{has_psql, python};
use crate::server;

#[test]
fn psql_copies_files_in_and_out() {
    if !has_psql() {
        return;
    }
    let server = server();
    server.psql(&["-c", "CREATE TABLE cpu (time TIMESTAMPTZ, host TEXT, usage DOUBLE PRECISION)"]).expect("a table");
    let (input, output) = (server.scratch("in.csv"), server.scratch("out.csv"));
    let text = "time,host,usage\n2026-01-02 03:04:05+00,a,1.5\n2026-01-02 03:04:06+00,\"b,c\",\n";
    std::fs::write(&input, text).expect("a file");
    let copied = server.psql(&["-c", &format!(r"\copy cpu from '{}' with (format csv, header)", input.display())]);
    assert!(copied.expect("\\copy from").contains("COPY 2"));
    let copied =
        server.psql(&["-c", &format!(r"\copy (SELECT * FROM cpu ORDER BY time) to '{}' csv header", output.display())]);
    assert!(copied.expect("\\copy to").contains("COPY 2"));
    assert_eq!(std::fs::read_to_string(&output).expect("a file"), text);
    std::fs::write(&input, "2026-01-02 03:04:07+00\tx\t1\n2026-01-02 03:04:08+00\tx\tone\n").expect("a file");
    let error = server.psql(&["-c", &format!(r"\copy cpu from '{}'", input.display())]).expect_err("no number");
    let error = format!("{error:#}");
    assert!(
        error.contains("invalid input syntax for type double precision") && error.contains("line 2, column usage"),
        "{error}"
    );
    let script = server.scratch("script.sql");
    std::fs::write(&script, "COPY cpu FROM STDIN;\n2026-01-02 03:04:09+00\ty\t\\N\n\\.\nSELECT count(*) FROM cpu;\n")
        .expect("a file");
    let printed = server.psql(&["-At", "-f", &script.display().to_string()]).expect("a script with rows in it");
    assert_eq!(printed.lines().collect::<Vec<_>>(), ["COPY 1", "3"]);
}

#[test]
fn files_of_the_server_are_copied_whole_or_not_at_all() {
    let server = server();
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT, n BIGINT DEFAULT 7)");
    client.rows("INSERT INTO t (id, s) SELECT n, 's' || n FROM generate_series(1, 70000) AS s (n)");
    for format in ["csv", "text", "binary", "parquet"] {
        client.rows(&format!("COPY t TO 'copy.{format}' (FORMAT {format})"));
        client.rows("DELETE FROM t WHERE id > 0");
        client.rows(&format!("COPY t FROM 'copy.{format}' (FORMAT {format})"));
        assert_eq!(
            client.value("SELECT count(*) || ' ' || sum(id) || ' ' || max(s) || ' ' || sum(n) FROM t"),
            "70000 2450035000 s9999 490000"
        );
    }
    assert!(server.data().join("import/copy.csv").exists());
    assert_eq!(client.error("COPY t FROM 'copy.csv' (FORMAT csv)").0, "23505");
    assert_eq!(client.error("COPY t FROM 'nosuch.csv'").0, "58P01");
    assert_eq!(client.error("COPY t FROM '../data/LOCK'").0, "22023");
    let own = server.data().join("LOCK").display().to_string();
    assert_eq!(client.error(&format!("COPY t FROM '{own}'")).0, "22023");
    assert_eq!(client.error(&format!("COPY t TO '{own}'")).0, "22023");
    assert_eq!(client.value("SELECT count(*) FROM t"), "70000");
    client.rows("CREATE TABLE two (id INTEGER PRIMARY KEY, other TEXT)");
    let (code, message) = client.error("COPY two FROM 'copy.parquet' (FORMAT parquet)");
    assert_eq!(code, "42703");
    assert!(message.contains("id, s, n"), "{message}");
    client.rows("COPY two (id) FROM 'copy.parquet' (FORMAT parquet)");
    assert_eq!(client.value("SELECT count(*) || ' ' || count(other) FROM two"), "70000 0");
}

#[test]
fn a_long_copy_goes_into_parts_while_it_comes_in_whole_or_not_at_all() {
    let server = server();
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE logs (time TIMESTAMPTZ, host TEXT, message TEXT, n BIGINT) WITH (tags = 'host')");
    client.rows("INSERT INTO logs VALUES (to_timestamp(5), 'h5', 'older', 0), (to_timestamp(0), 'h0', 'stays', 0)");
    let filler = "x".repeat(4000);
    let row = |n: u32| {
        format!(
            "{}\th{}\t{n} {filler}\t{n}\n",
            format_args!("1970-01-01 {:02}:{:02}:{:02}+00", n / 3600, n / 60 % 60, n % 60),
            n % 10
        )
    };
    let rows = 25_000;
    let mut file = std::io::BufWriter::new(std::fs::File::create(server.scratch("rows.txt")).expect("a file"));
    // Neither in order of time nor all of them once.
    (1..=rows).rev().chain(1..=10).for_each(|n| file.write_all(row(n).as_bytes()).expect("a disk"));
    drop(file);
    let bad = server.scratch("bad.txt");
    std::fs::copy(server.scratch("rows.txt"), &bad).expect("a copy");
    let mut appended = std::fs::OpenOptions::new().append(true).open(&bad).expect("a file");
    appended.write_all(b"1970-01-01 00:00:00+00\th\tm\tseven\n").expect("a disk");
    let copy = |name: &str| format!("COPY logs FROM '{}'", server.scratch(name).display());
    assert_eq!(client.error(&copy("bad.txt")).0, "22P02");
    assert_eq!(client.rows("SELECT host, message, n FROM logs ORDER BY n, time"), ["h0|stays|0", "h5|older|0"]);
    client.rows("CALL flush()");
    let parts = |dir: &std::path::Path| std::fs::read_dir(dir.join("parts")).expect("a directory").count();
    let before = parts(server.data());
    assert_eq!(client.error(&copy("bad.txt")).0, "22P02");
    assert_eq!(parts(server.data()), before, "nothing is left of it");

    client.rows(&copy("rows.txt"));
    assert!(parts(server.data()) > before, "the rows are in parts already");
    let sum = u64::from(rows) * (u64::from(rows) + 1) / 2;
    assert_eq!(
        client.value("SELECT count(*) || ' ' || sum(n) || ' ' || min(length(message)) FROM logs"),
        format!("{} {sum} 5", rows + 1)
    );
    assert_eq!(client.value("SELECT length(message) FROM logs WHERE host = 'h5' AND time = to_timestamp(5)"), "4002");
    client.rows("BEGIN");
    client.rows("DELETE FROM logs");
    client.rows(&copy("rows.txt"));
    client.rows("ROLLBACK");
    assert_eq!(client.value("SELECT count(*) FROM logs"), (rows + 1).to_string());
}

const PSYCOPG: &str = r#"
import datetime, sys, uuid
import psycopg
connection = psycopg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="anyone", dbname="juno")
cursor = connection.cursor()
cursor.execute("CREATE TABLE p (id INTEGER PRIMARY KEY, at TIMESTAMPTZ, s TEXT, u UUID, f DOUBLE PRECISION)")
connection.commit()
at = datetime.datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=datetime.timezone.utc)
rows = [(n, at, None if n % 3 == 0 else "a\tb\\\n%d" % n, uuid.UUID(int=n), n / 7) for n in range(5000)]
for binary in (False, True):
    form = "(FORMAT binary)" if binary else ""
    with cursor.copy("COPY p FROM STDIN " + form) as copy:
        if binary:
            copy.set_types(["int4", "timestamptz", "text", "uuid", "float8"])
        for row in rows:
            copy.write_row(row)
    assert cursor.rowcount == 5000, cursor.rowcount
    connection.commit()
    with cursor.copy("COPY (SELECT * FROM p ORDER BY id) TO STDOUT " + form) as copy:
        copy.set_types(["int4", "timestamptz", "text", "uuid", "float8"])
        back = list(copy.rows())
    assert back == rows, (back[:2], rows[:2])
    cursor.execute("DELETE FROM p")
    connection.commit()
try:
    with cursor.copy("COPY p FROM STDIN") as copy:
        copy.write_row((1, at, "x", uuid.UUID(int=1), 1.0))
        raise KeyError("the program's own trouble")
except KeyError:
    connection.rollback()
assert cursor.execute("SELECT count(*) FROM p").fetchone() == (0,)
try:
    with cursor.copy("COPY p FROM STDIN") as copy:
        for n in range(100000):
            copy.write(b"x\t\\N\t\\N\t\\N\t\\N\n")
    sys.exit("an x was taken for an integer")
except psycopg.errors.InvalidTextRepresentation as error:
    assert "line 1, column id" in error.diag.context, error.diag.context
connection.rollback()
with cursor.copy("COPY p (id) FROM STDIN") as copy:
    copy.write_row((1,))
connection.rollback()
assert cursor.execute("SELECT count(*) FROM p").fetchone() == (0,), "a rollback forgets a COPY"
with cursor.copy("COPY p TO STDOUT (FORMAT binary)") as copy:
    assert list(copy.rows()) == []
print("fine")
"#;

#[test]
fn psycopg_copies_rows_in_text_and_in_binary() {
    let Some(python) = python("psycopg") else { return };
    let server = server();
    let output = Command::new(python).args(["-c", PSYCOPG, &server.pg_port().to_string()]).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const ASYNCPG: &str = r#"
import asyncio, datetime, io, sys
import asyncpg
async def main():
    c = await asyncpg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="anyone", database="juno", ssl=False)
    await c.execute("CREATE TABLE a (time TIMESTAMPTZ, host TEXT, usage DOUBLE PRECISION, n BIGINT)")
    at = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    rows = [(at + datetime.timedelta(seconds=n), "h%d" % (n % 10), n / 2, n) for n in range(20000)]
    assert await c.copy_records_to_table("a", records=rows) == "COPY 20000"
    assert await c.copy_records_to_table("a", records=[(at, 1)], columns=["time", "n"]) == "COPY 1"
    assert await c.fetchval("SELECT sum(n) FROM a WHERE host IS NOT NULL") == sum(range(20000))
    out = io.BytesIO()
    assert await c.copy_from_query("SELECT n FROM a WHERE n > 19997 AND host IS NOT NULL ORDER BY n", output=out, format="csv") == "COPY 2"
    assert out.getvalue() == b"19998\n19999\n", out.getvalue()
    out = io.BytesIO()
    assert await c.copy_from_table("a", output=out, columns=["n"]) == "COPY 20001"
    source = io.BytesIO(b"2026-02-01 00:00:00+00|z|1\n")
    assert await c.copy_to_table("a", source=source, columns=["time", "host", "usage"], delimiter="|") == "COPY 1"
    async with c.transaction():
        seen = 0
        async for row in c.cursor("SELECT n FROM a ORDER BY n", prefetch=1000):
            seen += 1
        assert seen == 20002, seen
    await c.close()
asyncio.run(main())
"#;

#[test]
fn asyncpg_copies_records_in_binary_and_walks_a_cursor() {
    let Some(python) = python("asyncpg") else { return };
    let server = server();
    let output = Command::new(python).args(["-c", ASYNCPG, &server.pg_port().to_string()]).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
