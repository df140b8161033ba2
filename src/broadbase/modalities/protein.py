"""Proteins: one token for each residue, in the one-letter code (IUPAC-IUB 1984)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from broadbase.core.codec import Codec, Sample
from broadbase.modalities.ids import IdsConfig
from broadbase.nn.spaces.discrete import DiscreteConfig

RESIDUES = "ACDEFGHIKLMNPQRSTVWYXBZUOJ*-"  # 20, unknown, ambiguous, rare, stop, gap
START, END = len(RESIDUES), len(RESIDUES) + 1
VOCABULARY = len(RESIDUES) + 2
PIECE = 5  # residues; two proteins that share most of these are near duplicates


def _tokenizer() -> Tokenizer:
    """Return a tokenizer of the tokenizers library that has the same ids."""
    ids = {residue: i for i, residue in enumerate([*RESIDUES, "<cls>", "<eos>"])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="X"))
    capitals = [normalizers.Replace(each.lower(), each) for each in RESIDUES if each.isalpha()]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\s"), ""), *capitals])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<cls>", "<eos>"])
    return tokenizer


TOKENIZER = _tokenizer()


class ProteinConfig(IdsConfig):
    """Sequences of residues."""

    divisible: ClassVar[bool] = True
    name: Literal["protein"] = "protein"
    token_dropout: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The usual fraction of masked residues, where token dropout is used (ESM-2: 0.12); null: it
    is not."""

    def clean(self, raw: Any) -> str:
        """Return residues in capitals, without blanks; ValueError names the first that is none."""
        if not isinstance(raw, str):
            raise ValueError(f"expected residues, got {type(raw).__name__}")
        residues = re.sub("[ \t\r\n]", "", raw)
        if bad := re.search(f"[^{re.escape(RESIDUES + RESIDUES.lower())}]", residues):
            raise ValueError(f"{bad.group()!r} at residue {bad.start() + 1} is no residue")
        if not residues:
            raise ValueError("no residues")
        return residues.upper()

    def shingles(self, raw: Any) -> list[str]:
        """Return the runs of 5 residues."""
        return [raw[i : i + PIECE] for i in range(len(raw) - PIECE + 1)]

    @property
    def id_settings(self) -> DiscreteConfig:
        """The settings of the embedder and head, with token dropout."""
        return super().id_settings.replace(token_dropout=self.token_dropout)

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return the codec, which learns nothing from the records."""
        return ProteinCodec()

    def load(self, folder: Path) -> Codec:
        """Return the codec, which has no files."""
        return ProteinCodec()

    @property
    def ids(self) -> int:
        """The ids of the residues, a start and an end."""
        return VOCABULARY


class ProteinCodec(Codec):
    """Encodes residues as ids."""

    unit = "residue"
    tokenizer = TOKENIZER
    start: NDArray[Any] = np.array(START)
    end: NDArray[Any] | None = np.array(END)

    def encode(self, raw: Any) -> Sample:
        """Encode residues as ids [N]."""
        residues = ProteinConfig().clean(raw)
        ids = np.array([RESIDUES.index(residue) for residue in residues], dtype=np.int64)
        return Sample(ids, (len(ids),), len(ids))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str:
        """Return the residues of ids [N]; start and end are left out."""
        return "".join(RESIDUES[int(v)] for v in values if v < len(RESIDUES))

    def save(self, folder: Path) -> None:
        """Write nothing: the config is enough."""
