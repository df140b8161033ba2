"""Prompts of records: an instruction, examples with their answers, and the record.

Legend: M records, O orders of examples, E examples of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.examples import Examples
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.splits import Indices
from broadbase.adapt.templates import Template
from broadbase.core.errors import ConfigError
from broadbase.core.sources import Pair, each_part
from broadbase.inference.decoding import CUT
from broadbase.inference.truncation import is_long


@dataclass(frozen=True)
class Wording:
    """The texts around records and answers."""

    template: Template
    instruction: str
    separator: str

    def example(self, raw: Any, answer: str) -> str:
        """Return a record with its answer."""
        return self.template.fill(raw) + self.template.before_answer + answer

    def joined(self, pieces: Sequence[str]) -> str:
        """Return the prompt of some examples and a record, after the instruction."""
        return self.separator.join([*filter(None, [self.instruction]), *pieces])


@dataclass(frozen=True)
class Prompter:
    """Writes the prompts of records, in several orders of the same examples."""

    encoder: Encoder
    wording: Wording
    examples: Examples
    orders: Sequence[Sequence[int]]  # [O,E]
    room: int  # tokens of a prompt and its answer
    record_tokens: int  # of each item of a record, at most
    answer_tokens: int  # of the longest answer
    shortened: set[str] = field(default_factory=set)  # prompts without some of the examples

    def __post_init__(self) -> None:
        """Check that there is room for a record; ConfigError otherwise."""
        fixed = self._size(self.wording.joined([self.wording.template.text])) + self.answer_tokens
        if fixed >= self.room:
            raise ConfigError(
                f"template, instruction and answer take {fixed:,} tokens of {self.room:,}, which"
                " leaves no room for a record; shorten them, or raise --set context"
            )

    def prompts(self, inputs: Inputs, order: int, apart: bool = False) -> list[str]:
        """Return the prompt of each record [M], its examples in one of the orders."""
        chosen_ME = self.examples.chosen(self.encoder, inputs, apart)
        rows = chosen_ME[:, self._order(order, chosen_ME.shape[1])]
        return [self.prompt(raw, row) for raw, row in zip(inputs.raws, rows, strict=True)]

    def sets(self, inputs: Inputs, order: int) -> Indices:
        """Return the numbers of the examples in each record's prompt, [M,E]."""
        chosen_ME = self.examples.chosen(self.encoder, inputs)
        return chosen_ME[:, self._order(order, chosen_ME.shape[1])]

    def prompt(self, raw: Any, chosen: Indices) -> str:
        """Return the prompt of a record after some examples.

        A record is read from its beginning. Where there is no room for all examples, the first ones
        are left out, and the prompt is counted.
        """
        record = self.wording.template.fill(each_part(self._beginning, raw))
        left = self.room - self.answer_tokens - self._size(self.wording.joined([record]))
        pieces = list[str]()
        for number in reversed(chosen):
            text, size = self._texts[int(number)]
            if size > left:
                break
            left -= size
            pieces.insert(0, text)
        prompt = self.wording.joined([*pieces, record])
        if len(pieces) < len(chosen):
            self.shortened.add(prompt)
        return prompt

    @property
    def remarks(self) -> tuple[str, ...]:
        """What became of the prompts that were too long, if any."""
        if not self.shortened:
            return ()
        return (
            f"{len(self.shortened):,} prompts had no room for all {self.examples.count} examples in"
            f" {self.room:,} tokens, and have fewer; ask for fewer shots, or raise --set context",
        )

    def _order(self, order: int, count: int) -> list[int]:
        return [i for i in self.orders[order] if i < count]

    @cached_property
    def _texts(self) -> list[tuple[str, int]]:
        """The texts of the examples, and how many tokens each takes with what parts it off."""
        texts = [
            self.wording.example(each_part(self._beginning, raw), answer)
            for raw, answer in zip(self.examples.raws, self.examples.answers, strict=True)
        ]
        return [(text, self._size(text + self.wording.separator)) for text in texts]

    def _size(self, text: str) -> int:
        return self.encoder.base.count_tokens(text, self.encoder.modality)

    def _beginning(self, text: str) -> str:
        """Return as much of a text as is read of it."""
        codec = self.encoder.base.codec(self.encoder.modality)[1]
        sample = codec.encode_content(text)
        if not is_long(sample, self.record_tokens):
            return text
        values = sample.values[: self.record_tokens]
        return str(codec.continuation(values[:0], values)).rstrip(CUT)

    def as_json(self) -> Mapping[str, Any]:
        """Return what `Prompter` needs again, as plain values."""
        return {
            "columns": list(self.wording.template.columns),
            "examples": self.examples.as_json(),
            "orders": [list(each) for each in self.orders],
        }


def examples_of(saved: Mapping[str, Any], vectors: NDArray[Any] | None) -> Examples:
    """Return examples from their plain values."""
    raws = [Pair(*raw) if isinstance(raw, list) else raw for raw in saved["records"]]
    return Examples(raws, saved["answers"], saved["count"], vectors)
