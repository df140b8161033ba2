"""Molecules as SMILES: one token an atom, bond, branch or ring (Schwaller et al. 2019).

RDKit says what is a molecule, and gives every molecule one spelling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from broadbase.core.codec import Codec, Sample
from broadbase.core.errors import DataError
from broadbase.core.extras import chemistry
from broadbase.modalities.ids import IdsConfig

TOKEN = re.compile(r"\[[^\]]+\]|Br|Cl|%\d\d|.", re.DOTALL)
CHARACTERS = [chr(i) for i in range(33, 127)]  # any SMILES can be spelled with these
START, END = 0, 1
LONGEST = 2000  # characters; RDKit takes quadratic time, and from about 20,000 its stack overflows
RINGS = 32  # of a molecule; 36 fused ones take RDKit 0.4 s, 44 1.6 s, 80 more than half a minute


class MoleculeConfig(IdsConfig):
    """Molecules; the tokens seen most in training are one id each, others are spelled out."""

    name: Literal["molecule"] = "molecule"
    vocab_size: Annotated[int, Field(ge=128)] = 256

    def clean(self, raw: Any) -> str:
        """The canonical SMILES; ValueError where RDKit finds no molecule."""
        if not isinstance(raw, str):
            raise ValueError(f"expected a SMILES, got {type(raw).__name__}")
        if len(raw) > LONGEST:
            raise ValueError(f"{len(raw):,} characters; a molecule has at most {LONGEST:,}")
        if (count := rings(raw)) > RINGS:
            raise ValueError(f"{count} rings; a molecule has at most {RINGS}")
        found = canonical(raw)
        if not found:
            raise ValueError(f"not a molecule that RDKit can read: {raw[:80]!r}")
        return found

    def clean_prefix(self, raw: Any) -> Any:
        """As it is written: the beginning of a SMILES is no molecule yet, or another one."""
        return raw

    def fit(self, records: Iterable[Any]) -> Codec:
        counts: dict[str, int] = {}
        for record in records:
            for token in TOKEN.findall(record):
                counts[token] = counts.get(token, 0) + 1
        known = sorted((t for t in counts if len(t) > 1), key=lambda t: (-counts[t], t))
        return MoleculeCodec([*CHARACTERS, *known][: self.vocab_size - 2])

    def load(self, folder: Path) -> Codec:
        path = folder / "smiles.json"
        try:
            return MoleculeCodec(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None

    @property
    def ids(self) -> int:
        return self.vocab_size


class MoleculeCodec(Codec):
    """SMILES to ids and back, exactly."""

    unit = "character"
    start: NDArray[Any] = np.array(START)
    end: NDArray[Any] | None = np.array(END)

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self._ids = {token: i + 2 for i, token in enumerate(tokens)}

    def encode(self, raw: Any) -> Sample:
        if not isinstance(raw, str):
            raise ValueError(f"expected a SMILES, got {type(raw).__name__}")
        pieces = [part for t in TOKEN.findall(raw) for part in ([t] if t in self._ids else list(t))]
        unknown = next((piece for piece in pieces if piece not in self._ids), None)
        if unknown is not None:
            raise ValueError(f"{unknown!r} is in no SMILES: {raw[:80]!r}")
        ids = np.array([self._ids[piece] for piece in pieces], dtype=np.int64)
        return Sample(ids, (len(ids),), len(raw))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str:
        known = len(self.tokens)
        return "".join(self.tokens[int(v) - 2] for v in values if 2 <= v < known + 2)

    def save(self, folder: Path) -> None:
        (folder / "smiles.json").write_text(json.dumps(self.tokens))


def canonical(smiles: str) -> str | None:
    """The one spelling of a molecule, or None where RDKit finds none or it is too large."""
    chem = chemistry()
    one = smiles.isascii() and smiles.split() == [smiles]
    small = len(smiles) <= LONGEST and rings(smiles) <= RINGS
    found = chem.MolFromSmiles(smiles) if one and small else None
    return chem.MolToSmiles(found) if found is not None and found.GetNumAtoms() else None


def rings(smiles: str) -> int:
    """How many rings a SMILES closes, counted by its letters alone."""
    tokens: list[str] = TOKEN.findall(smiles)
    return sum(token.lstrip("%").isdigit() for token in tokens) // 2
