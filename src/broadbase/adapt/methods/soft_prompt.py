"""Soft prompts: trained vectors before the prompt of a frozen base (Lester et al. 2021).

Legend: B rows, P vectors, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.method import Arrays, Fitted, MethodConfig
from broadbase.adapt.methods.prompt import PromptConfig
from broadbase.adapt.prompted import ByLikelihood
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Target
from broadbase.adapt.task import Task
from broadbase.adapt.training import Budget, grown, train_steps
from broadbase.core.contracts import Batch, Corruption
from broadbase.core.keyed_random import KeyedRandom, seed_of
from broadbase.core.view import Score, Segment, View
from broadbase.inference.base import Base
from broadbase.inference.conditioning import prefix_view, with_document_ids
from broadbase.inference.documents import padded
from broadbase.inference.embedding import Done, ignored
from broadbase.model.model import ModelConfig
from broadbase.nn.spaces.soft_prompt import SoftPromptSpaceConfig
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.scoring import ReadoutLoss
from broadbase.train.optim import AdamWConfig

SPACE = "soft_prompt"  # the name of the vectors in the model
VECTORS = f"spaces.{SPACE}.vectors"
ROWS = "prompts"  # the source of a batch


class SoftPromptConfig(MethodConfig):
    """A few vectors before the prompt are trained, and the base stays as it is.

    A class is answered by the likelihood of its answer, as by `prompt` without examples.
    """

    name: Literal["soft_prompt"] = "soft_prompt"
    prompt: PromptConfig = PromptConfig(calibrate="none")
    """How records and answers are written: template, verbalizer, instruction, context."""
    length: Annotated[int, Field(ge=1)] = 20
    """The number of vectors; each takes the room of a token."""
    steps: Annotated[int, Field(ge=1)] = 100
    """The number of optimizer steps."""
    batch: Annotated[int, Field(ge=1)] = 16
    """The labelled records in a step."""
    lr: Annotated[float, Field(gt=0)] = 0.03
    """The peak learning rate of AdamW."""
    device: str = "cpu"
    """The device to train on."""

    @property
    def reads_vectors(self) -> bool:
        """It reads prompts alone."""
        return False

    @property
    def work(self) -> int:
        """The number of steps."""
        return self.steps

    def readings(self, records: int) -> float:
        """Return how often a record is in a batch, times three: forwards, and twice backwards."""
        return 3 * self.steps * min(self.batch, records) / records

    def record_tokens(self, base: Base, modality: str, paired: bool, target: Target) -> int:
        """Return those of `prompt`, in the room that the vectors leave."""
        return self._prompt(base, modality).record_tokens(base, modality, paired, target)

    @property
    def unchanged(self) -> MethodConfig | None:
        """The prompt without vectors."""
        return self.prompt

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse what `prompt` refuses, texts, examples, and a base that is not here."""
        plain = PromptConfig()
        if any(getattr(self.prompt, name) != getattr(plain, name) for name in ("shots", "by")):
            return "a soft prompt stands before a record without examples; leave out shots and by"
        if self.prompt.calibrate != "none":
            return "a soft prompt learns from the labels; set prompt.calibrate=none"
        if task.target.generates:
            return "a soft prompt answers with one class; learn texts with --method finetune"
        if not base.gives_vectors or base.usage.conditioning is not None:
            return "vectors are read before a prompt that this base continues here; take a decoder"
        return self.prompt.refusal(base, task) or base.scoring_refusal(task.modality)

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Train the vectors on the answers of the labelled records."""
        soft, modality = self._soft(encoder.base, seed), task.modality
        answered = self._answered(soft, encoder, task.target, task)
        space = soft.codec(modality)[0]
        prompts = answered.prompter.prompts(task.inputs(train), 0)
        said = [answered.answers[int(label)] for label in task.labels[train]]
        rows = [
            soft.answer_ids(space, prompt, [answer])
            for prompt, answer in zip(prompts, said, strict=True)
        ]
        ids = [(row.prompt + row.answers[0], len(row.prompt) + row.first[0]) for row in rows]
        model: Any = soft.model
        rng = np.random.default_rng(seed_of(seed, SPACE))
        drawn = rng.choice(np.concatenate([each for each, _ in ids]), self.length)
        with torch.no_grad():  # as embeddings of tokens of the records (Lester et al. 2021, 3.2)
            embedded = model.embedder(space).embed(torch.from_numpy(drawn)[None])[0]
            model.get_parameter(VECTORS).copy_(embedded)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name == VECTORS)
        train_steps(
            model,
            SoftPromptLoss(soft.tower(space), self.length),
            AdamWConfig(lr=self.lr, weight_decay=0.0).build(model),
            lambda start: self._batches(space, ids, seed, start),
            Budget(self.steps, self.lr, self.device, "training a soft prompt"),
            done,
        )
        model.to(next(encoder.base.model.parameters()).device)
        return answered

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return the base with the saved vectors before each prompt."""
        soft = self._soft(encoder.base, 0)
        with torch.no_grad():
            soft.model.get_parameter(VECTORS).copy_(torch.from_numpy(arrays[SPACE].copy()))
        soft_encoder = Encoder(soft, encoder.modality, cache=None)
        prompt = self._prompt(encoder.base, encoder.modality)
        answered = prompt.restore(soft_encoder, target, arrays, facts)
        assert isinstance(answered, ByLikelihood)
        return SoftPrompted.of(answered, encoder.base, self.length)

    def _prompt(self, base: Base, modality: str) -> PromptConfig:
        """Return the settings of the prompt, with less room by the vectors."""
        room = self.prompt.room(base, modality) - self.length
        return self.prompt.replace(context=max(1, room))

    def _answered(self, soft: Base, encoder: Encoder, target: Target, task: Task) -> SoftPrompted:
        soft_encoder = Encoder(soft, encoder.modality, cache=None)
        prompt = self._prompt(encoder.base, encoder.modality)
        answered = prompt.fit(soft_encoder, task, np.arange(0))
        assert isinstance(answered, ByLikelihood)
        return SoftPrompted.of(answered, encoder.base, self.length)

    def _soft(self, base: Base, seed: int) -> Base:
        """Return a copy of the base with the vectors."""
        tree = base.config.tree()
        tree["heads"][SPACE] = SoftPromptSpaceConfig(length=self.length).tree()
        return grown(base, ModelConfig.from_tree(tree), seed)

    def _batches(
        self, space: str, rows: Sequence[tuple[tuple[int, ...], int]], seed: int, start: int
    ) -> Iterator[Batch]:
        """Yield the batches from step `start` on; `rows` are ids, and where answers begin."""
        size = min(self.batch, len(rows))
        per_epoch = max(1, len(rows) // size)
        for step in range(start, self.steps):
            epoch, i = divmod(step, per_epoch)
            order = np.random.default_rng(seed_of(seed, SPACE, epoch)).permutation(len(rows))
            some = [rows[j] for j in order[i * size : (i + 1) * size]]
            yield Batch(step, {ROWS: answered_rows(space, some)}, KeyedRandom(seed, step))


@dataclass(frozen=True)
class SoftPrompted(ByLikelihood):
    """Trained vectors before the prompts of a frozen base."""

    plain: Base | None = None  # without the vectors

    @classmethod
    def of(cls, answered: ByLikelihood, plain: Base, length: int) -> SoftPrompted:
        """Return the same with vectors before each prompt."""
        fields = {name: getattr(answered, name) for name in answered.__dataclass_fields__}
        return cls(**{**fields, "prefix": soft_rows(1, length), "plain": plain})

    @property
    def base(self) -> Base:
        """The frozen base."""
        assert self.plain is not None
        return self.plain

    def arrays(self) -> Arrays:
        """Return the vectors [P,D] too."""
        vectors = self.prompter.encoder.base.model.get_parameter(VECTORS)
        return {**super().arrays(), SPACE: vectors.detach().cpu().numpy()}


class SoftPromptLoss(ReadoutLoss):
    """The loss of the tokens of answers, after the vectors and the prompt."""

    def __init__(self, tower: str, length: int) -> None:
        """Take the tower that reads both, and the number of vectors."""
        self.tower, self.length = tower, length

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return the view of a batch."""
        inputs, target_BT, weight_BT = next_token_targets(batch.segments[ROWS])
        before = soft_rows(len(target_BT), self.length).to(target_BT.device)
        readout = Score(inputs.space, "answer", target_BT, weight_BT)
        return (prefix_view(before, inputs, (readout,), self.tower, None, causal=True),)


def soft_rows(rows: int, length: int) -> Segment:
    """Return the ids [B,P] of the vectors, in every row the same."""
    order_BP = torch.arange(length).expand(rows, -1)
    position = order_BP[..., None].expand(-1, -1, 3)
    return Segment(SPACE, order_BP, position, order_BP, torch.zeros_like(order_BP))


def answered_rows(space: str, rows: Sequence[tuple[Sequence[int], int]]) -> Segment:
    """Return rows of ids, of which those from a number on are targets."""
    documents = [
        (torch.tensor(ids), torch.arange(len(ids))[:, None].expand(-1, 3)) for ids, _ in rows
    ]
    segment = with_document_ids(padded(space, documents))
    assert segment.document is not None
    first_B1 = torch.tensor([[first] for _, first in rows])
    answer_BT = torch.arange(segment.document.shape[1]) >= first_B1
    return replace(segment, loss_weight=(answer_BT & (segment.document >= 0)).float())
