"""SigLIP: each picture and text classified as a pair or not, by itself (Zhai et al. 2023)."""

from __future__ import annotations

import math

from broadbase.objectives.contrastive import SigmoidConfig
from broadbase.recipes.clip import PAIRS, two_towers
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build CLIP with a bias that starts where all texts but one are wrong: -log(B - 1)."""
    bias = -math.log(PAIRS - 1)
    return two_towers("siglip", SigmoidConfig(), depth, data, scale=10.0, bias=bias)


RECIPE = Recipe("siglip", "pictures and texts, each a pair or not", build)
