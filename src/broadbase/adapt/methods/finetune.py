"""Full fine-tuning: the training loop, a head for the labels, all parameters free.

Legend: M records, K columns of outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import nn

from broadbase.adapt import answers
from broadbase.adapt.answers import Answering, AnswerLoss
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Arrays, Fitted, MethodConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs, Target
from broadbase.adapt.task import Task
from broadbase.adapt.training import Budget, grown, train_steps
from broadbase.core.contracts import Batch, Objective
from broadbase.core.keyed_random import KeyedRandom, seed_of
from broadbase.core.spaces import HeadConfig
from broadbase.core.view import Predict, Segment, Stream, View
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.inference.truncation import beginning
from broadbase.model.model import ModelConfig
from broadbase.objectives.properties import Properties
from broadbase.train.optim import AdamWConfig, Optim

LABEL = "label"  # the name of the new head
HEAD = f"spaces.{LABEL}."  # the beginning of the names of its parameters
BATCH = 64  # records that are predicted at once


Rows = Callable[[Indices], Mapping[str, Segment]]  # of some records, by source


class Lesson(NamedTuple):
    """What is trained, by which objective, on which rows, and the tower that predicts."""

    fitted: Fitted
    objective: Objective
    rows: Rows
    tower: str


class FinetuneConfig(MethodConfig):
    """Full fine-tuning: all parameters of a copy of the base are trained, with a new head.

    Where labels are texts, the base is trained to generate them, and there is no new head.
    """

    name: Literal["finetune"] = "finetune"
    trains_base: ClassVar[bool] = True
    weighs_classes: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    steps: Annotated[int, Field(ge=1)] = 100
    """The number of optimizer steps."""
    batch: Annotated[int, Field(ge=1)] = 32
    """The labelled records in a step."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """The peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """How much matrices shrink per step, times the learning rate."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The learning rate of a layer, as a share of that of the layer after it; below 1 the layers
    near the input change least."""
    only_head: bool = False
    """Whether only the head is trained, and the base stays as it is."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """What tokens of a text are drawn with; with 0 the likeliest are taken."""
    device: str = "cpu"
    """The device to train on."""

    @property
    def work(self) -> int:
        """The number of steps."""
        return self.steps

    def readings(self, records: int) -> float:
        """Return how often a record is in a batch, times three: forwards, and twice backwards."""
        return 3 * self.steps * min(self.batch, records) / records

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse labels of tokens, and texts that the base cannot generate."""
        if task.token_labels is not None:
            return "fine-tuning learns labels of records; learn labels of tokens with probe or knn"
        if not task.target.generates:
            return ""
        if self.only_head:
            return "texts have no new head to train alone; leave out only_head"
        return answers.refusal(base, task.modality, task.paired)

    def joins(self, base: Base, modality: str, paired: bool, target: Target) -> bool:
        """Both items of a pair are read as one document; without an encoder so is a text."""
        return paired or (target.generates and answers.shares_room(base, modality))

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Train a copy of the base on the labelled records: with a head `label`, or on texts."""
        lesson = self._texts if task.target.generates else _labels
        fitted, objective, rows, tower = lesson(encoder.base, task, train, seed)
        model = fitted.base.model.to(self.device)
        train_steps(
            model,
            objective,
            self._optim(model, tower),
            lambda start: self._batches(rows, train, seed, start),
            Budget(self.steps, self.lr, self.device, "fine-tuning"),
            done,
        )
        model.eval()
        return fitted

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return the trained base, which `encoder` has."""
        if target.generates:
            return Answering(encoder.base, encoder.modality, target, **facts)
        return Finetuned(encoder.base, encoder.modality, target)

    def _texts(self, base: Base, task: Task, train: Indices, seed: int) -> Lesson:
        """Return what generates the texts of records, and how it is trained."""
        copy = answers.answering(grown(base, base.config, seed), task.modality)
        most = answers.longest(copy, task.modality, task.labels[train])
        conditioning = copy.usage.conditioning
        assert conditioning is not None

        def rows(chosen: Indices) -> Mapping[str, Segment]:
            raws, texts = task.inputs(chosen).raws, task.labels[chosen]
            return answers.rows(copy, task.modality, raws, texts)

        fitted = Answering(copy, task.modality, task.target, most, self.temperature)
        return Lesson(fitted, AnswerLoss(conditioning), rows, answers.writer(copy, task.modality))

    def _optim(self, model: nn.Module, tower: str) -> Optim:
        """Build AdamW for what is trained, with a learning rate for each layer."""
        if self.only_head:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.startswith(HEAD))
        optim = AdamWConfig(lr=self.lr, weight_decay=self.weight_decay)
        shares = layer_shares(
            [name for name, _ in model.named_parameters()], tower, self.layer_decay
        )
        return optim.build(model, shares)

    def _batches(self, rows: Rows, train: Indices, seed: int, start: int) -> Iterator[Batch]:
        size = min(self.batch, len(train))
        per_epoch = max(1, len(train) // size)
        for step in range(start, self.steps):
            epoch, i = divmod(step, per_epoch)
            order = np.random.default_rng(seed_of(seed, "finetune", epoch)).permutation(train)
            yield Batch(step, rows(order[i * size : (i + 1) * size]), KeyedRandom(seed, step))


@dataclass(frozen=True)
class Finetuned(Fitted):
    """A base with a head `label`, all of it trained for one task."""

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
            pattern = base.attention_pattern(self.modality)
            stream = Stream("main", base.tower(self.modality), (segment,), pattern)
            view = View((replace(stream, readouts=(Predict(LABEL, LABEL, pooled=True),)),))
            rows.append(base.model(view).predictions[LABEL][:, 0])
        return self.target.head_outputs(base.config.heads[LABEL], torch.cat(rows))

    def arrays(self) -> Arrays:
        """Return none: the trained base is saved as a model folder."""
        return {}

    @property
    def trained(self) -> bool:
        """It was."""
        return True


def layer_shares(names: Sequence[str], tower: str, decay: float) -> dict[str, float]:
    """Return the share of the peak learning rate by parameter.

    It is 1 for the head and for what comes after the last block, `decay` for that block, and so on;
    what comes before the first block is one further (Clark et al. 2020, ELECTRA).
    """
    blocks = re.compile(rf"towers\.{re.escape(tower)}\.blocks\.(\d+)\.")
    numbers = {name: int(m[1]) for name in names if (m := blocks.match(name))}
    depth, after = max(numbers.values(), default=-1) + 1, (HEAD, f"towers.{tower}.final_norm")
    return {
        name: decay ** (depth - numbers.get(name, -1)) if not name.startswith(after) else 1.0
        for name in names
    }


def _labels(base: Base, task: Task, train: Indices, seed: int) -> Lesson:
    """Return what predicts the labels of records by a new head, and how it is trained."""
    adapted = _with_head(base, task.modality, task.target.head(task.labels[train]), seed)
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
    return Lesson(Finetuned(adapted, task.modality, task.target), objective, rows, tower)


def _with_head(base: Base, modality: str, head: HeadConfig, seed: int) -> Base:
    """Return a copy of the base with a new head in the tower that reads the records."""
    tree = base.config.tree()
    tree["heads"][LABEL] = head.tree()
    tree["tower_of"][LABEL] = base.tower(modality)
    return grown(base, ModelConfig.from_tree(tree), seed)


def _rows(base: Base, modality: str, raws: Sequence[Any]) -> Segment:
    """Return the beginnings of records as rows; the items of a pair are in one row."""
    joint = Inputs(raws).paired
    reading = beginning(base, modality, joint)
    return (reading.read_pairs if joint else reading.read)(raws, modality=modality)
