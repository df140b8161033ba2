"""Molecules drawn from nothing: how many are valid, unique and new, beside a 5-gram's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from broadbase.core.extras import chemistry, optional
from broadbase.data.batches import collate
from broadbase.evaluate.likelihood import chunks
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.modalities.molecule import MoleculeCodec, canonical
from broadbase.report.page import Drawing
from broadbase.run.run import Run

DRAWN, PLACES = 500, 100


@dataclass(frozen=True)
class Validity:
    """Of `drawn` molecules, the shares that are one (Wilson's 95 % interval), new and unlike."""

    model: str
    drawn: int
    valid: float
    low: float
    high: float
    unique: float  # different ones among the valid
    novel: float  # not in the training split, among the valid and different

    def row(self) -> dict[str, Any]:
        """The record as plain values, for JSON."""
        return asdict(self)


def molecules(run: Run, base: Base) -> tuple[list[Validity], list[Drawing]]:
    """500 molecules each at temperature 1, from the base and from 5-grams; drawings of the base's.

    The 5-grams are trained on the rows the base saw, and on the whole training split.
    """
    modality = "molecule"
    codec = base.codecs[modality]
    assert isinstance(codec, MoleculeCodec)
    mixed = run.config.data.sources
    sources = [name for name in run.likelihoods().values() if mixed[name].modality == modality]
    splits = [run.stores[name].split("train") for name in sources]
    known = {codec.decode(split.document(i), ()) for split in splits for i in range(len(split))}
    mine = base.samples(
        DRAWN, modality=modality, places=PLACES, sampling=SamplingConfig(temperature=1.0)
    )
    found = [validity("base", mine, known)]
    rows = [run.rows("train")[name] for name in sources]
    seen = [row for name in sources for row in run.seen(name)]
    whole = [some[i] for some in rows for i in range(len(some))]
    for name, some in (("rows seen", seen), ("whole split", whole)):
        texts = chunks(collate(some, modality, False))
        gram = KneserNey.fit(texts, 5, base.config.modalities[modality].discrete.vocabulary)  # type: ignore[attr-defined]
        rng, ends = np.random.default_rng(0), (int(codec.start), int(codec.end or 0))
        theirs = [codec.decode(gram.sample(*ends, PLACES, rng), ()) for _ in range(DRAWN)]
        found.append(validity(f"5-gram, {name}", theirs, known))
    good = [smiles for smiles in mine if canonical(smiles)]
    return found, [Drawing(smiles, drawn(smiles)) for smiles in good[:12]]


def validity(model: str, drawn: Sequence[str], known: set[str]) -> Validity:
    """What RDKit says of some SMILES; `known` are canonical."""
    valid = [found for smiles in drawn if (found := canonical(smiles))]
    share = binomtest(len(valid), len(drawn)).proportion_ci(method="wilson")
    different = set(valid)
    return Validity(
        model,
        len(drawn),
        len(valid) / len(drawn),
        float(share.low),
        float(share.high),
        len(different) / max(1, len(valid)),
        len(different - known) / max(1, len(different)),
    )


def drawn(smiles: str) -> str:
    """A molecule's structure as SVG."""
    draw = optional("rdkit.Chem.Draw.rdMolDraw2D", "chemistry", "drawing molecules")
    canvas = draw.MolDraw2DSVG(300, 224)
    canvas.DrawMolecule(chemistry().MolFromSmiles(smiles))
    canvas.FinishDrawing()
    text: str = canvas.GetDrawingText()
    return text
