"""What a module declares of itself so that several ranks can share it (tensor parallel)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

Split = Literal["outputs", "inputs", "heads"]
Splits = Mapping[str, Split]


class TensorParallel:
    """The base of every module that ranks share, or that they cannot share.

    What does not derive from it is the same on every rank.
    """

    tp_plan: ClassVar[Splits] = {}
    """How each part is cut, by name (Shoeybi et al. 2019, 3): a linear map by its outputs or by its
    inputs; a norm of heads is complete on ranks that have some of the heads."""
    unsplittable: ClassVar[str] = ""
    """Why the module cannot be on a rank that has only a part of the layer; empty where it can."""
    head_dim: int = 1
    """How many outputs of a map stay together on one rank."""
