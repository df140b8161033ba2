"""Classes by their names: no label is needed, only a base that reads text.

Legend: C classes, K dimensions of a joint space.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field

from broadbase.adapt.class_names import class_problem, plain_name, reads_text, text_side
from broadbase.adapt.encoder import JOINT, LAST, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Fitted, Linear, MethodConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.inference.ensembles import ensemble, joint_ensemble

NAME = "{}"  # what stands for the name of a class in a template
SHARPNESS = 20.0  # logits per cosine, as sentence encoders are trained with


def _listed(template: Any) -> Any:
    """Return one template as the only one of a list."""
    return (template,) if isinstance(template, str) else template


class NamesConfig(MethodConfig):
    """The cosine between a record and the name of each class, of the last layer's means.

    Where the base has a tower for the records and one for texts, it is the logit of the pair in
    their joint space (Radford et al. 2021, 3.1).
    """

    name: Literal["names"] = "names"
    needs_labels: ClassVar[bool] = False
    template: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)] = (NAME,)
    """What is read for a class; {} stands for its name, whose _ and - are read as spaces. Of
    several, the mean of their vectors of length 1 stands for the class."""
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
        if not reads_text(base, task.modality) and text_side(base, task.modality) is None:
            return (
                f"modality {task.modality!r} of this base reads no text, so that classes have no"
                " names in it; learn from labels with --method probe"
            )
        for template in self.template:
            if NAME not in template:
                return f"template {template!r} has no {NAME}, which stands for the name of a class"
        return class_problem("phrases", self.phrases, names)

    def texts(self, name: str) -> list[str]:
        """Return what is read for a class."""
        if name in self.phrases:
            return [self.phrases[name]]
        return [template.replace(NAME, plain_name(name)) for template in self.template]

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Read the texts of each class; labelled records are not looked at."""
        texts = [self.texts(name) for name in task.target.names]
        base, bias = encoder.base, np.zeros(len(texts))
        side = None if reads_text(base, task.modality) else text_side(base, task.modality)
        if side is not None:
            read = [joint_ensemble(base, each, side.text_head, side.modality) for each in texts]
            weight = torch.stack(read, dim=1).double().numpy()  # [K+1,C], with the base's own scale
            return Linear(encoder, JOINT + side.head, weight, bias)
        encoder.keep(Inputs([text for each in texts for text in each]))
        vectors = [encoder.vectors(Inputs(each), LAST).astype(np.float64) for each in texts]
        weight = SHARPNESS * np.stack([ensemble(each) for each in vectors], axis=1)
        return Linear(encoder, LAST, weight, bias, normalise=True)
