"""Image: patches in raster order, each predicted from those before (Chen et al. 2020, iGPT)."""

from __future__ import annotations

from broadbase.data.detect import detect
from broadbase.data.sources.files import ImageFilesConfig
from broadbase.modalities.image import ImageConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sources_for
from broadbase.run.config import DataConfig, RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build a causal model of the pictures of a folder, at 64 x 64 in patches of 8."""
    image = ImageConfig()
    path = dial.require_data(data, "image")
    sources = detect(path, ImageFilesConfig(path=path))
    tower = dial.backbone(depth, qk_norm=RMSNormConfig())
    return RunConfig(
        recipe="image",
        depth=depth,
        model=ModelConfig(modalities={"image": image}, towers={"main": tower}),
        objective=CausalConfig(),
        data=DataConfig(sources=sources_for("image", sources, depth, image.record_length)),
        optim=dial.optim(depth),
        train=dial.horizon(depth),
    )


RECIPE = Recipe("image", "pictures as patches, next-patch prediction", build)
