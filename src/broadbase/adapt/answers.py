"""Texts that a base generates from records: what it is trained on, and how it generates.

A base that continues its prompt reads the record first; a base with an encoder reads it there. The
loss is that of the text alone.

Legend: B rows, T tokens of a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Arrays, Fitted
from broadbase.adapt.target import Labels, Outputs, Target
from broadbase.adapt.targets.generation import as_labels
from broadbase.adapt.truncation import beginning, is_long, max_tokens
from broadbase.core.codec import Codec
from broadbase.core.contracts import Batch, Corruption
from broadbase.core.errors import ConfigError
from broadbase.core.usage import ConditioningConfig
from broadbase.core.view import Score, Segment, View
from broadbase.inference.autoregressive import AutoregressiveConfig, SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.conditioning import (
    EncoderConditioningConfig,
    InfillingConditioningConfig,
    PrefixConditioningConfig,
    SentinelConditioningConfig,
)
from broadbase.inference.documents import document, padded
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.scoring import ReadoutLoss

GIVEN, ANSWER = "given", "answer"
BATCH = 32  # records that are read side by side


def refusal(base: Base, modality: str, paired: bool) -> str:
    """Say why a base cannot learn to generate texts from records; empty where it can."""
    usage = base.usage
    if usage.generator is None:
        return (
            f"this base was pretrained with attention {usage.attention!r} and generates nothing;"
            " take one that does (recipes text, t5, bart, or a published decoder), or --method knn"
        )
    if not isinstance(usage.generator, AutoregressiveConfig):
        return "this base does not generate token by token; take one that does, or --method knn"
    if paired:
        return "a text is generated from one record; write the two columns into one"
    given = usage.conditioning
    if given is not None and given.source not in (None, modality):
        return f"this base generates from {given.source!r}; name it with --modality"
    try:
        space, codec = _answers(base, modality)
        base.model.head(space)
    except ConfigError as error:
        return str(error)
    if codec.start.ndim or _end(codec) is None:
        return f"texts of modality {space!r} have no end, so that none can be learned"
    return ""


def answering(base: Base, modality: str) -> Base:
    """Return the base with the usage of one that generates a text from a record."""
    given: ConditioningConfig | None = base.usage.conditioning
    if isinstance(given, InfillingConditioningConfig | SentinelConditioningConfig):
        towers = {"encoder": given.encoder, "decoder": given.decoder}
        given = EncoderConditioningConfig(source=modality, target=modality, **towers)
    elif given is None:
        tower = base.tower(modality)
        given = PrefixConditioningConfig(source=modality, target=modality, tower=tower, causal=True)
    else:
        given = given.replace(source=modality, target=given.target or modality)
    return replace(base, usage=base.usage.replace(conditioning=given))


def rows(base: Base, modality: str, raws: Sequence[Any], texts: Labels) -> dict[str, Segment]:
    """Return records and their texts as rows, each as far as its room goes.

    A text has its start, and its end, which is a target where the text is not cut.
    """
    given = beginning(base, modality, joint=True).read(raws, modality=modality, closed=True)
    return {GIVEN: given, ANSWER: _answer_rows(base, modality, texts)}


def longest(base: Base, modality: str, texts: Labels) -> int:
    """Return how many tokens the longest of some texts takes with its end, at most the room."""
    space, codec = _answers(base, modality)
    clean = base.config.modalities[space].clean
    sizes = [len(codec.encode(clean(text)).values) for text in texts]
    return min(1 + max(sizes), max_tokens(base, space, joint=True))


class AnswerLoss(ReadoutLoss):
    """The loss of every token of a text after its start, given the record."""

    def __init__(self, conditioning: ConditioningConfig) -> None:
        """Take the way in which the base reads a record."""
        self.conditioning = conditioning

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return the view of a batch, which generation continues, with the text to its end."""
        inputs, target_BT, weight_BT = next_token_targets(batch.segments[ANSWER])
        view = self.conditioning.prompt(batch.segments[GIVEN], inputs)
        last, T = view.streams[-1], inputs.position.shape[1]
        before = sum(segment.position.shape[1] for segment in last.segments) - T
        index_BT = before + torch.arange(T).expand(target_BT.shape[0], -1)
        readout = Score(inputs.space, ANSWER, target_BT, weight_BT, index_BT)
        return (View((*view.streams[:-1], replace(last, readouts=(readout,)))),)


@dataclass(frozen=True)
class Answering(Fitted):
    """A base that was trained to generate the text of a record."""

    adapted: Base
    modality: str
    target: Target
    max_new_tokens: int
    temperature: float

    @property
    def base(self) -> Base:
        """The trained base, which `generate` uses alike."""
        return self.adapted

    def outputs(self, inputs: Inputs) -> Outputs:
        """Return the text of each record, [M,1]; by temperature 0 of the likeliest tokens."""
        texts = beginning(self.adapted, self.modality, joint=True).generate_batch(
            inputs.raws,
            max_new_tokens=self.max_new_tokens,
            sampling=SamplingConfig(temperature=self.temperature),
            batch=BATCH,
        )
        return as_labels(texts)[:, None]

    def arrays(self) -> Arrays:
        """Return none: the trained base is saved as a model folder."""
        return {}

    @property
    def facts(self) -> Mapping[str, Any]:
        """The most tokens that are generated, and the temperature."""
        return {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature}

    @property
    def parameters(self) -> int:
        """The number of parameters of the trained base."""
        return sum(p.numel() for p in self.adapted.model.parameters())


def _answers(base: Base, modality: str) -> tuple[str, Codec]:
    """Return the modality of texts and its codec: that of the conditioning, or of the records."""
    given = base.usage.conditioning
    return base.codec(modality if given is None else given.target or modality)


def _answer_rows(base: Base, modality: str, texts: Labels) -> Segment:
    space, codec = _answers(base, modality)
    limit, clean = max_tokens(base, space, joint=True), base.config.modalities[space].clean
    start, end = document(codec, None, closed=False)[0], torch.from_numpy(_end(codec)[None])
    documents, ended = list[tuple[Tensor, Tensor]](), list[bool]()
    for text in texts:
        sample = codec.encode(clean(text))
        values = torch.cat([start, torch.from_numpy(sample.values[:limit]), end])
        documents.append((values, torch.arange(len(values))[:, None].expand(-1, 3)))
        ended.append(not is_long(sample, limit))
    segment = padded(space, documents)
    sizes = torch.tensor([len(values) for values, _ in documents])[:, None]
    index = torch.arange(int(sizes.max()))
    counts = (index < sizes) & ((index < sizes - 1) | torch.tensor(ended)[:, None])
    return replace(segment, loss_weight=counts.float())


def _end(codec: Codec) -> Any:
    """Return the id that ends a text; None where there is none."""
    return np.array(codec.ends[0]) if codec.ends else codec.end
