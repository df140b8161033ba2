"""`check_source`: built-in sources keep their promises, and a broken one is named."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from broadbase.core.contracts import ModalityConfig
from broadbase.core.sources import Record, Reject, SourceChunk, SourceConfig
from broadbase.testing import BrokenPromiseError, check_source

TEXTS = [f"document {i}: {['red', 'green', 'blue'][i % 3]} {i * i}" for i in range(12)]


def bytes_modality() -> ModalityConfig:
    return ModalityConfig.from_tree({"name": "bytes"})


def write(folder: Path, name: str) -> tuple[dict[str, Any], str, int]:
    """Write data for a source; return its settings, its modality and the items that are bad."""
    if name == "text_files":
        for i, text in enumerate(TEXTS):
            (folder / f"{i}.txt").write_text(text)
        (folder / "x.txt").write_bytes(b"\xff\xfe\xfa")
        return {"path": str(folder)}, "bytes", 1
    if name == "jsonl":
        lines = [json.dumps({"text": text}) for text in TEXTS]
        (folder / "t.jsonl").write_text("\n".join([*lines, "{"]))
        return {"path": str(folder / "t.jsonl")}, "bytes", 1
    if name == "csv":
        (folder / "t.csv").write_text("\n".join(["text,n", *(f"{t},1" for t in TEXTS)]))
        return {"path": str(folder / "t.csv"), "field": "text"}, "bytes", 0
    (folder / "m.smi").write_text("\n".join(["C" * i + "O" for i in range(1, 12)] + ["C("]))
    return {"path": str(folder)}, "molecule", 1


@pytest.mark.parametrize("name", ["text_files", "jsonl", "csv", "smiles"])
def test_sources_of_this_package(name: str, tmp_path: Path) -> None:
    fields, modality, bad = write(tmp_path, name)
    config = SourceConfig.from_tree({"name": name, **fields})
    check_source(config, ModalityConfig.from_tree({"name": modality}), rejects=bad)


class Listed(SourceConfig):
    """Twelve texts and one item that cannot be used; one promise is broken."""

    runs: ClassVar[int] = 0
    fault: str = ""

    def parts(self) -> Sequence[SourceChunk]:
        return [SourceChunk("list", start=start, stop=start + 5) for start in (0, 5, 10)]

    def read(self, part: SourceChunk) -> Iterator[Record | Reject]:
        numbers = list(range(part.start, min(part.stop or 0, len(TEXTS))))
        if self.fault == "order":
            random.Random(type(self).runs).shuffle(numbers)
            type(self).runs += 1
        for i in numbers:
            raw: Any = i if self.fault == "raw" and i == 3 else TEXTS[i]
            yield Record(raw, self._origin(i))
        if part.start == 10 and self.fault != "swallowed":
            yield Reject("list:13", "" if self.fault == "reason" else "no text")

    def records(self) -> Iterator[Record | Reject]:
        if self.fault != "parts":
            yield from super().records()
            return
        yield from (Record(text, f"list:{i}") for i, text in enumerate(TEXTS))
        yield Reject("list:13", "no text")

    def _origin(self, i: int) -> str:
        return {"origin": "", "same origin": "list"}.get(self.fault, f"list:{i + 1}")

    def fingerprint(self) -> dict[str, str]:
        type(self).runs += 1
        salt = type(self).runs if self.fault == "fingerprint" else 0
        name = "other" if self.fault == "name" else "list"
        return {name: hashlib.sha256(f"{salt}".encode()).hexdigest()}


FAULTS = {
    "order": "records come in the same order every time",
    "origin": "each item names its origin",
    "same origin": r"an origin leads to one record, and \['list'\] lead to several",
    "reason": "each Reject names its reason: list:13",
    "swallowed": "each item that cannot be used is counted: 1 are expected, and of 12 items 0",
    "parts": "each part is read by itself",
    "fingerprint": "fingerprint has a digest for each file",
    "name": r"the name of a part is a key of fingerprint, not \['list'",
    "raw": "1 are expected, and of 13 items 2 were rejected by the source or by 'bytes'",
}


def test_a_source_without_a_fault_passes() -> None:
    check_source(Listed(), bytes_modality(), rejects=1)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_promise_is_named(fault: str) -> None:
    with pytest.raises(BrokenPromiseError, match=FAULTS[fault]):
        check_source(Listed(fault=fault), bytes_modality(), rejects=1)
