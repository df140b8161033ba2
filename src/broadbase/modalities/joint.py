"""Joint: the Space in which two modalities meet; no source of data is of this modality."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.modalities.noise import Hide
from broadbase.nn.pooling import MeanConfig, PoolingConfig
from broadbase.nn.spaces.joint import Joint
from broadbase.nn.spaces.joint import JointConfig as JointSpaceConfig


class JointConfig(ModalityConfig):
    """One tower's side of it."""

    name: Literal["joint"] = "joint"
    embedding_dim: Annotated[int, Field(ge=1)] | None = 64
    scale: Annotated[float, Field(gt=0)] | None = None
    bias: float | None = None
    max_scale: Annotated[float, Field(gt=0)] | None = 100.0
    shift: bool = False
    pooling: PoolingConfig = MeanConfig()

    def space(self, width: int) -> Joint:
        settings = {name: getattr(self, name) for name in JointSpaceConfig.model_fields}
        return JointSpaceConfig(**settings).build(width)

    def corruption(self) -> Corruption:
        return Hide()
