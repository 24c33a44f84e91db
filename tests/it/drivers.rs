//! psql, psycopg and asyncpg against a real server: what their users type.
//!
//! **Invariant:** a client that is missing is named loudly; with JUNO_REQUIRE_CLIENTS set, that is a failure.

use std::process::Command;

use crate::{server, skip};

pub(crate) fn has_psql() -> bool {
    let found = Command::new("psql").arg("--version").output().is_ok();
    if !found {
        skip("psql is not installed", "JUNO_REQUIRE_CLIENTS");
    }
    found
}

/// A Python that has a module, or none.
pub(crate) fn python(module: &str) -> Option<String> {
    let python = std::env::var("JUNO_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python)
        .args(["-c", &format!("import {module}")])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        skip(&format!("{python} has no module {module}"), "JUNO_REQUIRE_CLIENTS");
    }
    found.then_some(python)
}

#[test]
fn psql_describes_what_is_there() {
    if !has_psql() {
        return;
    }
    let server = server();
    server.psql(&["-c", "CREATE TABLE cpu (time TIMESTAMPTZ, host TEXT, usage DOUBLE PRECISION)"]).expect("a table");
    let tables = server.psql(&["-c", r"\dt"]).expect("\\dt");
    for table in [
        "cpu",
        "healing_incidents",
        "optimization_history",
        "scaling_events",
        "threat_events",
        "governance_adaptations",
    ] {
        assert!(tables.contains(table), "\\dt lacks {table}:\n{tables}");
    }
    let described = server.psql(&["-c", r"\d cpu"]).expect("\\d cpu");
    for (column, kind) in [("time", "timestamp"), ("host", "text"), ("usage", "double precision")] {
        let line = described.lines().find(|line| line.trim_start().starts_with(column)).unwrap_or_default();
        assert!(line.contains(kind), "\\d cpu says of {column}:\n{described}");
    }
    let incidents = server.psql(&["-c", r"\d healing_incidents"]).expect("\\d healing_incidents");
    for (column, kind) in [("id", "uuid"), ("symptoms", "jsonb"), ("severity", "character varying(20)")] {
        let line = incidents.lines().find(|line| line.trim_start().starts_with(column)).unwrap_or_default();
        assert!(line.contains(kind), "\\d healing_incidents says of {column}:\n{incidents}");
    }
    assert!(server.psql(&["-c", r"\d"]).expect("\\d").contains("cpu"));
    assert!(server.psql(&["-c", r"\l"]).expect("\\l").contains("juno"));
    assert!(server.psql(&["-c", r"\dn"]).expect("\\dn").contains("public"));
}

#[test]
fn psql_shows_values_and_tags_as_postgresql_does() {
    if !has_psql() {
        return;
    }
    let server = server();
    let script = "CREATE TABLE t (id UUID PRIMARY KEY DEFAULT gen_random_uuid(), at TIMESTAMPTZ, v DECIMAL(5,2), ok BOOLEAN, j JSONB);\n\
                  INSERT INTO t (id, at, v, ok, j) VALUES ('0192F0C1-7B4E-7C3A-8D5E-0123456789AB', '2026-01-02 03:04:05.5+00', 1.5, true, '{\"b\":1}');\n\
                  INSERT INTO t (at) VALUES (NULL);\n\
                  UPDATE t SET ok = false WHERE v > 1;\n\
                  SELECT * FROM t WHERE v IS NOT NULL;\n\
                  DELETE FROM t;\n\
                  DROP TABLE t;\n";
    let file = server.scratch("script.sql");
    std::fs::write(&file, script).expect("a file");
    let printed =
        server.psql(&["--tuples-only", "--no-align", "--file", &file.display().to_string()]).expect("the script runs");
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        lines,
        [
            "CREATE TABLE",
            "INSERT 0 1",
            "INSERT 0 1",
            "UPDATE 1",
            "0192f0c1-7b4e-7c3a-8d5e-0123456789ab|2026-01-02 03:04:05.5+00|1.50|f|{\"b\": 1}",
            "DELETE 2",
            "DROP TABLE"
        ]
    );
}

const PSYCOPG: &str = r#"
import datetime, decimal, sys, uuid
import psycopg
from psycopg.types.json import Jsonb
connection = psycopg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="anyone", dbname="juno")
with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE p (id UUID PRIMARY KEY, at TIMESTAMPTZ, v DECIMAL(6,2), n BIGINT, f DOUBLE PRECISION, ok BOOLEAN, j JSONB, s TEXT)")
    connection.commit()
    key = uuid.uuid4()
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=datetime.timezone.utc)
    row = (key, at, decimal.Decimal("12.34"), 2**40, 0.1, True, Jsonb({"a": [1, None]}), "it's")
    cursor.execute("INSERT INTO p VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", row)
    assert cursor.rowcount == 1, cursor.rowcount
    connection.commit()
    for binary in (False, True):
        got = connection.cursor(binary=binary).execute("SELECT * FROM p WHERE id = %s AND at >= %s AND n > %s", (key, at, 7)).fetchone()
        assert got[0] == key and got[1] == at and got[2] == decimal.Decimal("12.34") and got[3] == 2**40, got
        assert got[4] == 0.1 and got[5] is True and got[6] == {"a": [1, None]} and got[7] == "it's", got
    cursor.execute("UPDATE p SET s = %s WHERE id = %s", ("other", key))
    assert cursor.rowcount == 1
    connection.rollback()
    assert cursor.execute("SELECT s FROM p").fetchone() == ("it's",), "a rollback forgets"
    cursor.executemany("INSERT INTO p (id, n) VALUES (%s, %s)", [(uuid.uuid4(), n) for n in range(100)])
    connection.commit()
    assert cursor.execute("SELECT count(*), sum(n) FROM p WHERE n < 100").fetchone() == (100, 4950)
    connection.rollback()
    try:
        cursor.execute("INSERT INTO p (id) VALUES (%s)", (key,))
        connection.commit()
        sys.exit("a duplicate was taken")
    except psycopg.errors.UniqueViolation:
        connection.rollback()
    try:
        cursor.execute("SELECT * FROM nowhere")
    except psycopg.errors.UndefinedTable:
        connection.rollback()
    assert cursor.execute("SELECT 1").fetchone() == (1,)
    connection.rollback()
with connection.transaction():
    for binary in (False, True):
        with connection.cursor(f"server side {binary}", binary=binary) as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT n, id FROM p WHERE n < %s ORDER BY n", (50,))
            assert [column.name for column in cursor.description] == ["n", "id"]
            assert cursor.fetchone()[0] == 0
            assert [row[0] for row in cursor.fetchmany(3)] == [1, 2, 3]
            assert [row[0] for row in cursor] == list(range(4, 50))
with connection.transaction():
    connection.execute("INSERT INTO p (id, n) VALUES (%s, 1000)", (uuid.uuid4(),))
    try:
        with connection.transaction():
            assert connection.execute("UPDATE p SET n = 1001 WHERE n = 1000 RETURNING n").fetchall() == [(1001,)]
            connection.execute("SELECT 1 / 0")
    except psycopg.errors.DivisionByZero:
        pass
    assert connection.execute("SELECT count(*) FROM p WHERE n = 1000").fetchone() == (1,)
with connection.transaction():
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        found = cursor.execute("SELECT count(*) FROM p WHERE n = ANY(%s)", ([1, 2, 3],)).fetchone()
        assert found == (3,), found
        assert cursor.execute("SELECT count(*) FROM p WHERE n <> ALL(%s) AND n < 100", ([1, 2, 3],)).fetchone() == (97,)
        assert cursor.execute("SELECT count(*) FROM p WHERE id = ANY(%s)", ([key],)).fetchone() == (1,)
        assert cursor.execute("SELECT count(*) FROM p WHERE s = ANY(%s)", (["it's", "b"],)).fetchone() == (1,)
        assert cursor.execute("SELECT count(*) FROM p WHERE at = ANY(%s)", ([at],)).fetchone() == (1,)
        assert cursor.execute("SELECT count(*) FROM p WHERE f = ANY(%s)", ([0.1, 0.2],)).fetchone() == (1,)
        assert cursor.execute("SELECT count(*) FROM p WHERE n = ANY(%s)", ([],)).fetchone() == (0,)
        assert cursor.execute("SELECT array_agg(n ORDER BY n) FROM p WHERE n < 3").fetchone() == ([0, 1, 2],)
        assert cursor.execute("SELECT array_agg(s) FROM p WHERE id = %s", (key,)).fetchone() == (["it's"],)
with connection.pipeline():
    pass
connection.autocommit = True
try:
    with connection.pipeline():
        connection.execute("INSERT INTO p (id, n) VALUES (%s, 5000)", (uuid.uuid4(),))
        connection.execute("SELECT 1 / 0")
    sys.exit("a division by zero went by")
except psycopg.errors.DivisionByZero:
    pass
assert connection.execute("SELECT count(*) FROM p WHERE n = 5000").fetchone() == (0,), "a pipeline is one transaction"
connection.autocommit = False
connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
other = psycopg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="anyone", dbname="juno", autocommit=True)
assert connection.execute("SELECT count(*) FROM p WHERE n = 1000").fetchone() == (1,)
other.execute("UPDATE p SET n = 2000 WHERE n = 1000")
assert connection.execute("SELECT count(*) FROM p WHERE n = 1000").fetchone() == (1,)
try:
    connection.execute("UPDATE p SET n = 3000 WHERE n = 1000")
    sys.exit("a row was changed twice")
except psycopg.errors.SerializationFailure:
    connection.rollback()
connection.read_only = True
try:
    connection.execute("DELETE FROM p")
    sys.exit("a read-only transaction wrote")
except psycopg.errors.ReadOnlySqlTransaction:
    connection.rollback()
print("fine")
"#;

#[test]
fn psycopg_sends_and_reads_every_type() {
    let Some(python) = python("psycopg") else { return };
    let server = server();
    let output = Command::new(python).args(["-c", PSYCOPG, &server.pg_port().to_string()]).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const ASYNCPG: &str = r#"
import asyncio, datetime, decimal, sys, uuid
import asyncpg
async def main():
    c = await asyncpg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="anyone", database="juno", ssl=False)
    print(await c.execute("CREATE TABLE a (id UUID PRIMARY KEY, at TIMESTAMPTZ, v DECIMAL(6,2), n INTEGER, j JSONB)"))
    key = uuid.uuid4()
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=datetime.timezone.utc)
    assert await c.execute("INSERT INTO a VALUES ($1, $2, $3, $4, $5)", key, at, decimal.Decimal("12.34"), 7, '{"a": 1}') == "INSERT 0 1"
    row = await c.fetchrow("SELECT * FROM a WHERE id = $1", key)
    assert row["id"] == key and row["at"] == at and row["v"] == decimal.Decimal("12.34") and row["n"] == 7, row
    assert await c.fetchval("SELECT j ->> 'a' FROM a") == "1"
    assert await c.execute("UPDATE a SET n = $1", 8) == "UPDATE 1"
    assert await c.fetchval("UPDATE a SET n = $2 WHERE id = $1 RETURNING n + $3", key, 9, 1) == 10
    other = uuid.uuid4()
    upsert = "INSERT INTO a (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = a.n + excluded.n + $3 WHERE a.n < $4 RETURNING id, n"
    assert [tuple(row) for row in await c.fetch(upsert, other, 5, 100, 1000)] == [(other, 5)]
    assert [tuple(row) for row in await c.fetch(upsert, other, 5, 100, 1000)] == [(other, 110)]
    assert await c.fetch(upsert, other, 5, 100, 7) == []
    row = await c.fetchrow("DELETE FROM a WHERE id = $1 RETURNING *", other)
    assert row["id"] == other and row["n"] == 110 and row["j"] is None, row
    assert await c.execute("UPDATE a SET n = 8") == "UPDATE 1"
    assert await c.execute("DELETE FROM a WHERE n = $1", 8) == "DELETE 1"
    await c.executemany("INSERT INTO a (id, n, at) VALUES ($1, $2, $3)", [(uuid.uuid4(), n, at) for n in range(5)])
    assert await c.fetchval("SELECT count(*) FROM a") == 5
    try:
        await c.executemany("INSERT INTO a (id, n) VALUES ($1, $2)", [(key, 1), (key, 2)])
        sys.exit("a duplicate was taken")
    except asyncpg.UniqueViolationError:
        pass
    assert await c.fetchval("SELECT count(*) FROM a") == 5, "executemany is all or nothing"
    await c.execute("DELETE FROM a")
    async with c.transaction():
        await c.execute("INSERT INTO a (id) VALUES ($1)", uuid.uuid4())
    assert await c.fetchval("SELECT count(*) FROM a") == 1
    # Parameters that stand where only their use says of which type they are.
    await c.execute("DELETE FROM a")
    await c.executemany("INSERT INTO a (id, n, at) VALUES ($1, $2, $3)", [(uuid.uuid4(), n, at) for n in range(5)])
    numbers = [row["n"] for row in await c.fetch("SELECT n FROM a ORDER BY n LIMIT $1 OFFSET $2", 2, 1)]
    assert numbers == [1, 2], numbers
    day = datetime.timedelta(days=1)
    for question, value, expected in [
        ("SELECT min(coalesce(at, $1)) FROM a", at + day, at),
        ("SELECT max(coalesce($1, at)) FROM a", at + day, at + day),
        ("SELECT count(*) FROM a WHERE at > coalesce($1, at - INTERVAL '1 day')", None, 5),
        ("SELECT count(*) FROM a WHERE n = coalesce($1, n)", 3, 1),
        ("SELECT sum(CASE WHEN n > 2 THEN $1 ELSE n END) FROM a", 100, 203),
        ("SELECT count(nullif(n, $1)) FROM a", 4, 4),
        ("SELECT max(greatest(n, $1)) FROM a", 9, 9),
        ("SELECT min(time_bucket($1, at)) FROM a", day, datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)),
        ("SELECT to_timestamp($1)", at.timestamp(), at),
    ]:
        assert await c.fetchval(question, value) == expected, question
    # Arrays, for which the driver asks the catalog.
    assert await c.fetchval("SELECT array_agg(n ORDER BY n) FROM a WHERE n > $1", 2) == [3, 4]
    assert await c.fetchval("SELECT ARRAY[1.5::float8, NULL]") == [1.5, None]
    assert await c.fetchval("SELECT array_agg(at) FROM a WHERE n = 0") == [at]
    assert await c.fetchval("SELECT count(*) FROM a WHERE n = ANY($1::int[])", [1, 2, 7]) == 2
    await c.close()
asyncio.run(main())
"#;

#[test]
fn asyncpg_prepares_in_binary() {
    let Some(python) = python("asyncpg") else { return };
    let server = server();
    let output = Command::new(python).args(["-c", ASYNCPG, &server.pg_port().to_string()]).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const SQLALCHEMY: &str = r#"
import datetime, sys
from sqlalchemy import JSON, Column, DateTime, Float, Integer, String, create_engine, func, inspect, select, text
from sqlalchemy.orm import Session, declarative_base
engine = create_engine(f"postgresql+psycopg://anyone@127.0.0.1:{sys.argv[1]}/juno")
Base = declarative_base()
class User(Base):
    __tablename__ = "sa_user"
    id = Column(Integer, primary_key=True, autoincrement=False)
    name = Column(String(30), nullable=False)
    at = Column(DateTime(timezone=True))
    score = Column(Float)
    data = Column(JSON)
Base.metadata.create_all(engine)
Base.metadata.create_all(engine)
with engine.begin() as connection:
    connection.execute(text("CREATE VIEW sa_view AS SELECT id FROM sa_user"))
inspector = inspect(engine)
assert "sa_user" in inspector.get_table_names() and "sa_view" in inspector.get_view_names()
assert "public" in inspector.get_schema_names(), inspector.get_schema_names()
columns = {column["name"]: column for column in inspector.get_columns("sa_user")}
assert list(columns) == ["id", "name", "at", "score", "data"], columns
assert str(columns["name"]["type"]) == "VARCHAR(30)" and not columns["name"]["nullable"], columns
assert columns["at"]["type"].timezone and str(columns["id"]["type"]) == "INTEGER", columns
assert inspector.get_pk_constraint("sa_user")["constrained_columns"] == ["id"]
for nothing in (inspector.get_foreign_keys, inspector.get_unique_constraints, inspector.get_check_constraints):
    assert nothing("sa_user") == [], nothing
inspector.get_indexes("sa_user")
inspector.get_table_comment("sa_user")
assert "sa_user" in inspector.get_view_definition("sa_view")
at = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
with Session(engine) as session:
    session.add_all([User(id=n, name=f"u{n}", at=at, score=n / 2, data={"a": n}) for n in range(50)])
    session.commit()
    first, second, third = session.scalars(select(User).where(User.id.in_([1, 2, 3])).order_by(User.id)).all()
    first.name = "other"
    session.delete(second)
    session.commit()
    assert session.scalar(select(func.count()).select_from(User)) == 49
    assert (session.get(User, 1).name, session.get(User, 3).data, session.get(User, 3).at) == ("other", {"a": 3}, at)
    session.execute(text("CREATE TABLE sa_gone (id INTEGER PRIMARY KEY)"))
    session.rollback()
assert "sa_gone" not in inspect(engine).get_table_names()
with engine.begin() as connection:
    connection.execute(text("DROP VIEW sa_view"))
Base.metadata.drop_all(engine)
"#;

#[test]
fn sqlalchemy_reflects_and_stores_objects() {
    if python("psycopg").is_none() {
        return;
    }
    let Some(python) = python("sqlalchemy") else { return };
    let server = server();
    let output = Command::new(python).args(["-c", SQLALCHEMY, &server.pg_port().to_string()]).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
