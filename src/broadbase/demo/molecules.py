"""Molecules generated from nothing: how many are valid, unique and novel, against a 5-gram's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from broadbase.core.extras import chemistry, require_extra
from broadbase.data.batches import collate
from broadbase.evaluate.likelihood import chunks
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.evidence.interval import Interval
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.modalities.molecule import MoleculeCodec, canonical
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.report.samples import Drawing
from broadbase.run.run import Run

MOLECULES, MAX_NEW_TOKENS = 500, 100
DRAWINGS = 12
VALID = Metric("valid molecules", "higher")
UNIQUE = Metric("unique among the valid", "higher")
NOVEL = Metric("novel among the unique", "higher")  # not in the training split


def molecules(run: Run, base: Base) -> tuple[list[Comparison], list[Drawing]]:
    """Generate 500 molecules each at temperature 1, from the model and from 5-grams.

    The 5-grams are trained on the rows the model saw, and on the full training split. Returns the
    comparisons, and drawings of the model's first valid molecules.
    """
    modality = "molecule"
    codec = base.codecs[modality]
    assert isinstance(codec, MoleculeCodec)
    settings = base.config.modalities[modality].id_settings
    assert isinstance(settings, DiscreteConfig)
    mixed = run.config.data.sources
    sources = [name for name in run.likelihoods().values() if mixed[name].modality == modality]
    splits = [run.stores[name].split("train") for name in sources]
    training = {codec.decode(split.document(i), ()) for split in splits for i in range(len(split))}
    generated = {
        MODEL: base.sample(
            MOLECULES,
            modality=modality,
            max_new_tokens=MAX_NEW_TOKENS,
            sampling=SamplingConfig(temperature=1.0),
        )
    }
    rows = [run.rows("train")[name] for name in sources]
    seen = [row for name in sources for row in run.seen(name)]
    split = [source_rows[i] for source_rows in rows for i in range(len(source_rows))]
    for name, some in (("rows seen", seen), ("full split", split)):
        texts = chunks(collate(some, modality, False))
        gram = KneserNey.fit(texts, 5, settings.vocab_size)
        rng, ends = np.random.default_rng(0), (int(codec.start), int(codec.end or 0))
        ids = (gram.sample(*ends, MAX_NEW_TOKENS, rng) for _ in range(MOLECULES))
        generated[f"5-gram, {name}"] = [codec.decode(each, ()) for each in ids]
    valid = [smiles for smiles in generated[MODEL] if canonical(smiles)]
    drawings = [Drawing(smiles, draw(smiles)) for smiles in valid[:DRAWINGS]]
    return list(validity(generated, training)), drawings


def validity(
    generated: Mapping[str, Sequence[str]], training: Collection[str]
) -> Iterator[Comparison]:
    """Compare the molecules that RDKit accepts, and the unique and the novel ones among them.

    `generated` has the SMILES of every model, the one under test as "model"; `training` has
    canonical ones.
    Uniqueness and novelty are no means over molecules, so their gaps have no interval.
    """
    valid = {name: [canonical(smiles) for smiles in each] for name, each in generated.items()}
    scores = {name: [[float(bool(s))] for s in each] for name, each in valid.items()}
    yield from compare("molecule", VALID, scores)
    accepted = {name: [smiles for smiles in each if smiles] for name, each in valid.items()}
    unique = {name: set(each) for name, each in accepted.items()}
    novel = {name: each.difference(training) for name, each in unique.items()}
    for metric, some, of in ((UNIQUE, unique, accepted), (NOVEL, novel, unique)):
        shares = {name: len(some[name]) / max(1, len(of[name])) for name in generated}
        for name in (name for name in generated if name != MODEL):
            model, other = shares[MODEL], shares[name]
            gap = Interval(model - other)
            yield Comparison("molecule", metric, name, len(of[name]), model, other, gap)


def draw(smiles: str) -> str:
    """Return a molecule's structure as SVG."""
    drawing = require_extra("rdkit.Chem.Draw.rdMolDraw2D", "chemistry", "drawing molecules")
    canvas = drawing.MolDraw2DSVG(300, 224)
    canvas.DrawMolecule(chemistry().MolFromSmiles(smiles))
    canvas.FinishDrawing()
    text: str = canvas.GetDrawingText()
    return text
