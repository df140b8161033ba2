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
from broadbase.core.codec import Codec
from broadbase.core.contracts import Batch, Corruption, TowerConfig
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
from broadbase.inference.truncation import beginning, is_long, max_tokens
from broadbase.nn.tower import TransformerConfig
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.scoring import ReadoutLoss

CAUSAL = "causal"  # the pattern of a base that continues its prompt
GIVEN, ANSWER = "given", "answer"
BATCH = 32  # records that are read side by side


def refusal(base: Base, modality: str, paired: bool) -> str:
    """Say why a base cannot learn to generate texts from records; empty where it can."""
    generator = base.usage.generator
    if generator is not None and not isinstance(generator, AutoregressiveConfig):
        return "this base does not generate token by token; take one that does, or --method knn"
    if paired:
        return "a text is generated from one record; write the two columns into one"
    conditioning = conditioning_of(base, modality)
    if conditioning is None:
        return (
            f"this base was pretrained with attention {base.usage.attention!r} and generates"
            " nothing; take one that does (recipes text, t5, bart, or a published decoder), or"
            " --method knn"
        )
    if conditioning.source != modality:
        return f"this base generates from {conditioning.source!r}; name it with --modality"
    space, codec = base.codec(conditioning.target)
    try:
        base.model.head(space)
    except ConfigError as error:
        return str(error)
    if codec.start.ndim or _end(codec) is None:
        return f"texts of modality {space!r} have no end, so that none can be learned"
    return ""


def conditioning_of(base: Base, modality: str) -> ConditioningConfig | None:
    """Return how a base is given the records that it generates from; None where it cannot be.

    It is as the base was pretrained, or as a published encoder and decoder are; a base that
    continues its prompt reads a record as one.
    """
    given = base.usage.conditioning
    if isinstance(given, InfillingConditioningConfig | SentinelConditioningConfig):
        return _encoder(base, modality, given.encoder, given.decoder)
    if given is not None:
        return given.replace(source=given.source or modality, target=given.target or modality)
    tower = base.tower(modality)
    crossed = [name for name, each in base.config.towers.items() if name != tower and _reads(each)]
    if len(crossed) == 1:
        return _encoder(base, modality, tower, crossed[0])
    if base.usage.generator is None or base.attention_pattern(modality) != CAUSAL:
        return None
    return PrefixConditioningConfig(source=modality, target=modality, tower=tower, causal=True)


def shares_room(base: Base, modality: str) -> bool:
    """Return whether a record and its text are in one stream."""
    return isinstance(conditioning_of(base, modality), PrefixConditioningConfig)


def writer(base: Base, modality: str) -> str:
    """Return the tower that generates."""
    conditioning = conditioning_of(base, modality)
    if isinstance(conditioning, EncoderConditioningConfig):
        return conditioning.decoder
    return base.tower(_texts(base, modality)[0])


def answering(base: Base, modality: str) -> Base:
    """Return the base with the usage of one that generates a text from a record."""
    conditioning = conditioning_of(base, modality)
    usage = base.usage.replace(conditioning=conditioning, generator=AutoregressiveConfig())
    return replace(base, usage=usage)


def _encoder(base: Base, modality: str, encoder: str, decoder: str) -> ConditioningConfig:
    """Return the conditioning by an encoder; texts are of the decoder's modality, if it has one."""
    target = next((name for name in base.codecs if base.tower(name) == decoder), modality)
    return EncoderConditioningConfig(
        source=modality, target=target, encoder=encoder, decoder=decoder
    )


def _reads(tower: TowerConfig) -> bool:
    """Return whether a tower attends to another."""
    layers = tower.layers if isinstance(tower, TransformerConfig) else ()
    return any(layer.block.cross is not None for layer in layers)


def rows(base: Base, modality: str, raws: Sequence[Any], texts: Labels) -> dict[str, Segment]:
    """Return records and their texts as rows, each as far as its room goes.

    A text has its start, and its end, which is a target where the text is not cut.
    """
    joint = shares_room(base, modality)
    given = beginning(base, modality, joint).read(raws, modality=modality, closed=True)
    return {GIVEN: given, ANSWER: _answer_rows(base, modality, texts)}


def longest(base: Base, modality: str, texts: Labels) -> int:
    """Return how many tokens the longest of some texts takes with its end, at most the room."""
    space, codec = _texts(base, modality)
    clean = base.config.modalities[space].clean
    sizes = [len(codec.encode(clean(text)).values) for text in texts]
    return min(1 + max(sizes), max_tokens(base, space, shares_room(base, modality)))


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
        joint = shares_room(self.adapted, self.modality)
        texts = beginning(self.adapted, self.modality, joint).generate_batch(
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
    def trained(self) -> bool:
        """It was."""
        return True


def _texts(base: Base, modality: str) -> tuple[str, Codec]:
    """Return the modality of texts and its codec."""
    conditioning = conditioning_of(base, modality)
    return base.codec(modality if conditioning is None else conditioning.target)


def _answer_rows(base: Base, modality: str, texts: Labels) -> Segment:
    space, codec = _texts(base, modality)
    limit = max_tokens(base, space, shares_room(base, modality))
    clean = base.config.modalities[space].clean
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
