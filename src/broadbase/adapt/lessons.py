"""What a method trains a base on: labels, which a new head predicts, or texts.

Legend: M records, K columns of outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from broadbase.adapt import answers
from broadbase.adapt.answers import Answering, AnswerLoss
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Arrays, Fitted
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs, Target
from broadbase.adapt.task import Task
from broadbase.adapt.training import grown
from broadbase.core.contracts import Batch, Objective
from broadbase.core.keyed_random import KeyedRandom, seed_of
from broadbase.core.spaces import HeadConfig
from broadbase.core.view import Predict, Segment, Stream, View
from broadbase.inference.base import Base
from broadbase.inference.truncation import beginning
from broadbase.model.model import ModelConfig
from broadbase.objectives.properties import Properties

LABEL = "label"  # the name of the new head
HEAD = f"spaces.{LABEL}."  # the beginning of the names of its parameters
BATCH = 64  # records that are predicted at once
READOUT = Predict(LABEL, LABEL, pooled=True)

Rows = Callable[[Indices], Mapping[str, Segment]]  # of some records, by source


class Lesson(NamedTuple):
    """What is trained, by which objective, on which rows, and the tower that predicts."""

    fitted: Labelling | Answering
    objective: Objective
    rows: Rows
    tower: str


@dataclass(frozen=True)
class Labelling(Fitted):
    """A base with a head `label` that was trained for one task."""

    adapted: Base
    modality: str
    target: Target

    @property
    def base(self) -> Base:
        """The trained base."""
        return self.adapted

    @torch.inference_mode()
    def outputs(self, inputs: Inputs) -> Outputs:
        """Return what the head predicts, [M,K]."""
        base, rows = self.adapted, []
        for i in range(0, len(inputs.raws), BATCH):
            segment = _rows(base, self.modality, inputs.raws[i : i + BATCH])
            segment = segment.to(next(base.model.parameters()).device)
            pattern, reads = base.attention_pattern(self.modality), (READOUT,)
            tower = base.tower(self.modality)
            view = View((Stream("main", tower, (segment,), pattern, readouts=reads),))
            rows.append(base.model(view).predictions[LABEL][:, 0])
        return self.target.head_outputs(base.config.heads[LABEL], torch.cat(rows))

    def arrays(self) -> Arrays:
        """Return none: the trained base is saved as a model folder."""
        return {}

    @property
    def trained(self) -> bool:
        """It was."""
        return True


def labels(base: Base, task: Task, train: Indices, seed: int, share: bool = False) -> Lesson:
    """Return what predicts the labels of records by a new head, and how it is trained.

    Its parameters are copies of those of the base, unless they are to `share` their memory.
    """
    head = task.target.head(task.labels[train])
    adapted = with_head(base, task.modality, head, seed, share)
    labels = task.target.head_targets(adapted.config.heads[LABEL], task.labels)
    weights = np.zeros(len(labels), np.float32)
    weights[train] = task.target.weights(task.labels[train])

    def rows(chosen: Indices) -> Mapping[str, Segment]:
        target = torch.from_numpy(labels[chosen])[:, None]
        position = torch.zeros(len(chosen), 1, 3, dtype=torch.int64)
        weight = torch.from_numpy(weights[chosen])[:, None]
        label = Segment(LABEL, target, position, loss_weight=weight)
        return {task.modality: _rows(base, task.modality, task.inputs(chosen).raws), LABEL: label}

    tower, pattern = adapted.tower(task.modality), base.attention_pattern(task.modality)
    objective = Properties(task.modality, LABEL, tower, pattern)
    return Lesson(Labelling(adapted, task.modality, task.target), objective, rows, tower)


def texts(
    base: Base, task: Task, train: Indices, seed: int, temperature: float, share: bool = False
) -> Lesson:
    """Return what generates the texts of records, and how it is trained; `share` as in `labels`."""
    copy = answers.answering(grown(base, base.config, seed, share), task.modality)
    most = answers.longest(copy, task.modality, task.labels[train])
    conditioning = copy.usage.conditioning
    assert conditioning is not None

    def rows(chosen: Indices) -> Mapping[str, Segment]:
        raws, texts = task.inputs(chosen).raws, task.labels[chosen]
        return answers.rows(copy, task.modality, raws, texts)

    fitted = Answering(copy, task.modality, task.target, most, temperature)
    return Lesson(fitted, AnswerLoss(conditioning), rows, answers.writer(copy, task.modality))


def batches(rows: Rows, train: Indices, size: int, seed: int, steps: range) -> Iterator[Batch]:
    """Yield the batches of some steps: epochs of the records, each in an order of its own."""
    size = min(size, len(train))
    per_epoch = max(1, len(train) // size)
    for step in steps:
        epoch, i = divmod(step, per_epoch)
        order = np.random.default_rng(seed_of(seed, "finetune", epoch)).permutation(train)
        yield Batch(step, rows(order[i * size : (i + 1) * size]), KeyedRandom(seed, step))


def with_head(
    base: Base, modality: str, head: HeadConfig, seed: int = 0, share: bool = False
) -> Base:
    """Return a copy of the base with a new head in the tower that reads the records."""
    tree = base.config.tree()
    tree["heads"][LABEL] = head.tree()
    tree["tower_of"][LABEL] = base.tower(modality)
    return grown(base, ModelConfig.from_tree(tree), seed, share)


def _rows(base: Base, modality: str, raws: Sequence[Any]) -> Segment:
    """Return the beginnings of records as rows; the items of a pair are in one row."""
    joint = Inputs(raws).paired
    reading = beginning(base, modality, joint)
    return (reading.read_pairs if joint else reading.read)(raws, modality=modality)
