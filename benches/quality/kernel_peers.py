"""The peers of juno's kernels on this machine, one thread each: LightGBM's predict, and MSTL of augurs and of statsforecast.

  pip install numpy lightgbm statsforecast augurs
  python3 benches/quality/kernel_peers.py

Prints rows per second of LightGBM (200 trees of 63 leaves, 40 features) and series per second of MSTL with an ETS trend from
augurs and from statsforecast, on series as long and as seasonal as those of M4 Hourly. Seconds are those of the processor. The
figures of juno beside them come from `cargo run --release -p juno-benches --bin kernels -- --core-only`.

A peer that is not installed is left out and named.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = "1"

import time

import numpy as np

TREES = 200
FEATURES = 40
ROWS = 100_000
HORIZON = 48
SEASONS = [24, 168]
RUNS = 3


def median_seconds(work):
    """The median processor time of several runs after one to warm up."""
    work()
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return sorted(seconds)[RUNS // 2]


def hourly(count):
    """Series as long and as seasonal as those of M4 Hourly."""
    random = np.random.default_rng(1)
    made = []
    for i in range(count):
        t = np.arange(960 if i % 5 == 0 else 700)
        weekend = np.where((t // 24) % 7 >= 5, -15.0, 0.0)
        made.append(100 + 30 * np.sin(2 * np.pi * t / 24 + i) + weekend + 0.01 * t + random.uniform(-4, 4, len(t)))
    return made


def lightgbm_rows():
    import lightgbm

    random = np.random.default_rng(2)
    x = random.normal(size=(20_000, FEATURES))
    y = x[:, 0] * x[:, 1] + x[:, 2] - x[:, 3] ** 2 + random.normal(size=len(x)) > 0
    settings = {"objective": "binary", "num_leaves": 63, "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(settings, lightgbm.Dataset(x, y), num_boost_round=TREES)
    rows = random.normal(size=(ROWS, FEATURES))
    return ROWS / median_seconds(lambda: model.predict(rows, num_threads=1)), "rows"


def augurs_series():
    import augurs

    series = hourly(20)

    def work():
        for values in series:
            model = augurs.MSTL.ets(SEASONS)
            model.fit(values)
            model.predict(HORIZON, level=0.95)

    return len(series) / median_seconds(work), "series"


def statsforecast_series():
    from statsforecast.models import MSTL

    series = hourly(10)

    def work():
        for values in series:
            MSTL(season_length=SEASONS).forecast(values, HORIZON, level=[95])

    return len(series) / median_seconds(work), "series"


PEERS = (
    ("LightGBM predict, 200 trees of 63 leaves, 40 features", lightgbm_rows),
    ("augurs MSTL with ETS, fit and 48 steps", augurs_series),
    ("statsforecast MSTL with ETS, fit and 48 steps", statsforecast_series),
)


def main():
    print("| peer, one thread | per second of processor time |")
    print("|---|---|")
    for name, measure in PEERS:
        try:
            per_second, unit = measure()
        except ImportError as error:
            print(f"| {name} | not installed: {error.name} |")
            continue
        print(f"| {name} | {per_second:,.{0 if per_second >= 100 else 2}f} {unit} |", flush=True)


if __name__ == "__main__":
    main()
