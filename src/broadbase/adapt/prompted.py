"""What a base answers to prompts: by the likelihood of given answers, or in words of its own.

Legend: M records, K classes, O orders of examples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from broadbase.adapt.answer_bias import CONTENT_FREE, Affine, evened
from broadbase.adapt.inputs import Inputs, content
from broadbase.adapt.method import Arrays, Fitted
from broadbase.adapt.prompter import Prompter
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs
from broadbase.adapt.targets.generation import as_labels
from broadbase.core.sources import Pair
from broadbase.core.view import Segment
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base

Normalised = Literal["none", "length", "prior"]
Matrix = NDArray[np.float64]
WORD = re.compile(r"[^\W_]+")
GREEDY = SamplingConfig(temperature=0)


@dataclass(frozen=True)
class Prompted(Fitted):
    """A frozen base and its prompts."""

    prompter: Prompter

    @property
    def base(self) -> Base:
        """The frozen base."""
        return self.prompter.encoder.base

    @property
    def orders(self) -> range:
        """The numbers of the orders of examples."""
        return range(len(self.prompter.orders))

    @property
    def remarks(self) -> Sequence[str]:
        """How many prompts were too long for all examples."""
        return self.prompter.remarks

    def arrays(self) -> Arrays:
        """Return the vectors of the examples, where each record has its nearest."""
        vectors = self.prompter.examples.vectors
        return {} if vectors is None else {"vectors": vectors}

    @property
    def facts(self) -> Mapping[str, Any]:
        """The examples, and the orders in which they are read."""
        return self.prompter.as_json()

    def _once(self, kind: str, prompts: Sequence[str], compute: Callable[..., Any]) -> list[Any]:
        """Return what is computed of each prompt; of one that was computed before, that."""
        memo = self.prompter.encoder.memo
        digests = [content((kind, prompt)) for prompt in prompts]
        missing = {d: p for d, p in zip(digests, prompts, strict=True) if d not in memo}
        if missing:
            memo |= dict(zip(missing, compute([*missing.values()]), strict=True))
        return [memo[digest] for digest in digests]


@dataclass(frozen=True)
class ByLikelihood(Prompted):
    """Classes by the likelihood of their answers."""

    answers: tuple[str, ...]  # [K]
    normalise: Normalised
    contextual: bool  # whether the answers to inputs without content are evened
    calibration: Sequence[Affine]  # [O]
    prefix: Segment | None = None  # [1,P], read before each prompt

    def members(self, inputs: Inputs) -> Sequence[Outputs]:
        """Return calibrated log-probabilities [M,K] by each order."""
        return [
            self.calibration[order].apply(self.logprobs(inputs, order)) for order in self.orders
        ]

    def outputs(self, inputs: Inputs) -> Outputs:
        """Return the mean over the orders, [M,K]."""
        outputs: Outputs = np.mean(self.members(inputs), axis=0)
        return outputs

    def logprobs(self, inputs: Inputs, order: int, apart: bool = False) -> Matrix:
        """Return the log-probability of each class among the answers, [M,K].

        With `apart` a record is no example of its own prompt.
        """
        logprobs = self._scores(self.prompter.prompts(inputs, order, apart))
        if not self.contextual:
            return logprobs
        sets, at = np.unique(self.prompter.sets(inputs, order), axis=0, return_inverse=True)
        result: Matrix = logprobs + self._evening(sets)[at.reshape(-1)]
        return result

    def _evening(self, sets: Indices) -> Matrix:
        """Return the bias [S,K] by which inputs without content are answered evenly.

        The examples of each prompt are those of one of the `sets` [S,E].
        """
        columns = len(self.prompter.wording.template.columns)
        raws = [text if columns == 1 else Pair(text, text) for text in CONTENT_FREE]
        prompts = [self.prompter.prompt(raw, chosen) for chosen in sets for raw in raws]
        scores = np.split(self._scores(prompts), len(sets))
        return np.stack([evened(each).bias for each in scores])

    def _scores(self, prompts: Sequence[str]) -> Matrix:
        """Return normalised log-probabilities of the answers to prompts, [M,K]."""
        logprobs, tokens = self._read(prompts)
        normalised = NORMALISERS[self.normalise](self, logprobs, tokens)
        result: Matrix = log_softmax(normalised, axis=1)
        return result

    def prior(self) -> Matrix:
        """Return the log-probabilities [1,K] after an empty record (Holtzman et al. 2021, 3)."""
        template = self.prompter.wording.template
        empty = Pair("", "") if len(template.columns) > 1 else ""
        return self._read([template.fill(empty)])[0]

    def _read(self, prompts: Sequence[str]) -> tuple[Matrix, Matrix]:
        """Return log-probabilities and numbers of tokens of the answers, [M,K] each."""

        def compute(some: Sequence[str]) -> Any:
            encoder = self.prompter.encoder
            scored = encoder.base.score_answers(
                some, self.answers, modality=encoder.modality, prefix=self.prefix
            )
            return np.stack([scored.logprobs, scored.tokens], axis=1)

        kind = "\0".join(("likelihood", *self.answers))
        rows = np.stack(self._once(kind, prompts, compute))
        return rows[:, 0], rows[:, 1]

    def arrays(self) -> Arrays:
        """Return the calibration by order, and the vectors of examples."""
        scale = np.array([each.scale for each in self.calibration])
        bias = np.stack([each.bias for each in self.calibration])
        return {**super().arrays(), "scale": scale, "bias": bias}


NORMALISERS: Mapping[Normalised, Callable[[ByLikelihood, Matrix, Matrix], Matrix]] = {
    "none": lambda _, logprobs, __: logprobs,
    "length": lambda _, logprobs, tokens: logprobs / tokens,
    "prior": lambda fitted, logprobs, _: logprobs - fitted.prior(),
}


@dataclass(frozen=True)
class ByGeneration(Prompted):
    """What the base writes after a prompt, by temperature 0."""

    max_new_tokens: int
    stop: tuple[str, ...]

    def texts(self, inputs: Inputs, order: int) -> list[str]:
        """Return what is written for each record."""

        def compute(some: Sequence[str]) -> list[str]:
            return self.base.generate_batch(
                some,
                modality=self._generated,
                max_new_tokens=self.max_new_tokens,
                stop=self.stop,
                sampling=GREEDY,
            )

        prompts = self.prompter.prompts(inputs, order)
        return [str(text).strip() for text in self._once("generation", prompts, compute)]

    @property
    def _generated(self) -> str | None:
        """The modality of answers: where the prompt is given apart, the base knows it."""
        return self.prompter.encoder.modality if self.base.usage.conditioning is None else None

    @property
    def facts(self) -> Mapping[str, Any]:
        """The examples and orders, the most tokens, and the texts to stop at."""
        also = {"max_new_tokens": self.max_new_tokens, "stop": list(self.stop)}
        return {**super().facts, **also}

    def members(self, inputs: Inputs) -> Sequence[Outputs]:
        """Return the texts [M,1] by each order."""
        return [as_labels(self.texts(inputs, order))[:, None] for order in self.orders]

    def outputs(self, inputs: Inputs) -> Outputs:
        """Return the texts [M,1] by the first order."""
        return as_labels(self.texts(inputs, 0))[:, None]


@dataclass(frozen=True)
class ClassesByGeneration(ByGeneration):
    """The class whose answer is in what the base writes; it has no probability."""

    answers: tuple[str, ...]  # [K]
    usual: int  # the class where no answer is written
    unmatched: set[str] = field(default_factory=set)  # texts that name no class

    def members(self, inputs: Inputs) -> Sequence[Outputs]:
        """Return 1 for the class that is written, and 0 for others, [M,K], by each order."""
        return [
            np.eye(len(self.answers))[[self._class(text) for text in self.texts(inputs, order)]]
            for order in self.orders
        ]

    def outputs(self, inputs: Inputs) -> Outputs:
        """Return the share of the orders by which each class is written, [M,K]."""
        outputs: Outputs = np.mean(self.members(inputs), axis=0)
        return outputs

    @property
    def facts(self) -> Mapping[str, Any]:
        """Also the class of texts that name none."""
        return {**super().facts, "usual": self.usual}

    @property
    def remarks(self) -> Sequence[str]:
        """Also how many answers name no class."""
        if not self.unmatched:
            return super().remarks
        some = min(self.unmatched)
        return (
            *super().remarks,
            f"{len(self.unmatched):,} different texts name no class, and count as the commonest"
            f" (one is {some[:60]!r})",
        )

    def _class(self, text: str) -> int:
        """Return the class whose answer is written first, the longest where two begin there."""
        at = [_position(text, answer) for answer in self.answers]
        named = [(first, -len(self.answers[k]), k) for k, first in enumerate(at) if first >= 0]
        if not named:
            self.unmatched.add(text)
            return self.usual
        return min(named)[2]


def _position(text: str, answer: str) -> int:
    """Return where the words of an answer begin in a text, or its signs where it has no words.

    -1 where they do not.
    """
    words = _plain(answer)
    return text.find(answer.strip()) if words.isspace() else _plain(text).find(words)


def _plain(text: str) -> str:
    """Return the words of a text, each between two spaces."""
    return f" {' '.join(WORD.findall(text.casefold()))} "
