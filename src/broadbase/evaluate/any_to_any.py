"""Retrieval from any modality to any other, of held-out records that exist in several.

A gallery is all held-out records of one label (a language, say); those of the query's group (a
concept) are right, all others wrong. Two modalities that no objective pairs meet here for the first
time (Girdhar et al. 2023, ImageBind, section 4).

Legend: M held-out records, K dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.view import Predict, Stream, View
from broadbase.data.batches import held_out
from broadbase.data.pairs import align_pairs
from broadbase.data.rows import Rows, one_per_row
from broadbase.evaluate.records import paired_records
from broadbase.evaluate.registry import Measure
from broadbase.evaluate.retrieval import TOP, recall
from broadbase.evidence.comparison import MODEL, Comparison, compare
from broadbase.inference.base import Base
from broadbase.objectives.contrastive import PairsConfig, Side
from broadbase.objectives.mixture import MixtureConfig
from broadbase.run.run import Run

UNPAIRED = "never paired"  # what a subject "audio > image" adds where no objective pairs the two

Array = NDArray[np.float64]


def any_to_any(run: Run, base: Base, config: MixtureConfig) -> Iterator[Comparison]:
    """Compare recall@1 and recall@10 from every modality to every other.

    The baselines are chance, the same model untrained, and the record of the nearest length. The
    interval is over groups.
    """
    pairs = _pairs(config)
    sides = _sides(run, config)
    trained = {frozenset(_modality(run, side) for side in pair) for pair in pairs}
    stores = {modality: run.stores[side.source] for modality, side in sides.items()}
    splits = align_pairs(stores, "validation")
    rows = {
        modality: Rows(
            split, run.config.data.sources[sides[modality].source].row_length, one_per_row
        )
        for modality, split in splits.items()
    }
    records = paired_records(
        run, pairs[0][1].source, "validation", [side.source for side in sides.values()]
    )
    gallery = Gallery([r.group or r.key for r in records], [r.label or "" for r in records])
    vectors = {
        MODEL: _vectors(base, sides, rows),
        "random init": _vectors(base.reinitialised(0), sides, rows),
    }
    for first, second in permutations(sides, 2):
        scores = {name: by_kind[first] @ by_kind[second].T for name, by_kind in vectors.items()}
        lengths = [splits[modality].lengths for modality in (first, second)]
        if all(np.ptp(length) > 0 for length in lengths):
            one, other = (gallery.standardise(np.log(1.0 + length)) for length in lengths)
            scores["nearest length"] = -np.abs(one[:, None] - other)
        note = "" if frozenset((first, second)) in trained else f", {UNPAIRED}"
        for k in TOP:
            hits = {name: gallery.by_group(gallery.recall(s, k)) for name, s in scores.items()}
            hits["chance"] = gallery.by_group(gallery.chance(k))
            yield from compare(f"{first} > {second}{note}", recall(k), hits)


def pairs_several(run: Run, config: MixtureConfig) -> bool:
    """Return whether a mixture pairs records of at least three modalities, and no more."""
    return len(_sides(run, config)) >= 3


class Gallery:
    """Which records are right for which: those of one group, among those of one label."""

    def __init__(self, groups: Sequence[str], labels: Sequence[str]) -> None:
        """Take the group and the label of every record."""
        self.groups = np.array(groups)
        label_M = np.array(labels)
        self.inside = label_M[:, None] == label_M  # [M,M] whether in the gallery of a query
        self.right = self.inside & (self.groups[:, None] == self.groups)

    def recall(self, scores: Array, k: int) -> Array:
        """Return whether one of the k highest scores [M,M] of each query is right: [M].

        Of equal scores the wrong ones come first.
        """
        best_M1 = scores.max(axis=1, keepdims=True, where=self.right, initial=-np.inf)
        before_M = (self.inside & ~self.right & (scores >= best_M1)).sum(axis=1)
        return np.asarray(before_M < k, np.float64)

    def chance(self, k: int) -> Array:
        """Return the recall of a random order, of each query: [M]."""
        sizes = zip(self.inside.sum(axis=1), self.right.sum(axis=1), strict=True)
        return np.array(
            [1 - math.comb(n - r, k) / math.comb(n, k) if k < n else 1.0 for n, r in sizes]
        )

    def standardise(self, x_M: Array) -> Array:
        """Subtract from numbers the mean of their gallery, and divide by its deviation: [M]."""
        sizes = self.inside.sum(axis=1)
        centred_M = x_M - self.inside @ x_M / sizes
        deviation_M = np.sqrt(self.inside @ np.square(centred_M) / sizes)
        return np.asarray(centred_M / np.maximum(deviation_M, 1e-9), np.float64)

    def by_group(self, hits_M: Array) -> list[list[float]]:
        """Return the hits of each group."""
        return [hits_M[self.groups == group].tolist() for group in np.unique(self.groups)]


def _pairs(config: MixtureConfig) -> list[tuple[Side, Side]]:
    """Return the pairs of a mixture of nothing but pairs, otherwise none."""
    components = [component.objective for component in config.components.values()]
    pairs = [(c.first, c.second) for c in components if isinstance(c, PairsConfig)]
    return pairs if len(pairs) == len(components) else []


def _sides(run: Run, config: MixtureConfig) -> dict[str, Side]:
    """Return the first side of each modality that a mixture pairs."""
    sides: dict[str, Side] = {}
    for side in (side for pair in _pairs(config) for side in pair):
        sides.setdefault(_modality(run, side), side)
    return sides


def _modality(run: Run, side: Side) -> str:
    return run.config.data.sources[side.source].modality


@torch.inference_mode()
def _vectors(base: Base, sides: Mapping[str, Side], rows: Mapping[str, Rows]) -> dict[str, Array]:
    """Return the held-out records in the joint space, by modality: [M,K] each."""
    device = next(base.model.parameters()).device
    vectors = {}
    for modality, side in sides.items():
        readout, batches = Predict(side.joint, "joint", pooled=True), list[torch.Tensor]()
        for segment in held_out(rows[modality], modality, 64):
            view = View((Stream("main", side.tower, (segment,), readouts=(readout,)),))
            batches.append(base.model(view.to(device)).predictions["joint"][:, 0].cpu())
        vectors[modality] = np.asarray(torch.cat(batches), np.float64)
    return vectors


MEASURE = Measure((MixtureConfig,), any_to_any, applies=pairs_several)
