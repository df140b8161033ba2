"""Molecules as SMILES: one token for each atom, bond, branch or ring (Schwaller et al. 2019).

RDKit decides what is a molecule, and gives every molecule one spelling.
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
    """Molecules; the tokens most frequent in training are one id each, others are spelled out."""

    name: Literal["molecule"] = "molecule"
    vocab_size: Annotated[int, Field(ge=128)] = 256
    """The ids: start, end, each character of a SMILES, and the most frequent longer tokens."""

    def clean(self, raw: Any) -> str:
        """Return the canonical SMILES; ValueError if RDKit finds no molecule, or a large one."""
        if not isinstance(raw, str):
            raise ValueError(f"expected a SMILES, got {type(raw).__name__}")
        if len(raw) > LONGEST:
            raise ValueError(f"{len(raw):,} characters; a molecule has at most {LONGEST:,}")
        if (count := rings(raw)) > RINGS:
            raise ValueError(f"{count} rings; a molecule has at most {RINGS}")
        smiles = canonical(raw)
        if not smiles:
            raise ValueError(f"not a molecule that RDKit can read: {raw[:80]!r}")
        return smiles

    def clean_prefix(self, raw: Any) -> Any:
        """Return it as it is: the beginning of a SMILES is no molecule, or another one."""
        return raw

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return a codec with the most frequent tokens of the records."""
        counts: dict[str, int] = {}
        for record in records:
            for token in TOKEN.findall(record):
                counts[token] = counts.get(token, 0) + 1
        frequent = sorted((t for t in counts if len(t) > 1), key=lambda t: (-counts[t], t))
        return MoleculeCodec([*CHARACTERS, *frequent][: self.vocab_size - 2])

    def load(self, folder: Path) -> Codec:
        """Return the codec of smiles.json; DataError if the file cannot be read."""
        path = folder / "smiles.json"
        try:
            return MoleculeCodec(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None

    @property
    def ids(self) -> int:
        """The size of the vocabulary."""
        return self.vocab_size


class MoleculeCodec(Codec):
    """Encodes SMILES as ids, without loss."""

    unit = "character"
    start: NDArray[Any] = np.array(START)
    end: NDArray[Any] | None = np.array(END)

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self._ids = {token: i + 2 for i, token in enumerate(tokens)}

    def encode(self, raw: Any) -> Sample:
        """Encode a SMILES as ids [N]; tokens without an id are spelled out."""
        if not isinstance(raw, str):
            raise ValueError(f"expected a SMILES, got {type(raw).__name__}")
        pieces = [part for t in TOKEN.findall(raw) for part in ([t] if t in self._ids else list(t))]
        unknown = next((piece for piece in pieces if piece not in self._ids), None)
        if unknown is not None:
            raise ValueError(f"{unknown!r} is in no SMILES: {raw[:80]!r}")
        ids = np.array([self._ids[piece] for piece in pieces], dtype=np.int64)
        return Sample(ids, (len(ids),), len(raw))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str:
        """Return the SMILES of ids [N]; start and end are left out."""
        last = len(self.tokens) + 1
        return "".join(self.tokens[int(v) - 2] for v in values if 2 <= v <= last)

    def save(self, folder: Path) -> None:
        """Write smiles.json: the tokens in the order of their ids."""
        (folder / "smiles.json").write_text(json.dumps(self.tokens))


def canonical(smiles: str) -> str | None:
    """Return the one spelling of a molecule; None if RDKit finds none or it is too large."""
    chem = chemistry()
    one = smiles.isascii() and smiles.split() == [smiles]
    small = len(smiles) <= LONGEST and rings(smiles) <= RINGS
    molecule = chem.MolFromSmiles(smiles) if one and small else None
    atoms = 0 if molecule is None else molecule.GetNumAtoms()
    return chem.MolToSmiles(molecule) if atoms else None


def rings(smiles: str) -> int:
    """Return the number of rings that a SMILES closes, counted from its tokens alone."""
    tokens: list[str] = TOKEN.findall(smiles)
    return sum(token.lstrip("%").isdigit() for token in tokens) // 2
