"""Quality of threat models through SQL: UNSW-NB15, NSL-KDD and HttpParams, each trained, calibrated and scored by a running juno.

  python3 benches/quality/threats.py --data ../shared/data/threat --url postgresql://127.0.0.1:5432/juno [unsw] [nslkdd] [httpparams]

Needs psql, numpy, pandas, pyarrow, scikit-learn and lightgbm. With --peers alone it needs no juno. A naive baseline (the best single
column, by its distance from the ordinary median, chosen on the training part), LightGBM and scikit-learn with their defaults stand beside
each figure: an isolation forest on the numbers of ordinary rows and, where there is a text, a linear model on its hashed n-grams. Nothing is chosen on a test part:
juno's parameters below were settled on training parts, and splits follow from a hash of the row.

KDDTest+ holds mislabelled rows (about 159 of its "normal" ones are probes) and attacks that training never shows: nothing finds 96 % of
the attacks at 2 % false alarms there.
"""

import argparse
import hashlib

import lightgbm
import numpy as np
import pandas as pd
from juno import Psql
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

RATES = (0.01, 0.02, 0.05)


class Juno(Psql):
    def load(self, table, frame):
        kind = lambda column: "DOUBLE PRECISION" if frame[column].dtype.kind in "iuf" else "TEXT"
        columns = ", ".join(f'"{column}" {kind(column)}' for column in frame.columns)
        self.run(f"DROP TABLE IF EXISTS {table}")
        self.run(f"CREATE TABLE {table} (row_number BIGINT PRIMARY KEY, {columns})")
        numbered = frame.reset_index(drop=True)
        text = numbered.to_csv(index=True, index_label="row_number", quoting=1)
        self.run(f"COPY {table} FROM STDIN WITH (FORMAT csv, HEADER true)", stdin=text)

    def scores(self, model, table, features):
        listed = ", ".join(f'"{name}"' for name in features)
        out = self.run(f"SELECT threat_score('{model}', {listed}) FROM {table} ORDER BY row_number")
        return np.array([float(line) for line in out.split()])


def hashed(frame):
    """A number for each row that equal rows share."""
    rows = frame.astype(str).agg("|".join, axis=1)
    return rows.map(lambda row: int(hashlib.md5(row.encode()).hexdigest()[:8], 16)).to_numpy()


def found(labels, scores):
    """AUC and the share of attacks found at each rate of false alarms."""
    ordinary = np.sort(scores[labels == 0])[::-1]
    limits = [ordinary[int(rate * len(ordinary))] for rate in RATES]
    return [roc_auc_score(labels, scores)] + [(scores[labels == 1] > limit).mean() for limit in limits]


def show(name, labels, scores, threshold=None):
    auc, *shares = found(labels, scores)
    text = "  ".join(f"{share:.4f}" for share in shares)
    real = "" if threshold is None else f"   real false alarms at nominal 2 %: {(scores[labels == 0] >= threshold).mean():.4f}"
    print(f"  {name:42s} AUC {auc:.4f}   found at 1, 2, 5 %: {text}{real}")


def peers(train, labels, test, test_labels):
    """The naive baseline, LightGBM and scikit-learn."""
    numbers = [column for column in train.columns if train[column].dtype.kind in "iuf"]
    if numbers:
        distance = lambda frame, column: (frame[column] - train[column][labels == 0].median()).abs().to_numpy(float)
        best = max(numbers, key=lambda column: roc_auc_score(labels, distance(train, column)))
        show(f"naive: distance of {best} from the median", test_labels, distance(test, best))
        both = pd.concat([train, test])
        for column in both.columns.difference(numbers):
            both[column] = both[column].astype("category").cat.codes
        model = lightgbm.LGBMClassifier(n_estimators=200, verbose=-1, n_jobs=1).fit(both[: len(train)], labels)
        show("LightGBM, 200 trees", test_labels, model.predict_proba(both[len(train):])[:, 1])
    if len(numbers) > 1:
        forest = IsolationForest(random_state=0).fit(train[numbers][labels == 0])
        show("scikit-learn isolation forest, ordinary rows", test_labels, -forest.score_samples(test[numbers]))
    if "payload" in train:
        grams = HashingVectorizer(analyzer="char", ngram_range=(1, 3), n_features=1 << 18)
        known, unknown = grams.transform(train["payload"]), grams.transform(test["payload"])
        linear = LogisticRegression(max_iter=1_000).fit(known, labels)
        show("scikit-learn n-grams, logistic regression", test_labels, linear.decision_function(unknown))


def compare(juno, name, train, labels, test, test_labels, **arguments):
    """Trains on one table, scores another."""
    if juno is None:
        return
    features = list(train.columns)
    juno.load("quality_train", train.assign(label=labels))
    juno.load("quality_test", test)
    listed = ", ".join(f'"{feature}"' for feature in features)
    label = ", label" if len(set(labels)) > 1 else ""
    named = "".join(f", {key} => {value}" for key, value in arguments.items())
    named += ", label => 'label'" if label else ""
    juno.run(f"CALL train_threat_model('{name}', 'SELECT {listed}{label} FROM quality_train ORDER BY row_number'{named})")
    scores = juno.scores(f"{name}@latest", "quality_test", features)
    show(f"juno {arguments or ''}", test_labels, scores, 0.98)


def unsw(juno, data):
    frame = pd.read_parquet(f"{data}/unsw_nb15_half.parquet")
    rows, labels = frame.drop(columns=["id", "attack_cat", "label"]), frame["label"].to_numpy()
    first = hashed(rows) % 2 == 0
    print("UNSW-NB15, half of the 82k part, duplicates on one side, 50/50")
    peers(rows[first], labels[first], rows[~first], labels[~first])
    for novelty in (0.0, 0.2):
        compare(juno, "unsw", rows[first], labels[first], rows[~first], labels[~first], novelty=novelty)


def nslkdd(juno, data):
    train, test = (pd.read_parquet(f"{data}/nslkdd_{part}.parquet") for part in ("train", "test"))
    features = [column for column in train.columns if column not in ("attack", "difficulty", "label")]
    labels, test_labels = train["label"].to_numpy(), test["label"].to_numpy()
    print("NSL-KDD, KDDTrain+ -> KDDTest+ (which holds mislabelled rows)")
    peers(train[features], labels, test[features], test_labels)
    compare(juno, "nslkdd", train[features], labels, test[features], test_labels, novelty=0.7, trees=100)
    if juno is None:
        return
    ordinary = np.flatnonzero(test_labels == 0)[::2]
    rest = np.ones(len(test), bool)
    rest[ordinary] = False
    juno.load("quality_local", test[features].iloc[ordinary])
    juno.run("CALL calibrate_threat_model('nslkdd@latest', 'quality_local')")
    juno.load("quality_test", test[features][rest])
    scores = juno.scores("nslkdd@latest", "quality_test", features)
    show(f"calibrated on {len(ordinary)} local rows, the others scored", test_labels[rest], scores, 0.98)


def httpparams(juno, data):
    frame = pd.read_parquet(f"{data}/httpparams_train.parquet")
    rows, labels = frame[["payload", "length"]], (frame["label"] == "anom").to_numpy().astype(int)
    first = hashed(rows[["payload"]]) % 2 == 0
    print("HttpParams, 50/50")
    peers(rows[first], labels[first], rows[~first], labels[~first])
    compare(juno, "http", rows[first], labels[first], rows[~first], labels[~first])
    ordinary = first & (labels == 0)
    compare(juno, "http_ordinary", rows[ordinary], labels[ordinary], rows[~first], labels[~first])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/threat")
    parser.add_argument("--url", default="postgresql://127.0.0.1:5432/juno")
    parser.add_argument("--peers", action="store_true", help="the peers alone, without juno")
    parser.add_argument("sets", nargs="*", default=["unsw", "nslkdd", "httpparams"])
    arguments = parser.parse_args()
    juno = None if arguments.peers else Juno(arguments.url)
    for name in arguments.sets:
        {"unsw": unsw, "nslkdd": nslkdd, "httpparams": httpparams}[name](juno, arguments.data)


if __name__ == "__main__":
    main()
