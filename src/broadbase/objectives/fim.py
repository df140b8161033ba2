"""Fill in the middle: a document is cut in three, its middle told last (Bavarian et al. 2022).

PSM: prefix mark, prefix, suffix mark, suffix, middle mark, middle. SPM, in the form of their
section 3: prefix mark, suffix mark, suffix, middle mark, prefix, middle. A document keeps its start
and its end, which follows the middle. Cuts are drawn between ids (theirs: characters).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import (
    Document,
    assemble,
    documents,
    next_token_targets,
    sentinel_ids,
)
from broadbase.objectives.scoring import ReadoutLoss

MARKS = 3  # prefix, suffix, middle: the first control ids of the Space


class FillInMiddleConfig(ObjectiveConfig):
    """Next-place prediction, a share of the documents with their middle at the end."""

    name: Literal["fim"] = "fim"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    rate: Annotated[float, Field(ge=0, le=1)] = 0.5  # of documents that are cut
    spm: Annotated[float, Field(ge=0, le=1)] = 0.5  # of those, suffix first

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt if its attention is causal."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        return FillInMiddle(self)


class FillInMiddle(ReadoutLoss):
    """One causal stream a source. Marks are no targets: who asks for a middle gives them."""

    def __init__(self, config: FillInMiddleConfig) -> None:
        self.config = config

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(
            self._view(name, segment, corrupt[segment.space].sentinels, batch)
            for name, segment in batch.segments.items()
        )

    def _view(self, name: str, segment: Segment, marks: range, batch: Batch) -> View:
        found, rows = documents(segment), []
        three = sentinel_ids(marks, segment, MARKS)
        for b, row in enumerate(found):
            rng = batch.rng.generator(f"{name}/fim", b)
            rows.append([self._cut(document, three, rng) for document in row])
        moved = assemble(segment.space, rows, places=segment.position.shape[1])
        seen, values, weight = next_token_targets(moved)
        read = Readout(segment.space, term=name, target=values, loss_weight=weight)
        return View(
            (Stream("main", self.config.tower, (seen,), pattern="causal", readouts=(read,)),)
        )

    def _cut(self, document: Document, marks: Sequence[int], rng: np.random.Generator) -> Document:
        cut, spm = rng.random(2) < (self.config.rate, self.config.spm)
        if not cut or len(document) < 4:
            return document
        last = len(document) - 1  # an end, where the document has one, follows the middle
        i, j = sorted(rng.integers(1, last + 1, size=2).tolist())
        return to_fim(document, i, j, last, marks, suffix_first=bool(spm))


def to_fim(
    document: Document, i: int, j: int, last: int, marks: Sequence[int], *, suffix_first: bool
) -> Document:
    """The document with its places i to j, and those from `last` on, told last."""
    prefix, middle, suffix = slice(1, i), slice(i, j), slice(j, last)
    first, second, third = marks
    order: list[slice | int] = [slice(0, 1), first, prefix, second, suffix, third, middle]
    if suffix_first:
        order = [slice(0, 1), first, second, suffix, third, prefix, middle]
    order.append(slice(last, None))
    values, weight = document.values, document.loss_weight
    return Document(
        torch.cat([values[p] if isinstance(p, slice) else values.new_tensor([p]) for p in order]),
        torch.cat([weight[p] if isinstance(p, slice) else weight.new_zeros(1) for p in order]),
    )
