"""Any kind to any: of held-out records told in several kinds, which finds which in a joint Space.

A gallery is all held-out records of one label (a language, say); those of the query's group (a
concept) are right, all others wrong. Two kinds that no objective pairs meet here for the first time
(Girdhar et al. 2023, ImageBind, 4).

Legend: M held-out records, K dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.view import Read, Stream, View
from broadbase.data.batches import held_out
from broadbase.data.pairs import aligned
from broadbase.data.rows import Rows, alone
from broadbase.evaluate.records import paired_records
from broadbase.evaluate.registry import Measure, Measured, compared
from broadbase.inference.base import Base
from broadbase.objectives.contrastive import PairsConfig, Side
from broadbase.objectives.mixture import MixtureConfig
from broadbase.report.charts import matrix as drawn
from broadbase.run.run import Run

NEAREST = (1, 10)
DRAWING = "matrix.svg"  # in the run's folder

Array = NDArray[np.float64]


def matrix(run: Run, base: Base) -> Iterator[Measured]:
    """Recall at 1 and at 10 from any kind to any other, of a mixture of pairs, drawn too.

    Beside chance, the same model untrained, and the record of the nearest length. The interval is
    over groups.
    """
    pairs = _pairs(run)
    sides: dict[str, Side] = {}
    for side in (side for pair in pairs for side in pair):
        sides.setdefault(_kind(run, side), side)
    if len(sides) < 3:
        return
    told = {frozenset(_kind(run, side) for side in pair) for pair in pairs}
    stores = {kind: run.stores[side.source] for kind, side in sides.items()}
    splits = aligned(stores, "validation")
    rows = {
        k: Rows(s, run.config.data.sources[sides[k].source].length, alone)
        for k, s in splits.items()
    }
    records = paired_records(
        run, pairs[0][1].source, "validation", [s.source for s in sides.values()]
    )
    alike = Alike([r.group or r.key for r in records], [r.label or "" for r in records])
    vectors = {
        "base": _vectors(base, sides, rows),
        "random init": _vectors(base.scratch(0), sides, rows),
    }
    cells = {}
    for first, second in permutations(sides, 2):
        scores = {name: found[first] @ found[second].T for name, found in vectors.items()}
        lengths = [splits[kind].lengths for kind in (first, second)]
        if all(np.ptp(length) > 0 for length in lengths):
            one, other = (alike.standard(np.log(1.0 + length)) for length in lengths)
            scores["nearest length"] = -np.abs(one[:, None] - other)
        unseen = frozenset((first, second)) not in told
        name = f"{first} > {second}{', never paired' if unseen else ''}"
        for k in NEAREST:
            hits = {n: alike.by_group(alike.recall(s, k)) for n, s in scores.items()}
            hits["chance"] = alike.by_group(alike.chance(k))
            found = list(compared(name, f"recall@{k}", hits))
            cells[first, second, k] = found[0].base, unseen
            yield from found
    (run.folder / DRAWING).write_text(_picture(tuple(sides), cells))


class Alike:
    """What is right: records of one group, looked for among those of one label."""

    def __init__(self, groups: Sequence[str], labels: Sequence[str]) -> None:
        self.groups = np.array(groups)
        label_M = np.array(labels)
        self.there = label_M[:, None] == label_M  # [M,M] whether in the gallery of a query
        self.right = self.there & (self.groups[:, None] == self.groups)

    def recall(self, scores: Array, k: int) -> Array:
        """Whether one of the k of the highest scores [M,M] is right, of each query: [M]; of equal
        scores the wrong ones come first."""
        best_M1 = scores.max(axis=1, keepdims=True, where=self.right, initial=-np.inf)
        before_M = (self.there & ~self.right & (scores >= best_M1)).sum(axis=1)
        return np.asarray(before_M < k, np.float64)

    def chance(self, k: int) -> Array:
        """The same of a random order."""
        sizes = zip(self.there.sum(axis=1), self.right.sum(axis=1), strict=True)
        return np.array(
            [1 - math.comb(n - r, k) / math.comb(n, k) if k < n else 1.0 for n, r in sizes]
        )

    def standard(self, x_M: Array) -> Array:
        """Numbers less the mean of their gallery, in its standard deviations: [M]."""
        sizes = self.there.sum(axis=1)
        rest_M = x_M - self.there @ x_M / sizes
        spread_M = np.sqrt(self.there @ np.square(rest_M) / sizes)
        return np.asarray(rest_M / np.maximum(spread_M, 1e-9), np.float64)

    def by_group(self, hits_M: Array) -> list[list[float]]:
        """The hits of each group."""
        return [hits_M[self.groups == group].tolist() for group in np.unique(self.groups)]


def _pairs(run: Run) -> list[tuple[Side, Side]]:
    """Those of a mixture of nothing but pairs; else none."""
    assert isinstance(run.config.objective, MixtureConfig)
    parts = [part.objective for part in run.config.objective.parts.values()]
    pairs = [(part.first, part.second) for part in parts if isinstance(part, PairsConfig)]
    return pairs if len(pairs) == len(parts) else []


def _kind(run: Run, side: Side) -> str:
    return run.config.data.sources[side.source].modality


@torch.inference_mode()
def _vectors(base: Base, sides: Mapping[str, Side], rows: Mapping[str, Rows]) -> dict[str, Array]:
    """Held-out records in the joint Space, by kind: [M,K] each."""
    device = next(base.model.parameters()).device
    found = {}
    for kind, side in sides.items():
        read, parts = Read(side.joint, "joint", pooled=True), list[torch.Tensor]()
        for segment in held_out(rows[kind], kind, 64):
            view = View((Stream("main", side.tower, (segment,), reads=(read,)),))
            parts.append(base.model(view.to(device)).predictions["joint"][:, 0].cpu())
        found[kind] = np.asarray(torch.cat(parts), np.float64)
    return found


def _picture(
    kinds: tuple[str, ...], cells: Mapping[tuple[str, str, int], tuple[float, bool]]
) -> str:
    """Recall at 10, and at 1 below it; pairs never trained are framed."""
    shown = {
        pair: (ten, f"{ten:.2f}", f"{cells[*pair, 1][0]:.2f} first", unseen)
        for pair in permutations(kinds, 2)
        for ten, unseen in [cells[*pair, 10]]
    }
    return drawn(kinds, shown)


MEASURE = Measure((MixtureConfig,), matrix)
