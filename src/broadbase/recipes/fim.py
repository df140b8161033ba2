"""FIM: source code, half of it with its middle at the end (Bavarian et al. 2022; StarCoder)."""

from __future__ import annotations

from broadbase.modalities.source_code import CodeConfig
from broadbase.objectives.fim import MARKS, FillInMiddleConfig
from broadbase.recipes.code import programs
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import modality_of, sequence_run
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Add three marks to the code recipe: it fills in what is missing between two parts."""
    modality = modality_of(data, CodeConfig, extra_ids=MARKS)
    return sequence_run(
        modality.name,
        modality,
        depth,
        data,
        plain=programs,
        recipe="fim",
        objective=FillInMiddleConfig(),
    )


RECIPE = Recipe("fim", "source code, filled in from both sides", build)
