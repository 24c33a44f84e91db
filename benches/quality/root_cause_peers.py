"""BARO beside juno's diagnosis, on the cases and by the measures of the bin `root_cause`.

  pip install fse-baro pandas scikit-learn
  python3 benches/quality/root_cause_peers.py --data ../shared/data/diagnosis

BARO (Pham, Ha and Zhang, FSE 2024; package fse-baro) ranks metrics by robust deviations from the time before the incident, which it is told;
it knows neither call graph nor symptom, so that on PetShop the service with the symptom is taken out of its ranking, as it is for the
baseline of the bin. `nsigma` is the same package's mean and deviation. A missing value is the one before it. Nothing of either was
chosen on these data.
"""

import argparse
import json
import pathlib
from importlib.metadata import version

import pandas as pd
from baro.root_cause_analysis import nsigma, robust_scorer

METHODS = {"BARO": robust_scorer, "nsigma": nsigma}
NOT_RANKED = 99


def ranked(method, before, during):
    """The columns of an incident, most probable cause first."""
    data = pd.concat([before, during], ignore_index=True).ffill().bfill().fillna(0.0)
    return METHODS[method](data, anomalies=[len(before)])["ranks"]


def place(ranking, name):
    return ranking.index(name) + 1 if name in ranking else NOT_RANKED


def share(ranks, within):
    return sum(rank <= within for rank in ranks) / len(ranks)


def average_5(ranks):
    return sum(share(ranks, within) for within in range(1, 6)) / 5


def sock_shop(data):
    found = {}
    for case in sorted(data.glob("rcd_sockshop/sock-shop-data/*/*")):
        service, metric = case.parent.name.rsplit("-", 1)
        before, during = (pd.read_csv(case / name) for name in ("normal.csv", "anomalous.csv"))
        part = "repetitions 1, 2" if case.name in ("1", "2") else "repetitions 3 to 5"
        for method in METHODS:
            ranking = ranked(method, before, during)
            services = list(dict.fromkeys(name.split("_", 1)[0] for name in ranking))
            for of in ("all", part):
                ranks = found.setdefault((method, of), ([], []))
                ranks[0].append(place(services, service))
                ranks[1].append(place(ranking, f"{service}_{metric}"))
    print("| RCD Sock Shop | part | cases | service AC@1 | Avg@5 | metric AC@1 | Avg@5 |\n|---|---|---|---|---|---|---|")
    for (method, part), (services, metrics) in sorted(found.items()):
        service = f"{share(services, 1):.2f} | {average_5(services):.3f}"
        print(f"| {method} | {part} | {len(services)} | {service} | {share(metrics, 1):.2f} | {average_5(metrics):.3f} |")


def metrics_of(path, metric, statistic):
    """The values of one metric of all services."""
    table = pd.read_csv(path, header=[0, 1, 2], index_col=0)
    kept = [column for column in table.columns if column[1:] == (metric, statistic)]
    return table[kept].set_axis([column[0] for column in kept], axis=1).apply(pd.to_numeric, errors="coerce")


def petshop(data):
    found = {}
    for traffic in ("low_traffic", "high_traffic"):
        folder = data / "petshop/dataset" / traffic
        for part in ("train", "test"):
            for issue in sorted((folder / part).iterdir()):
                told = json.loads((issue / "target.json").read_text())
                target, right = told["target"], told["root_cause"]["node"]
                asked = (target["metric"], target["agg"])
                before, during = metrics_of(folder / "noissue/metrics.csv", *asked), metrics_of(issue / "metrics.csv", *asked)
                both = [name for name in during.columns if name in before.columns]
                for method in METHODS:
                    ranking = ranked(method, before[both], during[both])
                    ranking = [name for name in ranking if name != target["node"]]
                    for of in ("all", part):
                        found.setdefault((method, of), []).append(place(ranking, right))
    print("| PetShop | part | issues | top 1 | top 3 | Avg@5 |\n|---|---|---|---|---|---|")
    for (method, part), ranks in sorted(found.items()):
        print(f"| {method}, no graph | {part} | {len(ranks)} | {share(ranks, 1):.2f} | {share(ranks, 3):.2f} | {average_5(ranks):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default="../shared/data/diagnosis")
    data = parser.parse_args().data
    print(f"fse-baro {version('fse-baro')}")
    sock_shop(data)
    petshop(data)


if __name__ == "__main__":
    main()
