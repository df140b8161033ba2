"""MAE: pictures with three quarters of their patches hidden (He et al. 2022)."""

from __future__ import annotations

from broadbase.nn.connector import LinearConfig
from broadbase.nn.positions import SinusoidConfig
from broadbase.nn.spaces.regression import RegressionConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.recipes import dial, image
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build an encoder of the visible quarter (`depth` layers) and a decoder of all (half)."""
    config = image.build(depth, data)
    towers = {
        name: dial.backbone(layers).replace(positions=SinusoidConfig())
        for name, layers in (("encoder", depth), ("decoder", max(1, depth // 2)))
    }
    model = config.model.replace(
        heads={"pixels": RegressionConfig()},
        towers=towers,
        tower_of={"pixels": "decoder"},
        connectors=(LinearConfig(source="encoder", target="decoder"),),
    )
    return config.replace(recipe="mae", model=model, objective=MaskedAutoencoderConfig())


RECIPE = Recipe("mae", "pictures, hidden patches from the visible quarter", build)
