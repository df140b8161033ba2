"""Full fine-tuning: the one loop, a Space for the labels, all parameters free.

Legend: B batch, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task
from broadbase.adapt.truncation import beginning
from broadbase.core.config import Config
from broadbase.core.contracts import Batch
from broadbase.core.errors import DivergedError
from broadbase.core.keyed_random import KeyedRandom, seed_of
from broadbase.core.view import Predict, Segment, Stream, View
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.nn.spaces.labels import LabelsConfig, ValuesConfig
from broadbase.objectives.properties import Properties
from broadbase.train.config import TrainConfig
from broadbase.train.loop import Trainer
from broadbase.train.machine import MachineConfig
from broadbase.train.metrics_log import MetricsLog
from broadbase.train.optim import AdamWConfig
from broadbase.train.ranks import Ranks
from broadbase.train.schedule import CosineConfig

LABEL = "label"


class FinetuneConfig(Config):
    """How far the base may move."""

    steps: Annotated[int, Field(ge=1)] = 100
    """The number of optimizer steps."""
    batch: Annotated[int, Field(ge=1)] = 32
    """The labelled records in a step."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """The peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """How much matrices shrink per step, times the learning rate."""
    seed: int = 0
    """The seed of the new head and of the order of records."""


def finetune(
    base: Base,
    task: Task,
    train: Indices,
    config: FinetuneConfig,
    device: str = "cpu",
    done: Done = ignored,
) -> Base:
    """Train a copy of `base` with a Space `label` on the labelled records `train`.

    `done` is called after every step.
    """
    adapted = _with_labels(base, task, train, config.seed)
    adapted.model.to(device)
    batch_size = min(config.batch, len(train))
    trainer = Trainer(
        config=TrainConfig(steps=config.steps, evaluate_every=config.steps),
        model=adapted.model,
        objective=Properties(
            task.modality,
            LABEL,
            adapted.tower(task.modality),
            base.attention_pattern(task.modality),
        ),
        corrupt={},
        optim=AdamWConfig(lr=config.lr, weight_decay=config.weight_decay).build(adapted.model),
        schedule=CosineConfig(warmup=config.steps // 10),
        machine=MachineConfig(device=device, precision="fp32", compile="off"),
        ranks=Ranks(torch.device(device)),
        journal=Steps(done),
        batches=lambda start: _batches(adapted, task, train, config, batch_size, start),
        validation=lambda: (),
    )
    try:
        trainer.train()
    except DivergedError as error:
        what = str(error).partition(". The step")[0]
        raise DivergedError(
            f"fine-tuning diverged at {what}. Lower its learning rate, which is {config.lr:g}"
            f" (--set lr={config.lr / 10:g}), or look at the records"
        ) from None
    adapted.model.eval()
    return adapted


def _with_labels(base: Base, task: Task, train: Indices, seed: int) -> Base:
    """Add a new Space for the labels to the base, in the tower that reads the records."""
    tree, space = base.config.tree(), f"spaces.{LABEL}."
    tree["heads"][LABEL] = _labels(task, train).tree()
    tree["tower_of"][LABEL] = base.tower(task.modality)
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, seed)
    known = {k: v for k, v in base.model.state_dict().items() if not k.startswith(space)}
    model.load_state_dict(known, strict=False)
    return replace(base, config=config, model=model)


def _labels(task: Task, train: Indices) -> LabelsConfig | ValuesConfig:
    """Return what the labels mean: names of classes, or the scale of the training labels."""
    if task.classes:
        return LabelsConfig(classes=task.classes)
    mean, deviation = float(task.labels[train].mean()), float(task.labels[train].std())
    return ValuesConfig(mean=mean, deviation=deviation or 1.0)


@torch.inference_mode()
def score_on(base: Base, task: Task, test: Indices, batch: int = 64) -> float:
    """Score a base that was fine-tuned for a task on the records `test`."""
    found = []
    for i in range(0, len(test), batch):
        segment = _segment(base, task, test[i : i + batch])
        segment = segment.to(next(base.model.parameters()).device)
        pattern = base.attention_pattern(task.modality)
        stream = Stream("main", base.tower(task.modality), (segment,), pattern)
        view = View((replace(stream, readouts=(Predict(LABEL, LABEL, pooled=True),)),))
        found.append(base.model(view).predictions[LABEL][:, 0])
    kind: Any = base.config.heads[LABEL]
    return task.score(kind.labels(torch.cat(found)), test)


class Steps(MetricsLog):
    """Counts the steps of a training and writes nothing."""

    def __init__(self, done: Done) -> None:
        """Take the function to call after every step."""
        super().__init__()
        self._done = done

    def stepped(self, *args: Any) -> None:
        """Call `done`."""
        self._done(1)


def _batches(
    base: Base, task: Task, train: Indices, config: FinetuneConfig, size: int, start: int
) -> Iterator[Batch]:
    per_epoch = max(1, len(train) // size)
    kind: Any = base.config.heads[LABEL]
    labels = kind.standardised(task.labels)
    for step in range(start, config.steps):
        epoch, i = divmod(step, per_epoch)
        order = np.random.default_rng(seed_of(config.seed, "finetune", epoch)).permutation(train)
        chosen = order[i * size : (i + 1) * size]
        target = torch.from_numpy(labels[chosen])[:, None]
        place = torch.zeros(len(chosen), 1, 3, dtype=torch.int64)
        label = Segment(LABEL, target, place, loss_weight=torch.ones(target.shape))
        segments = {task.modality: _segment(base, task, chosen), LABEL: label}
        yield Batch(step, segments, KeyedRandom(config.seed, step))


def _segment(base: Base, task: Task, chosen: Sequence[int] | Indices) -> Segment:
    reading = beginning(base, task.modality)
    return reading.read([task.raws[i] for i in chosen], modality=task.modality)
