"""Joint: the Space in which two modalities meet; no source of data is of this modality."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.modalities.noise import Hide
from broadbase.nn.joint import Joint
from broadbase.nn.joint import JointConfig as JointSpaceConfig


class JointConfig(ModalityConfig):
    """One tower's side of it."""

    name: Literal["joint"] = "joint"
    dimensions: Annotated[int, Field(ge=1)] = 64
    scale: Annotated[float, Field(gt=0)] | None = None
    bias: float = 0.0

    def space(self, width: int) -> Joint:
        settings = {"dimensions": self.dimensions, "scale": self.scale, "bias": self.bias}
        return JointSpaceConfig.from_tree(settings).build(width)

    def corruption(self) -> Corruption:
        return Hide()
