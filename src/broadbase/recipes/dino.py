"""DINO: pictures told apart without labels, by a teacher that is the student's average."""

from __future__ import annotations

from broadbase.modalities.prototypes import PrototypesConfig
from broadbase.objectives.dino import DinoConfig
from broadbase.recipes import image
from broadbase.recipes.recipe import Recipe
from broadbase.run import RunConfig
from broadbase.train.optim import AdamWConfig
from broadbase.train.schedule import CosineConfig
from broadbase.train.teacher import AverageConfig


def build(depth: int, data: str | None) -> RunConfig:
    """The tower of `image`, seeing all patches; read by the mean of a crop's places."""
    config = image.build(depth, data)
    modalities = {**config.model.modalities, "prototypes": PrototypesConfig()}
    return config.model_copy(
        update={
            "recipe": "dino",
            "model": config.model.model_copy(update={"modalities": modalities}),
            "objective": DinoConfig(),
            "teacher": AverageConfig(momentum=0.99),
            "optim": AdamWConfig(lr=1e-3 * 4 / depth, hold={"spaces.prototypes.last": 0.05}),
            "schedule": CosineConfig(warmup=100),
        }
    )


RECIPE = Recipe("dino", "pictures, told from their parts (self-distillation)", build)
