"""Prompting: what a base that was made here answers, beside a probe and hand-made features.

    python bench/prompting.py run BASE --out FILE [--tasks who bias]
    python bench/prompting.py report FILE

BASE continues texts. No package ships an English one with its weights, so it is one that was made
here: `broadbase pretrain text --data sample:brown --depth 4 --steps 250 --set seed=9
--set model.modalities.text.vocab_size=2048 --set data.holdout=0.1`, 250 steps on a corpus that no
task is of. Fixed before the first measurement:

- Tasks (demo/text_tasks.py) whose classes have names: who, bias, subject. Half of the records, at
  most 60, are held out; the labels are 4 of each class from the other half; 4 splits.
- The template is the text, and a line that ends as in ENDS; the answers are the names of the
  classes, or those in ANSWERS. Nothing was tried before but runs on a random base, for the time
  that they take.
- Without labels: `prompt` with every normalisation, with contextual calibration and without.
- With labels: `prompt` with 4 examples, by each choice, balanced ones in 10 orders and others in
  2; without examples, calibrated by the labels; `soft_prompt`; `probe`; and TF-IDF of characters
  with ridge regression.
- A planted prior: 3 nats more for the first token of the first class's answer, without labels, by
  each calibration, and without any: the accuracy and the share of that class.
- Each row is held against the hand-made features with the same labels: the mean of the paired
  differences over the splits and its 95 % t-interval. Splits overlap, so intervals are too narrow
  for new data.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from broadbase.adapt.compare import Tested, tested_on
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.features import classical
from broadbase.adapt.few_labels import balanced, split
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.methods.prompt import PromptConfig
from broadbase.adapt.methods.soft_prompt import SoftPromptConfig
from broadbase.adapt.reading import as_read
from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task
from broadbase.demo.tasks import subject
from broadbase.demo.text_tasks import PHRASES, bias, who
from broadbase.evidence.interval import paired_interval
from broadbase.inference.base import Base
from run_report import main

SPLITS, TEST, EACH, ORDERS, NATS = 4, 60, 4, 10, 3.0
TASKS: Mapping[str, Callable[[], Task]] = {"who": who, "bias": bias, "subject": subject}
ENDS = {"who": "This is about", "bias": "This is about", "subject": "The subject is"}
ANSWERS = {"bias": dict(PHRASES["bias"])}
HAND = "TF-IDF of characters"


def prompt(task: str, **settings: Any) -> PromptConfig:
    """The prompt of a task."""
    template, answers = f"{{}}\n{ENDS[task]}", ANSWERS.get(task, {})
    return PromptConfig(template=template, verbalizer=answers, **settings)


def unlabelled(task: str) -> dict[str, MethodConfig]:
    """The methods without labels, by name."""
    return {
        f"prompt, {normalise}, {calibrate}": prompt(task, normalise=normalise, calibrate=calibrate)
        for normalise in ("none", "length", "prior")
        for calibrate in ("none", "contextual")
    }


def labelled(task: str) -> dict[str, MethodConfig]:
    """The methods with labels, by name."""
    shots = {
        f"prompt, 4 examples, {choice}": prompt(
            task, shots=4, choice=choice, orders=orders, calibrate="contextual"
        )
        for choice, orders in (("random", 2), ("balanced", ORDERS), ("nearest", 2))
    }
    soft = SoftPromptConfig(prompt=prompt(task, calibrate="none"))
    by_labels = prompt(task, calibrate="labels")
    return {**shots, "prompt, labels": by_labels, "soft prompt": soft, "probe": ProbeConfig()}


def planted(base: Base, task: Task) -> Base:
    """The base with a prior: more for the first token of the first answer."""
    answers = prompt(task.name).answers(task.target)
    row = base.answer_ids(task.modality, "x", [f" {answer}" for answer in answers])
    biased = replace(base, model=base.config.build())
    biased.model.load_state_dict(base.model.state_dict())
    space: Any = biased.model.eval().spaces[task.modality]
    bias = torch.zeros(len(space.embedding.weight))
    bias[row.answers[0][row.first[0]]] = NATS
    space.bias = nn.Parameter(bias, requires_grad=False)
    return biased


def rows(base: Base, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Measure each task: the scores of every method by split."""
    for name in filter(wanted, TASKS):
        task = as_read(base, TASKS[name]())
        cuts = [split(task, seed, TEST) for seed in range(SPLITS)]
        few = [balanced(task, pool, EACH) for pool, _ in cuts]
        held = [each for _, each in cuts]
        encoder, none = Encoder(base, task.modality), [each[:0] for each in few]
        scores = dict[str, list[Tested]]()
        for method, config in unlabelled(name).items():
            scores[method] = tested(encoder, task, config, none, held)
        for method, config in labelled(name).items():
            scores[method] = tested(encoder, task, config, few, held)
        hand = classical(task, None, base.codec(task.modality)[1])[HAND]
        pairs = enumerate(zip(few, held, strict=True))
        made = [hand(train, test, seed) for seed, (train, test) in pairs]
        yield {
            "task": name,
            "labels": EACH * len(task.target.names),
            "chance": task.constant()[1],
            "scores": {k: [each.score for each in v] for k, v in scores.items()} | {HAND: made},
            "orders": {k: [each.members for each in v] for k, v in scores.items()},
            "planted": prior(base, task, few, held),
        }


def tested(
    encoder: Encoder, task: Task, method: MethodConfig, few: list[Indices], held: list[Indices]
) -> list[Tested]:
    """The score of a method on each split."""
    print(f"  {task.name}: {method.name}", flush=True)
    pairs = enumerate(zip(few, held, strict=True))
    return [
        tested_on(method.fit(encoder, task, train, seed), task, test)[0]
        for seed, (train, test) in pairs
    ]


def prior(
    base: Base, task: Task, few: list[Indices], held: list[Indices]
) -> dict[str, dict[str, list[float]]]:
    """Accuracy, and the share of the first class, of the base with a prior and without."""
    result: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    encoders = {
        "as it is": Encoder(base, task.modality),
        "planted": Encoder(planted(base, task), task.modality),
    }
    for name, encoder in encoders.items():
        for calibrate in ("none", "contextual", "batch", "labels"):
            method = prompt(task.name, calibrate=calibrate)
            for seed, (train, test) in enumerate(zip(few, held, strict=True)):
                _, outputs = tested_on(method.fit(encoder, task, train, seed), task, test)
                each = result[f"{name}, {calibrate}"]
                each["accuracy"].append(task.score(outputs, test))
                each["share"].append(float((outputs.argmax(axis=1) == 0).mean()))
    return {name: dict(each) for name, each in result.items()}


def report(file: Path) -> None:
    """Print the tables."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for row in lines:
        made = row["scores"][HAND]
        print(f"\n{row['task']}, {row['labels']} labels where there are some;", end=" ")
        print(f"most frequent class {row['chance']:.3f}, {HAND} {np.mean(made):.3f}\n")
        print("| method | score | lead over hand-made | orders, lowest to highest |")
        print("|---|--:|---|---|")
        for method, scores in row["scores"].items():
            lead = paired_interval(scores, made)
            orders = [each for each in row["orders"].get(method, ()) if len(each) > 1]
            spread = ""
            if orders:
                low, high = (np.mean([f(each) for each in orders]) for f in (min, max))
                spread = f"{low:.3f} to {high:.3f}"
            shown = f"{lead.mean:+.3f} ({lead.low:+.3f} {lead.high:+.3f})"
            print(f"| {method} | {np.mean(scores):.3f} | {shown} | {spread} |")
        print("\n| base, calibration | accuracy | share of the first class |\n|---|--:|--:|")
        for name, each in row["planted"].items():
            means = np.mean(each["accuracy"]), np.mean(each["share"])
            print(f"| {name} | {means[0]:.3f} | {means[1]:.3f} |")


if __name__ == "__main__":
    main(__doc__, rows, report)
