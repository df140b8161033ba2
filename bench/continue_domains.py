"""Continued pretraining of a published base on the texts of a domain: what it gains.

    python bench/continue_domains.py run --out FILE [--domains speciality bias]
    python bench/continue_domains.py report FILE
    python bench/continue_domains.py tune --out FILE --set lr=1e-4 [--domains where]

Four domains (continue_tasks.py), 5 and 20 labels a class, 5 splits. Fixed before the first
measurement:

- Half of a task's records are held out, at most 500. The base
  goes on with the domain's texts, apart from those held out, once a split, as
  `--method continue` does, with its default settings. Its cost is the CPU time of that.
- Then `probe` learns labels drawn from the other half, 5 draws a split, on the trained base and on
  the unchanged one: the same labels, the same held-out records. A split counts with the mean of its
  draws. A gain is the mean paired difference over the splits with its 95 % t-interval.
- The bar: at 5 labels a class the interval of the gain is above 0 on at least 2 of 4 domains.
- Settings are chosen on three other domains with `tune`, splits 100 and on, which prints the same.

`run` and `tune` append a line of JSON for each domain and split.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.methods.continued import ContinueConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.pretraining import Pretraining
from broadbase.adapt.reading import as_read
from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task
from broadbase.core.config import override
from broadbase.inference.base import Base
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import load
from continue_tasks import MEASURED, TUNED, Domain
from few_labels import balanced, gap, split

LABELS, SPLITS, DRAWS = (5, 20), 5, 5
UNCHANGED, CONTINUED = "unchanged", "continued"


def apart(task: Task, texts: Sequence[str], held: Indices) -> list[str]:
    """The texts that are no held-out record."""
    records = {task.raws[int(i)] for i in held}
    return [text for text in texts if text not in records]


def measured(
    base: Base, domain: Domain, seeds: Iterable[int], config: ContinueConfig
) -> Iterator[dict[str, object]]:
    """Scores of each split by labels a class and arm, one for each draw, and what training cost."""
    task, texts = domain()
    task = as_read(base, task)
    unchanged, probe = encoder_of(base, task), ProbeConfig()
    for seed in seeds:
        pool, held = split(task, seed)
        raws = apart(task, texts, held)
        begun = time.process_time()
        trained, losses = Pretraining(config, base, task.modality).train(raws, seed)
        seconds = time.process_time() - begun
        arms = {UNCHANGED: unchanged, CONTINUED: encoder_of(trained, task)}
        scores: dict[str, dict[str, list[float]]] = {str(each): {} for each in LABELS}
        for name, encoder in arms.items():
            rng = np.random.default_rng(seed)  # the same draws in every arm
            for each in LABELS:
                for _ in range(DRAWS):
                    train = balanced(task, rng.permutation(pool), each)
                    outputs = probe.fit(encoder, task, train).outputs(task.inputs(held))
                    scores[str(each)].setdefault(name, []).append(task.score(outputs, held))
        ends = [float(np.mean(part)) for part in (losses[:3], losses[-3:])]
        facts = {"seconds": seconds, "texts": len(raws), "held": len(held), "loss": ends}
        yield {"split": seed, "scores": scores, **facts}


def encoder_of(base: Base, task: Task) -> Encoder:
    """An encoder that keeps the vectors of all records of the task."""
    encoder = Encoder(base, task.modality, cache=None)
    encoder.keep(task.inputs(np.arange(len(task.labels))))
    return encoder


def report(file: Path) -> None:
    """Print a row for each domain and number of labels, and how many domains reach the bar."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    print("| domain | texts | labels a class | unchanged | continued | gain | CPU-s |")
    print("|---|--:|--:|--:|--:|---|--:|")
    reached = []
    for name in dict.fromkeys(row["domain"] for row in rows):
        splits = [row for row in rows if row["domain"] == name]
        for each in LABELS:
            means = {
                arm: [float(np.mean(row["scores"][str(each)][arm])) for row in splits]
                for arm in (UNCHANGED, CONTINUED)
            }
            mean, low, high = gap(means[CONTINUED], means[UNCHANGED])
            if each == LABELS[0] and low > 0:
                reached.append(name)
            first, then = (f"{np.mean(values):.3f}" for values in means.values())
            texts, seconds = (np.mean([row[key] for row in splits]) for key in ("texts", "seconds"))
            gain = f"{mean:+.3f} ({low:+.3f} {high:+.3f})"
            print(f"| {name} | {texts:,.0f} | {each} | {first} | {then} | {gain} | {seconds:.0f} |")
    print(f"\ngain at {LABELS[0]} labels a class, interval above 0: {', '.join(reached) or 'none'}")


def main() -> None:
    """Run domains, tune on others, or report what was run."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "tune"):
        working = commands.add_parser(command)
        working.add_argument("--base", default="sample:minilm")
        working.add_argument("--out", type=Path, required=True)
        working.add_argument("--domains", nargs="*")
        working.add_argument("--splits", type=int, nargs="*")
        if command == "tune":
            working.add_argument("--set", action="append", default=[], dest="settings")
    commands.add_parser("report").add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "report":
        report(options.file)
        return
    tuning = options.command == "tune"
    domains, settings = (TUNED, options.settings) if tuning else (MEASURED, [])
    first = 100 if tuning else 0
    MachineConfig().prepare()
    base, config = load(options.base), with_settings(settings)
    for name in options.domains or domains:
        seeds = options.splits or range(first, first + SPLITS)
        for row in measured(base, domains[name], seeds, config):
            with options.out.open("a") as file:
                file.write(json.dumps({"domain": name, "settings": settings, **row}) + "\n")
            print(name, row["split"], *settings, summary(row), flush=True)


def with_settings(settings: Sequence[str]) -> ContinueConfig:
    """The default settings of `continue` with some changed."""
    tree = ContinueConfig().tree()
    for setting in settings:
        tree = override(tree, setting)
    return ContinueConfig.from_tree(tree)


def summary(row: Mapping[str, object]) -> str:
    """The mean scores of a split, the loss at first and at last, and the seconds."""
    scores: Mapping[str, Mapping[str, Sequence[float]]] = row["scores"]  # type: ignore[assignment]
    said = [
        f"{each}: " + " ".join(f"{np.mean(values):.3f}" for values in arms.values())
        for each, arms in scores.items()
    ]
    return f"{'; '.join(said)}; loss {row['loss']}; {row['seconds']:.0f} s"


if __name__ == "__main__":
    main()
