"""Descriptors of molecules: what RDKit computes from a SMILES, as one vector, for prediction."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.core.errors import DataError
from broadbase.core.extras import chemistry, require_extra
from broadbase.modalities.molecule import canonical
from broadbase.modalities.noise import Hide
from broadbase.nn.spaces.regression import Regression, RegressionConfig

# RDKit's physico-chemical descriptors that take a fraction of a millisecond each.
NAMES = [
    "MolWt",
    "HeavyAtomCount",
    "MolLogP",
    "MolMR",
    "TPSA",
    "LabuteASA",
    "FractionCSP3",
    "NumHAcceptors",
    "NumHDonors",
    "NumHeteroatoms",
    "NumRotatableBonds",
    "NumAromaticRings",
    "NumAliphaticRings",
    "RingCount",
    "NHOHCount",
    "NOCount",
    "Chi0v",
    "Chi1v",
    "Kappa1",
    "Kappa2",
    "HallKierAlpha",
    "BertzCT",
]
FURTHEST = 5.0  # deviations from the mean, to which values are clipped


class DescriptorsConfig(ModalityConfig):
    """Descriptors, standardised by the training molecules (MolBERT; Fabian et al. 2020, 2.2)."""

    name: Literal["descriptors"] = "descriptors"
    describes: ClassVar[str] = "molecule"

    @property
    def record_length(self) -> int:
        """The start and the one vector of every molecule."""
        return 2

    @property
    def vector_size(self) -> int:
        """The descriptors of a molecule."""
        return len(NAMES)

    def clean(self, raw: Any) -> str:
        """Return the canonical SMILES; ValueError if RDKit finds no molecule."""
        if not isinstance(raw, str) or not (smiles := canonical(raw)):
            raise ValueError(f"{str(raw)[:40]!r} is no molecule that RDKit can read")
        return smiles

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return a codec with the mean and deviation of each descriptor; DataError for 1."""
        table = np.array([described(smiles) for smiles in records])
        if len(table) < 2:
            raise DataError(f"{len(table)} molecules are too few to standardise descriptors")
        return DescriptorsCodec(table.mean(axis=0), np.maximum(table.std(axis=0), 1e-6))

    def load(self, folder: Path) -> Codec:
        """Return the codec of descriptors.json."""
        facts = json.loads((folder / "descriptors.json").read_text())
        return DescriptorsCodec(*(np.array(facts[key]) for key in ("mean", "deviation")))

    def space(self, width: int) -> Regression:
        """Return the head of the descriptors."""
        return RegressionConfig(channels=self.vector_size, normalise=False).build(width)

    def corruption(self) -> Corruption:
        """Return a corruption that masks vectors."""
        return Hide()


class DescriptorsCodec(Codec):
    """Encodes a SMILES as one vector, of mean 0 and deviation 1 over the training molecules."""

    unit = "molecule"

    def __init__(self, mean: NDArray[Any], deviation: NDArray[Any]) -> None:
        self.mean, self.deviation = mean, deviation
        self.start = np.zeros(len(NAMES), dtype=np.float32)

    def encode(self, raw: Any) -> Sample:
        """Encode a SMILES as one vector [1,K], clipped to 5 deviations."""
        scaled = (described(raw) - self.mean) / self.deviation
        values = np.clip(scaled, -FURTHEST, FURTHEST).astype(np.float32)[None]
        return Sample(values, (1,), 1)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> dict[str, float]:
        """Return the descriptors by name, in their own units."""
        numbers = values[0] * self.deviation + self.mean
        return dict(zip(NAMES, numbers.tolist(), strict=True))

    def save(self, folder: Path) -> None:
        """Write descriptors.json: the means and deviations."""
        facts = {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}
        (folder / "descriptors.json").write_text(json.dumps(facts))


def described(smiles: str) -> NDArray[np.float64]:
    """Return RDKit's descriptors of a SMILES in the order of NAMES; ValueError if it is none."""
    table = require_extra("rdkit.Chem.Descriptors", "chemistry", "descriptors")
    molecule = chemistry().MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"{smiles[:40]!r} is no molecule that RDKit can read")
    return np.array([getattr(table, name)(molecule) for name in NAMES], dtype=np.float64)
