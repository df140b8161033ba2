"""Reward: a number for every answer, higher for the preferred of two (Ouyang et al. 2022)."""

from __future__ import annotations

from broadbase.nn.spaces.regression import RegressionConfig
from broadbase.objectives.reward import RewardConfig
from broadbase.recipes.preference import preferences
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Read JSON lines of `prompt`, `chosen` and `rejected`, best with `--init-from` a chat run."""
    heads = {"reward": RegressionConfig(channels=1, normalise=False)}
    return preferences("reward", RewardConfig(), depth, data, heads=heads)


RECIPE = Recipe("reward", "a number for an answer, higher for the preferred of two", build)
