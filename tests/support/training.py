"""A trainer of a small model."""

from __future__ import annotations

import torch

from broadbase.core.contracts import ObjectiveConfig
from broadbase.model.model import Model, ModelConfig
from broadbase.train.config import TrainConfig
from broadbase.train.loop import Trainer
from broadbase.train.machine import MachineConfig
from broadbase.train.metrics_log import MetricsLog
from broadbase.train.optim import AdamWConfig
from broadbase.train.ranks import Ranks
from broadbase.train.schedule import WSDConfig
from support.models import MODALITIES, TOWER

CORRUPT = {
    name: config.corruption()
    for name, config in ModelConfig.from_tree(
        {"modalities": MODALITIES, "towers": {"main": TOWER}}
    ).modalities.items()
}


def trainer(model: Model, objective: str, micro_batches: int = 1) -> Trainer:
    return Trainer(
        config=TrainConfig(micro_batches=micro_batches, grad_clip=None),
        model=model,
        objective=ObjectiveConfig.named(objective)().build(),
        corrupt=CORRUPT,
        optim=AdamWConfig().build(model),
        schedule=WSDConfig(),
        machine=MachineConfig(device="cpu", precision="fp32", compile="off"),
        ranks=Ranks(torch.device("cpu")),
        journal=MetricsLog(),
        batches=lambda _: (),
        validation=lambda: (),
    )
