"""Suggest: labels of suggested records next to labels of random ones.

    python bench/suggest.py run [BASE] --out FILE [--tasks genre who]
    python bench/suggest.py report FILE

The eight text tasks of demo/text_tasks.py; half of the records, at most 500, are held out, and the
others are the pool. Labels come one after the other from no label on, or from 2 of each class; 10
splits. Fixed before the first measurement:

- `suggest` orders the pool at once (adapt/suggest.py), on the vectors of the last layer.
- `random` is the mean of 3 random orders. `typical` is typical clustering (Hacohen, Dekel &
  Weinshall 2022): as many k-means clusters as labels, of each the record of the least mean distance
  to its 20 neighbours in the cluster; of the clusters those without a label, largest first.
  `margin` takes the records where the two likeliest classes are closest (from 2 labels of each
  class).
- The learner is the frozen `probe`; the score is accuracy on the held-out records.
- Bar: on at least 3 of genre, subject, who, where and bias `suggest` is above `random` at 20 and
  at 40 labels from no label, the 95 % t-intervals of the paired differences above 0. Splits
  overlap, so intervals are too narrow for new data. All rows are shown.
- Nothing is chosen on these tasks: the order was chosen on those of tuning_tasks.py among k-center,
  typical clustering, facility location with several similarities, margin, and mixtures.

`run` appends a line of JSON for each task.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize

from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.reading import as_read
from broadbase.adapt.splits import Indices
from broadbase.adapt.suggest import suggest
from broadbase.adapt.task import Task
from broadbase.demo.text_tasks import tasks
from broadbase.evidence.interval import paired_interval
from broadbase.inference.base import Base
from few_labels import balanced, split
from run_report import main

SPLITS, ORDERS, NEIGHBOURS = 10, 3, 20
FROM, BUDGETS = (0, 2), (20, 40)  # labels of each class at the start; labels that are added
BAR = ("genre", "subject", "who", "where", "bias")
METHODS = ("suggest", "random", "typical", "margin")


def typical(task: Task, encoder: Encoder, pool: Indices, start: Indices, number: int) -> Indices:
    """Records of the pool by typical clustering."""
    everything = np.concatenate([pool, start])
    rows = normalize(encoder.vectors(task.inputs(everything), LAST))
    clusters = KMeans(len(start) + number, n_init=1, random_state=0).fit_predict(rows)
    sizes, taken = np.bincount(clusters), set(clusters[len(pool) :].tolist())
    chosen = list[int]()
    for cluster in np.argsort(-sizes, kind="stable"):
        members = np.flatnonzero(clusters[: len(pool)] == cluster)
        if cluster in taken or not len(members) or len(chosen) == number:
            continue
        distances = np.sort(cdist(rows[members], rows[members]), axis=1)[:, 1 : NEIGHBOURS + 1]
        lonely = not distances.shape[1]
        chosen.append(int(members[0 if lonely else distances.mean(axis=1).argmin()]))
    return np.array(chosen)


def margin(task: Task, encoder: Encoder, pool: Indices, start: Indices, number: int) -> Indices:
    """Records of the pool whose two largest outputs are closest."""
    outputs = ProbeConfig().fit(encoder, task, start).outputs(task.inputs(pool))
    order = np.sort(outputs, axis=1)
    return np.argsort(order[:, -1] - order[:, -2], kind="stable")[:number]


def measured(base: Base, task: Task) -> Mapping[str, Mapping[str, list[float]]]:
    """Accuracies of every method over the splits, by labels at the start and labels added."""
    task = as_read(base, task)
    encoder = Encoder(base, task.modality)
    everything = task.inputs(np.arange(len(task.labels)))
    encoder.keep(everything)
    vectors = encoder.vectors(everything, LAST)
    scores: dict[str, dict[str, list[float]]] = {}
    for seed in range(SPLITS):
        both, held = split(task, seed)
        for each in FROM:
            start = balanced(task, both, each) if each else both[:0]
            pool = np.setdiff1d(both, start)

            def score(chosen: Indices, start: Indices = start, held: Indices = held) -> float:
                train = np.concatenate([start, chosen])
                outputs = ProbeConfig().fit(encoder, task, train).outputs(task.inputs(held))
                return task.score(outputs, held)

            orders = [
                np.random.default_rng([seed, i]).permutation(len(pool)) for i in range(ORDERS)
            ]
            for number in BUDGETS:
                row = scores.setdefault(f"{each} a class, {number} more", {n: [] for n in METHODS})
                row["suggest"].append(score(pool[suggest(vectors[pool], vectors[start], number)]))
                row["random"].append(float(np.mean([score(pool[o[:number]]) for o in orders])))
                row["typical"].append(score(pool[typical(task, encoder, pool, start, number)]))
                if each:
                    row["margin"].append(score(pool[margin(task, encoder, pool, start, number)]))
    return scores


def report(file: Path) -> None:
    """Print the table and how many tasks reach the bar."""
    print("| task | labels at the start, and more | random | suggest | lead over random, 95 % |"
          " typical | margin |\n|---|---|--:|--:|---|--:|--:|")  # fmt: skip
    ahead: dict[str, list[bool]] = {}
    for line in file.read_text().splitlines():
        row = json.loads(line)
        for name, scores in row["scores"].items():
            gap = paired_interval(scores["suggest"], scores["random"])
            if name.startswith("0 ") and row["task"] in BAR:
                ahead.setdefault(row["task"], []).append(gap.above_zero)
            cells = [mean(scores["random"]), mean(scores["suggest"])]
            cells += [f"{gap.mean:+.3f} ({gap.low:+.3f} {gap.high:+.3f})"]
            cells += [mean(scores["typical"]), mean(scores["margin"])]
            print(f"| {row['task']} | {name} | {' | '.join(cells)} |")
    met = [name for name, each in ahead.items() if all(each)]
    print(f"\nahead of random at 20 and at 40 labels from none: {len(met)} of {len(ahead)}:"
          f" {', '.join(met)}")  # fmt: skip


def mean(values: Sequence[float]) -> str:
    """The mean, where there is one."""
    return f"{np.mean(values):.3f}" if values else ""


def rows(base: Base, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Measure each task."""
    for task in tasks():
        if wanted(task.name):
            yield {"task": task.name, "scores": measured(base, task)}


if __name__ == "__main__":
    main(__doc__, rows, report)
