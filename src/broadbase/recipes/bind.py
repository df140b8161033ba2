"""Bind: pictures, names and spoken names in one Space; two pairs are given, the third emerges."""

from __future__ import annotations

from broadbase.data.detect import pairs
from broadbase.modalities.audio import AudioConfig
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.text import TextConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.nn.spaces.joint import JointConfig
from broadbase.objectives.contrastive import InfoNCEConfig, Side
from broadbase.objectives.mixture import Component, MixtureConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import DataConfig, MixedSource, RunConfig
from broadbase.train.optim import MuonConfig

WORDS, SOUND = 24, 32  # tokens of a name; of 2.5 seconds of sound
PAIRS = 64  # of each kind per step


def build(depth: int, data: str | None) -> RunConfig:
    """Build one tower for all three.

    Pictures meet names, names meet sounds; no picture ever meets a sound
    (Girdhar et al. 2023, ImageBind, 3.2, where pictures are in the middle).

    A folder of files of one name (cat.png, cat.txt, cat.wav), or a sample set.
    """
    detected = pairs(dial.require_data(data, "bind"), ("image", "text", "audio"))
    image = ImageConfig(height=32, width=32, patch=8)
    tokens = image.record_length
    width = 16 * depth
    sources = {  # by name: of which kind, of how many tokens, paired with what
        "pictures": ("image", tokens, "named"),
        "names": ("text", WORDS, "named"),
        "sounds": ("audio", SOUND, "spoken"),
        "words": ("text", WORDS, "spoken"),
    }
    return RunConfig(
        recipe="bind",
        depth=depth,
        model=ModelConfig(
            modalities={
                "image": image,
                "text": TextConfig(vocab_size=512),
                "audio": AudioConfig(mels=40, patch=8),
            },
            heads={
                "image_joint": JointConfig(embedding_dim=width),
                "text_joint": JointConfig(embedding_dim=width, scale=1 / 0.07),
                "audio_joint": JointConfig(embedding_dim=width),
            },
            towers={
                "main": dial.backbone(depth, qk_norm=RMSNormConfig(), input_norm=RMSNormConfig())
            },
        ),
        objective=MixtureConfig(
            components={
                "named": _contrast("pictures", "image_joint", "names"),
                "spoken": _contrast("sounds", "audio_joint", "words"),
            }
        ),
        data=DataConfig(
            holdout=0.2,
            sources={
                name: MixedSource(
                    source=detected[kind],
                    modality=kind,
                    batch_size=PAIRS,
                    sequence_length=length,
                    pair_group=group,
                )
                for name, (kind, length, group) in sources.items()
            },
        ),
        optim=MuonConfig(lr=dial.optim(depth).lr, weight_decay=0.4),
        train=dial.horizon(depth).replace(steps=max(100, 40 * depth**2)),
    )


def _contrast(source: str, joint: str, words: str) -> Component:
    """Contrast names and what is named among the pairs of a step."""
    objective = InfoNCEConfig(
        first=Side(source=source, tower="main", joint=joint),
        second=Side(source=words, tower="main", joint="text_joint"),
    )
    return Component(objective=objective, sources=(source, words))


RECIPE = Recipe("bind", "pictures, names and spoken names; any finds any", build)
