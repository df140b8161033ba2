"""Mixed: one base on prose, Python, molecules and pictures; what `broadbase demo` trains."""

from __future__ import annotations

from contextlib import suppress

from broadbase.core.contracts import TowerConfig
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import SourceConfig
from broadbase.data.samples.builtin import DigitsConfig, StandardLibraryConfig
from broadbase.data.samples.catalog import sample
from broadbase.data.samples.sets import SAMPLES
from broadbase.data.sources.files import ImageFilesConfig
from broadbase.data.sources.sequences import FastaConfig, SmilesFilesConfig
from broadbase.modalities.descriptors import DescriptorsConfig
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.molecule import MoleculeConfig
from broadbase.modalities.source_code import CodeConfig
from broadbase.modalities.text import TextConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.objectives.mixture import Component, MixtureConfig
from broadbase.objectives.properties import PropertiesConfig
from broadbase.recipes import dial
from broadbase.recipes.code import programs
from broadbase.recipes.recipe import Recipe, find_recipe
from broadbase.run.config import DataConfig, MixedSource, RunConfig
from broadbase.train.config import TrainConfig
from broadbase.train.machine import MachineConfig

LENGTH, SMILES = 128, 96  # tokens of a row; of a molecule alone
TASK_PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "unittest", "xml")
MOLECULES = 20_000
DIGITS = 1000  # pictures to pretrain on; the task has the rest


def build(depth: int, data: str | None) -> RunConfig:
    """Build one model of four kinds of data; each has its own vocabulary and its own unit.

    Few rows of prose and code, five times each, under a strong weight decay: a short run learns
    more from them than from fresh rows, measured against what a 5-gram gets from the same rows
    (docs/log.md). Molecules are short and many; there a fresh row is better, and a second source
    knows the atoms and charges that the first leaves out. Of molecules the base also predicts what
    RDKit computes, from the mean of their tokens (MolBERT): no measured label is among that.
    On your own data it is causal modelling of what that is: pictures, code, proteins, molecules,
    or text; several folders make a mixture.
    """
    if data is not None:
        return _own(depth, data)
    image = ImageConfig(height=8, width=8, channels=1, patch=2, levels=17)
    tokens = image.record_length
    code = StandardLibraryConfig(exclude=TASK_PACKAGES)
    molecules = SAMPLES["moses"].source.replace(limit=MOLECULES)
    chembl = SAMPLES["chembl"].source
    sources = {
        "text": _source(SAMPLES["passages"].source, "text", rows=10, limit=1250),
        "code": _source(code, "code", rows=8, limit=1000),
        "molecule": _source(molecules, "molecule", rows=4),
        "drug": _source(chembl, "molecule", rows=4),
        "structure": _source(chembl, "molecule", rows=8, length=SMILES, pairs="chembl"),
        "descriptors": _source(chembl, "descriptors", rows=8, length=2, pairs="chembl"),
        "image": _source(DigitsConfig(last=DIGITS), "image", rows=16, length=tokens),
    }
    modalities = {
        "text": TextConfig(),
        "code": CodeConfig(),
        "molecule": MoleculeConfig(),
        "descriptors": DescriptorsConfig(),
        "image": image,
    }
    parts = {
        "next": Component(
            objective=CausalConfig(), sources=("text", "code", "molecule", "drug", "image"), scale=5
        ),
        "properties": Component(
            objective=PropertiesConfig(source="structure", target="descriptors"),
            sources=("structure", "descriptors"),
        ),
    }
    return RunConfig(
        recipe="mixed",
        depth=depth,
        model=ModelConfig(modalities=modalities, towers={"main": _tower(depth)}),
        objective=MixtureConfig(components=parts),
        data=DataConfig(sources=sources),
        optim=dial.optim(depth, normed=True).replace(weight_decay=0.4),
        train=TrainConfig(steps=600, evaluate_every=200, save_every=200),
        machine=MachineConfig(precision="fp32"),  # at this width bf16 saves nothing on CPUs
    )


def _tower(depth: int) -> TowerConfig:
    return dial.backbone(depth, qk_norm=RMSNormConfig(), input_norm=RMSNormConfig())


def _own(depth: int, data: str) -> RunConfig:
    """Build the recipe of what a folder holds, with the tower that all of a mixture share."""
    config = find_recipe(_kind(data)).build(depth, data)
    if set(config.model.towers) != {"main"}:
        raise ConfigError(
            f"{data} is for recipe {config.recipe!r}, whose towers are its own: train on it alone"
        )
    model = config.model.replace(towers={"main": _tower(depth)})
    return config.replace(recipe="mixed", model=model)


def _kind(data: str) -> str:
    """Choose the recipe for a sample set's modality, or for the files of a folder."""
    if data.startswith("sample:"):
        return sample(data.removeprefix("sample:")).modality
    for recipe, source in (
        ("image", ImageFilesConfig(path=data)),
        ("protein", FastaConfig(path=data)),
        ("molecule", SmilesFilesConfig(path=data)),
        ("code", programs(data)),
    ):
        with suppress(DataError):
            if source.files():
                return recipe
    return "text"


def _source(
    source: SourceConfig,
    modality: str,
    rows: int,
    length: int = LENGTH,
    limit: int | None = None,
    pairs: str | None = None,
) -> MixedSource:
    return MixedSource(
        source=source,
        modality=modality,
        batch_size=rows,
        sequence_length=length,
        limit=limit,
        pair_group=pairs,
    )


RECIPE = Recipe("mixed", "prose, Python, molecules and pictures, one base (the demo)", build)
