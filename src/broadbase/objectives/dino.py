"""Self-distillation: a student tells from any crop what its teacher tells from a large one.

Two large crops of each record and several small ones. The teacher answers the large, the student
all; the loss is the cross-entropy between the two for every pair of different crops (Caron et al.
2021, eq. 3, a mean over pairs as in its code). Centre and temperatures are in the Space.

A crop is read by the mean of its places: this is what a base is used by (`Base.embed`), and it
needs no place of its own.

Legend: B rows, K prototypes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from broadbase.core.config import Config
from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.view import Output, Readout, Segment, Stream, View

Fraction = Annotated[float, Field(gt=0, le=1)]
LARGE = 2  # crops that the teacher sees


class CropConfig(Config):
    """Crops of one kind."""

    scale: Fraction  # rows and columns of patches, as a share of the record's
    area: tuple[Fraction, Fraction]  # of the record that a crop shows: least, most


class DinoConfig(ObjectiveConfig):
    """Multi-crop self-distillation; the run needs a teacher, usually teacher.name=ema."""

    name: Literal["dino"] = "dino"
    tower: TowerName = "main"
    space: str = "prototypes"
    large: CropConfig = CropConfig(scale=1.0, area=(0.4, 1.0))
    small: CropConfig = CropConfig(scale=0.5, area=(0.05, 0.4))
    num_small: Annotated[int, Field(ge=0)] = 4  # small crops of a record

    def build(self) -> Objective:
        return Dino(self)


class Dino:
    """A View for each crop: the teacher's of the large ones first, then the student's of all."""

    batch_coupled: ClassVar[bool] = False

    def __init__(self, config: DinoConfig) -> None:
        self.config = config

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(
            view
            for name, segment in batch.segments.items()
            for view in self._source(name, segment, corrupt[segment.space], batch.rng)
        )

    def _source(
        self, name: str, segment: Segment, corrupt: Corruption, draws: KeyedRandom
    ) -> Sequence[View]:
        c = self.config
        assert segment.values is not None
        crops = []
        for i in range(LARGE + c.num_small):
            kind = c.large if i < LARGE else c.small
            values, position = corrupt.crop(
                segment.values, kind.scale, kind.area, draws, f"{name}/crop{i}"
            )
            seen = Segment(segment.space, values, position)
            read = Readout(c.space, f"{name}/crops", pooled=True)
            crops.append(Stream("main", c.tower, (seen,), readouts=(read,)))
        twins = [View((crop,), teacher=True) for crop in crops[:LARGE]]
        return [*twins, *(View((crop,)) for crop in crops)]

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """A row counts once for each pair of its crops."""
        found: dict[str, TermWeight] = {}
        for term, pairs in _pairs(views).items():
            found[term] = TermWeight(float(sum(views[said].size for _, said in pairs)))
        return {term: TermWeight(share.weight, 1 / len(found)) for term, share in found.items()}

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        return {
            term: sum(
                (
                    cross(outputs[told].predictions[term], outputs[said].predictions[term])
                    for told, said in pairs[1:]
                ),
                start=cross(*(outputs[i].predictions[term] for i in pairs[0])),
            )
            for term, pairs in _pairs(views).items()
        }


def cross(told: Tensor, said: Tensor) -> Tensor:
    """-sum softmax(told) log softmax(said) of logits [B,1,K], summed over rows, fp32 or better."""
    wide = told if told.element_size() >= 4 else told.float()
    return -(wide.softmax(dim=-1) * said.to(wide.dtype).log_softmax(dim=-1)).sum()


def _pairs(views: Sequence[View]) -> dict[str, list[tuple[int, int]]]:
    """By term, the numbers of a teacher's and a student's View of different crops."""
    found: dict[str, list[tuple[int, int]]] = {}
    for term in dict.fromkeys(read.term for view in views for read in view.readouts):
        mine = [i for i, view in enumerate(views) if view.readouts[0].term == term]
        told, said = ([i for i in mine if views[i].teacher is twin] for twin in (True, False))
        numbered = product(enumerate(told), enumerate(said))
        found[term] = [(i, j) for (crop, i), (other, j) in numbered if crop != other]
    return found
