"""Molecule: SMILES, next-token prediction: a Llama of chemistry."""

from __future__ import annotations

from broadbase.data.sources.sequences import SdfConfig, SmilesFilesConfig
from broadbase.modalities.molecule import MoleculeConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build a causal model of SMILES and SD files, or of a table with --field smiles."""
    return sequence_run(
        "molecule",
        MoleculeConfig(),
        depth,
        data,
        plain=lambda p: SmilesFilesConfig(path=p),
        also=(lambda p: SdfConfig(path=p),),
    )


RECIPE = Recipe("molecule", "SMILES, canonical by RDKit: a Llama", build)
