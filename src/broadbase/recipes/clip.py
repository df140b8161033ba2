"""CLIP: pictures and texts that find each other (Radford et al. 2021)."""

from __future__ import annotations

from broadbase.data.detect import pairs
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.text import TextConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.nn.spaces.joint import JointConfig
from broadbase.objectives.contrastive import InfoNCEConfig, PairsConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import DataConfig, MixedSource, RunConfig
from broadbase.train.optim import MuonConfig

WORDS = 32  # tokens of a text
PAIRS = 64  # per step, at depth 4


def build(depth: int, data: str | None) -> RunConfig:
    """Build two towers of `depth` layers that match the pairs of a step."""
    return two_towers("clip", InfoNCEConfig(), depth, data, scale=1 / 0.07)


def two_towers(
    recipe: str,
    objective: PairsConfig,
    depth: int,
    data: str | None,
    *,
    scale: float,
    bias: float | None = None,
) -> RunConfig:
    """Build two towers that meet in one joint Space.

    Pairs are pictures and texts of equal names in a folder, or columns of a table.
    """
    image, sources = (
        ImageConfig(height=32, width=32, patch=8),
        pairs(dial.require_data(data, recipe)),
    )
    tokens = image.record_length
    lengths = {"image": tokens, "text": WORDS}
    width = 16 * depth
    tower = dial.backbone(depth, qk_norm=RMSNormConfig(), input_norm=RMSNormConfig())
    return RunConfig(
        recipe=recipe,
        depth=depth,
        model=ModelConfig(
            modalities={
                "image": image,
                "text": TextConfig(vocab_size=2048),
            },
            heads={
                "image_joint": JointConfig(embedding_dim=width),
                "text_joint": JointConfig(embedding_dim=width, scale=scale, bias=bias),
            },
            towers={"image": tower, "text": tower},
            tower_of={"text": "text", "text_joint": "text"},
        ),
        objective=objective,
        data=DataConfig(
            holdout=0.1,
            sources={
                name: MixedSource(
                    source=source,
                    modality=name,
                    batch_size=PAIRS,
                    sequence_length=lengths[name],
                    pair_group="pairs",
                )
                for name, source in sources.items()
            },
        ),
        optim=MuonConfig(lr=dial.optim(depth).lr, weight_decay=0.4),
        train=dial.horizon(depth).replace(steps=max(100, 50 * depth**2)),
    )


RECIPE = Recipe("clip", "pictures and texts that find each other", build)
