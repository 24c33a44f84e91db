#!/usr/bin/env python3
"""juno beside DuckDB, chDB and DataFusion on TSBS cpu-only: the same rows, the same query instances, answers compared.

    cargo build --release --workspace --bins
    pip install -r benches/peers/requirements.txt
    benches/peers/peers.py [--hosts 100] [--hours 72] [--decimals 0] [--data FOLDER] [--store FOLDER]
                           [--engines juno,embedded,duckdb] [--queries lastpoint-join-max]

Run in the repository's root. The set is generated, unless --data names a folder that has one; with --store the loaded
databases are kept for the next run. Every engine is a process of its own, asked in turn, so that a noisy moment hits all
alike. Processor time is over all threads of the engine; the ratio is to the better of DuckDB's two.

double-groupby-N-raw is the same query as double-groupby-N, answered from rows by juno too; the latter may use aggregates
that juno keeps. lastpoint-distinct-on asks DuckDB and DataFusion the join, which is quicker there, and ClickHouse LIMIT BY.
"""
import argparse
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import engines
import generate
import queries

HERE = pathlib.Path(__file__).parent
ALL = ["juno", "embedded", "duckdb-sorted", "duckdb", "chdb", "datafusion"]
BASE = ["duckdb-sorted", "duckdb"]


class Process:
    """An engine that answers a line with a line."""

    def __init__(self, name, data, store):
        command = [sys.executable, HERE / "engines.py", name, "serve", data, store]
        if name == "embedded":
            command = [os.environ.get("PEERS_EMBEDDED", "target/release/embedded"), "--data", store]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{name} does not start")

    def ask(self, sql):
        self.process.stdin.write(sql + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"an engine ended at: {sql}")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait(120)


def load(names, data, folder, rows):
    print("| engine | load, CPU µs per row | rows/s | bytes per row | most memory while loading, MiB |\n|---|---|---|---|---|")
    for name in names:
        store = folder / name
        if store.exists():
            continue
        if name == "embedded" and (folder / "juno").exists():
            # A database directory has one owner at a time.
            shutil.copytree(folder / "juno", store)
            continue
        command = [sys.executable, HERE / "engines.py", "juno" if name == "embedded" else name, "load", data, store]
        taken = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        cost, speed, size = taken["cpu_s"] * 1e6 / rows, rows / taken["wall_s"], taken["bytes"] / rows
        print(f"| {name} | {cost:.2f} | {speed:.0f} | {size:.2f} | {taken['peak_kib'] / 1024:.0f} |", flush=True)
    print()


def dialect(name, data):
    return engines.ENGINES["juno" if name == "embedded" else name](data, "")


def same(one, other):
    if one["rows"] == other["rows"] == 0:
        return True
    close = lambda a, b: math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6)
    return one["rows"] == other["rows"] and len(one["sums"]) == len(other["sums"]) and all(
        map(close, sorted(one["sums"]), sorted(other["sums"])))


def measure(asked, data, wanted, count, rounds, meta):
    """By query and engine: processor and wall milliseconds of an instance (median of the rounds' means)."""
    figures, differing = {}, []
    for query in wanted:
        instances = queries.instances(meta, query, count)
        taken = {name: [] for name in asked}
        for name, process in asked.items():
            speaks = dialect(name, data)
            for text in speaks.before(instances[0]) + [speaks.sql(instances[0])]:
                process.ask(text)
        for _ in range(rounds):
            answers = {}
            for name, process in asked.items():
                texts = [dialect(name, data).sql(instance) for instance in instances]
                answers[name] = [process.ask(text) for text in texts]
                mean = lambda what: statistics.fmean(answer[what] for answer in answers[name])
                taken[name].append((mean("cpu_ms"), mean("wall_ms")))
            reference = next(iter(answers))
            for name in answers:
                text = f"{query}: {name} and {reference}"
                if text not in differing and not all(map(same, answers[reference], answers[name])):
                    differing.append(text)
        middle = lambda name, place: statistics.median(figure[place] for figure in taken[name])
        figures[query] = {name: (middle(name, 0), middle(name, 1)) for name in asked}
        print(query, {name: round(figure[0], 2) for name, figure in figures[query].items()}, file=sys.stderr, flush=True)
    return figures, differing


def report(figures, names):
    base = [name for name in names if name in BASE]
    print("CPU ms of an instance (ratio to the better DuckDB)\n")
    print("| query | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    ratios = {name: [] for name in names}
    for query, row in figures.items():
        best = min((row[name][0] for name in base), default=None)
        cells = []
        for name in names:
            cell = f"{row[name][0]:.2f}"
            if best:
                ratios[name].append(row[name][0] / best)
                cell += f" ({row[name][0] / best:.2f})"
            cells.append(cell)
        print(f"| {query} | " + " | ".join(cells) + " |")
    if base:
        print("| **geometric mean** | " + " | ".join(f"{statistics.geometric_mean(ratios[name]):.2f}" for name in names) + " |")
    print("\nWall ms of an instance\n\n| query | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for query, row in figures.items():
        print(f"| {query} | " + " | ".join(f"{row[name][1]:.2f}" for name in names) + " |")


def processor():
    info = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in info if line.startswith("model name")), "unknown processor")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True).stdout.strip()
    return f"{model}, {os.cpu_count()} cores; commit {commit}"


def run(arguments, data, folder):
    meta = json.loads((pathlib.Path(data) / "meta.json").read_text())
    names = arguments.engines.split(",")
    print(f"TSBS cpu-only, {meta['hosts']} hosts × {meta['hours']} h, {meta['rows']} rows; {processor()}\n")
    load(names, data, folder, meta["rows"])
    wanted = arguments.queries.split(",") if arguments.queries else queries.NAMES
    asked = {name: Process(name, data, folder / name) for name in names}
    figures, differing = measure(asked, data, wanted, arguments.instances, arguments.rounds, meta)
    for process in asked.values():
        process.close()
    report(figures, names)
    for text in differing:
        print(f"\nANSWERS DIFFER: {text}")
    return 1 if differing else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--hours", type=float, default=72)
    parser.add_argument("--decimals", type=int, default=0)
    parser.add_argument("--data", help="folder with cpu.parquet and meta.json; where there is none, it is generated there")
    parser.add_argument("--store", help="folder where the loaded databases stay")
    parser.add_argument("--engines", default=",".join(ALL))
    parser.add_argument("--queries", help="by comma; all")
    parser.add_argument("--instances", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = arguments.data or f"{temporary}/data"
        if not (pathlib.Path(data) / "meta.json").exists():
            generate.generate(data, arguments.hosts, arguments.hours, arguments.decimals, False)
        folder = pathlib.Path(arguments.store or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return run(arguments, data, folder)


if __name__ == "__main__":
    sys.exit(main())
