"""Fill in the middle: a document is cut in three, and its middle comes last (Bavarian et al. 2022).

PSM: prefix mark, prefix, suffix mark, suffix, middle mark, middle. SPM, in the form of their
section 3: prefix mark, suffix mark, suffix, middle mark, prefix, middle. A document keeps its start
and its end, which follows the middle. Cuts are drawn between ids; in the paper, between characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from broadbase.core.contracts import Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Score, Segment, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import (
    Document,
    assemble,
    documents,
    next_token_targets,
    sentinel_ids,
)
from broadbase.objectives.scoring import PerSource

MARKS = 3  # prefix, suffix, middle: the first extra ids of the modality


class FillInMiddleConfig(ObjectiveConfig):
    """Next-token prediction in which a share of the documents have their middle at the end."""

    name: Literal["fim"] = "fim"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    """The tower that reads the tokens."""
    rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of documents that are cut."""
    spm: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of cut documents in which the suffix comes first."""

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt, or fills in what is missing."""
        marks = {
            name: (ids[0], ids[1], ids[2])
            for name, ids in facts.sentinels.items()
            if len(ids) >= MARKS
        }
        return plain_usage(self.pattern, facts=facts).replace(infilling=marks)

    def build(self) -> Objective:
        """Return the objective."""
        return FillInMiddle(self)


@dataclass(frozen=True)
class FillInMiddle(PerSource):
    """One causal stream for each source. Marks are no targets: a prompt contains them."""

    config: FillInMiddleConfig

    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        """Return one causal stream; ConfigError if the modality has fewer than three extra ids."""
        rows = documents(segment)
        marks = sentinel_ids(corrupt[segment.space].sentinels, segment, MARKS)
        rearranged = []
        for b, row in enumerate(rows):
            generator = rng.generator(f"{name}/fim", b)
            rearranged.append([self._cut(document, marks, generator) for document in row])
        length = segment.position.shape[1]
        inputs, target, weight = next_token_targets(assemble(segment.space, rearranged, length))
        readout = Score(segment.space, term=name, target=target, loss_weight=weight)
        tower = self.config.tower
        return View((Stream("main", tower, (inputs,), pattern="causal", readouts=(readout,)),))

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
    """Return the document with its tokens i to j, and those from `last` on, at the end."""
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
