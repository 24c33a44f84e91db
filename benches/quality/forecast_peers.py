"""The peers of juno's forecasts on the data, the splits and the measures of the bins `m4_hourly` and `day_ahead`.

  pip install numpy pandas pyarrow statsforecast augurs
  python3 benches/quality/forecast_peers.py --data ../shared/data/forecast [m4] [pjm] [bitbrains]

M4 Hourly: the last 48 hours of each series. PJM: eight origins a zone, 41 days apart, from 960 hours. Bitbrains: the CPU usage of each
machine that has 721 hours and varies, a day from the 696 hours before it. Measures are those of `benches/src/forecast_score.rs`; the
line of the seasonal naive is the same in both and shows that the data are. Peers are told the seasons, a day or a day and a week; juno finds
its own. With `--every 8` peers are measured on every eighth series alone, which their lines say.

A peer that is not installed is left out and named.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import glob
import time
import warnings
from importlib.metadata import version

import numpy as np
import pandas as pd

SEASON = 24
DAY = [24]
WEEK = [24, 168]
LEVEL = 0.95


class Case:
    def __init__(self, name, history, truth):
        self.name, self.history, self.truth = name, np.asarray(history, float), np.asarray(truth, float)
        self.scale = np.abs(self.history[SEASON:] - self.history[:-SEASON]).mean()


def m4(data):
    frame = pd.read_parquet(f"{data}/m4_hourly.parquet")
    part = lambda rows, split: rows.loc[rows["split"] == split, "y"]
    return [Case(name, part(rows, "train"), part(rows, "test")) for name, rows in frame.groupby("unique_id")]


def naive2(data, cases):
    frame = pd.read_parquet(f"{data}/m4_hourly_naive2.parquet").set_index("unique_id")
    return np.array([frame.loc[case.name, [f"F{step}" for step in range(1, 49)]].to_numpy(float) for case in cases])


def pjm(data):
    cases = []
    for path in sorted(glob.glob(f"{data}/pjm/*.csv")):
        frame = pd.read_csv(path, names=["time", "load"], header=0)
        hours = frame.groupby(pd.to_datetime(frame["time"]).dt.floor("h"))["load"].mean().clip(lower=1.0)
        load = hours.asfreq("h").interpolate().to_numpy()
        for origin in range(8):
            end = len(load) - 24 - origin * 41 * 24
            cases.append(Case(f"{os.path.basename(path)[:-4]}_{origin}", load[end - 960 : end], load[end : end + 24]))
    return cases


def bitbrains(data):
    frame = pd.read_parquet(f"{data}/bitbrains_faststorage_hourly.parquet", columns=["vm", "CPU usage [MHZ]"])
    cases = []
    for machine, rows in frame.groupby("vm"):
        usage = rows["CPU usage [MHZ]"].to_numpy(float)
        if len(usage) < 721:
            continue
        usage = usage[len(usage) - 721 : -1]
        history, truth = usage[:-24], usage[-24:]
        if (np.abs(history - history[0]) > 1e-9).any():
            cases.append(Case(f"{machine:06}", history, truth))
    return cases


def seasonal_naive(case):
    return np.resize(case.history[-SEASON:], len(case.truth)), None, None


def augurs_mstl(seasons):
    import augurs

    def forecast(case):
        model = augurs.MSTL.ets(seasons)
        model.fit(case.history)
        made = model.predict(len(case.truth), level=LEVEL)
        return made.point(), made.lower(), made.upper()

    return forecast


def statsforecast_mstl(seasons):
    from statsforecast import models

    def forecast(case):
        model = models.MSTL(season_length=seasons, trend_forecaster=models.AutoETS(model="ZZN"))
        made = model.forecast(case.history, len(case.truth), level=[95])
        return made["mean"], made["lo-95"], made["hi-95"]

    return forecast


# Name, package, and how it is made.
PEERS = (
    ("augurs MSTL with ETS, a day", "augurs", lambda: augurs_mstl(DAY)),
    ("augurs MSTL with ETS, a day and a week", "augurs", lambda: augurs_mstl(WEEK)),
    ("statsforecast MSTL with AutoETS, a day and a week", "statsforecast", lambda: statsforecast_mstl(WEEK)),
)


def measures(cases, forecasts, benchmark=None):
    """The columns of juno's bins: those of `m4_hourly` where there is a benchmark, else those of `day_ahead`."""
    truth, means = [case.truth for case in cases], [made[0] for made in forecasts]
    mase = np.mean([np.abs(y - f).mean() / case.scale for case, y, f in zip(cases, truth, means)])
    smape = np.mean([(200 * np.abs(y - f) / (np.abs(y) + np.abs(f))).mean() for y, f in zip(truth, means)]) if benchmark else None
    wape = [1 - min(np.abs(y - f).sum() / max(np.abs(y).sum(), 1e-9), 1.0) for y, f in zip(truth, means)]
    if forecasts[0][1] is None:
        intervals = "– | –"
    else:
        inside, msis, penalty = [], [], 2 / (1 - LEVEL)
        for case, (_, low, high) in zip(cases, forecasts):
            y = case.truth
            inside.append((low <= y) & (y <= high))
            width = high - low + penalty * (np.maximum(low - y, 0) + np.maximum(y - high, 0))
            msis.append(width.mean() / case.scale)
        intervals = f"{np.mean(msis):.2f} | {100 * np.mean(inside):.1f} %"
    if benchmark == "itself":
        return f"{smape:.3f} | {mase:.3f} | 1.000 | {intervals}", (smape, mase)
    if benchmark:
        owa = 0.5 * (smape / benchmark[0] + mase / benchmark[1])
        return f"{smape:.3f} | {mase:.3f} | {owa:.3f} | {intervals}", None
    return f"{np.mean(wape):.4f} | {np.sort(wape)[len(wape) // 2]:.4f} | {mase:.3f} | {intervals}", None


def report(title, cases, every, asked, naive=None):
    print(f"\n{title}, {len(cases)} series, {len(cases[0].truth)} h")
    head = "sMAPE | MASE | OWA" if naive is not None else "mean 1 − WAPE | median 1 − WAPE | MASE"
    print(f"| method | {head} | MSIS 95 % | coverage 95 % | CPU ms a series |\n|---|---|---|---|---|---|---|")
    benchmark = None
    if naive is not None:
        text, benchmark = measures(cases, [(row, None, None) for row in naive], "itself")
        print(f"| Naive2 | {text} | – |")
    print(f"| seasonal naive 24 | {measures(cases, [seasonal_naive(case) for case in cases], benchmark)[0]} | – |", flush=True)
    for name, package, make in PEERS:
        if asked and not any(word in name for word in asked):
            continue
        try:
            forecast, label = make(), f"{name} ({package} {version(package)})"
        except ImportError as error:
            print(f"| {name} | not installed: {error.name} |")
            continue
        some = cases[::every]
        forecast(some[0])
        start = time.process_time()
        made = [forecast(case) for case in some]
        spent_ms = 1e3 * (time.process_time() - start) / len(some)
        rows = benchmark
        if every > 1:
            label += f", on every {every}th series"
            if naive is not None:
                rows = measures(some, [(row, None, None) for row in naive[::every]], "itself")[1]
        print(f"| {label} | {measures(some, made, rows)[0]} | {spent_ms:.0f} |", flush=True)
        if every > 1:
            print(f"| seasonal naive 24, on the same | {measures(some, [seasonal_naive(case) for case in some], rows)[0]} | – |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/forecast")
    parser.add_argument("--every", type=int, default=1, help="measure every so many-th series alone")
    parser.add_argument("--peer", action="append", default=[], help="only peers with this in their names")
    parser.add_argument("sets", nargs="*", default=["m4", "pjm", "bitbrains"])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in arguments.sets:
        data, every, asked = arguments.data, arguments.every, arguments.peer
        if name == "m4":
            cases = m4(data)
            report("M4 Hourly", cases, every, asked, naive2(data, cases))
        elif name == "pjm":
            report("PJM zone load", pjm(data), every, asked)
        else:
            report("Bitbrains CPU usage", bitbrains(data), every, asked)


if __name__ == "__main__":
    main()
