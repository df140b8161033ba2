"""ESM: proteins with 15 % of their residues hidden (Lin et al. 2022, ESM-2)."""

from __future__ import annotations

from broadbase.data.sources.sequences import FastaConfig
from broadbase.modalities.protein import ProteinConfig
from broadbase.objectives.masked import MaskedConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Mask FASTA files with token dropout: 0.15 of the tokens are targets, 0.8 of these hidden."""
    return sequence_run(
        "protein",
        ProteinConfig(token_dropout=0.15 * 0.8),
        depth,
        data,
        plain=lambda p: FastaConfig(path=p),
        recipe="esm",
        objective=MaskedConfig(mask_ratio=0.15),
    )


RECIPE = Recipe("esm", "residues from FASTA, hidden ones from both sides", build)
