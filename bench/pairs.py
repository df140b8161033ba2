"""Pairs of texts: a published base beside hand-made features of pairs and its own random init.

    python bench/pairs.py run [BASE] --out FILE [--tasks follows facts]
    python bench/pairs.py report FILE

    task      pair                                              label             parted by
    follows   a sentence, another (StereoSet)                   follows or not    first sentence
    answers   a question, an answer (NQ-open)                   its own or not    question
    stories   a question, an answer (NarrativeQA)               its own or not    story
    facts     a question, an option (OpenBookQA)                right or wrong    question
    social    a story with a question, an option (SIQA)         right or wrong    story
    privacy   a question, a sentence of a policy (PrivacyQA)    says it or not    question
    yes       a question, a passage (BoolQ)                     yes or no         question
    summary   a sentence, a shorter one (FactCC's kind)         true to it or not first sentence

Fixed before the first measurement:

- At most 600 pairs of a task. What is not its own answer is that of another question, drawn at
  random: of `stories` of the same story. Groups stay on one side of every split (`cut_groups`). 10
  splits, the same for all; at most 300 tested pairs; 50 and 300 labels.
- Of the base and of its random init (one seed): `probe`, frozen.
- Hand-made, each with ridge regression: TF-IDF of characters of both, TF-IDF of words of both,
  overlap (`adapt/pair_features.py`), and TF-IDF of characters of the second text alone, which shows
  what can be seen without the first. "Best" is that with the best mean over the tested pairs of a
  task, which favours it.
- The base leads where the 95 % t-interval of the paired differences over the splits is above 0.
  Splits overlap, so intervals are too narrow for new data.
- Nothing was tuned: the features are those of InferSent, and the probe chooses among them by
  leave-one-out error. A star marks a task whose texts are in part in MiniLM's training data.

`run` appends a line of JSON for each task and number of labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.features import classical
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.pair_features import PAIRS
from broadbase.adapt.reading import as_read
from broadbase.adapt.splits import cut, cut_groups
from broadbase.adapt.task import Task
from broadbase.core.keyed_random import seed_of
from broadbase.core.sources import Pair
from broadbase.demo.text_tasks import lines
from broadbase.inference.base import Base
from few_labels import gap
from run_report import main

LABELS, SPLITS, TEST, MOST = (50, 300), 10, 300, 600
BASE, RANDOM, ALONE = "base", "random init", "TF-IDF of characters, second text alone"
CONTAMINATED = ("answers", "yes")  # Natural Questions, whose kind BoolQ's questions are

Row = tuple[str, str, str, str]  # first, second, label, group
Scores = dict[str, list[float]]


def follows() -> Iterator[Row]:
    """A sentence and one that follows it, or another."""
    for i, row in enumerate(lines("StereoSet/test.jsonl")):
        if row["type"] == "intersentence":
            own = row[("stereotype", "anti-stereotype")[i % 2]]
            yield row["context"], own, "follows", row["context"]
            yield row["context"], row["unrelated"], "another", row["context"]


def answers() -> Iterator[Row]:
    """A question and its answer, or that of another question."""
    rows = [(row["question"], row["answer"][0]) for row in lines("NQ-open/test.jsonl")]
    yield from _own_or_other(rows, [question for question, _ in rows], "answers")


def stories() -> Iterator[Row]:
    """A question on a story and its answer, or that of another question on it."""
    rows = lines("NarrativeQA/test.jsonl")
    for story in dict.fromkeys(row["passage"] for row in rows):
        some = [(row["question"], row["answer"][0]) for row in rows if row["passage"] == story]
        if len(some) > 1:
            yield from _own_or_other(some, [story] * len(some), story)


def facts() -> Iterator[Row]:
    """A question and its right option, or a wrong one."""
    for row in lines("OpenBookQA/test.jsonl"):
        yield from _options(row, row["question"], row["question"])


def social() -> Iterator[Row]:
    """A story with a question and its right option, or a wrong one."""
    for row in lines("SIQA/test.jsonl"):
        yield from _options(row, f"{row['passage']} {row['question']}", row["passage"])


def privacy() -> Iterator[Row]:
    """A question and a sentence that says something of it, or not."""
    for row in lines("Privacy-Policy/test.jsonl"):
        yield row["question"], row["context"], row["answer"], row["question"]


def yes() -> Iterator[Row]:
    """A question and a passage that answers yes, or no."""
    for row in lines("BoolQ/dev.jsonl"):
        yield row["question"], row["passage"], row["answer"], row["question"]


def summary() -> Iterator[Row]:
    """A sentence and a shorter one that is true to it, or not."""
    for row in lines("Factual-Summary-Pairs/test.jsonl"):
        yield row["article_sent"], row["correct_sent"], "true", row["article_sent"]
        yield row["article_sent"], row["incorrect_sent"], "false", row["article_sent"]


TASKS: Sequence[Callable[[], Iterator[Row]]] = (
    follows, answers, stories, facts, social, privacy, yes, summary,
)  # fmt: skip


def _own_or_other(
    rows: Sequence[tuple[str, str]], groups: Sequence[str], key: str
) -> Iterator[Row]:
    order = np.random.default_rng(seed_of(0, "other", key)).permutation(len(rows))
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    for i, (question, answer) in enumerate(rows):
        yield question, answer, "its own", groups[i]
        yield question, rows[other[i]][1], "another", groups[i]


def _options(row: dict[str, str], first: str, group: str) -> Iterator[Row]:
    wrong = [each for each in row["options"].split("\n") if each.strip() != row["answer"].strip()]
    chosen = wrong[np.random.default_rng(seed_of(0, "option", first)).integers(len(wrong))]
    for option, label in ((row["answer"], "right"), (chosen, "wrong")):
        yield first, option.partition(".")[2].strip(), label, group


def task(rows: Callable[[], Iterator[Row]]) -> Task:
    """The task of at most `MOST` pairs, groups taken as a unit."""
    name, every = rows.__name__, [row for row in rows() if row[0].strip() and row[1].strip()]
    groups = sorted({row[3] for row in every})
    order = np.random.default_rng(seed_of(0, name)).permutation(len(groups))
    rank = {groups[int(i)]: at for at, i in enumerate(order)}
    chosen = sorted(every, key=lambda row: rank[row[3]])[:MOST]
    first, second, labels, of = zip(*chosen, strict=True)
    return Task.from_records(name, "text", list(map(Pair, first, second)), labels, of)


def measured(base: Base, task: Task) -> Iterator[tuple[int, Scores]]:
    """Scores of everything over the splits, by the number of labels."""
    task = as_read(base, task)
    assert task.groups is not None
    alone = replace(task, raws=[pair.second for pair in task.raws])
    encoders = {BASE: Encoder(base, task.modality)}
    encoders[RANDOM] = Encoder(base.reinitialised(0), task.modality)
    for encoder in encoders.values():
        encoder.keep(task.inputs(np.arange(len(task.labels))))
    hand_made = classical(task, PAIRS) | {ALONE: classical(alone)["TF-IDF of characters"]}
    for labels in LABELS:
        scores: Scores = {task.constant()[0]: [task.constant()[1]] * SPLITS}
        for seed in range(SPLITS):
            pool, held = cut_groups(task.labels, task.groups, TEST, seed)
            train = cut(pool, task.labels[pool], labels, len(pool) - labels, seed)[0]
            for name, encoder in encoders.items():
                outputs = ProbeConfig().fit(encoder, task, train).outputs(task.inputs(held))
                scores.setdefault(name, []).append(task.score(outputs, held))
            for name, score in hand_made.items():
                scores.setdefault(name, []).append(score(train, held, seed))
        yield labels, scores


def report(file: Path) -> None:
    """Print the table, and on how many tasks the base leads."""
    print("| task | labels | majority | random init | hand-made, best | MiniLM | lead, 95 % |")
    print("|---|--:|--:|--:|---|--:|---|")
    led: dict[int, list[str]] = {labels: [] for labels in LABELS}
    for row in map(json.loads, file.read_text().splitlines()):
        scores: Scores = row["scores"]
        mean = {name: float(np.mean(values)) for name, values in scores.items()}
        majority, *_ = scores
        best = max(mean.keys() - {majority, BASE, RANDOM}, key=mean.__getitem__)
        lead, low, high = gap(scores[BASE], scores[best])
        if low > 0:
            led[row["labels"]].append(row["task"])
        star = "*" if row["task"] in CONTAMINATED else ""
        cells = (f"{mean[majority]:.3f}", f"{mean[RANDOM]:.3f}", f"{best} {mean[best]:.3f}",
                 f"{mean[BASE]:.3f}", f"{lead:+.3f} ({low:+.3f} {high:+.3f})")  # fmt: skip
        print(f"| {row['task']}{star} | {row['labels']} | {' | '.join(cells)} |")
    for labels, names in led.items():
        print(
            f"\nwith {labels} labels MiniLM leads, interval above 0: {len(names)} of {len(TASKS)}"
        )


def rows(base: Base, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Measure each task with each number of labels."""
    for make in TASKS:
        if wanted(make.__name__):
            for labels, scores in measured(base, task(make)):
                yield {"task": make.__name__, "labels": labels, "scores": scores}


if __name__ == "__main__":
    main(__doc__, rows, report)
