"""Self-distillation: a student predicts from any crop what its teacher predicts from a large one.

Two large crops of each record and several small ones. The teacher reads the large crops, the
student all; the loss is the cross-entropy between the two for every pair of different crops (Caron
et al. 2021, eq. 3, a mean over pairs as in its code). Centre and temperatures are in the head.

The representation of a crop is the mean of its tokens: a base is used by the same mean
(`Base.embed`), and no extra token is needed.

Legend: B rows, K prototypes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from broadbase.core.config import Config
from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.view import Output, Predict, Segment, Stream, View

Fraction = Annotated[float, Field(gt=0, le=1)]
LARGE = 2  # crops that the teacher reads


class CropConfig(Config):
    """Crops of one kind."""

    scale: Fraction
    """The rows and columns of patches of a crop, as a share of the record's."""
    area: tuple[Fraction, Fraction]
    """The share of the record's area that a crop shows: the least and the most."""


class DinoConfig(ObjectiveConfig):
    """Multi-crop self-distillation; the run needs a teacher, usually `teacher.name=ema`."""

    name: Literal["dino"] = "dino"
    tower: TowerName = "main"
    """The tower that reads the crops."""
    space: str = "prototypes"
    """The head that compares a crop with the prototypes."""
    large: CropConfig = CropConfig(scale=1.0, area=(0.4, 1.0))
    """The two large crops of a record."""
    small: CropConfig = CropConfig(scale=0.5, area=(0.05, 0.4))
    """The small crops of a record."""
    num_small: Annotated[int, Field(ge=0)] = 4
    """The number of small crops of a record."""

    def build(self) -> Objective:
        """Return the objective."""
        return Dino(self)


@dataclass(frozen=True)
class Dino:
    """A view for each crop: the teacher's of the large ones first, then the student's of all."""

    batch_coupled: ClassVar[bool] = False
    config: DinoConfig

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return the views of every source's crops."""
        return tuple(
            view
            for name, segment in batch.segments.items()
            for view in self._views(name, segment, corrupt[segment.space], batch.rng)
        )

    def _views(
        self, name: str, segment: Segment, corruption: Corruption, rng: KeyedRandom
    ) -> Sequence[View]:
        c = self.config
        crops = []
        for i in range(LARGE + c.num_small):
            kind = c.large if i < LARGE else c.small
            values, position = corruption.crop(
                segment.values, kind.scale, kind.area, rng, f"{name}/crop{i}"
            )
            inputs = Segment(segment.space, values, position)
            readout = Predict(c.space, f"{name}/crops", pooled=True)
            crops.append(Stream("main", c.tower, (inputs,), readouts=(readout,)))
        teacher = [View((crop,), teacher=True) for crop in crops[:LARGE]]
        return [*teacher, *(View((crop,)) for crop in crops)]

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """Return the number of rows by term; a row counts once for each pair of its crops."""
        weights = {
            term: float(sum(views[student].size for _, student in pairs))
            for term, pairs in _pairs(views).items()
        }
        return {term: TermWeight(weight, 1 / len(weights)) for term, weight in weights.items()}

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """Return the sum of the cross-entropies of all pairs of crops, by term."""
        return {
            term: sum(
                (
                    cross_entropy(*(outputs[i].predictions[term] for i in pair))
                    for pair in pairs[1:]
                ),
                start=cross_entropy(*(outputs[i].predictions[term] for i in pairs[0])),
            )
            for term, pairs in _pairs(views).items()
        }


def cross_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    """Return -sum softmax(teacher) log softmax(student) of logits [B,1,K], summed over rows.

    It is computed in fp32, or in the logits' type if that is wider.
    """
    wide = teacher if teacher.element_size() >= 4 else teacher.float()
    return -(wide.softmax(dim=-1) * student.to(wide.dtype).log_softmax(dim=-1)).sum()


def _pairs(views: Sequence[View]) -> dict[str, list[tuple[int, int]]]:
    """Return by term the indices of a teacher's and a student's view of different crops."""
    pairs: dict[str, list[tuple[int, int]]] = {}
    for term in dict.fromkeys(readout.term for view in views for readout in view.readouts):
        indices = [i for i, view in enumerate(views) if view.readouts[0].term == term]
        teachers = [i for i in indices if views[i].teacher is True]
        students = [i for i in indices if views[i].teacher is False]
        numbered = product(enumerate(teachers), enumerate(students))
        pairs[term] = [(i, j) for (crop, i), (other, j) in numbered if crop != other]
    return pairs
