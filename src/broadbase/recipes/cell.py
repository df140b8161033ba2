"""Cell: genes by rank, hidden ones from all others (Theodoris et al. 2023, Geneformer)."""

from __future__ import annotations

from broadbase.data.sources.cells import H5adConfig
from broadbase.modalities.cell import CellConfig
from broadbase.objectives.masked import MaskedConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run.config import RunConfig

LENGTH = 512  # tokens per row: the start and the first genes of a cell, which is not cut


def build(depth: int, data: str | None) -> RunConfig:
    """Build an encoder of `depth` layers over the cells of a folder's .h5ad files."""
    return sequence_run(
        "cell",
        CellConfig(max_length=LENGTH - 1),
        depth,
        data,
        plain=lambda p: H5adConfig(path=p),
        objective=MaskedConfig(mask_ratio=0.15),
        length=LENGTH,
    )


RECIPE = Recipe("cell", "single cells from .h5ad, hidden genes from the others", build)
