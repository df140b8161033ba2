"""Top-k accuracy on masked genes of held-out cells, against what the order of genes says.

All genes that the objective would corrupt are masked. A baseline never names a gene that the cell
shows elsewhere. "rank": how many training cells have the gene at exactly that rank; "rank, nearby":
at that and nearby ranks (a Gaussian of 5 ranks); "order": naive Bayes over the visible genes, each
before or after the masked one, as the two stand to each other in the training cells.

Legend: S masked tokens of a cell, V ids, R ranks.
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
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Score, Segment
from broadbase.data.batches import collate, held_out
from broadbase.evaluate.likelihood import chunks
from broadbase.evaluate.registry import Measure, without_targets
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.inference.base import Base
from broadbase.modalities.cell import CellConfig
from broadbase.modalities.noise import Hide
from broadbase.objectives.masked import MaskedConfig
from broadbase.run.run import Run

CELLS = 2000  # the most training cells that orders are learned from
NEARBY = 5.0  # ranks, the deviation of the Gaussian
TOP = (1, 10)

Ints = NDArray[np.int64]
Scores = NDArray[np.float64]  # [S,V]: the higher, the likelier


def masked_genes(run: Run, base: Base, config: MaskedConfig) -> Iterator[Comparison]:
    """Compare the share of masked genes among the k likeliest; the interval is over cells."""
    for source in run.config.data.sources:
        yield from _compare_source(run, base, config, source)


@torch.inference_mode()
def _compare_source(
    run: Run, base: Base, config: MaskedConfig, source: str
) -> Iterator[Comparison]:
    space, validation = run.config.data.sources[source].modality, run.rows("validation")[source]
    objective, modality = config.build(), run.config.model.modalities[space]
    assert isinstance(modality, CellConfig)
    train = collate(run.seen(source), space, validation.plain)
    frequencies = Frequencies.of(chunks(train), modality.ids)
    scores: dict[int, dict[str, list[list[float]]]] = {k: {} for k in TOP}
    for i, segment in enumerate(held_out(validation, space, 16)):
        batch = Batch(i, {source: segment}, KeyedRandom(0, i))
        (view,) = objective.views(batch, {space: Hide()})
        (score,) = view.scored
        predictions = base.model(without_targets(view)).predictions["p"].double().numpy()
        for row, at, ids, masked in _cells(segment, score):
            by_baseline = {MODEL: predictions[row, at], **frequencies.scores(ids, masked)}
            for k in TOP:
                for name, logits in by_baseline.items():
                    top = np.argsort(-logits, axis=1, kind="stable")[:, :k]
                    correct = (top == ids[masked][:, None]).any(axis=1)
                    scores[k].setdefault(name, []).append(correct.astype(float).tolist())
    for k in TOP:
        yield from compare(source, Metric(f"masked gene accuracy, top {k}", "higher"), scores[k])


def _cells(segment: Segment, score: Score) -> Iterator[tuple[int, Ints, Ints, Ints]]:
    """Yield cells with masked genes: row, targets that are scored, ids by rank, masked ranks."""
    B, N = segment.values.shape
    document = torch.zeros(B, N).long() if segment.document is None else segment.document
    order = torch.arange(N).expand(B, -1) if segment.order is None else segment.order
    for row in range(B):
        targets = np.flatnonzero((score.loss_weight[row] > 0).numpy())
        index = score.tokens[row, targets]
        for number in range(int(document[row].max()) + 1):
            inside = (document[row, index] == number).numpy()
            if inside.any():
                ids = segment.values[row, document[row] == number][1:].numpy()
                yield row, targets[inside], ids, order[row, index[inside]].numpy() - 1


@dataclass(frozen=True)
class Frequencies:
    """Counts of genes and ranks over the training cells."""

    at_rank: NDArray[np.float64]  # [R,V] cells
    near_rank: NDArray[np.float64]  # [R,V]
    before: NDArray[np.float64]  # [V,V] log of the probability that the first ranks higher

    @classmethod
    def of(cls, cells: list[Ints], ids: int) -> Self:
        """Count over cells, each with its start token."""
        at_rank = np.zeros((max(map(len, cells)), ids))
        first = np.full((ids, ids), 0.5)
        for cell in cells:
            at_rank[np.arange(len(cell) - 1), cell[1:]] += 1
        for cell in cells[:CELLS]:
            first[np.ix_(cell[1:], cell[1:])] += np.triu(np.ones((len(cell) - 1,) * 2), 1)
        near_rank = gaussian_filter1d(at_rank, NEARBY, axis=0)
        return cls(at_rank, near_rank, np.log(first / (first + first.T)))

    def scores(self, ids: Ints, masked: Ints) -> dict[str, Scores]:
        """Score every gene at each masked rank of a cell of `ids`, by baseline.

        Genes that the cell shows elsewhere have -inf.
        """
        total = self.at_rank.sum(axis=0)
        visible = np.delete(np.arange(len(ids)), masked)
        before = self.before[ids[visible]].cumsum(axis=0)
        after = self.before[:, ids[visible]].T[::-1].cumsum(axis=0)[::-1]
        zero = np.zeros((1, len(total)))
        cut = np.searchsorted(visible, masked)
        order = np.concatenate([zero, before])[cut] + np.concatenate([after, zero])[cut]
        rank = np.minimum(masked, len(self.at_rank) - 1)
        scores = {
            "rank": self.at_rank[rank] + total / (1 + total.sum()),
            "rank, nearby": self.near_rank[rank] + total / (1 + total.sum()),
            "order": order + np.log(total + 0.5),
        }
        for each in scores.values():
            each[:, ids[visible]] = -np.inf
        return scores


MEASURE = Measure((MaskedConfig,), masked_genes, modalities=(CellConfig,))
