"""Which places are hidden: independent ones, spans, whole words, blocks or tubes of a plane.

Legend: B rows, N places, S chosen places of a row.
"""

from __future__ import annotations

import math
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

Places = NDArray[np.int64]


class MasksConfig(Slot):
    """A law of hidden places."""

    package: ClassVar[str] = "objectives"

    def choose(
        self,
        segment: Segment,
        share: float,
        draws: KeyedRandom,
        name: str,
        units: Mapping[str, Boundaries] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`share` of the places of each row that count as targets, at least one.

        `units` are the modality's. Returns their index [B,S], S = share * N, and weight [B,S]: 0
        where a row has fewer.
        """
        weight_BN = segment.loss_weight
        assert weight_BN is not None
        B, N = weight_BN.shape
        index_BS, kept_BS = torch.zeros(B, math.ceil(share * N), dtype=torch.int64), []
        for b in range(B):
            countable = np.flatnonzero((weight_BN[b] > 0).numpy())
            wanted = min(max(round(share * len(countable)), 1), len(countable))
            rng = draws.generator(f"{name}/mask", b)
            one = segment.map(lambda x, b=b: x[b])  # type: ignore[misc]
            chosen = self.row(one, countable, wanted, rng, units or {})
            index_BS[b, : len(chosen)] = torch.from_numpy(chosen)
            kept_BS.append(torch.arange(index_BS.shape[1]) < len(chosen))
        return index_BS, weight_BN.gather(1, index_BS) * torch.stack(kept_BS)

    def row(
        self,
        row: Segment,
        countable: Places,
        wanted: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Places:
        """Up to `wanted` different ones of the `countable` places of a row, tensors [N,...]."""
        raise TypeError(f"{type(self).__name__} has no row()")


class RandomMaskConfig(MasksConfig):
    """Each place by itself (Devlin et al. 2019; He et al. 2022)."""

    name: Literal["random"] = "random"

    def choose(
        self,
        segment: Segment,
        share: float,
        draws: KeyedRandom,
        name: str,
        units: Mapping[str, Boundaries] | None = None,
    ) -> tuple[Tensor, Tensor]:
        weight_BN = segment.loss_weight
        assert weight_BN is not None
        B, N = weight_BN.shape
        draw_BN = draws.uniform(name, B, 2 * N)[:, :N]
        return choose_masked(draw_BN, weight_BN, math.ceil(share * N), share)


class SpanMaskConfig(MasksConfig):
    """Runs of places of geometric length, within a document (SpanBERT; Joshi et al. 2020, 3.1)."""

    name: Literal["spans"] = "spans"
    stop: Annotated[float, Field(gt=0, le=1)] = 0.2  # the chance that a span ends at each place
    max_length: Annotated[int, Field(ge=1)] = 10

    def row(
        self,
        row: Segment,
        countable: Places,
        wanted: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Places:
        allowed, chosen = set(countable.tolist()), dict[int, None]()
        while len(chosen) < wanted:
            start = int(rng.choice(countable))
            length = min(int(rng.geometric(self.stop)), self.max_length, wanted - len(chosen))
            for place in range(start, start + length):
                if place not in allowed:
                    break
                chosen[place] = None
        return np.fromiter(chosen, np.int64)


class WordMaskConfig(MasksConfig):
    """Whole words: all ids of one together (BERT's whole word masking; Cui et al. 2019, 2.1).

    Words are drawn one by one; one that would go beyond the share is passed over.
    """

    name: Literal["words"] = "words"

    def row(
        self,
        row: Segment,
        countable: Places,
        wanted: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Places:
        assert row.values is not None
        begins = masking_units("word", units, row.space)(row.values).numpy()
        inside = np.zeros(len(begins), dtype=bool)
        inside[countable] = True
        begins[1:] |= ~inside[:-1]
        number = np.cumsum(begins)[countable]
        words = [countable[number == each] for each in rng.permutation(np.unique(number))]
        chosen = np.zeros(0, np.int64)
        for word in words:
            if len(chosen) + len(word) <= wanted:
                chosen = np.concatenate([chosen, word])
        return chosen if len(chosen) else min(words, key=len)[:wanted]


class BlockMaskConfig(MasksConfig):
    """Rectangles of a plane, through all times of a volume (BEiT; Bao et al. 2022, algorithm 1)."""

    name: Literal["blocks"] = "blocks"
    min_size: Annotated[int, Field(ge=1)] = 16  # places of a rectangle, where the plane has as many
    min_aspect: Annotated[float, Field(gt=0, le=1)] = 0.3  # height / width, and its inverse

    def row(
        self,
        row: Segment,
        countable: Places,
        wanted: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Places:
        plane, hidden, depth = _plane(row, countable)
        rows, columns = hidden.shape
        goal = -(-wanted // depth)
        while (lacking := goal - int(hidden.sum())) > 0:
            size = rng.uniform(min(self.min_size, lacking), lacking) if lacking > 1 else 1.0
            ratio = math.exp(rng.uniform(math.log(self.min_aspect), -math.log(self.min_aspect)))
            high = min(max(round(math.sqrt(size * ratio)), 1), rows)
            wide = min(max(round(math.sqrt(size / ratio)), 1), columns)
            top, left = rng.integers(rows - high + 1), rng.integers(columns - wide + 1)
            hidden[top : top + high, left : left + wide] = True
        return countable[_first(hidden[plane[:, 0], plane[:, 1]], wanted, rng)]


class TubeMaskConfig(MasksConfig):
    """Places of a plane by themselves, through all times (VideoMAE; Tong et al. 2022, 3.2)."""

    name: Literal["tubes"] = "tubes"

    def row(
        self,
        row: Segment,
        countable: Places,
        wanted: int,
        rng: np.random.Generator,
        units: Mapping[str, Boundaries],
    ) -> Places:
        plane, hidden, depth = _plane(row, countable)
        hidden.flat[rng.choice(hidden.size, -(-wanted // depth), replace=False)] = True
        return countable[_first(hidden[plane[:, 0], plane[:, 1]], wanted, rng)]


def _plane(row: Segment, countable: Places) -> tuple[Places, NDArray[np.bool_], int]:
    """The row and column of each place, a plane with nothing hidden, and how many times there are.

    ConfigError where the places are no whole planes.
    """
    place: Places = row.position.numpy()[countable, 1:]
    plane = place - place.min(axis=0)
    rows, columns = (plane.max(axis=0) + 1).tolist()
    depth, rest = divmod(len(countable), rows * columns)
    if rest or not depth:
        raise ConfigError("these rows hold no whole planes to hide parts of; use spans")
    return plane, np.zeros((rows, columns), dtype=bool), depth


def _first(hidden: NDArray[np.bool_], wanted: int, rng: np.random.Generator) -> Places:
    """`wanted` of the places that are hidden; the last part of a plane may have hidden too many."""
    inside = np.flatnonzero(hidden)
    if len(inside) > wanted:
        inside = np.sort(rng.choice(inside, wanted, replace=False))
    return inside


def masking_units(name: str, units: Mapping[str, Boundaries], source: str) -> Boundaries:
    """The units of that name; ConfigError where the values of a source fall into none such."""
    if name not in units:
        raise ConfigError(f"{source!r} has no {name}s that masks or orders could keep together")
    return units[name]


def choose_masked(
    draw_BN: Tensor, weight_BN: Tensor, places: int, share: float
) -> tuple[Tensor, Tensor]:
    """Up to `places` = S places of each row, `share` of those that count as targets, at least one.

    Returns their index [B,S] and weight [B,S]; the weight is 0 where a row has fewer.
    """
    countable_BN = weight_BN > 0
    ranked_BN = torch.where(countable_BN, draw_BN, 2.0).argsort(dim=1)
    wanted_B = (countable_BN.sum(dim=1) * share).round().clamp(min=1, max=places)
    index_BS = ranked_BN[:, :places]
    keep_BS = torch.arange(places) < wanted_B.unsqueeze(1)
    return index_BS, weight_BN.gather(1, index_BS) * keep_BS


def gather(values: Tensor, index_BS: Tensor) -> Tensor:
    """Values [B,N,...] at some places: [B,S,...]."""
    shape = index_BS.shape + values.shape[2:]
    return values.gather(1, index_BS.view(*index_BS.shape, *[1] * (values.ndim - 2)).expand(shape))


def scatter_mask(
    segment: Segment, space: str, index_BS: Tensor, keep_BS: Tensor | None = None
) -> Segment:
    """Some places of a segment, as values of a Space; those not in `keep_BS` become padding."""
    assert segment.values is not None
    document = None if segment.document is None else gather(segment.document, index_BS)
    if keep_BS is not None and not bool(keep_BS.all()):
        document = (torch.zeros_like(index_BS) if document is None else document).where(keep_BS, -1)
    values, position = gather(segment.values, index_BS), gather(segment.position, index_BS)
    return Segment(space, values, position, None, document)
