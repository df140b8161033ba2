"""Prompts: a base that continues texts answers for a record, from no label or a few examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from broadbase.adapt import answers
from broadbase.adapt.answer_bias import FITS, Affine, Calibrated, unchanged
from broadbase.adapt.class_names import class_problem, plain_name, reads_text
from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.examples import CHOICES, ChoiceName, Examples, orders_of
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Arrays, Fitted, MethodConfig
from broadbase.adapt.prompted import (
    ByGeneration,
    ByLikelihood,
    ClassesByGeneration,
    Normalised,
)
from broadbase.adapt.prompter import Prompter, Wording, examples_of
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Labels, Target
from broadbase.adapt.task import Task
from broadbase.adapt.templates import Template
from broadbase.core.keyed_random import seed_of
from broadbase.inference.autoregressive import AutoregressiveConfig
from broadbase.inference.base import Base
from broadbase.inference.conditioning import PrefixConditioningConfig
from broadbase.inference.embedding import Done, ignored
from broadbase.inference.truncation import LONGEST

MOST = 200  # records that a calibration reads
NEW = 64  # tokens of a text, where no label says how long texts are
MARGIN = 2  # tokens of an answer that its label does not count


class PromptConfig(MethodConfig):
    """The base continues a prompt: classes by how likely their answers are, or texts.

    Nothing is trained. Labelled records may be examples in the prompt (Brown et al. 2020).
    """

    name: Literal["prompt"] = "prompt"
    generates: ClassVar[bool] = True
    template: str = ""
    """How a record is written, with {column} for a column of it; empty: a line for each column, and
    one for the answer, which follows the template."""
    instruction: str = ""
    """What stands before the examples and the record."""
    verbalizer: dict[str, str] = Field(default_factory=dict)
    """The answer for a class, by its name; others answer with their names, whose _ and - are read
    as spaces."""
    separator: Annotated[str, Field(min_length=1)] = "\n\n"
    """What stands between two examples, and ends an answer that is generated."""
    shots: Annotated[int, Field(ge=0)] = 0
    """How many labelled records stand in a prompt as examples."""
    choice: ChoiceName = "balanced"
    """Which: random ones, as many of each class, or those nearest to the record by its vector."""
    orders: Annotated[int, Field(ge=1)] = 4
    """In how many orders the examples are read; outputs are the mean of all."""
    normalise: Normalised = "none"
    """What the log-probability of an answer is divided by or compared with: none, length (the
    number of its tokens), or prior (its log-probability after an empty record)."""
    calibrate: Calibrated = "contextual"
    """What a bias of the base for some answers is measured by: none, contextual (inputs without
    content), batch (records, whose labels are not looked at), or labels."""
    by: Literal["auto", "likelihood", "generation"] = "auto"
    """How a class is answered; auto: by likelihood where the base has likelihoods."""
    context: Annotated[int, Field(ge=1)] | None = None
    """The most tokens of a prompt with its answer; null: 1,024, or what the base reads."""
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    """The most tokens that are generated; null: those of the longest label."""

    @property
    def needs_labels(self) -> bool:  # type: ignore[override]
        """Whether there are examples, or labels that calibrate."""
        return self.shots > 0 or self.calibrate == "labels"

    @property
    def uses_unlabelled(self) -> bool:  # type: ignore[override]
        """Whether records without labels calibrate."""
        return self.calibrate == "batch"

    @property
    def reads_vectors(self) -> bool:
        """Whether examples are chosen by vectors."""
        return self.shots > 0 and CHOICES[self.choice].by_record

    def readings(self, records: int) -> float:
        """Return 0: what is read of the records is read to predict them."""
        return 0.0

    def record_tokens(self, base: Base, modality: str, paired: bool, target: Target) -> int:
        """Return the half of the room that a record has, shared by the items of a pair."""
        return max(1, self.room(base, modality) // 2 // (2 if paired else 1))

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse other records than texts, labels that are no answers, and a bad template."""
        target, names = task.target, task.target.names
        if task.token_labels is not None or not (target.exclusive or target.generates):
            return "a prompt is answered with one class or a text; learn others with --method probe"
        if not reads_text(base, task.modality):
            return (
                f"modality {task.modality!r} of this base reads no text, and prompts are texts;"
                " learn from labels with --method probe"
            )
        if problem := Template.of(self.template, task.column_names).problem:
            return problem
        if problem := class_problem("verbalizer", self.verbalizer, names):
            return problem
        said = self.answers(target)
        if empty := [name for name, answer in zip(names, said, strict=True) if not answer.strip()]:
            return f"the answer of class {empty[0]!r} is empty; give a text (verbalizer.{empty[0]})"
        if twice := [answer for answer in said if said.count(answer) > 1]:
            return (
                f"two classes have the answer {twice[0]!r}; give them different ones (verbalizer)"
            )
        if self.reads_vectors and not base.gives_vectors:
            return "this base gives no vectors to choose examples by; take choice=balanced"
        if self._writes(base, task.modality, target):
            return answers.refusal(base, task.modality, False)
        return ready(base, task.modality).scoring_refusal(task.modality)

    def unsuited(self, base: Base, task: Task, labels: int = 1) -> str:
        """Also refuse more examples than labels, and a calibration without records."""
        if reason := super().unsuited(base, task, labels):
            return reason
        if labels < self.shots:
            return (
                f"{self.shots} shots need as many labels, and there are {labels:,}; ask for fewer"
            )
        if self.calibrate == "labels" and labels <= self.shots and not self.reads_vectors:
            return (
                f"all {labels:,} labels are examples, and none is left to calibrate by; ask for"
                " fewer shots, or calibrate=contextual"
            )
        if self.calibrate == "batch" and labels <= self.shots and not task.unlabelled:
            return (
                "there are no records to calibrate by; give --unlabelled, or calibrate=contextual"
            )
        return ""

    def answers(self, target: Target) -> tuple[str, ...]:
        """Return the answer of each class."""
        return tuple(self.verbalizer.get(name, plain_name(name)) for name in target.names)

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Choose the examples and their orders, and calibrate the answers."""
        target, rng = task.target, np.random.default_rng(seed_of(seed, "examples"))
        chosen = np.arange(0)
        if self.shots:
            strata = target.strata(task.labels[train])
            chosen = CHOICES[self.choice].kept(strata, self.shots, rng)
        inputs, said = task.inputs(train[chosen]), self._said(target, task.labels[train])
        vectors = encoder.vectors(inputs, LAST) if self.reads_vectors else None
        count = min(self.shots, len(chosen))
        examples = Examples(inputs.raws, [said[int(i)] for i in chosen], count, vectors)
        orders = orders_of(count, self.orders, seed)
        prompter = self._prompter(encoder, target, task.column_names, examples, orders, said)
        if self._writes(encoder.base, task.modality, target):
            usual = (
                np.bincount(task.labels[train]).argmax() if target.exclusive and len(train) else 0
            )
            stop = self.separator if any("\n" in text for text in said) else "\n"
            return self._by_generation(prompter, target, prompter.answer_tokens, [stop], int(usual))
        answered = self._by_likelihood(prompter, target, [unchanged(target.columns)] * len(orders))
        others = train if self.reads_vectors else np.delete(train, chosen)
        return self._calibrated(answered, task, rng.permutation(others)[:MOST])

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return the prompts of saved examples."""
        examples = examples_of(facts["examples"], arrays.get("vectors"))
        prompter = self._prompter(encoder, target, facts["columns"], examples, facts["orders"], ())
        if "max_new_tokens" in facts:
            length, stop = facts["max_new_tokens"], facts["stop"]
            return self._by_generation(prompter, target, length, stop, facts.get("usual", 0))
        pairs = zip(arrays["scale"], arrays["bias"], strict=True)
        return self._by_likelihood(prompter, target, [Affine(float(s), b) for s, b in pairs])

    def _calibrated(self, fitted: ByLikelihood, task: Task, others: Indices) -> Fitted:
        """Return it with the scale and bias that records give, where these calibrate."""
        inputs, labels = task.inputs(others), task.labels[others]
        if self.calibrate == "batch" and task.unlabelled:
            inputs = Inputs(task.unlabelled[:MOST])
        fit = FITS.get(self.calibrate)
        if fit is None:
            return fitted
        logprobs = [fitted.logprobs(inputs, order, apart=True) for order in fitted.orders]
        return replace(fitted, calibration=[fit(each, labels) for each in logprobs])

    def _said(self, target: Target, labels: Labels) -> list[str]:
        """Return the answer of each label."""
        if target.generates:
            return [str(label) for label in labels]
        answers = self.answers(target)
        return [answers[int(label)] for label in labels]

    def _prompter(
        self,
        encoder: Encoder,
        target: Target,
        columns: Sequence[str],
        examples: Examples,
        orders: Sequence[Sequence[int]],
        said: Sequence[str],
    ) -> Prompter:
        """Return what writes the prompts, with room for the longest answer."""
        base, modality = encoder.base, encoder.modality
        template = Template.of(self.template, columns)
        texts = {*said, *examples.answers, *self.answers(target)}
        sizes = [base.count_tokens(f" {text}", modality) for text in texts]
        longest = max(sizes, default=NEW - MARGIN) + MARGIN
        return Prompter(
            encoder=replace(encoder, base=ready(base, modality)),
            wording=Wording(template, self.instruction, self.separator),
            examples=examples,
            orders=orders,
            room=self.room(base, modality),
            record_tokens=self.record_tokens(base, modality, len(columns) > 1, target),
            answer_tokens=self.max_new_tokens or longest,
        )

    def _by_likelihood(
        self, prompter: Prompter, target: Target, calibration: Sequence[Affine]
    ) -> ByLikelihood:
        contextual = self.calibrate == "contextual"
        return ByLikelihood(
            prompter, self.answers(target), self.normalise, contextual, tuple(calibration)
        )

    def _by_generation(
        self, prompter: Prompter, target: Target, length: int, stop: Sequence[str], usual: int
    ) -> ByGeneration:
        if target.generates:
            return ByGeneration(prompter, length, tuple(stop))
        return ClassesByGeneration(prompter, length, tuple(stop), self.answers(target), usual)

    def _writes(self, base: Base, modality: str, target: Target) -> bool:
        """Return whether answers are generated."""
        if target.generates or self.by != "auto":
            return target.generates or self.by == "generation"
        return bool(ready(base, modality).scoring_refusal(modality))

    def room(self, base: Base, modality: str) -> int:
        """Return the most tokens of a prompt with its answer."""
        longest = base.config.max_length(base.codec(modality)[0])
        return int(min(self.context or LONGEST, longest))


def ready(base: Base, modality: str) -> Base:
    """Return the base as it continues a prompt, or as its encoder is given one."""
    conditioning = answers.conditioning_of(base, modality)
    if isinstance(conditioning, PrefixConditioningConfig) and base.usage.conditioning is None:
        return replace(base, usage=base.usage.replace(generator=AutoregressiveConfig()))
    return base if conditioning is None else answers.answering(base, modality)
