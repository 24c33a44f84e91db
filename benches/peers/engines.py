"""One class for each engine: how it loads, what it calls things, how it is asked. Each runs in a process of its own:

    engines.py NAME load DATA STORE      loads the data, prints what that took
    engines.py NAME serve DATA STORE     reads a statement a line, prints {"rows", "sums", "cpu_ms", "wall_ms"} a line

cpu_ms is processor time over all threads of the engine, not of its client. sums are those of the columns of doubles.
"""
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time

from generate import FIELDS, TAGS
from queries import DISTINCT_ON, JOIN_MAX, Dialect

THREADS = 2


def size(path):
    path = pathlib.Path(path)
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


class Engine(Dialect):
    """An engine within this process that answers in Arrow."""

    def __init__(self, data, store):
        self.file, self.store = f"{data}/cpu.parquet", pathlib.Path(store)

    def fresh(self):
        shutil.rmtree(self.store, ignore_errors=True)
        self.store.mkdir(parents=True)

    def cpu(self):
        return time.process_time()

    def peak(self):
        """The most KiB that the engine held in memory, of an engine within this process with the process itself."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def size(self):
        return size(self.store)


class DuckDB(Engine):
    """DuckDB's own format, rows as they come."""
    order = ""

    def bucket(self, seconds):
        return f"time_bucket(INTERVAL '{seconds} seconds', time)"

    def open(self):
        import duckdb
        self.connection = duckdb.connect(str(self.store / "db.duckdb"))
        self.connection.execute(f"SET threads={THREADS}")

    def load(self):
        self.fresh()
        self.open()
        tags = ", ".join(f"{tag}::VARCHAR AS {tag}" for tag in TAGS)
        self.connection.execute(f"CREATE TABLE cpu AS SELECT time, {tags}, {', '.join(FIELDS)} "
                                f"FROM read_parquet('{self.file}') {self.order}")
        self.connection.execute("CHECKPOINT")
        self.connection.close()

    def ask(self, sql):
        return self.connection.sql(sql).to_arrow_table()


class DuckDBSorted(DuckDB):
    """DuckDB's own format, rows by host and time."""
    order = "ORDER BY hostname, time"


class ChDB(Engine):
    """ClickHouse's MergeTree by host and time, with the codecs that it recommends for telemetry."""
    table = "peers.cpu"
    distinct_on = "SELECT * FROM peers.cpu ORDER BY hostname DESC, time DESC LIMIT 1 BY hostname"
    join_max = JOIN_MAX.replace("FROM cpu ", "FROM peers.cpu AS cpu ", 1).replace("FROM cpu ", "FROM peers.cpu ", 1)

    def at(self, second):
        return f"toDateTime64({super().at(second).removeprefix('TIMESTAMP ')}, 6, 'UTC')"

    def bucket(self, seconds):
        return f"toStartOfInterval(time, INTERVAL {seconds} second)"

    def open(self):
        from chdb import session
        self.session = session.Session(str(self.store))
        self.session.query(f"SET max_threads={THREADS}")

    def load(self):
        self.fresh()
        self.open()
        columns = ["time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1))"]
        columns += [f"{tag} LowCardinality(String)" for tag in TAGS]
        columns += [f"{field} Float64 CODEC(Gorilla, ZSTD(1))" for field in FIELDS]
        self.session.query("CREATE DATABASE IF NOT EXISTS peers ENGINE=Atomic")
        self.session.query(f"CREATE TABLE peers.cpu ({', '.join(columns)}) ENGINE=MergeTree ORDER BY (hostname, time)")
        self.session.query(f"INSERT INTO peers.cpu SELECT * FROM file('{os.path.abspath(self.file)}', Parquet)")
        self.session.query("OPTIMIZE TABLE peers.cpu FINAL")
        self.session.close()

    def ask(self, sql):
        import pyarrow as pa
        return pa.ipc.open_file(pa.BufferReader(self.session.query(sql, "Arrow").bytes())).read_all()

    def size(self):
        self.open()
        found = self.session.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'cpu'", "CSV")
        return int(str(found).strip())


class DataFusion(Engine):
    """DataFusion over Parquet by host and time, with filters pushed into the reader."""

    def open(self):
        from datafusion import SessionConfig, SessionContext
        config = SessionConfig().with_target_partitions(THREADS)
        self.context = SessionContext(config.set("datafusion.execution.parquet.pushdown_filters", "true"))
        self.context.register_parquet("cpu", str(self.store / "cpu.parquet"))

    def load(self):
        import duckdb
        self.fresh()
        duckdb.sql(f"COPY (FROM read_parquet('{self.file}') ORDER BY hostname, time) "
                   f"TO '{self.store}/cpu.parquet' (COMPRESSION zstd)")

    def ask(self, sql):
        import pyarrow as pa
        frame = self.context.sql(sql)
        return pa.Table.from_batches(frame.collect(), schema=frame.schema())


class Juno(Engine):
    """juno behind the PostgreSQL protocol."""
    distinct_on = DISTINCT_ON
    program = os.environ.get("PEERS_JUNO", "target/release/juno")

    def before(self, query):
        return [f"SET juno.aggregates = {'off' if query.raw else 'on'}"]

    def peak(self):
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss

    def load(self):
        shutil.rmtree(self.store, ignore_errors=True)
        subprocess.run([self.program, "import", self.file, "--table", "cpu", "--data", self.store, "--time", "time",
                        "--tags", ",".join(TAGS)], check=True, stdout=subprocess.DEVNULL)

    def cpu(self):
        if not hasattr(self, "server"):
            spent = os.times()
            return spent.children_user + spent.children_system
        tasks = pathlib.Path(f"/proc/{self.server.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def open(self):
        import psycopg
        command = [self.program, "serve", "--data", self.store, "--pg-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = next(line for line in self.server.stdout if "PostgreSQL" in line)
        port = line.split("127.0.0.1:")[1].split()[0].rstrip("/,;")
        self.connection = psycopg.connect(f"host=127.0.0.1 port={port} user=juno dbname=juno", autocommit=True)

    def ask(self, sql):
        cursor = self.connection.cursor(binary=True)
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []

    def close(self):
        self.connection.close()
        self.server.terminate()
        self.server.wait(60)


ENGINES = {"duckdb": DuckDB, "duckdb-sorted": DuckDBSorted, "chdb": ChDB, "datafusion": DataFusion, "juno": Juno}


def sums(answer):
    """Rows, and the sum of each column of doubles."""
    if isinstance(answer, list):
        columns = zip(*answer)
        floats = (column for column in columns if any(isinstance(value, float) for value in column))
        return len(answer), [sum(value for value in column if value is not None) for column in floats]
    import pyarrow as pa
    import pyarrow.compute as pc
    floats = [column for column in answer.columns if pa.types.is_floating(column.type)]
    return answer.num_rows, [pc.sum(column).as_py() or 0.0 for column in floats]


def serve(engine):
    engine.open()
    print("ready", flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), engine.cpu()
        answer = engine.ask(line.strip())
        cpu, wall = engine.cpu() - cpu, time.perf_counter() - wall
        rows, totals = sums(answer)
        print(json.dumps({"rows": rows, "sums": totals, "cpu_ms": cpu * 1e3, "wall_ms": wall * 1e3}), flush=True)
    getattr(engine, "close", lambda: None)()


def main():
    name, action, data, store = sys.argv[1:]
    engine = ENGINES[name](data, store)
    if action == "serve":
        return serve(engine)
    wall, cpu = time.perf_counter(), engine.cpu()
    engine.load()
    cpu, wall = engine.cpu() - cpu, time.perf_counter() - wall
    print(json.dumps({"cpu_s": cpu, "wall_s": wall, "peak_kib": engine.peak(), "bytes": engine.size()}))


if __name__ == "__main__":
    main()
