"""Objectives by which a base goes on learning from records without labels.

Legend: M records, B records of a batch, N tokens, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from broadbase.core.contracts import Corruption, Objective
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.spaces import HeadConfig
from broadbase.core.view import Segment
from broadbase.inference.base import Base
from broadbase.model.model import ModelConfig
from broadbase.nn.spaces.cosine import CosineConfig
from broadbase.nn.spaces.joint import JointConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.objectives.contrastive import InfoNCEConfig, Side
from broadbase.objectives.masked import MaskedConfig
from broadbase.objectives.properties import Properties
from broadbase.weights.warm_start import config_with_head

NEAREST = 20  # records whose mean a record is moved towards
CANDIDATES = 4096  # records that are near to others, at most: cosines with all cost their square
SCALE = 20.0  # of the cosine of two views: a temperature of 0.05 (Gao et al. 2021, 6.2)


class ContinuedObjective(ABC):
    """An objective, with the heads and the rows that it needs, for one modality of a base."""

    pattern: ClassVar[str] = ""  # the attention pattern that it trains with; any where it is empty
    heads: ClassVar[Mapping[str, HeadConfig]] = {}

    def __init__(self, base: Base, modality: str, hidden: float) -> None:
        """Take the base that goes on, and the share of tokens that are hidden."""
        self.base, self.modality, self.hidden = base, modality, hidden
        self.tower = base.tower(modality)

    def config(self) -> ModelConfig:
        """Return the config of the base with the heads of the objective."""
        tree = self.base.config.tree()
        tree["heads"] |= {name: head.tree() for name, head in self.heads.items()}
        tree["tower_of"] |= dict.fromkeys(self.heads, self.tower)
        return ModelConfig.from_tree(tree)

    @abstractmethod
    def build(self) -> Objective:
        """Return the objective."""

    def learn(self, raws: Sequence[Any]) -> None:
        """Look at all records before the first step."""

    def sources(
        self, rows: Segment, chosen: Sequence[int], noise: Corruption, chance: KeyedRandom
    ) -> Mapping[str, Segment]:
        """Return the sources of a batch from its records [B,N], whose numbers are `chosen`."""
        return {self.modality: rows}


class Neighbours(ContinuedObjective):
    """Each record's mean over its tokens moves towards the mean of the records nearest to it.

    What is near is measured once, by the base as it was. This is a step of mean shift
    (Koohpayegani et al. 2021), learned by the network so that new records move too.
    """

    heads: ClassVar[Mapping[str, HeadConfig]] = {"neighbours": CosineConfig()}

    def build(self) -> Objective:
        """Return the regression on directions."""
        pattern = self.base.attention_pattern(self.modality)
        return Properties(self.modality, "neighbours", self.tower, pattern)

    def learn(self, raws: Sequence[Any]) -> None:
        """Compute the target of every record [M,D]."""
        vectors = self.base.embed(raws, modality=self.modality, layers=False)
        self.targets = torch.from_numpy(shifted(vectors))

    def sources(
        self, rows: Segment, chosen: Sequence[int], noise: Corruption, chance: KeyedRandom
    ) -> Mapping[str, Segment]:
        """Return the records and, as one token for each, their targets."""
        values = self.targets[list(chosen)][:, None]
        position = torch.zeros(len(values), 1, 3, dtype=torch.int64)
        return {self.modality: rows, "neighbours": Segment("neighbours", values, position)}


class Views(ContinuedObjective):
    """Two views of a record, each without a share of its tokens, match among those of a batch.

    The loss is that of SimCSE (Gao et al. 2021), the views are those of Mirror-BERT (Liu et al.
    2021).
    """

    pattern = "full"
    heads: ClassVar[Mapping[str, HeadConfig]] = {
        "first view": JointConfig(embedding_dim=None),
        "second view": JointConfig(embedding_dim=None, scale=SCALE, max_scale=SCALE),
    }

    def build(self) -> Objective:
        """Return InfoNCE between the two views."""
        sides = (Side(source=name, tower=self.tower, joint=name) for name in self.heads)
        return InfoNCEConfig(first=next(sides), second=next(sides)).build()

    def sources(
        self, rows: Segment, chosen: Sequence[int], noise: Corruption, chance: KeyedRandom
    ) -> Mapping[str, Segment]:
        """Return two views of the records."""
        B, N = rows.position.shape[:2]
        views = {}
        for name in self.heads:
            draws = chance.uniform(name, B, 2 * N)
            chosen_BN = (draws[:, :N] < self.hidden) & (rows.target_weight > 0)
            values, masked_BN = noise.noise(rows.values, chosen_BN, draws[:, N:])
            views[name] = replace(rows, values=values, masked=masked_BN)
        return views


class Masked(ContinuedObjective):
    """Hidden tokens are predicted; published weights without a head get a new one."""

    pattern = "full"

    def config(self) -> ModelConfig:
        """Return the config of the base with a head for its tokens."""
        return config_with_head(self.base)

    def build(self) -> Objective:
        """Return masked modelling."""
        return MaskedConfig(tower=self.tower, mask_ratio=self.hidden).build()


class Causal(ContinuedObjective):
    """Every token predicts the next."""

    pattern = "causal"

    def config(self) -> ModelConfig:
        """Return the config of the base with a head for its tokens."""
        return config_with_head(self.base)

    def build(self) -> Objective:
        """Return causal modelling."""
        return CausalConfig(tower=self.tower).build()


OBJECTIVES: Mapping[str, type[ContinuedObjective]] = {
    "neighbours": Neighbours,
    "views": Views,
    "masked": Masked,
    "causal": Causal,
}


def shifted(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each of vectors [M,D], at length 1, plus the mean of those nearest to it by cosine.

    It is among these itself. At most `CANDIDATES` vectors, the first, are near to others.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    candidates = unit[:CANDIDATES]
    search = NearestNeighbors(n_neighbors=min(NEAREST, len(candidates)), metric="cosine")
    near = search.fit(candidates).kneighbors(unit, return_distance=False)
    moved: NDArray[np.float32] = unit + candidates[near].mean(axis=1)
    return moved
