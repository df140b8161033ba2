"""Needle: text with something small hidden in it that its end recalls (Kamradt 2023).

To read four times as far, go on with a run: `--init-from RUN --set
data.sources.text.sequence_length=256 --set
data.sources.text.source.characters=720 --set 'model.towers.main.positions.scaling={name: yarn,
factor: 4, original: 64}'`. `evaluate` then says what that gave, and `bench/haystack.py` draws it.
"""

from __future__ import annotations

from broadbase.data.detect import detect
from broadbase.data.sources.needles import NeedlesConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.modalities.text import TextConfig
from broadbase.model.model import ModelConfig
from broadbase.objectives.induction import InductionConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sources_for
from broadbase.run.config import DataConfig, RunConfig
from broadbase.train.config import TrainConfig

LENGTH = 64  # tokens per row


def build(depth: int, data: str | None) -> RunConfig:
    """Build a model of passages with needles, of six times the steps of other recipes.

    A small base does not learn to look back in minutes from text alone; it comes late and at once.
    """
    path = dial.require_data(data, "needle")
    albums = [NeedlesConfig(source=s) for s in detect(path, TextFilesConfig(path=path))]
    return RunConfig(
        recipe="needle",
        depth=depth,
        model=ModelConfig(modalities={"text": TextConfig()}, towers={"main": dial.backbone(depth)}),
        objective=InductionConfig(),
        data=DataConfig(sources=sources_for("text", albums, depth, LENGTH), holdout=0.1),
        optim=dial.optim(depth),
        train=TrainConfig(steps=6 * dial.horizon(depth).steps),
    )


RECIPE = Recipe("needle", "text with needles in it, recalled at its end: long contexts", build)
