"""DINO: pictures without labels, by a teacher that is the student's average."""

from __future__ import annotations

from broadbase.nn.spaces.prototypes import PrototypesConfig
from broadbase.objectives.dino import DinoConfig
from broadbase.recipes import dial, image
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import RunConfig
from broadbase.train.schedule import CosineConfig
from broadbase.train.teacher import AverageConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build the tower of `image` that sees all patches; a crop is the mean of its tokens.

    Muon learns more than AdamW in few steps, 256 prototypes as much as 1,024 (docs/log.md).
    """
    config = image.build(depth, data)
    heads = {"prototypes": PrototypesConfig(prototypes=256)}
    optim = dial.optim(depth).replace(freeze_until={"spaces.prototypes.last": 0.05})
    return config.replace(
        recipe="dino",
        model=config.model.replace(heads=heads),
        objective=DinoConfig(),
        teacher=AverageConfig(momentum=0.99),
        optim=optim,
        schedule=CosineConfig(warmup=50),
    )


RECIPE = Recipe("dino", "pictures, from their parts (self-distillation)", build)
