"""The records of a map: embedded, in two dimensions, with their neighbours, copies and doubts.

Legend: M records, F features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import normalize

from broadbase.adapt.doubts import FEWEST, doubts
from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.reading import reader
from broadbase.adapt.task import Task
from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.sources import Record, SourceConfig
from broadbase.inference.base import Base
from broadbase.report.records import written_record
from broadbase.run.records import held_out
from broadbase.run.run import Run

MOST = 2000  # records of a map
SHOWN, NEAREST, LISTED = 160, 10, 20  # characters of a record, neighbours, pairs and doubts
SAME = 0.999  # cosine from which on two records are copies, nearly
COMPONENTS, PERPLEXITY = 50, 30.0  # of the vectors that t-SNE reads; van der Maaten & Hinton 2008
FEW = 3 * 3 + 1  # records that t-SNE needs
CLASSES = 24  # labels that are classes; of more, nearly every record has one of its own

Vectors = NDArray[np.float32]
Points = NDArray[np.float64]  # [M,2]


class Item(NamedTuple):
    """A record of a map."""

    raw: Any
    label: str
    text: str  # as it is shown


@dataclass(frozen=True)
class Items:
    """The records of a map, and how they were chosen."""

    items: Sequence[Item]
    said: str
    modality: str


@dataclass(frozen=True)
class Mapped:
    """Records with their vectors."""

    items: Sequence[Item]
    vectors: Vectors  # [M,F], of length 1
    encoder: Encoder
    said: str

    def near(self, vector: Vectors, without: int | None = None) -> list[tuple[int, float]]:
        """Return the records nearest to a vector [F] by cosine, with 1 - cosine."""
        length = float(np.linalg.norm(vector)) or 1.0
        distances = 1 - self.vectors @ (vector / length)
        order = [int(i) for i in np.argsort(distances, kind="stable") if i != without]
        return [(i, max(0.0, float(distances[i]))) for i in order[:NEAREST]]

    def copies(self) -> tuple[int, list[tuple[int, int, float]]]:
        """Return how many pairs have a cosine near 1, and the first of them."""
        cosines = np.triu(self.vectors @ self.vectors.T, 1)
        first, second = np.nonzero(cosines >= SAME)
        values = cosines[first, second]
        order = np.argsort(-values, kind="stable")[:LISTED]
        pairs = [(int(first[i]), int(second[i]), float(values[i])) for i in order]
        return len(values), pairs

    def doubtful(self) -> tuple[str, list[tuple[int, str, float]]]:
        """Return the labels that neighbours dispute: suggested, and the probability of the label.

        With the method `knn` of `doubts`, by cross-validation; in words why there are none.
        """
        counts = Counter(item.label for item in self.items)
        kept = [i for i, item in enumerate(self.items) if item.label and counts[item.label] > 1]
        classes = {self.items[i].label for i in kept}
        if not 2 <= len(classes) <= CLASSES or len(kept) < FEWEST:
            return "the records have no labels of two or more classes to judge", []
        raws, labels = [self.items[i].raw for i in kept], [self.items[i].label for i in kept]
        task = Task.from_records("map", self.encoder.modality, raws, labels)
        result = doubts(self.encoder, task, KnnConfig())
        rows = zip(result.records, result.opinions, result.wrong, strict=True)
        listed = [(kept[int(i)], o.suggested, o.confidence) for i, o, wrong in rows if wrong]
        said = f"{len(listed):,} of {len(kept):,} labels are counted as wrong"
        return said, listed[:LISTED]


def table_items(base: Base, modality: str, source: SourceConfig, name: str) -> Items:
    """Return the records of a table, up to 2,000 at random; DataError where none can be read."""
    read, items, unread, first = reader(base, modality), list[Item](), 0, ""
    for item in source.records():
        try:
            if not isinstance(item, Record):
                raise ValueError(item.reason)
            raw = read(item.raw)
        except BroadbaseError:
            raise
        except (TypeError, ValueError) as error:
            unread, first = unread + 1, first or str(error)
            continue
        items.append(_item(raw, str(item.label or "").strip()))
    if not items:
        raise DataError(f"no record of {name} can be read as {modality} ({first or 'it is empty'})")
    kept, said = _sampled(items)
    lost = f"; {unread:,} cannot be read (first: {first})" if unread else ""
    return Items(kept, f"{said}{lost}", modality)


def held_out_items(folder: Any, space: str) -> Items:
    """Return held-out records of a run, up to 2,000 at random; their labels are their sources."""

    def chosen(count: int) -> Any:
        return np.sort(np.random.default_rng(0).permutation(count)[:MOST])

    run = Run.open(folder)
    records = held_out(run, run.codecs, space, chosen)
    items = [_item(record.raw, record.source) for record in records]
    if not items:
        raise DataError(f"this run held out no record of {space}; drop a table instead")
    kept, said = _sampled(items)
    return Items(kept, f"{said} that the run held out", space)


def _item(raw: Any, label: str) -> Item:
    text = " ".join(written_record(raw).split())
    return Item(raw, label, text if len(text) <= SHOWN else text[:SHOWN] + "…")


def _sampled(items: Sequence[Item]) -> tuple[list[Item], str]:
    if len(items) <= MOST:
        return list(items), f"all {len(items):,} records"
    kept = np.sort(np.random.default_rng(0).permutation(len(items))[:MOST])
    left = len(items) - MOST
    said = f"{MOST:,} of {len(items):,} records at random; {left:,} are left out"
    return [items[int(i)] for i in kept], said


def mapped(encoder: Encoder, items: Items) -> Mapped:
    """Return the records with their vectors; those that the encoder kept are not read again."""
    vectors = encoder.vectors(Inputs([item.raw for item in items.items]), LAST)
    return Mapped(items.items, normalize(vectors).astype(np.float32), encoder, items.said)


def by_components(vectors: Vectors) -> Points:
    """Return the first two principal components, [M,2]."""
    points = np.zeros((len(vectors), 2))
    count = min(2, *vectors.shape)
    if len(vectors) > 1:
        points[:, :count] = PCA(count, random_state=0).fit_transform(vectors)
    return points


def by_tsne(vectors: Vectors) -> Points | None:
    """Return the points of t-SNE, [M,2]; None where there are too few records."""
    if len(vectors) < FEW:
        return None
    count = min(COMPONENTS, *vectors.shape)
    reduced = PCA(count, random_state=0).fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    points: Points = TSNE(perplexity=perplexity, random_state=0).fit_transform(reduced)
    return points
