"""The method `auto` beside the best single method, the probe, and two naive ways to choose.

    python bench/auto.py run --out FILE [--tasks genre who letters]
    python bench/auto.py tune --out FILE [--tasks toxicity emoji]
    python bench/auto.py report FILE

`run`: MiniLM (`sample:minilm`) on the eight text tasks of demo/text_tasks.py, with 2, 5, 10 and 20
labels a class, the splits of few_labels.py (its first 5), and the other records of a split's
training half as the pool without labels; and Whisper tiny.en (`sample:whisper_tiny_en`) on spoken
letters, 100 and 200 labels in all, as in letters.py. `tune`: MiniLM on the eight tasks of
auto_tasks.py, the same way. The order of the candidates, the margin and the repeats of `auto` were
chosen there; what was read before are the means of few_labels.py for centroids, names and probe on
its eight tasks, which docs/few-labels.md has.

Fixed before the first measurement of `run`:

- Single methods: centroids, names (with the phrases of demo/text_tasks.py where there are some),
  knn and probe, with their default settings. `auto` chooses among these by the labels alone.
- A cell is a task and a number of labels. Its best single method is that with the best mean score
  on the tested records over the splits, which favours it. Regret: that mean, minus the score of
  `auto` on a split.
- Naive: `split` takes the method that is best on one fifth of the labels when it is fitted to the
  others (the first of equals), and fits it to all; the probe, always.
- Seconds are CPU seconds of `fit` with the vectors of all records kept ("fit"), and the same with
  the seconds of reading the labelled records by the base added to both ("with reading").
- Bars: mean regret over all cells and splits at most 0.015; no cell with a mean more than 0.03
  below the probe's; at most 3 times the seconds of the probe.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from auto_tasks import tuning_tasks
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.auto import AutoConfig
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.reading import as_read
from broadbase.adapt.splits import Indices, cut
from broadbase.adapt.task import Task
from broadbase.core.sources import Record
from broadbase.data.samples.sets import SAMPLES
from broadbase.demo.text_tasks import PHRASES, tasks
from broadbase.weights.folder import load
from few_labels import balanced, gap, split

LABELS, SPLITS, SPOKEN, TESTED = (2, 5, 10, 20), 5, (100, 200), 150
REGRET, BELOW, TIMES = 0.015, 0.03, 3.0
AUTO, SPLIT, PROBE = "auto", "split", "probe"

Cut = tuple[int, int, Task, Indices, Indices]  # labels, seed, task with its pool, train, test


def letters() -> Task:
    """Return the task: which letter is spoken; the sounds of a language stay together."""
    records = [r for r in SAMPLES["letters"].source.records() if isinstance(r, Record)]
    groups = [r.group or r.origin for r in records]
    labels = [str(r.label) for r in records]
    return Task.from_records("letters", "audio", [r.raw for r in records], labels, groups)


def text_cuts(task: Task) -> Iterator[Cut]:
    """Few labels of each class, and the rest of the training half as the pool."""
    for each in LABELS:
        for seed in range(SPLITS):
            pool, held = split(task, seed)
            train = balanced(task, pool, each)
            rest = [task.raws[int(i)] for i in np.setdiff1d(pool, train)]
            yield each, seed, replace(task, unlabelled=rest), train, held


def spoken_cuts(task: Task) -> Iterator[Cut]:
    """Labels in proportion; no language on both sides."""
    for labels in SPOKEN:
        for seed in range(SPLITS):
            yield labels, seed, task, *task.split(labels, TESTED, seed)


def measured(
    encoder: Encoder, task: Task, cuts: Iterator[Cut], reading: float
) -> Iterator[dict[str, Any]]:
    """The scores, choices and seconds of each cut; `reading` are seconds for a record."""
    names = NamesConfig(phrases=dict(PHRASES.get(task.name, {})))
    methods: tuple[MethodConfig, ...] = (CentroidsConfig(), names, KnnConfig(), ProbeConfig())
    singles = tuple(method for method in methods if not method.refusal(encoder.base, task))
    for labels, seed, pooled, train, held in cuts:
        scores, seconds = dict[str, float](), dict[str, float]()
        selection = ""
        for method in (*singles, AutoConfig(candidates=singles)):
            began = time.process_time()
            fitted = method.fit(encoder, pooled, train, seed)
            seconds[method.name] = time.process_time() - began
            scores[method.name] = task.score(fitted.outputs(task.inputs(held)), held)
            selection = fitted.selection.method.name if fitted.selection else selection
        scores[SPLIT] = scores[naive(encoder, pooled, train, singles, seed)]
        yield {
            "task": task.name,
            "labels": labels,
            "seed": seed,
            "scores": scores,
            "selection": selection,
            "seconds": seconds,
            "reading": reading * len(train),
        }


def naive(
    encoder: Encoder, task: Task, train: Indices, methods: Sequence[MethodConfig], seed: int
) -> str:
    """Return the method that is best on a fifth of the labels."""
    size = -(-len(train) // 5)
    fit, held = cut(train, task.labels[train], len(train) - size, size, seed)
    inputs = task.inputs(held)
    by_name = {
        method.name: task.score(method.fit(encoder, task, fit, seed).outputs(inputs), held)
        for method in methods
    }
    return max(by_name, key=lambda name: by_name[name])


def run(
    base_name: str,
    made: Iterator[Task],
    cuts: Callable[[Task], Iterator[Cut]],
    out: Path,
    only: Sequence[str] | None,
) -> None:
    """Measure tasks, and append a line for each cut."""
    base = load(base_name)
    for task in made:
        if only and task.name not in only:
            continue
        task = as_read(base, task)
        encoder = Encoder(base, task.modality)
        began = time.process_time()
        encoder.keep(task.inputs(np.arange(len(task.labels))))
        reading = (time.process_time() - began) / len(task.labels)
        names = NamesConfig(phrases=dict(PHRASES.get(task.name, {})))
        if not names.refusal(base, task):
            encoder.keep(Inputs([x for name in task.target.names for x in names.texts(name)]))
        ProbeConfig().fit(encoder, task, np.arange(0, len(task.labels), 9))  # nothing is first
        rows = list(measured(encoder, task, cuts(task), reading))
        with out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        regret = np.mean([row["scores"][PROBE] - row["scores"][AUTO] for row in rows])
        print(f"{task.name}: auto is {-regret:+.3f} to the probe", flush=True)


def report(file: Path) -> None:
    """Print the table of cells, and what the bars are held against."""
    cells: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for line in file.read_text().splitlines():
        row = json.loads(line)
        cells.setdefault((row["task"], row["labels"]), []).append(row)
    regrets: dict[str, list[float]] = {}
    below, below_split, times = [], [], []
    print("| task | labels | best single | auto | regret | to the probe | split | chosen |")
    print("|---|--:|---|--:|--:|---|--:|---|")
    for (task, labels), rows in cells.items():
        means = {n: float(np.mean([r["scores"][n] for r in rows])) for n in rows[0]["scores"]}
        singles = [name for name in means if name not in (AUTO, SPLIT)]
        best = max(singles, key=lambda name: means[name])
        for name, mean in means.items():
            regrets.setdefault(name, []).append(means[best] - mean)
        auto, probe = ([r["scores"][n] for r in rows] for n in (AUTO, PROBE))
        lead, low, high = gap(auto, probe)
        below.append(lead)
        below_split.append(min(np.subtract(auto, probe)))
        times.append([sum(r["seconds"][n] for r in rows) for n in (AUTO, PROBE)])
        times[-1].append(sum(r["reading"] for r in rows))
        counts = Counter(row["selection"] for row in rows).most_common()
        chosen = ", ".join(f"{name} {count}" for name, count in counts)
        print(
            f"| {task} | {labels} | {best} {means[best]:.3f} | {means[AUTO]:.3f} |"
            f" {regrets[AUTO][-1]:.3f} | {lead:+.3f} ({low:+.3f} {high:+.3f}) |"
            f" {means[SPLIT]:.3f} | {chosen} |"
        )
    own, other, reading = np.array(times).T
    print(f"\n{len(cells)} cells, {sum(map(len, cells.values()))} splits of them\n")
    print("| chosen by | mean regret | highest of a cell |\n|---|--:|--:|")
    for name, each in sorted(regrets.items(), key=lambda item: float(np.mean(item[1]))):
        print(f"| {name} | {np.mean(each):.4f} | {max(each):.3f} |")
    ratio = (own.sum() / other.sum(), ((own + reading) / (other + reading)).max())
    total = (own + reading).sum() / (other + reading).sum()
    print(f"\nmean regret {np.mean(regrets[AUTO]):.4f}: {_met(np.mean(regrets[AUTO]) <= REGRET)}")
    print(f"lowest to the probe {min(below):+.3f}: {_met(min(below) >= -BELOW)}", end="")
    print(f" (of a single split {min(below_split):+.3f})")
    print(
        f"seconds, times the probe's: fit {ratio[0]:.2f} (of a cell at most"
        f" {(own / other).max():.2f}): {_met((own / other).max() <= TIMES)}; with reading"
        f" {total:.2f} (at most {ratio[1]:.2f})"
    )


def _met(met: Any) -> str:
    return "met" if met else "missed"


def main() -> None:
    """Run tasks, or report what was run."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "tune"):
        running = commands.add_parser(name)
        running.add_argument("--out", type=Path, required=True)
        running.add_argument("--tasks", nargs="*")
    commands.add_parser("report").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.command == "report":
        report(given.file)
    elif given.command == "tune":
        run("sample:minilm", tuning_tasks(), text_cuts, given.out, given.tasks)
    else:
        run("sample:minilm", tasks(), text_cuts, given.out, given.tasks)
        if not given.tasks or "letters" in given.tasks:
            spoken = iter([letters()])
            run("sample:whisper_tiny_en", spoken, spoken_cuts, given.out, given.tasks)


if __name__ == "__main__":
    main()
