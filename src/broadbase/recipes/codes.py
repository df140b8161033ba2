"""Codes: sounds, pictures or clips in the codes of a trained tokenizer, one after the other.

From random init, or added to what a base knows already: `--init-from RUN` (AudioPaLM; Rubenstein et
al. 2023, 3.1).
"""

from __future__ import annotations

from broadbase.data.detect import media
from broadbase.modalities.codes import CodesConfig
from broadbase.model.model import ModelConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import LENGTH, sources_for
from broadbase.run.config import DataConfig, RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build a causal model of codes (Borsos et al. 2022, AudioLM, of one codebook).

    The tokenizer is a run: `--set model.modalities.codes.tokenizer=RUN`.
    """
    source = media(dial.require_data(data, "codes"))
    return RunConfig(
        recipe="codes",
        depth=depth,
        model=ModelConfig(
            modalities={"codes": CodesConfig()}, towers={"main": dial.backbone(depth)}
        ),
        objective=CausalConfig(),
        data=DataConfig(sources=sources_for("codes", [source], depth, LENGTH), holdout=0.1),
        optim=dial.optim(depth),
        train=dial.horizon(depth),
    )


RECIPE = Recipe("codes", "sounds, pictures or clips in codes of a tokenizer, in order", build)
