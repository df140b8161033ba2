"""Album: pictures in a row, some of which return, to predict what came after them before."""

from __future__ import annotations

from broadbase.data.detect import media
from broadbase.data.sources.needles import AlbumsConfig
from broadbase.modalities.album import AlbumConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.objectives.induction import InductionConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import DataConfig, MixedSource, RunConfig
from broadbase.train.config import TrainConfig

LENGTH = 33  # tokens per row: the start and 32 pictures


def build(depth: int, data: str | None) -> RunConfig:
    """Build rows of pictures, one token each; the loss is on what came after a picture before."""
    source = AlbumsConfig(source=media(dial.require_data(data, "album")), pictures=LENGTH - 1)
    tower = dial.backbone(depth, qk_norm=RMSNormConfig(), input_norm=RMSNormConfig())
    rows = dial.rows(depth, LENGTH)
    return RunConfig(
        recipe="album",
        depth=depth,
        model=ModelConfig(modalities={"album": AlbumConfig()}, towers={"main": tower}),
        objective=InductionConfig(other_loss_weight=0.01),
        data=DataConfig(
            sources={
                "album": MixedSource(
                    source=source, modality="album", batch_size=rows, sequence_length=LENGTH
                )
            }
        ),
        optim=dial.optim(depth),
        train=TrainConfig(steps=4 * dial.horizon(depth).steps),
    )


RECIPE = Recipe("album", "pictures in a row, some shown again: long contexts", build)
