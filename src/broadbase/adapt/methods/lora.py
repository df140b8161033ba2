"""Parameter-efficient fine-tuning: the base stays as it is, adapters and a head are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field

from broadbase.adapt import answers
from broadbase.adapt.answers import Answering
from broadbase.adapt.delegated import Delegated
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.lessons import HEAD, LABEL, Labelling, with_head
from broadbase.adapt.method import Arrays, Fitted
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Target
from broadbase.adapt.task import Task
from broadbase.adapt.training import grown
from broadbase.adapt.tuning import TuningConfig
from broadbase.core.spaces import HeadConfig
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.model.initialise import initialise
from broadbase.nn.adapters.adapted import (
    adapt_maps,
    adapted,
    learned,
    merged,
    start,
    targets,
)
from broadbase.nn.adapters.adapter import AdapterConfig, AdapterWeights
from broadbase.nn.adapters.lora import LoRAConfig
from broadbase.train.optim import AdamWConfig


def _tree(adapter: Any) -> Any:
    """Return the settings of an adapter that is a name."""
    return {"name": adapter} if isinstance(adapter, str) else adapter


class LoRAMethodConfig(TuningConfig):
    """Adapters of the base's linear maps are trained, with a new head; the base is frozen.

    Where labels are texts, there is no new head. What is saved is the adapters and the head.
    """

    name: Literal["lora"] = "lora"
    adapter: Annotated[AdapterConfig, BeforeValidator(_tree)] = LoRAConfig()
    """The kind of adapter, lora, dora or ia3, and its settings: adapter.rank, adapter.targets."""
    lr: Annotated[float, Field(gt=0)] = 3e-3
    """The peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """How much matrices shrink per step, times the learning rate."""

    @property
    def saves_base(self) -> bool:
        """The base is as it was, and is named."""
        return False

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Train adapters of the base and a head `label`, or adapters alone on texts."""
        lesson = self.lesson(encoder.base, task, train, seed, share=True)
        model = lesson.fitted.base.model
        new = adapt_maps(model, self.adapter, targets(model, self.adapter), seed)
        initialise(model, seed, new)
        start(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in new or name.startswith(HEAD))
        optim = AdamWConfig(lr=self.lr, weight_decay=self.weight_decay)
        built = optim.build(model.to(self.device))
        self.train(lesson, built, train, seed, f"training of {self.adapter.name}", done)
        return _fitted(lesson.fitted, encoder.base, learned(model, self.adapter))

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return the base with the adapters and the head that were learned."""
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        head = {name: t for name, t in tensors.items() if name.startswith(HEAD)}
        weights = AdapterWeights(
            self.adapter, {name: t for name, t in tensors.items() if name not in head}
        )
        base, modality = encoder.base, encoder.modality
        fitted: Labelling | Answering
        if target.generates:
            own = answers.answering(grown(base, base.config, 0, share=True), modality)
            fitted = Answering(own, modality, target, **facts)
        else:
            own = with_head(base, modality, HeadConfig.from_tree(facts["head"]), share=True)
            own.model.load_state_dict(head, strict=False, assign=True)
            fitted = Labelling(own, modality, target)
        model = adapted(own.model, weights)
        return _fitted(replace(fitted, adapted=replace(own, model=model)), base, weights)


def _fitted(trained: Labelling | Answering, base: Base, weights: AdapterWeights) -> AdapterFitted:
    """Return what a model with adapters has learned; it predicts with them merged."""
    model = trained.base.model
    head = {k: p for k, p in model.state_dict().items() if k.startswith(HEAD)}
    tensors = {**weights.tensors, **head}
    arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    used = replace(trained, adapted=replace(trained.base, model=merged(model).eval()))
    return AdapterFitted(used, base, weights, arrays)


@dataclass(frozen=True)
class AdapterFitted(Delegated):
    """A frozen base with adapters that were trained for one task, and what predicts with it."""

    given: Base
    weights: AdapterWeights
    tensors: Mapping[str, np.ndarray[Any, Any]]

    @property
    def trained(self) -> bool:
        """It was not: the adapters were."""
        return False

    @property
    def adapter(self) -> AdapterWeights | None:
        """The adapters of the maps."""
        return self.weights

    @property
    def stored_base(self) -> Base:
        """The base without adapters."""
        return self.given

    def arrays(self) -> Arrays:
        """Return the adapters and the head."""
        return self.tensors

    @property
    def facts(self) -> Mapping[str, Any]:
        """The head, or how texts are generated."""
        head = self.base.config.heads.get(LABEL)
        return {**self.learned.facts, **({} if head is None else {"head": head.tree()})}
