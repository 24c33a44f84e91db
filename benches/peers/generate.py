#!/usr/bin/env python3
"""The TSBS cpu-only data set: 10 tags and 10 gauges of each host, every 10 seconds, in the order in which they are measured.

    generate.py --out FOLDER [--hosts 100] [--hours 72] [--decimals 0|2] [--lines]

Writes cpu.parquet, meta.json and, with --lines, cpu.lp (line protocol, nanoseconds). The same arguments give the same data.
Source: github.com/timescale/tsbs, pkg/data/usecases/devops: random walks with steps from N(0, 1), held within 0 and 100.
"""
import argparse
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FIELDS = ["usage_user", "usage_system", "usage_idle", "usage_nice", "usage_iowait",
          "usage_irq", "usage_softirq", "usage_steal", "usage_guest", "usage_guest_nice"]
TAGS = ["hostname", "region", "datacenter", "rack", "os", "arch", "team", "service", "service_version",
        "service_environment"]
REGIONS = {"us-east-1": "abcde", "us-west-1": "ab", "us-west-2": "abc", "eu-west-1": "abc", "eu-central-1": "ab",
           "ap-southeast-1": "ab", "ap-southeast-2": "ab", "ap-northeast-1": "ac", "sa-east-1": "abc"}
START_S = 1451606400  # 2016-01-01T00:00:00Z, where TSBS starts
STEP_S = 10
CHUNK_ROWS = 1 << 20
SEED = 123


def hosts(count):
    """The tags of each host."""
    random, regions = np.random.default_rng(SEED), list(REGIONS)
    pick = lambda items: items[random.integers(len(items))]
    for host in range(count):
        region = pick(regions)
        yield [f"host_{host}", region, region + pick(REGIONS[region]), str(random.integers(100)),
               pick(["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"]), pick(["x64", "x86"]),
               pick(["SF", "NYC", "LON", "CHI"]), str(random.integers(20)), str(random.integers(2)),
               pick(["production", "staging", "test"])]


def walks(count, ticks, decimals):
    """First tick and values (tick, host, field) of chunk after chunk."""
    random = np.random.default_rng(SEED + 1)
    now = random.uniform(0, 100, (count, len(FIELDS)))
    step = max(1, CHUNK_ROWS // count)
    for start in range(0, ticks, step):
        chunk = np.empty((min(step, ticks - start), count, len(FIELDS)))
        for tick in chunk:
            tick[:] = now
            now = np.clip(now + random.standard_normal(now.shape), 0, 100)
        yield start, np.trunc(chunk) if decimals == 0 else np.round(chunk, decimals)


def lines(out, prefixes, start, chunk, decimals):
    text = (lambda value: f"{int(value)}i") if decimals == 0 else repr
    for tick, rows in enumerate(chunk.tolist()):
        time_ns = (START_S + (start + tick) * STEP_S) * 1_000_000_000
        for prefix, row in zip(prefixes, rows):
            out.write(prefix + ",".join(f"{name}={text(value)}" for name, value in zip(FIELDS, row)) + f" {time_ns}\n")


def generate(folder, count, hours, decimals, with_lines):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ticks, tags = int(hours * 3600 / STEP_S), list(hosts(count))
    columns = [pa.array([host[i] for host in tags]).dictionary_encode() for i in range(len(TAGS))]
    prefixes = ["cpu," + ",".join(f"{name}={value}" for name, value in zip(TAGS, host)) + " " for host in tags]
    schema = pa.schema([("time", pa.timestamp("us"))] + [(tag, pa.dictionary(pa.int32(), pa.string())) for tag in TAGS]
                       + [(field, pa.float64()) for field in FIELDS])
    text = open(folder / "cpu.lp", "w", buffering=1 << 20) if with_lines else None
    with pq.ParquetWriter(folder / "cpu.parquet", schema, compression="zstd", compression_level=1) as writer:
        for start, chunk in walks(count, ticks, decimals):
            steps = np.arange(start, start + len(chunk))
            times = pa.array(np.repeat((START_S + steps * STEP_S) * 1_000_000, count)).cast(pa.timestamp("us"))
            host = np.tile(np.arange(count), len(chunk))
            keys = [pa.DictionaryArray.from_arrays(pa.array(np.asarray(c.indices)[host]), c.dictionary) for c in columns]
            values = [pa.array(np.ascontiguousarray(chunk[:, :, i].reshape(-1))) for i in range(len(FIELDS))]
            writer.write_table(pa.table([times, *keys, *values], schema=schema), row_group_size=CHUNK_ROWS)
            if text:
                lines(text, prefixes, start, chunk, decimals)
    if text:
        text.close()
    meta = {"hosts": count, "hours": hours, "step": STEP_S, "rows": ticks * count, "t0": START_S,
            "t1": START_S + ticks * STEP_S, "decimals": decimals, "seed": SEED}
    (folder / "meta.json").write_text(json.dumps(meta))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--hours", type=float, default=72)
    parser.add_argument("--decimals", type=int, default=0)
    parser.add_argument("--lines", action="store_true", help="write cpu.lp too")
    arguments = parser.parse_args()
    generate(arguments.out, arguments.hosts, arguments.hours, arguments.decimals, arguments.lines)


if __name__ == "__main__":
    main()
