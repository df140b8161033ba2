"""Full fine-tuning: the training loop, a head for the labels, all parameters free."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from broadbase.adapt.answers import Answering
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.lessons import HEAD, Labelling
from broadbase.adapt.method import Arrays, Fitted
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Target
from broadbase.adapt.task import Task
from broadbase.adapt.tuning import TuningConfig
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.train.optim import AdamWConfig, Optim


class FinetuneConfig(TuningConfig):
    """Full fine-tuning: all parameters of a copy of the base are trained, with a new head.

    Where labels are texts, the base is trained to generate them, and there is no new head.
    """

    name: Literal["finetune"] = "finetune"
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The learning rate of a layer, as a share of that of the layer after it; below 1 the layers
    near the input change least."""
    only_head: bool = False
    """Whether only the head is trained, and the base stays as it is."""

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse labels of tokens, and texts that the base cannot generate."""
        if task.target.generates and self.only_head:
            return "texts have no new head to train alone; leave out only_head"
        return super().refusal(base, task)

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Train a copy of the base on the labelled records: with a head `label`, or on texts."""
        lesson = self.lesson(encoder.base, task, train, seed)
        model = lesson.fitted.base.model.to(self.device)
        optim = self._optim(model, lesson.tower)
        self.train(lesson, optim, train, seed, "fine-tuning", done)
        return lesson.fitted

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return the trained base, which `encoder` has."""
        if target.generates:
            return Answering(encoder.base, encoder.modality, target, **facts)
        return Labelling(encoder.base, encoder.modality, target)

    def _optim(self, model: nn.Module, tower: str) -> Optim:
        """Build AdamW for what is trained, with a learning rate for each layer."""
        if self.only_head:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.startswith(HEAD))
        optim = AdamWConfig(lr=self.lr, weight_decay=self.weight_decay)
        shares = layer_shares(
            [name for name, _ in model.named_parameters()], tower, self.layer_decay
        )
        return optim.build(model, shares)


def layer_shares(names: Sequence[str], tower: str, decay: float) -> dict[str, float]:
    """Return the share of the peak learning rate by parameter.

    It is 1 for the head and for what comes after the last block, `decay` for that block, and so on;
    what comes before the first block is one further (Clark et al. 2020, ELECTRA).
    """
    blocks = re.compile(rf"towers\.{re.escape(tower)}\.blocks\.(\d+)\.")
    numbers = {name: int(m[1]) for name in names if (m := blocks.match(name))}
    depth, after = max(numbers.values(), default=-1) + 1, (HEAD, f"towers.{tower}.final_norm")
    return {
        name: decay ** (depth - numbers.get(name, -1)) if not name.startswith(after) else 1.0
        for name in names
    }
