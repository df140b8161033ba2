"""BERT: text with 15 % of its tokens hidden or swapped (Devlin et al. 2019)."""

from __future__ import annotations

from broadbase.modalities.text import TextConfig
from broadbase.objectives.masked import MaskedConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build an encoder of `depth` layers that sees both sides of what it predicts."""
    objective = MaskedConfig(mask_ratio=0.15)
    return sequence_run("text", TextConfig(), depth, data, recipe="bert", objective=objective)


RECIPE = Recipe("bert", "text, hidden tokens from both sides", build)
