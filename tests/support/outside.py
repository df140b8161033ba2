"""A modality and an objective of another package, and rows of every modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from broadbase.core.codec import Codec, Sample
from broadbase.core.config import discover
from broadbase.core.contracts import Batch, Corruption, ModalityConfig, Objective, ObjectiveConfig
from broadbase.core.spaces import Embedder, Head
from broadbase.core.view import Score, Stream, View
from broadbase.modalities.noise import Hide
from broadbase.objectives.scoring import ReadoutLoss

discover("modalities")
discover("objectives")


class CountSpace(Embedder, Head):
    """Counts [B,N]: log in, a Poisson rate out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input, self.output = torch.nn.Linear(1, width), torch.nn.Linear(width, 1)
        self.mask = torch.nn.Parameter(torch.zeros(width))

    def embed_values(self, values: torch.Tensor) -> torch.Tensor:
        return self.input(torch.log1p(values.clamp(min=0)).unsqueeze(-1))

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x).squeeze(-1)

    def score(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.poisson_nll_loss(
            self.predict(x), target, full=True, reduction="none"
        )

    def sample(self, prediction: torch.Tensor, choose: Any) -> torch.Tensor:
        return prediction.exp().round()


class CountCodec(Codec):
    unit = "count"
    start: Any = np.array(-1.0, dtype=np.float32)

    def encode(self, raw: Any) -> Sample:
        try:
            values = np.asarray(raw, dtype=np.float32)
        except TypeError as error:
            raise ValueError(f"expected counts: {error}") from None
        if values.ndim != 1 or not len(values):
            raise ValueError(f"expected counts [N], got {values.shape}")
        return Sample(values, (len(values),), len(values))

    def decode(self, values: Any, grid: tuple[int, ...]) -> list[int]:
        return [int(v) for v in values]

    def save(self, folder: Path) -> None:
        """Nothing to keep."""


class CountsConfig(ModalityConfig):
    name: Literal["toy-counts"] = "toy-counts"

    def fit(self, records: Iterable[Any]) -> CountCodec:
        return CountCodec()

    def load(self, folder: Path) -> CountCodec:
        return CountCodec()

    def space(self, width: int) -> CountSpace:
        return CountSpace(width)

    def corruption(self) -> Corruption:
        return Hide()


class CopyConfig(ObjectiveConfig):
    """Predict every value from itself, seen in full: the easiest objective there is."""

    name: Literal["toy-copy"] = "toy-copy"

    def build(self) -> Objective:
        return Copy()


class Copy(ReadoutLoss):
    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(
            View(
                (
                    Stream(
                        "main",
                        "main",
                        (s,),
                        readouts=(Score(s.space, k, s.values, s.loss_weight),),
                    ),
                )
            )
            for k, s in batch.segments.items()
        )


WORDS = "CCNCCOCCNCC" * 6  # bytes, a molecule and a chain of residues alike


def settings(name: str) -> dict[str, Any]:
    small = {
        "image": {"height": 4, "width": 4, "channels": 1, "patch": 2},
        "video": {"frames": 2, "height": 4, "width": 4, "channels": 1, "tubelet": 1, "patch": 2},
        "audio": {"mels": 4, "patch": 1, "levels": 16},
        "album": {"size": 2},
    }
    controls = {"extra_ids": 24} if "extra_ids" in ModalityConfig.named(name).model_fields else {}
    return {"name": name, **small.get(name, {}), **controls}


def raw(name: str, rng: np.random.Generator) -> Any:
    if name == "image":
        return rng.integers(0, 2, (4, 4)).astype(np.float64)
    if name == "audio":
        return np.sin(np.arange(800) * rng.random()).astype(np.float32)
    if name == "album":
        return rng.integers(0, 2, (8, 2, 2)).astype(np.float64)
    if name == "video":
        return rng.integers(0, 2, (2, 4, 4, 1)).astype(np.float64)
    if name in ("text", "code", "chat"):
        return "".join(rng.choice([" red", " green", " blue", " and", " or"], 24))
    if name == "cell":
        return {f"G{i}": int(n) for i, n in enumerate(1 + rng.poisson([1, 8] * 6))}
    if name == "toy-counts":
        return rng.poisson([1, 8, 1, 8, 1, 8, 1, 8])
    return WORDS


def raws(name: str, count: int = 4) -> list[Any]:
    rng = np.random.default_rng(0)
    return [raw(name, rng) for _ in range(count)]


MODALITIES = [
    name
    for name, config in ModalityConfig.choices.items()
    if config.fit is not ModalityConfig.fit
    and name not in ("tokens", "published_image", "labels", "values", "descriptors", "codes")
]


def alone(name: str) -> bool:
    """Whether an objective takes one source by itself."""
    try:
        ObjectiveConfig.named(name)().check({"s": None})
    except ValueError:
        return False
    return True


APART = {"mixture", "dino"}  # of other objectives, of crops

SINGLE = [name for name in ObjectiveConfig.choices if name not in APART and alone(name)]
