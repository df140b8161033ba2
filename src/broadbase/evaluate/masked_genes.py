"""Hidden genes of held-out cells, told among the first or the first ten, beside what order tells.

All genes that the objective would corrupt are hidden. A baseline never names a gene that the cell
shows elsewhere. "rank": how many training cells have the gene at just that rank; "rank, near":
at that and nearby ranks (a Gaussian of 5 ranks); "order": naive Bayes over the genes shown, each
told as before or after the hidden one, as they stand to each other in the training cells.

Legend: S hidden places of a cell, V ids, R ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from broadbase.core.contracts import Batch
from broadbase.core.keyed_random import Draws
from broadbase.core.view import Read, Segment
from broadbase.data.batches import collate, held_out
from broadbase.evaluate.likelihood import chunks
from broadbase.evaluate.registry import Measure, Measured, asked, compared
from broadbase.inference.base import Base
from broadbase.modalities.cell import CellConfig
from broadbase.modalities.noise import Hide
from broadbase.objectives.masked import MaskedConfig
from broadbase.run.run import Run

CELLS = 2000  # training cells that orders are learned from, the first
NEAR = 5.0  # ranks, the deviation of the Gaussian
TOP = (1, 10)

Ints = NDArray[np.int64]
Scores = NDArray[np.float64]  # [S,V]: the higher, the likelier


def genes(run: Run, base: Base) -> Iterator[Measured]:
    """Every source: the share of hidden genes among the k likeliest, over cells."""
    for source in run.config.data.sources:
        yield from _genes(run, base, source)


@torch.inference_mode()
def _genes(run: Run, base: Base, source: str) -> Iterator[Measured]:
    mixed, validation = run.config.data.sources[source], run.rows("validation")[source]
    objective, space = run.config.objective.build(), mixed.modality
    train = collate(run.seen(source), space, validation.plain)
    known = Frequencies.of(chunks(train), run.config.model.modalities[space].ids)  # type: ignore[attr-defined]
    told: dict[int, dict[str, list[list[float]]]] = {k: {} for k in TOP}
    for i, segment in enumerate(held_out(validation, space, 16)):
        batch = Batch(i, {source: segment}, Draws(0, i))
        (view,) = objective.views(batch, {space: Hide()})
        (read,) = view.reads
        predicted = base.model(asked(view)).predictions["p"].double().numpy()
        for row, places, ids, hidden in _cells(segment, read):
            scores = {"base": predicted[row, places], **known.scores(ids, hidden)}
            for k in TOP:
                for name, each in scores.items():
                    first = np.argsort(-each, axis=1, kind="stable")[:, :k]
                    right = (first == ids[hidden][:, None]).any(axis=1)
                    told[k].setdefault(name, []).append(right.astype(float).tolist())
    for k in TOP:
        yield from compared(source, f"hidden genes, top {k}", told[k])


def _cells(segment: Segment, read: Read) -> Iterator[tuple[int, Ints, Ints, Ints]]:
    """Each cell that hides genes: row, places of the Read, ids by rank, the hidden ranks."""
    assert segment.values is not None
    assert read.index is not None
    assert read.weight is not None
    B, N = segment.values.shape
    document = torch.zeros(B, N).long() if segment.document is None else segment.document
    order = torch.arange(N).expand(B, -1) if segment.order is None else segment.order
    for row in range(B):
        places = np.flatnonzero((read.weight[row] > 0).numpy())
        index = read.index[row, places]
        for number in range(int(document[row].max()) + 1):
            inside = (document[row, index] == number).numpy()
            if inside.any():
                ids = segment.values[row, document[row] == number][1:].numpy()
                yield row, places[inside], ids, order[row, index[inside]].numpy() - 1


@dataclass(frozen=True)
class Frequencies:
    """What the training cells say of genes and ranks."""

    at_rank: NDArray[np.float64]  # [R,V] cells
    near_rank: NDArray[np.float64]  # [R,V]
    before: NDArray[np.float64]  # [V,V] log of the chance that the first ranks before the second

    @classmethod
    def of(cls, cells: list[Ints], ids: int) -> Self:
        """Counted over cells, each with its start."""
        at_rank = np.zeros((max(map(len, cells)), ids))
        first = np.full((ids, ids), 0.5)
        for cell in cells:
            at_rank[np.arange(len(cell) - 1), cell[1:]] += 1
        for cell in cells[:CELLS]:
            first[np.ix_(cell[1:], cell[1:])] += np.triu(np.ones((len(cell) - 1,) * 2), 1)
        return cls(
            at_rank, gaussian_filter1d(at_rank, NEAR, axis=0), np.log(first / (first + first.T))
        )

    def scores(self, ids: Ints, hidden: Ints) -> dict[str, Scores]:
        """By baseline, for each `hidden` rank of a cell of `ids`; shown genes are at -inf."""
        total = self.at_rank.sum(axis=0)
        seen = np.delete(np.arange(len(ids)), hidden)
        before = self.before[ids[seen]].cumsum(axis=0)
        after = self.before[:, ids[seen]].T[::-1].cumsum(axis=0)[::-1]
        zero = np.zeros((1, len(total)))
        cut = np.searchsorted(seen, hidden)
        order = np.concatenate([zero, before])[cut] + np.concatenate([after, zero])[cut]
        last = len(self.at_rank) - 1
        scores = {
            "rank": self.at_rank[np.minimum(hidden, last)] + total / (1 + total.sum()),
            "rank, near": self.near_rank[np.minimum(hidden, last)] + total / (1 + total.sum()),
            "order": order + np.log(total + 0.5),
        }
        for each in scores.values():
            each[:, ids[seen]] = -np.inf
        return scores


MEASURE = Measure((MaskedConfig,), genes, modalities=(CellConfig,))
