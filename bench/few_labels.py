"""Few labels: a published base beside the best hand-made features and its own random init.

    python bench/few_labels.py run [BASE] --out FILE [--tasks genre who]
    python bench/few_labels.py report FILE

Eight text tasks (demo/text_tasks.py) with 0, 2, 5, 10 and 20 labels a class. Half of the records,
at most 500, are held out (of `package` a third, its files apart); the labels are of the other half,
whose records without their labels are the pool. 10 splits. BASE is the sample base `minilm`, or a
folder. Fixed before the first measurement:

- Of the base, frozen: `names` (0 labels), `probe` (no pool) and `centroids` (with the pool).
- Of random init of the same network (one seed for all splits), the same.
- Hand-made, each with the same ridge or the same centroids: TF-IDF of characters, TF-IDF of words,
  LSA fitted with the pool, LSA centroids with the pool. "Best" is that with the best mean over the
  test records of a task, which favours it.
- Bar 1: at 5 labels a class `centroids` is held against the best hand-made features of all, which
  have the same pool; `probe` against the best of those without the pool. The base leads where the
  95 % t-interval of the paired differences over the splits is above 0. Splits overlap, so intervals
  are too narrow for new data. `names` is held against the best hand-made at 20 a class on subject,
  speciality, who and bias.
- Nothing is chosen on test records: `probe` chooses its layers by leave-one-out error, `centroids`
  has one setting for all, chosen on kinds of toxicity, docstrings and passages.

`run` appends a line of JSON for each task and number of labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from broadbase.adapt.few_labels import METHODS, balanced, measured
from broadbase.adapt.few_labels import split as cut
from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task
from broadbase.demo.text_tasks import CONTAMINATED, names_of, tasks
from broadbase.evidence.few_labels import FEATURES, POOLED, PUBLISHED, RANDOM, FewLabels
from broadbase.evidence.interval import Interval, paired_interval
from broadbase.inference.base import Base
from run_report import main

__all__ = ["balanced", "gap", "split"]  # for other benches
SPLITS, TEST = 10, 500  # most held-out records
BAR, MOST = 5, 20  # labels a class
NAMED = ("subject", "speciality", "who", "bias")


def split(task: Task, seed: int) -> tuple[Indices, Indices]:
    """The pool and the held-out records."""
    return cut(task, seed, TEST)


def gap(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """The mean paired difference and the ends of its 95 % t-interval."""
    mean, low, high = paired_interval(first, second)
    assert low is not None
    assert high is not None
    return mean, low, high


def shown(lead: Interval) -> str:
    """A lead and its interval."""
    return f"{lead.mean:+.3f} ({lead.low:+.3f} {lead.high:+.3f})"


def report(file: Path) -> None:
    """Print the table and how many tasks reach the bars."""
    rows = [FewLabels.from_json(json.loads(line)) for line in file.read_text().splitlines()]
    leads = {method.name: list[str]() for method in METHODS}
    heads = "labels a class | random init | hand-made, best | probe | lead | centroids | lead"
    print(f"| task | {heads} |")
    print("|---|--:|--:|---|--:|---|--:|---|")
    for row in (row for row in rows if row.labels):
        cells = []
        for name, led in leads.items():
            lead = row.lead(name, without=() if name == "centroids" else POOLED)
            cells += [f"{row.of(PUBLISHED, name).mean:.3f}", shown(lead)]
            if row.labels == BAR and lead.above_zero:
                led.append(row.task)
        mark, best = "*" if row.task in CONTAMINATED else "", row.best(FEATURES)
        heads = f"{row.task}{mark} | {row.labels} | {row.best(RANDOM).mean:.3f}"
        print(f"| {heads} | {best.method} {best.mean:.3f} | {' | '.join(cells)} |")
    print("\n| task, no labels | names | random init | hand-made, 20 labels a class | lead |")
    print("|---|--:|--:|--:|---|")
    most, above = {row.task: row for row in rows if row.labels == MOST}, list[str]()
    for row in (row for row in rows if not row.labels):
        hand = most[row.task].best(FEATURES)
        lead = paired_interval(row.of(PUBLISHED, "names").scores, hand.scores)
        if row.task in NAMED and lead.above_zero:
            above.append(row.task)
        own, random = row.of(PUBLISHED, "names").mean, row.best(RANDOM).mean
        print(f"| {row.task} | {own:.3f} | {random:.3f} | {hand.mean:.3f} | {shown(lead)} |")
    for name, led in leads.items():
        print(f"\n{name} leads at {BAR} labels a class, interval above 0: {len(led)} of 8")
    print(f"names above hand-made at {MOST} labels a class: {len(above)} of {len(NAMED)}")


def rows(base: Base, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Measure each task with each number of labels."""
    bases = {PUBLISHED: base, RANDOM: base.reinitialised(0)}
    for task in tasks():
        if wanted(task.name):
            for row in measured(bases, task, SPLITS, TEST, names=names_of(task.name)):
                yield row.as_json()


if __name__ == "__main__":
    main(__doc__, rows, report)
