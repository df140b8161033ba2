"""`check_modality`: built-in modalities keep their promises, and a broken one is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig, ObjectiveConfig
from broadbase.modalities.noise import Hide
from broadbase.testing import BrokenPromiseError, check_modality
from support.outside import MODALITIES, CountCodec, CountsConfig, CountSpace, raws, settings

LOSSY: dict[str, Callable[[Any, Any], bool]] = {  # what a decoded record has of the record
    "image": lambda clean, decoded: np.array_equal(np.reshape(clean, decoded.shape), decoded),
    "album": lambda clean, decoded: np.array_equal(np.reshape(clean, decoded.shape), decoded),
    "audio": lambda clean, decoded: abs(len(clean) - len(decoded)) <= 160,  # a hop
    "cell": lambda clean, decoded: {name.decode() for name, _ in clean} == {*decoded},
}
BAD: dict[str, list[Any]] = {"molecule": ["C("], "protein": ["A1"], "audio": [np.array([np.nan])]}


@pytest.mark.parametrize("name", sorted(MODALITIES))
def test_modalities_of_this_package(name: str) -> None:
    """Without objectives: tests/test_outside.py trains every pair."""
    config, more = ModalityConfig.from_tree(settings(name)), {}
    if name in LOSSY:
        more["round_trip"] = LOSSY[name]
    check_modality(config, raws(name), bad=BAD.get(name, ()), objectives=(), **more)


def test_objectives_are_tried() -> None:
    causal = ObjectiveConfig.from_tree({"name": "causal"})
    check_modality(CountsConfig(), raws("toy-counts"), objectives=[causal])
    mae = ObjectiveConfig.from_tree({"name": "mae"})
    with pytest.raises(BrokenPromiseError, match="some objective takes the modality"):
        check_modality(CountsConfig(), raws("toy-counts"), objectives=[mae])


class Unsteady(CountsConfig):
    def clean(self, raw: Any) -> Any:
        return np.asarray(raw) + 1


@dataclass
class Faulty(CountCodec):
    """A codec with one fault."""

    fault: str = ""

    def __post_init__(self) -> None:
        self.calls = 0
        if self.fault == "start":
            self.start = np.zeros(2, np.float32)

    def encode(self, raw: Any) -> Sample:
        if self.fault == "taken" and isinstance(raw, str | object) and not np.shape(raw):
            raw = [1]
        if self.fault == "other error" and not np.shape(raw):
            raise KeyError("raw")
        sample = super().encode(raw)
        self.calls += 1
        changes: dict[str, Any] = {
            "chance": {"values": sample.values + self.calls},
            "grid": {"grid": (1,)},
            "units": {"units": 0},
            "infinite": {"values": sample.values / 0},
            "text": {"values": sample.values.astype(str)},
        }
        return replace(sample, **changes.get(self.fault, {}))

    def decode(self, values: Any, grid: tuple[int, ...]) -> list[int]:
        return super().decode(values, grid)[self.fault == "loss" :]


class FaultyConfig(CountsConfig):
    """The counts with a faulty codec."""

    fault: str = ""

    def fit(self, records: Iterable[Any]) -> Codec:
        return Faulty(self.fault)

    def load(self, folder: Path) -> Codec:
        return Faulty("grid") if self.fault == "load" else self.fit(())

    def chunks(self, raw: Any) -> Iterable[Any]:
        return (raw[:2], raw[3:]) if self.fault == "chunks" else (raw,)


class SpaceFault(CountsConfig):
    """The counts with a faulty embedder, head or noise."""

    fault: str = ""

    def space(self, width: int) -> CountSpace:
        return FaultySpace(width, self.fault)

    def corruption(self) -> Corruption:
        return Loud() if self.fault == "noise" else Hide()


class FaultySpace(CountSpace):
    def __init__(self, width: int, fault: str) -> None:
        super().__init__(width)
        self.fault = fault

    def embed(self, values: Any, masked: Any = None, document: Any = None) -> Any:
        return super().embed(values, None if self.fault == "masked" else masked, document)

    def score(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        scores = super().score(x, target)
        return scores.mean() if self.fault == "reduced" else scores

    def sample(self, prediction: torch.Tensor, choose: Any) -> torch.Tensor:
        drawn = super().sample(prediction, choose)
        return drawn.unsqueeze(-1) if self.fault == "drawn" else drawn


class Loud(Hide):
    def noise(self, values: Any, chosen: Any, draws: Any) -> Any:
        return values + 1, chosen


FAULTS: dict[str, tuple[ModalityConfig, str]] = {
    "clean": (Unsteady(), "clean is idempotent"),
    "masked": (SpaceFault(fault="masked"), "embed does not let a masked value through"),
    "reduced": (SpaceFault(fault="reduced"), "score gives one finite number for each token"),
    "drawn": (SpaceFault(fault="drawn"), "sample gives values like those of a record"),
    "noise": (SpaceFault(fault="noise"), "noise leaves tokens that are not chosen"),
    **{
        fault: (FaultyConfig(fault=fault), message)
        for fault, message in {
            "chance": "the same values every time",
            "grid": "product of the grid",
            "units": "units counts at least one 'count', not 0",
            "infinite": "values are finite",
            "text": "values are numbers",
            "start": "start of the codec has the shape of one value",
            "chunks": "encodings of the chunks",
            "loss": "decode gives back the record",
            "load": "load gives the codec that save wrote",
            "taken": "a bad record is refused with a ValueError, and <object",
            "other error": "such as DataError; <object .* raised KeyError",
        }.items()
    },
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_promise_is_named(fault: str) -> None:
    config, message = FAULTS[fault]
    with pytest.raises(BrokenPromiseError, match=message):
        check_modality(config, raws("toy-counts"), objectives=())
