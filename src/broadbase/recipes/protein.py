"""Protein: residues, next-residue prediction (Ferruz et al. 2022, ProtGPT2)."""

from __future__ import annotations

from broadbase.data.sources.sequences import FastaConfig
from broadbase.modalities.protein import ProteinConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build a causal model of the FASTA files of a folder."""
    return sequence_run(
        "protein", ProteinConfig(), depth, data, plain=lambda p: FastaConfig(path=p)
    )


RECIPE = Recipe("protein", "residues from FASTA: a Llama", build)
