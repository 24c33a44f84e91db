"""The queries of TSBS cpu-only, in the instances that every engine is asked.

An instance is (kind, fields, hosts, first second, second after the last); `Dialect` makes SQL of it. The same name and
number give the same instance on every machine.
"""
import datetime
import random
from dataclasses import dataclass

from generate import FIELDS

NAMES = ["single-groupby-1-1-1", "single-groupby-1-1-12", "single-groupby-5-8-1", "double-groupby-1-raw",
         "double-groupby-5-raw", "double-groupby-all-raw", "double-groupby-1", "double-groupby-5", "double-groupby-all",
         "cpu-max-all-8", "high-cpu-1", "high-cpu-all", "lastpoint-distinct-on", "lastpoint-join-max", "groupby-orderby-limit"]
DISTINCT_ON = "SELECT DISTINCT ON (hostname) * FROM cpu ORDER BY hostname, time DESC"
JOIN_MAX = ("SELECT cpu.* FROM cpu JOIN (SELECT hostname AS h, max(time) AS t FROM cpu GROUP BY hostname) m "
            "ON cpu.hostname = m.h AND cpu.time = m.t")


@dataclass
class Instance:
    kind: str
    fields: list = None
    hosts: list = None
    first: int = 0
    end: int = 0
    # From rows even where an engine has aggregates of them.
    raw: bool = False


def instances(meta, name, count):
    """`count` instances of one query."""
    made = []
    name, raw = name.removesuffix("-raw"), name.endswith("-raw")
    for number in range(count):
        pick = random.Random(f"{name}:{number}")

        def window(hours):
            first = pick.randint(meta["t0"], max(meta["t0"], meta["t1"] - hours * 3600))
            return first, first + hours * 3600

        some = lambda wanted: pick.sample(range(meta["hosts"]), wanted)
        if name.startswith("single-groupby"):
            fields, hosts, hours = map(int, name.split("-")[2:])
            made.append(Instance("single", FIELDS[:fields], some(hosts), *window(hours)))
        elif name.startswith("double-groupby"):
            fields = name.rsplit("-", 1)[1]
            made.append(Instance("double", FIELDS if fields == "all" else FIELDS[:int(fields)], None, *window(12), raw))
        elif name == "cpu-max-all-8":
            made.append(Instance("max", FIELDS, some(8), *window(8)))
        elif name == "high-cpu-1":
            made.append(Instance("high", None, some(1), *window(12)))
        elif name == "high-cpu-all":
            made.append(Instance("high", None, None, *window(12)))
        elif name.startswith("lastpoint"):
            made.append(Instance(name))
        else:
            made.append(Instance("limit", None, None, *window(1)))
    return made


class Dialect:
    """Standard SQL; engines change what they spell otherwise."""
    table = "cpu"
    # DISTINCT ON costs most engines far more than the join, so they are asked that either way.
    distinct_on = join_max = JOIN_MAX

    def before(self, query):
        """Statements that come before an instance, outside the measured time."""
        return []

    def at(self, second):
        return f"TIMESTAMP '{datetime.datetime.fromtimestamp(second, datetime.timezone.utc):%Y-%m-%d %H:%M:%S}'"

    def bucket(self, seconds):
        return f"date_bin(INTERVAL '{seconds} seconds', time, TIMESTAMP '1970-01-01 00:00:00')"

    def sql(self, query):
        """The text of an instance."""
        within = f"time >= {self.at(query.first)} AND time < {self.at(query.end)}"
        if query.hosts:
            names = ", ".join(f"'host_{host}'" for host in query.hosts)
            within += f" AND hostname = {names}" if len(query.hosts) == 1 else f" AND hostname IN ({names})"
        maxima = lambda: ", ".join(f"max({field}) AS max_{field}" for field in query.fields)
        match query.kind:
            case "single":
                return (f"SELECT {self.bucket(60)} AS minute, {maxima()} FROM {self.table} WHERE {within} "
                        "GROUP BY minute ORDER BY minute")
            case "max":
                return (f"SELECT {self.bucket(3600)} AS hour, {maxima()} FROM {self.table} WHERE {within} "
                        "GROUP BY hour ORDER BY hour")
            case "double":
                means = ", ".join(f"avg({field}) AS mean_{field}" for field in query.fields)
                return (f"SELECT {self.bucket(3600)} AS hour, hostname, {means} FROM {self.table} WHERE {within} "
                        "GROUP BY 1, 2 ORDER BY 1, 2")
            case "high":
                return f"SELECT * FROM {self.table} WHERE usage_user > 90.0 AND {within}"
            case "lastpoint-distinct-on":
                return self.distinct_on
            case "lastpoint-join-max":
                return self.join_max
            case _:
                return (f"SELECT {self.bucket(60)} AS minute, max(usage_user) FROM {self.table} "
                        f"WHERE time < {self.at(query.end)} GROUP BY minute ORDER BY minute DESC LIMIT 5")
