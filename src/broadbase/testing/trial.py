"""A small model and a batch of rows, which an objective is tried on.

Legend: B rows, N tokens, K channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from broadbase.core.codec import Codec
from broadbase.core.contracts import (
    Batch,
    Corruption,
    ModalityConfig,
    Objective,
    ObjectiveConfig,
    named_towers,
)
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.spaces import HeadConfig
from broadbase.core.view import Segment, View, positions
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.train.config import TrainConfig
from broadbase.train.loop import Trainer
from broadbase.train.machine import MachineConfig
from broadbase.train.metrics_log import MetricsLog
from broadbase.train.optim import MuonConfig
from broadbase.train.ranks import Ranks
from broadbase.train.saver import Saver
from broadbase.train.schedule import CosineConfig
from broadbase.train.teacher import AverageConfig

Sources = Mapping[str, tuple[ModalityConfig, Sequence[Any]]]  # by name: a modality and its records
Heads = Mapping[str, tuple[HeadConfig, str]]  # by name: a head and its tower
NO_HEADS: Heads = {}

BLOCK = {
    "attention": {"name": "grouped", "heads": 2, "kv_heads": 1, "head_dim": 8},
    "feedforward": {"name": "gated", "hidden_width": 32},
}
TOWER = {"name": "transformer", "width": 16, "layers": [{"repeat": 2, "block": BLOCK}]}
CROSS = {**BLOCK, "cross": BLOCK["attention"]}
DECODER = {**TOWER, "layers": [{"repeat": 2, "block": CROSS}]}


@dataclass(frozen=True)
class Trial:
    """A model of two layers and a batch of all records of some sources.

    The model has the towers `main`, `encoder` and `decoder`, those that the objective names, and
    the head `pixels` of vectors on the decoder.
    """

    settings: ModelConfig
    segments: Mapping[str, Segment]
    corrupt: Mapping[str, Corruption]
    config: ObjectiveConfig

    @classmethod
    def of(cls, sources: Sources, objective: ObjectiveConfig, heads: Heads = NO_HEADS) -> Trial:
        """Build the model of an objective, and rows of the records of each source."""
        modalities = {config.name: config for config, _ in sources.values()}
        codecs = {
            name: config.fit([raw for c, raws in sources.values() if c == config for raw in raws])
            for name, config in modalities.items()
        }
        segments = {
            source: segment_of(config, codecs[config.name], raws)
            for source, (config, raws) in sources.items()
        }
        towers = {name: TOWER for _, name in named_towers(objective, "objective")}
        pixels = {"name": "regression", "channels": _channels(segments)}
        settings = {
            "modalities": modalities,
            "heads": {"pixels": pixels, **{name: head for name, (head, _) in heads.items()}},
            "towers": {"main": TOWER, "encoder": TOWER, **towers, "decoder": DECODER},
            "tower_of": {"pixels": "decoder", **{name: at for name, (_, at) in heads.items()}},
            "connectors": [{"name": "linear", "source": "encoder", "target": "decoder"}],
        }
        corrupt = {name: config.corruption_of(codecs[name]) for name, config in modalities.items()}
        return cls(ModelConfig.model_validate(settings), segments, corrupt, objective)

    @cached_property
    def objective(self) -> Objective:
        """The objective."""
        return self.config.build()

    @property
    def rows(self) -> int:
        """B, the rows of each source."""
        return min(len(segment.position) for segment in self.segments.values())

    def with_segments(self, segments: Mapping[str, Segment]) -> Trial:
        """Return the trial with other rows."""
        return replace(self, segments=segments)

    def model(self) -> Model:
        """Build the model; its weights are the same every time."""
        model = self.settings.build()
        initialise(model, 0)
        return model

    def batch(self, step: int = 0, rank: int = 0, world: int = 1) -> Batch:
        """Return the rows of one rank; every step has the same random numbers."""
        rows = {
            name: segment.map(lambda x: x[rank::world]) for name, segment in self.segments.items()
        }
        return Batch(step, rows, KeyedRandom(0, 0, rank, world))

    def views(self, rank: int = 0, world: int = 1) -> tuple[View, ...]:
        """Return the objective's views; ConfigError where it does not take the data."""
        return self.objective.views(self.batch(0, rank, world), self.corrupt)

    def trainer(self, steps: int, folder: Path | None = None, stop: int | None = None) -> Trainer:
        """Return a trainer on the batch, which ends before `stop`.

        It saves into `folder` after every second step.
        """
        model, ranks = self.model(), Ranks(torch.device("cpu"))

        def stream(start: int) -> Iterator[Batch]:
            return (self.batch(step) for step in range(start, stop or steps))

        return Trainer(
            config=TrainConfig(steps=steps, evaluate_every=steps, save_every=2),
            model=model,
            objective=self.config.build(),
            corrupt=self.corrupt,
            optim=MuonConfig().build(model),
            schedule=CosineConfig(warmup=2),
            machine=MachineConfig(device="cpu", precision="fp32", compile="off"),
            ranks=ranks,
            journal=MetricsLog(),
            batches=stream,
            validation=lambda: [self.batch()],
            teacher=AverageConfig(momentum=0.0).build(model, ranks, lambda _: model),
            saver=None if folder is None else Saver(folder),
        )


def segment_of(config: ModalityConfig, codec: Codec, raws: Sequence[Any]) -> Segment:
    """Return the records as rows [B,N], the start first, cut to the length of the shortest.

    ValueError where the records have extents of a plane or a volume that differ.
    """
    samples = [codec.encode(raw) for raw in raws]
    grids = {sample.grid for sample in samples}
    if len(grids) > 1 and any(len(grid) > 1 for grid in grids):
        raise ValueError(f"records of equal extents are needed here, not of {sorted(grids)}")
    count = min(len(sample.values) for sample in samples)
    values = [np.concatenate([codec.start[None], sample.values[:count]]) for sample in samples]
    grid = samples[0].grid if len(samples[0].grid) > 1 else (count,)
    position = torch.cat([torch.zeros(1, 3, dtype=torch.int64), 1 + positions(grid)])
    weight = torch.ones(len(raws), len(position))
    weight[:, 0] = 0
    stacked = torch.from_numpy(np.stack(values))
    return Segment(config.name, stacked, position.expand(len(raws), -1, -1), loss_weight=weight)


def _channels(segments: Mapping[str, Segment]) -> int:
    """Return K of the first vectors; 1 where all values are ids."""
    shapes = [segment.values.shape for segment in segments.values()]
    return next((shape[2] for shape in shapes if len(shape) == 3), 1)
