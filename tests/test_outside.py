"""A modality and an objective of another package: registered, trained in every pairing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.train.config import TrainConfig
from broadbase.train.loop import Trainer
from broadbase.train.machine import MachineConfig
from broadbase.train.metrics_log import MetricsLog
from broadbase.train.optim import MuonConfig
from broadbase.train.ranks import Ranks
from broadbase.train.schedule import CosineConfig
from broadbase.train.teacher import AverageConfig
from support.outside import MODALITIES, SINGLE, TOWERS, rows, settings

MOVES_IDS = {"fim", "span_corruption", "infilling"}  # they take documents apart
TELLS_VECTORS = {"mae", "autoencoder"}
MARKS = {"fim", "span_corruption"}


@pytest.mark.parametrize("objective", sorted(SINGLE))
@pytest.mark.parametrize("modality", sorted(MODALITIES))
def test_every_pairing_learns(modality: str, objective: str) -> None:
    """Every modality under every objective: 30 steps lower the loss on the rows it saw."""
    tree = {
        "modalities": {modality: settings(modality)},
        "heads": {"pixels": {"name": "regression", "channels": 4}},
        "towers": TOWERS,
        "tower_of": {"pixels": "decoder"},
        "connectors": [{"name": "linear", "source": "encoder", "target": "decoder"}],
    }
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, 0)
    segment = rows(modality, config.modalities[modality], np.random.default_rng(0), 4)
    corrupt = {modality: config.modalities[modality].corruption()}
    built = ObjectiveConfig.named(objective)().build()
    vectors = segment.values is not None and segment.values.ndim == 3
    unmarked = objective in MARKS and not corrupt[modality].sentinels
    if unmarked or (
        vectors if objective in MOVES_IDS else objective in TELLS_VECTORS and not vectors
    ):
        with pytest.raises(ConfigError, match=r"holds (ids|vectors); use|needs \d+ extra ids"):
            built.views(Batch(0, {"s": segment}, KeyedRandom(0, 0)), corrupt)
        return

    def stream(start: int) -> Any:
        return (Batch(i, {"s": segment}, KeyedRandom(0, 0)) for i in range(start, 30))

    trainer = Trainer(
        config=TrainConfig(steps=30, evaluate_every=30),
        model=model,
        objective=built,
        corrupt=corrupt,
        optim=MuonConfig().build(model),
        schedule=CosineConfig(warmup=2),
        machine=MachineConfig(device="cpu", precision="fp32", compile="off"),
        ranks=Ranks(torch.device("cpu")),
        journal=MetricsLog(),
        batches=stream,
        validation=lambda: stream(29),
        teacher=AverageConfig(momentum=0.0).build(
            model, Ranks(torch.device("cpu")), lambda _: model
        ),
    )
    if modality == "toy-counts" and objective.startswith("distil"):
        with pytest.raises(ConfigError, match="predicts no logits of categories"):
            trainer.train()
        return
    before = trainer.evaluate()["s"]
    trainer.train()
    assert trainer.evaluate()["s"] < before - 0.05
