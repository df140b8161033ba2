"""Spaces: the device side of a modality. An Embedder reads values, a Head predicts them.

A part of the model may be both, as a vocabulary is whose output matrix is its embedding.

Legend: B batch, N positions, S scored positions, D width, V categories.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.core.errors import ConfigError
from broadbase.core.loss import AuxLosses
from broadbase.core.view import pool


class SampleFn(Protocol):
    """How one of V categories is drawn from logits: temperature, top-k and top-p live here."""

    def __call__(self, logits: Tensor) -> Tensor:
        """Draw from logits [..., V]: the numbers of the categories, [...]."""
        ...


class Space(nn.Module):
    """A part of the model under the name of a modality or of a head."""

    @property
    def mask_vector(self) -> Tensor | None:
        """The parameter `mask` [D], which stands for a masked value; None: it has none."""
        return self._parameters.get("mask")

    def mask_tokens(self, batch: int, length: int) -> Tensor:
        """Return the mask vector at every position, [B,N,D].

        A decoder reads them where it predicts. ConfigError where the Space has no mask vector.
        """
        if self.mask_vector is None:
            raise ConfigError(
                f"{type(self).__name__} has no mask vector, so no decoder can read masked positions"
                " of it; let the objective name another head"
            )
        return self.mask_vector.expand(batch, length, -1)


class Embedder(Space, ABC):
    """Embeds values for a tower."""

    id_tables: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters that have one row an id."""

    def embed(
        self, values: Tensor, masked: Tensor | None = None, document: Tensor | None = None
    ) -> Tensor:
        """Embed values [B,N,...] as [B,N,D], `masked` positions [B,N] as the mask vector.

        `document` [B,N] is -1 at padding. ConfigError where positions are masked and there is no
        mask vector.
        """
        x_BND = self.embed_values(values)
        if masked is None:
            return x_BND
        if self.mask_vector is None:
            raise ConfigError(
                f"{type(self).__name__} has no mask vector, so its values cannot be masked; choose"
                " an objective that masks nothing"
            )
        return torch.where(masked.unsqueeze(-1), self.mask_vector, x_BND)

    @abstractmethod
    def embed_values(self, values: Tensor) -> Tensor:
        """Embed values [B,N,...], none of them masked, as [B,N,D]."""

    def is_extension_of(self, other: nn.Module) -> bool:
        """Return whether the ids of `other` mean the same here, and new ones come last."""
        return False


class Head(Space, ABC):
    """Predicts values from hidden states, scores and samples them."""

    @property
    def aux_loss_weights(self) -> Mapping[str, float]:
        """The coefficients of the auxiliary losses of `score_with_aux`, by name."""
        return {}

    @abstractmethod
    def predict(self, x: Tensor) -> Tensor:
        """Return the parameters of a distribution over values [B,S,...] from states [B,S,D]."""

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the loss of target [B,S,...] under `predict(x)`, of a likelihood in nats: [B,S].

        ConfigError where the head is not scored against values, which is the default.
        """
        raise ConfigError(
            f"{type(self).__name__} predicts no values, so it cannot be scored against targets;"
            " choose an objective that compares its predictions"
        )

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """Return values [B,S,...] drawn from a prediction; by default the prediction itself."""
        return prediction

    def score_with_aux(self, x: Tensor, target: Tensor) -> tuple[Tensor, AuxLosses]:
        """Return `score`, and the auxiliary losses of the same positions: [B,S] each.

        By default there are none.
        """
        return self.score(x, target), {}

    def pooled(self, x: Tensor, document: Tensor | None) -> Tensor:
        """Return the one state [B,D] of a row that the head reads; by default the mean over [B,N,D]
        of what is not padding."""
        return pool(x, document)

    def on_step(self, progress: float, add: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """Follow the run as a teacher's head, before its first step and after each.

        `progress` is the fraction of the run that is done, `add` sums a tensor over the ranks.
        Returns numbers for the metrics log; by default nothing happens.
        """
        return {}


class HeadConfig(Slot):
    """Settings of a head that no source of data feeds: `ModelConfig.heads`."""

    package: ClassVar[str] = "nn"
    derived: ClassVar[tuple[str, ...]] = ()
    """The fields that `sized` fills."""

    def sized(self, vector_sizes: Mapping[str, int]) -> Self:
        """Return the head with the sizes that follow from the modalities of its model.

        `vector_sizes` are the numbers of a token's vector by modality. ValueError where a size
        contradicts them. By default no size follows.
        """
        return self

    @abstractmethod
    def build(self, width: int) -> Any:
        """Return the Head for a tower of `width`."""
