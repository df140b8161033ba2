"""A text for each record, which a base generates.

Legend: M records.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.neighbours import NearestTexts
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Calibration, Labels, Opinion, Outputs, Target
from broadbase.core.errors import ConfigError
from broadbase.evidence.comparison import Metric

F1 = Metric("F1 of words", "higher")
EXACT = Metric("exact match", "higher")
STRATA = 5  # fifths by length, so that every split has long texts and short ones


class GenerationTarget(Target):
    """Texts; a record has one."""

    name: Literal["generation"] = "generation"
    generates: ClassVar[bool] = True
    exact: bool = False
    """Whether predictions are scored by exact match; otherwise by the F1 of their words."""

    @property
    def metric(self) -> Metric:
        """Exact match, or the F1 of words."""
        return EXACT if self.exact else F1

    @property
    def columns(self) -> int:
        """One."""
        return 1

    def parse(self, label: str) -> str | None:
        """Return the text; None where it is empty."""
        return label.strip() or None

    def score(self, labels: Labels, outputs: Outputs) -> float:
        """Return the mean over records of exact match, or of the F1 of words."""
        rate = exact_match if self.exact else word_f1
        return float(np.mean([rate(*map(str, x)) for x in zip(labels, outputs[:, 0], strict=True)]))

    def constant(self, labels: Labels) -> tuple[str, Outputs]:
        """Return the commonest text for every record, of several the first in the alphabet."""
        counts = Counter(map(str, labels))
        common = min(counts, key=lambda text: (-counts[text], text))
        return "most frequent text", np.full((len(labels), 1), common, dtype=object)

    def strata(self, labels: Labels) -> Indices:
        """Return the fifth by length."""
        lengths = np.array([len(str(label)) for label in labels])
        ranks = np.argsort(np.argsort(lengths, kind="stable"), kind="stable")
        return ranks * STRATA // max(1, len(ranks))

    def summary(self, labels: Labels) -> str:
        """Count the texts and their words."""
        texts = [*map(str, labels)]
        words = np.mean([len(text.split()) for text in texts])
        return f"{len(texts):,} texts, {len(set(texts)):,} different, {words:.1f} words on average"

    def encoded(self, labels: Labels) -> NDArray[np.uint8]:
        """Return the bytes of a list in JSON."""
        return np.frombuffer(json.dumps([*map(str, labels)]).encode(), np.uint8)

    def decoded(self, numbers: NDArray[Any]) -> Labels:
        """Return the texts of such a list."""
        return as_labels(json.loads(numbers.tobytes()))

    def neighbours(self) -> Any:
        """Return the text of the nearest record."""
        return NearestTexts()

    def outputs(self, model: Any, inputs: Any) -> Outputs:
        """Return the texts that a model predicts, [M,1]."""
        return as_labels(model.predict(inputs))[:, None]

    def calibrate(self, outputs: Outputs, labels: Labels) -> Calibration:
        """Return nothing: a text has no probability that is shown."""
        return {}

    def rows(self, outputs: Outputs, calibration: Calibration) -> Sequence[dict[str, Any]]:
        """Return the text."""
        return [{"text": str(text)} for text in outputs[:, 0]]

    def opinions(
        self, labels: Labels, outputs: Outputs, calibration: Calibration
    ) -> Sequence[Opinion]:
        """Hold each text against that which is predicted; the confidence is the F1 of words."""
        pairs = [(str(a), str(b)) for a, b in zip(labels, outputs[:, 0], strict=True)]
        return [Opinion(label, text, word_f1(label, text)) for label, text in pairs]

    def ridge(self) -> NoReturn:
        """Refuse."""
        raise _no_model("ridge regression")

    def forest(self) -> NoReturn:
        """Refuse."""
        raise _no_model("a forest")

    def head(self, labels: Labels) -> NoReturn:
        """Refuse."""
        raise _no_model("a head")

    def head_targets(self, head: Any, labels: Labels) -> NoReturn:
        """Refuse."""
        raise _no_model("a head")

    def head_outputs(self, head: Any, predictions: Any) -> NoReturn:
        """Refuse."""
        raise _no_model("a head")


def exact_match(label: str, text: str) -> float:
    """Return 1 where two texts have the same words in the same order, else 0."""
    return float(label.split() == text.split())


def word_f1(label: str, text: str) -> float:
    """Return the F1 of the words of a text, as a bag (Rajpurkar et al. 2016, 6.1).

    Words are what has blanks between it, as they are written. Of two empty texts it is 1.
    """
    right, said = label.split(), text.split()
    if not right or not said:
        return float(right == said)
    common = (Counter(right) & Counter(said)).total()
    return 2 * common / (len(right) + len(said))


def as_labels(texts: Sequence[str]) -> Labels:
    """Return texts as labels [M] of objects."""
    return np.fromiter(map(str, texts), dtype=object, count=len(texts))


def _no_model(what: str) -> ConfigError:
    return ConfigError(f"{what} predicts no text; a base generates it (--method finetune)")
