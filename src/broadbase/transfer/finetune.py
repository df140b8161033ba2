"""Full fine-tuning: the one loop, a Space for the labels, all parameters free.

Legend: B batch, N places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from broadbase.core.config import Config
from broadbase.core.contracts import Batch
from broadbase.core.random import Draws, seed_of
from broadbase.core.view import Read, Segment, Stream, View
from broadbase.model.base import Base, prompts
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.objectives.properties import Properties
from broadbase.train.journal import Journal
from broadbase.train.loop import TrainConfig, Trainer
from broadbase.train.machine import MachineConfig
from broadbase.train.optim import AdamWConfig
from broadbase.train.ranks import Ranks
from broadbase.train.schedule import CosineConfig
from broadbase.transfer.beginning import Beginning
from broadbase.transfer.supervised import LabelsConfig, ValuesConfig
from broadbase.transfer.task import Indices, Task

LABEL = "label"


class FinetuneConfig(Config):
    """How far the base may move."""

    steps: Annotated[int, Field(ge=1)] = 100
    batch: Annotated[int, Field(ge=1)] = 32
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    seed: int = 0


def finetune(
    base: Base, task: Task, train: Indices, config: FinetuneConfig, device: str = "cpu"
) -> Base:
    """A copy of `base` with a Space `label`, trained on the labelled records `train`."""
    label = LabelsConfig(classes=len(task.classes)) if task.classes else ValuesConfig()
    tree = {**base.config.tree(), "modalities": {**base.config.tree()["modalities"]}}
    tree["modalities"][LABEL] = label.tree()
    adapted = replace(base, config=ModelConfig.from_tree(tree))
    adapted = replace(adapted, model=adapted.config.build())
    initialise(adapted.model, config.seed)
    adapted.model.load_state_dict(base.model.state_dict(), strict=False)
    adapted.model.to(device)
    batch_size = min(config.batch, len(train))
    Trainer(
        config=TrainConfig(steps=config.steps, evaluate_every=config.steps),
        model=adapted.model,
        objective=Properties(
            task.modality, LABEL, adapted.tower(task.modality), base.sees(task.modality)
        ),
        corrupt={},
        optim=AdamWConfig(lr=config.lr, weight_decay=config.weight_decay).build(adapted.model),
        schedule=CosineConfig(warmup=config.steps // 10),
        machine=MachineConfig(device=device, precision="fp32", compile="off"),
        ranks=Ranks(torch.device(device)),
        journal=Journal(),
        batches=lambda start: _batches(adapted, task, train, config, batch_size, start),
        validation=lambda: (),
    ).train()
    adapted.model.eval()
    return adapted


@torch.inference_mode()
def score_on(base: Base, task: Task, train: Indices, test: Indices, batch: int = 64) -> float:
    """The score of a base that was fine-tuned on `train`, on the records `test`."""
    found = []
    for i in range(0, len(test), batch):
        segment = _segment(base, task, test[i : i + batch])
        segment = segment.to(next(base.model.parameters()).device)
        pattern = base.sees(task.modality)
        stream = Stream("main", base.tower(task.modality), (segment,), pattern)
        view = View((replace(stream, reads=(Read(LABEL, LABEL, pooled=True),)),))
        found.append(base.model(view).predictions[LABEL][:, 0].cpu().numpy())
    predicted = np.concatenate(found)
    if task.classes:
        return task.score(predicted.argmax(axis=-1), test)
    mean, deviation = _scale(task, train)
    return task.score(mean + deviation * predicted, test)


def _scale(task: Task, train: Indices) -> tuple[float, float]:
    """Mean and deviation of the training labels; classes stay as they are."""
    if task.classes:
        return 0.0, 1.0
    return float(task.labels[train].mean()), float(task.labels[train].std()) or 1.0


def _batches(
    base: Base, task: Task, train: Indices, config: FinetuneConfig, size: int, start: int
) -> Iterator[Batch]:
    per_epoch = max(1, len(train) // size)
    mean, deviation = _scale(task, train)
    labels = task.labels if task.classes else ((task.labels - mean) / deviation).astype(np.float32)
    for step in range(start, config.steps):
        epoch, i = divmod(step, per_epoch)
        order = np.random.default_rng(seed_of(config.seed, "finetune", epoch)).permutation(train)
        chosen = order[i * size : (i + 1) * size]
        target = torch.from_numpy(labels[chosen])[:, None]
        place = torch.zeros(len(chosen), 1, 3, dtype=torch.int64)
        label = Segment(LABEL, target, place, weight=torch.ones(target.shape))
        segments = {task.modality: _segment(base, task, chosen), LABEL: label}
        yield Batch(step, segments, Draws(config.seed, step))


def _segment(base: Base, task: Task, chosen: Sequence[int] | Indices) -> Segment:
    codec = Beginning(base.codec(task.modality)[1])
    return prompts(task.modality, codec, [task.raws[i] for i in chosen])
