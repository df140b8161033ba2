"""Classes by their names: no label is needed, only a base that reads text."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Fitted, Linear, MethodConfig
from broadbase.adapt.reading import reader
from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored

NAME = "{}"  # what stands for the name of a class in a template
PROSE = 'What is it? "A name", of a class.'  # what a modality of text reads, and no other
SHARPNESS = 20.0  # logits per cosine, as sentence encoders are trained with


class NamesConfig(MethodConfig):
    """The cosine between a record and the name of each class, of the last layer's means."""

    name: Literal["names"] = "names"
    needs_labels: ClassVar[bool] = False
    template: str = NAME
    """What is read for a class; {} stands for its name, whose _ and - are read as spaces."""
    phrases: dict[str, str] = Field(default_factory=dict)
    """What is read for a class in place of the template, by the name of the class."""

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse labels that have no names, a base that reads no text, and phrases of no class."""
        names = task.target.names
        if not names:
            return "numbers cannot be named; learn them with --method probe"
        if task.token_labels is not None:
            return "labels of tokens cannot be named; learn them with --method probe"
        if task.paired:
            return "a pair cannot be compared with a name; learn pairs with --method probe"
        if not _reads_text(base, task.modality):
            return (
                f"modality {task.modality!r} of this base reads no text, so that classes have no"
                " names in it; learn from labels with --method probe"
            )
        for name in self.phrases:
            if name not in names:
                listed = ", ".join(map(repr, names[:20]))
                return f"phrases has {name!r}, which is no class; the classes are {listed}"
        if NAME not in self.template:
            return f"template {self.template!r} has no {NAME}, which stands for the name of a class"
        return ""

    def phrase(self, name: str) -> str:
        """Return what is read for a class."""
        plain = " ".join(name.replace("_", " ").replace("-", " ").split())
        return self.phrases.get(name) or self.template.replace(NAME, plain or name)

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Read the phrase of each class; labelled records are not looked at."""
        phrases = Inputs([self.phrase(name) for name in task.target.names])
        encoder.keep(phrases)
        vectors = encoder.vectors(phrases, LAST).astype(np.float64)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        bias = np.zeros(len(vectors))
        return Linear(encoder, LAST, SHARPNESS * vectors.T, bias, normalise=True)


def _reads_text(base: Base, modality: str) -> bool:
    """Return whether a modality reads prose as it is; ConfigError where the base has none such."""
    try:
        return bool(reader(base, modality)(PROSE) == PROSE)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        return False
