"""Which tokens are masked: independent ones, spans, words, blocks or tubes of a plane.

Legend: B rows, N tokens, S chosen tokens of a row.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from broadbase.core.config import Slot
from broadbase.core.contracts import Boundaries
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment

Indices = NDArray[np.int64]


class MasksConfig(Slot):
    """A rule by which tokens are chosen."""

    package: ClassVar[str] = "objectives"

    @abstractmethod
    def choose(
        self,
        segment: Segment,
        mask_ratio: float,
        rng: KeyedRandom,
        name: str,
        units: Mapping[str, Boundaries] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose `mask_ratio` of the tokens of each row that count as targets, at least one.

        `units` are the modality's words and sentences. Returns the tokens' index [B,S], S =
        mask_ratio * N, and weight [B,S], which is 0 where a row has fewer.
        """


class RowMasksConfig(MasksConfig):
    """A rule that is applied to each row by itself; a subclass defines `row`."""

    def choose(
        self,
        segment: Segment,
        mask_ratio: float,
        rng: KeyedRandom,
        name: str,
        units: Mapping[str, Boundaries] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose tokens row by row, each with a generator of its own."""
        weight_BN = segment.target_weight
        B, N = weight_BN.shape
        index_BS, kept_BS = torch.zeros(B, math.ceil(mask_ratio * N), dtype=torch.int64), []
        for b in range(B):
            countable = np.flatnonzero((weight_BN[b] > 0).numpy())
            count = min(max(round(mask_ratio * len(countable)), 1), len(countable))
            row = segment.map(lambda x, b=b: x[b])  # type: ignore[misc]
            chosen = self.row(row, countable, count, rng.generator(f"{name}/mask", b), units or {})
            index_BS[b, : len(chosen)] = torch.from_numpy(chosen)
            kept_BS.append(torch.arange(index_BS.shape[1]) < len(chosen))
        return index_BS, weight_BN.gather(1, index_BS) * torch.stack(kept_BS)

    @abstractmethod
    def row(
        self,
        row: Segment,
        countable: Indices,
        count: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Indices:
        """Choose up to `count` different tokens of a row, whose tensors are [N,...].

        `countable` are the indices of the tokens that count as targets.
        """


class RandomMaskConfig(MasksConfig):
    """Tokens that are chosen independently (Devlin et al. 2019; He et al. 2022)."""

    name: Literal["random"] = "random"

    def choose(
        self,
        segment: Segment,
        mask_ratio: float,
        rng: KeyedRandom,
        name: str,
        units: Mapping[str, Boundaries] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose tokens of each row without replacement."""
        weight_BN = segment.target_weight
        B, N = weight_BN.shape
        draw_BN = rng.uniform(name, B, 2 * N)[:, :N]
        return choose_masked(draw_BN, weight_BN, math.ceil(mask_ratio * N), mask_ratio)


class SpanMaskConfig(RowMasksConfig):
    """Spans of geometric length within a document (SpanBERT; Joshi et al. 2020, 3.1)."""

    name: Literal["spans"] = "spans"
    stop: Annotated[float, Field(gt=0, le=1)] = 0.2
    """The probability that a span ends at each token."""
    max_length: Annotated[int, Field(ge=1)] = 10
    """The most tokens of a span."""

    def row(
        self,
        row: Segment,
        countable: Indices,
        count: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Indices:
        """Choose spans until there are `count` tokens."""
        allowed, chosen = set(countable.tolist()), dict[int, None]()
        while len(chosen) < count:
            start = int(rng.choice(countable))
            length = min(int(rng.geometric(self.stop)), self.max_length, count - len(chosen))
            for index in range(start, start + length):
                if index not in allowed:
                    break
                chosen[index] = None
        return np.fromiter(chosen, np.int64)


class WordMaskConfig(RowMasksConfig):
    """All ids of a word together (BERT's whole word masking; Cui et al. 2019, 2.1).

    Words are drawn one by one; one that would exceed the mask ratio is skipped.
    """

    name: Literal["words"] = "words"

    def row(
        self,
        row: Segment,
        countable: Indices,
        count: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Indices:
        """Choose words of at most `count` tokens; a part of the shortest if none fits."""
        begins = masking_units("word", units, row.space)(row.values).numpy()
        inside = np.zeros(len(begins), dtype=bool)
        inside[countable] = True
        begins[1:] |= ~inside[:-1]
        number = np.cumsum(begins)[countable]
        words = [countable[number == word] for word in rng.permutation(np.unique(number))]
        chosen = np.zeros(0, np.int64)
        for word in words:
            if len(chosen) + len(word) <= count:
                chosen = np.concatenate([chosen, word])
        return chosen if len(chosen) else min(words, key=len)[:count]


class BlockMaskConfig(RowMasksConfig):
    """Rectangles of a plane, through all times of a volume (BEiT; Bao et al. 2022, algorithm 1)."""

    name: Literal["blocks"] = "blocks"
    min_size: Annotated[int, Field(ge=1)] = 16
    """The least tokens of a rectangle, where so many are left to choose."""
    min_aspect: Annotated[float, Field(gt=0, le=1)] = 0.3
    """The least height / width of a rectangle; its inverse is the greatest."""

    def row(
        self,
        row: Segment,
        countable: Indices,
        count: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Indices:
        """Choose rectangles until they cover `count` tokens."""
        plane, masked, depth = _plane(row, countable)
        rows, columns = masked.shape
        goal = -(-count // depth)
        while (lacking := goal - int(masked.sum())) > 0:
            size = rng.uniform(min(self.min_size, lacking), lacking) if lacking > 1 else 1.0
            ratio = math.exp(rng.uniform(math.log(self.min_aspect), -math.log(self.min_aspect)))
            high = min(max(round(math.sqrt(size * ratio)), 1), rows)
            wide = min(max(round(math.sqrt(size / ratio)), 1), columns)
            top, left = rng.integers(rows - high + 1), rng.integers(columns - wide + 1)
            masked[top : top + high, left : left + wide] = True
        return countable[_sample(masked[plane[:, 0], plane[:, 1]], count, rng)]


class TubeMaskConfig(RowMasksConfig):
    """Single cells of a plane, through all times (VideoMAE; Tong et al. 2022, 3.2)."""

    name: Literal["tubes"] = "tubes"

    def row(
        self,
        row: Segment,
        countable: Indices,
        count: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Indices:
        """Choose cells without replacement."""
        plane, masked, depth = _plane(row, countable)
        masked.flat[rng.choice(masked.size, -(-count // depth), replace=False)] = True
        return countable[_sample(masked[plane[:, 0], plane[:, 1]], count, rng)]


def _plane(row: Segment, countable: Indices) -> tuple[Indices, NDArray[np.bool_], int]:
    """Return the row and column of each token, an empty mask of the plane, and its times.

    ConfigError if the tokens do not fill planes.
    """
    position: Indices = row.position.numpy()[countable, 1:]
    plane = position - position.min(axis=0)
    rows, columns = (plane.max(axis=0) + 1).tolist()
    depth, rest = divmod(len(countable), rows * columns)
    if rest or not depth:
        raise ConfigError(
            f"rows of {row.space!r} hold no full planes to mask parts of; use masks.name=spans"
        )
    return plane, np.zeros((rows, columns), dtype=bool), depth


def _sample(masked: NDArray[np.bool_], count: int, rng: np.random.Generator) -> Indices:
    """Return the indices of `count` masked tokens; the last rectangle may cover too many."""
    inside = np.flatnonzero(masked)
    if len(inside) > count:
        inside = np.sort(rng.choice(inside, count, replace=False))
    return inside


def masking_units(name: str, units: Mapping[str, Boundaries], space: str) -> Boundaries:
    """Return the units of that name; ConfigError if the modality has none."""
    if name not in units:
        raise ConfigError(
            f"modality {space!r} has no {name}s; use an objective that does not mask or permute"
            f" {name}s"
        )
    return units[name]


def choose_masked(
    draw_BN: Tensor, weight_BN: Tensor, most: int, mask_ratio: float
) -> tuple[Tensor, Tensor]:
    """Choose `mask_ratio` of the tokens of each row that count as targets, at least one.

    Returns their index [B,S], S = `most`, and weight [B,S], which is 0 where a row has fewer.
    """
    countable_BN = weight_BN > 0
    ranked_BN = torch.where(countable_BN, draw_BN, 2.0).argsort(dim=1)
    count_B = (countable_BN.sum(dim=1) * mask_ratio).round().clamp(min=1, max=most)
    index_BS = ranked_BN[:, :most]
    keep_BS = torch.arange(most) < count_B.unsqueeze(1)
    return index_BS, weight_BN.gather(1, index_BS) * keep_BS


def gather(values: Tensor, index_BS: Tensor) -> Tensor:
    """Return values [B,N,...] at some indices: [B,S,...]."""
    shape = index_BS.shape + values.shape[2:]
    return values.gather(1, index_BS.view(*index_BS.shape, *[1] * (values.ndim - 2)).expand(shape))


def scatter_mask(
    segment: Segment, space: str, index_BS: Tensor, keep_BS: Tensor | None = None
) -> Segment:
    """Return some tokens of a segment as values of `space`; others than `keep_BS` are padding."""
    document = None if segment.document is None else gather(segment.document, index_BS)
    if keep_BS is not None and not bool(keep_BS.all()):
        document = (torch.zeros_like(index_BS) if document is None else document).where(keep_BS, -1)
    values, position = gather(segment.values, index_BS), gather(segment.position, index_BS)
    return Segment(space, values, position, None, document)
