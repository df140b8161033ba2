"""Regions: pictures with hidden blocks, restored by a decoder (BART's denoising, on patches)."""

from __future__ import annotations

from broadbase.objectives.block_denoising import BlockDenoisingConfig
from broadbase.objectives.masks import BlockMaskConfig
from broadbase.recipes import dial, image
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build an encoder of the damaged picture and a decoder of all of it, `depth` layers each."""
    config = image.build(depth, data)
    model = config.model.replace(towers=dial.encoder_decoder(depth))
    objective = BlockDenoisingConfig(masks=BlockMaskConfig(min_size=4))
    return config.replace(recipe="regions", model=model, objective=objective)


RECIPE = Recipe("regions", "pictures, damaged blocks restored by a decoder", build)
