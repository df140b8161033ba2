"""Preference: of two answers the chosen one becomes likelier (DPO; Rafailov et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping

from broadbase.core.contracts import ObjectiveConfig
from broadbase.core.spaces import HeadConfig
from broadbase.data.sources.chats import PreferencesConfig
from broadbase.modalities.chat import ChatConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.objectives.preference import PreferenceConfig
from broadbase.recipes import dial
from broadbase.recipes.chat import LENGTH, NAME
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import DataConfig, MixedSource, RunConfig
from broadbase.train.config import TrainConfig
from broadbase.train.optim import AdamWConfig
from broadbase.train.teacher import StartConfig, TeacherConfig

PAIRS = 8  # a step, at depth 4
STEPS = 300  # preferences are few, and a model leaves its reference fast


def build(depth: int, data: str | None) -> RunConfig:
    """Read JSON lines of `prompt`, `chosen` and `rejected`, best with `--init-from` a chat run."""
    return preferences("preference", PreferenceConfig(), depth, data, teacher=StartConfig())


def preferences(
    recipe: str,
    objective: ObjectiveConfig,
    depth: int,
    data: str | None,
    *,
    teacher: TeacherConfig | None = None,
    heads: Mapping[str, HeadConfig] | None = None,
) -> RunConfig:
    """Build a run on two answers to each prompt, paired row by row."""
    path = dial.require_data(data, recipe)
    sources = {
        side: MixedSource(
            source=PreferencesConfig(path=path, field=side),
            modality=NAME,
            batch_size=max(1, PAIRS * depth // 4),
            sequence_length=LENGTH,
            pair_group="answers",
        )
        for side in ("chosen", "rejected")
    }
    return RunConfig(
        recipe=recipe,
        depth=depth,
        model=ModelConfig(
            modalities={NAME: ChatConfig()},
            heads=dict(heads or {}),
            towers={"main": dial.backbone(depth, input_norm=RMSNormConfig())},
        ),
        objective=objective,
        data=DataConfig(holdout=0.1, sources=sources),
        optim=AdamWConfig(lr=dial.optim(depth).lr / 10),
        train=TrainConfig(steps=STEPS),
        teacher=teacher,
    )


RECIPE = Recipe("preference", "of two answers the preferred one, likelier than before", build)
